//! Who is banned on the machines.

use std::net::Ipv4Addr;

use rolesmith_tests::Fleet;

use super::{NODES, attacks};

/// What a node says of its bans: clients whose requests are refused, then addresses that the firewall drops, in the order of the alphabet.
const ASK: &str = "{ ls /run/rolesmith-bans/requests 2>/dev/null | sed 's/^/requests /'; \
    ipset list rolesmith-ban4 | sed -n 's/^\\([0-9.]*\\) timeout.*/firewall \\1/p'; \
    ipset list rolesmith-ban6 | sed -n 's/^\\([0-9a-f:]*\\) timeout.*/firewall \\1/p'; } | sort";

/// [`ASK`]'s answer where these are banned.
fn expected(requests: &[Ipv4Addr], firewall: &[Ipv4Addr]) -> String {
    let requests = requests.iter().map(|who| format!("requests {who}\n"));
    let firewall = firewall.iter().map(|who| format!("firewall {who}\n"));
    let mut lines: Vec<String> = requests.chain(firewall).collect();
    lines.sort();
    lines.concat()
}

/// On each node these are banned, and nobody else.
pub fn are(fleet: &Fleet, requests: &[Ipv4Addr], firewall: &[Ipv4Addr]) {
    for node in NODES {
        assert_eq!(
            fleet.must(node, ASK),
            expected(requests, firewall),
            "{node}"
        );
    }
}

/// Waits until it is so: fail2ban acts some time after it has read a line.
pub fn become_so(fleet: &Fleet, requests: &[Ipv4Addr], firewall: &[Ipv4Addr]) {
    let expected = expected(requests, firewall);
    for node in NODES {
        let (code, _) = fleet.shell(
            node,
            &format!(
                "timeout 60 sh -c 'until [ \"$({})\" = \"{}\" ]; do sleep 0.2; done'",
                ASK.replace('\'', "'\\''"),
                expected.trim_end()
            ),
        );
        let told = fleet.must(node, ASK);
        assert!(
            code == 0 && told == expected,
            "{node}: {told}\nwanted:\n{expected}\n{}",
            fleet.must(node, "tail -n 40 /var/log/fail2ban.log; journalctl -n 40 --no-pager -t rolesmith_suspects -u fail2ban")
        );
    }
}

/// Each kind of attack was found by the jail that is for it.
pub fn by_their_jails(fleet: &Fleet) {
    for node in NODES {
        for kind in &attacks::KINDS {
            let told = fleet.must(node, &format!("fail2ban-client get {} banip", kind.jail));
            let who = kind.from.to_string();
            assert!(
                told.split_whitespace().any(|found| found == who),
                "{node}: {}: {told}",
                kind.jail
            );
        }
    }
}

/// fail2ban has seen that address, passes over it, and the bans are what they were.
pub fn pass_over(fleet: &Fleet, who: Ipv4Addr, requests: &[Ipv4Addr], firewall: &[Ipv4Addr]) {
    for node in NODES {
        fleet.must(
            node,
            &format!(
                "timeout 60 sh -c 'until grep -q \"\\[sshd\\] Ignore {who} \" /var/log/fail2ban.log; do sleep 0.2; done'"
            ),
        );
    }
    are(fleet, requests, firewall);
}

/// fail2ban dies, and leaves bans of somebody that it does not know of; systemd starts it again.
pub fn fail2ban_is_killed(fleet: &Fleet, node: &str) {
    fleet.must(
        node,
        "set -e
         /usr/lib/rolesmith/base/ban requests add sshd 203.0.113.99 3600
         /usr/lib/rolesmith/base/ban firewall add sshd 203.0.113.99 3600
         old=$(systemctl show --property MainPID --value fail2ban)
         systemctl kill --signal=KILL fail2ban
         timeout 30 sh -c \"until new=\\$(systemctl show --property MainPID --value fail2ban); [ \\$new != 0 ] && [ \\$new != $old ]; do sleep 0.1; done\"",
    );
}

/// The second ban of an address is twice as long as the first.
pub fn grow(fleet: &Fleet, node: &str) {
    let jail = attacks::KINDS[0].jail;
    fleet.must(
        node,
        &format!(
            "set -e
             who=203.0.113.70
             place=/run/rolesmith-bans/requests/$who
             attack() {{
                 for i in 1 2 3; do fail2ban-client set {jail} attempt $who again >/dev/null; done
                 timeout 30 sh -c \"until [ -d $place ]; do sleep 0.1; done\"
             }}
             end() {{ timeout 30 sh -c \"while [ -d $place ]; do sleep 0.1; done\"; }}
             fail2ban-client set {jail} bantime 3 >/dev/null
             attack
             end
             attack
             timeout 5 sh -c \"until fail2ban-client get {jail} banip --with-time | grep -q '$who.* + 6 '; do sleep 0.1; done\" ||
                 {{ tail -n 20 /var/log/fail2ban.log; exit 1; }}
             end
             fail2ban-client set {jail} bantime 1d >/dev/null"
        ),
    );
}
