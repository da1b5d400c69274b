//! Certificates of sites from a real authority (pebble, with its own checks and failures on), whose certificates live for minutes: issued
//! through the load balancer and an edge that did not ask, shared, renewed in time, renewed when the edge that asked is gone, and taken
//! from the others by one that comes back.
#![allow(clippy::print_stderr, reason = "a long test says what it measured")]

use std::{
    thread,
    time::{Duration, Instant},
};

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

const NAME: &str = "certified";
const FLEET: &str = r#"
[fleet]
name = "certified"
suite = "trixie"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "certified.internal"

[repository]
url = "http://apt.certified.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
load_balancer = "10.77.0.2"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@certified.internal"]

[nodes.one]
roles = ["edge"]
address = "10.77.0.11"

[nodes.two]
roles = ["edge"]
address = "10.77.0.12"

[certificates]
acme = "lab"

[[sites]]
name = "shop"
hosts = ["shop.certified.internal", "www.certified.internal"]
root = "site"
"#;

const NODES: [(&str, &str); 2] = [("one", "10.77.0.11"), ("two", "10.77.0.12")];
/// How long a certificate lives, in seconds.
const LIFE: u64 = 300;

/// The lab's authority, with short lives. The lab leaves this file alone.
const SHORT: &str = r#"
set -e
sed 's/"certificateValidityPeriod": [0-9]*/"certificateValidityPeriod": LIFE/' /etc/pebble/pebble.json >/etc/pebble/short.json
grep -q 'Period": LIFE' /etc/pebble/short.json
mkdir -p /etc/systemd/system/pebble.service.d
printf '[Service]\nExecStart=\nExecStart=/usr/bin/pebble -config /etc/pebble/short.json\n' >/etc/systemd/system/pebble.service.d/short.conf
systemctl daemon-reload
systemctl restart pebble.service
"#;

#[test]
#[ignore = "needs root: boots real machines"]
fn certificates_come_and_stay() {
    need_root();
    let fleet = Fleet::create(NAME, FLEET);
    std::fs::create_dir_all(fleet.dir.join("site")).expect("a directory");
    std::fs::write(fleet.dir.join("site/index.html"), "hello\n").expect("a file");
    let _guard = LabGuard(&fleet);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("an authority whose certificates live for minutes", || {
        fleet.run(&["lab", "up", OUTSIDE]);
        fleet.must(OUTSIDE, &SHORT.replace("LIFE", &LIFE.to_string()));
        // The authority's question reaches the edge that does not ask: that is the one whose name comes first.
        balancer(&fleet, "set server http/one state maint");
    });
    step("boot", || {
        fleet.run(&["lab", "up"]);
        for (node, _) in NODES {
            fleet.must(
                node,
                "rolesmith-agent wait --timeout 180 || { rolesmith-agent status; exit 1; }",
            );
        }
    });
    let first = step("issued by one, through two, and served by both", || {
        let first = same(&fleet, None, 180);
        let (one, two) = (log(&fleet, "one"), log(&fleet, "two"));
        assert!(one.contains("shop: issued"), "{one}");
        assert!(two.contains("shop: took the certificate of one"), "{two}");
        assert!(!two.contains("asking"), "one edge asks: {two}");
        first
    });
    step("nobody but edges is told a certificate", || {
        let mode = "stat -c '%a %U' /var/lib/rolesmith-edge/sites/shop.pem";
        assert_eq!(fleet.must("one", mode), "600 root\n");
        // A key of a machine that is no member: the lab's.
        let (status, _) = fleet.shell(
            OUTSIDE,
            "openssl s_client -brief -connect 10.77.0.11:7433 </dev/null 2>&1 | grep -q ESTABLISHED",
        );
        assert_ne!(status, 0, "the port answers whoever is no member");
    });
    step("units are shut in", || {
        for unit in [
            "rolesmith-certificates.service",
            "rolesmith-certificates-install.service",
        ] {
            let said = fleet.must(
                "one",
                &format!("systemd-analyze security --no-pager {unit} | tail -n 1"),
            );
            let level: f32 = said
                .split("service: ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next())
                .and_then(|level| level.parse().ok())
                .unwrap_or_else(|| panic!("{said}"));
            assert!(level <= 2.5, "{said}");
        }
    });
    let second = step("renewed before its end, without a gap", || {
        same(&fleet, Some(&first), LIFE)
    });
    step("renewed by two when one is gone", || {
        fleet.run(&["lab", "kill", "one"]);
        let begun = Instant::now();
        loop {
            let now = stored(&fleet, "two");
            if now.as_ref().is_some_and(|now| *now != second) {
                break;
            }
            let limit = Duration::from_secs(LIFE + 60);
            assert!(begun.elapsed() < limit, "{}", log(&fleet, "two"));
            thread::sleep(Duration::from_secs(2));
        }
        let two = log(&fleet, "two");
        assert!(two.contains("shop: issued"), "{two}");
    });
    step("one comes back and takes what two has", || {
        fleet.run(&["lab", "start", "one"]);
        let third = same(&fleet, Some(&second), 120);
        assert_ne!(third, second);
    });
}

/// Waits until both edges serve the same certificate of the authority, another one than `former`; meanwhile both serve a good one all
/// the time, if they did before. Its serial number.
fn same(fleet: &Fleet, former: Option<&str>, seconds: u64) -> String {
    let begun = Instant::now();
    let mut looks = 0;
    loop {
        if let Some(former) = former
            && begun.elapsed() > Duration::from_secs(1)
        {
            for (node, address) in NODES {
                let good = serves(fleet, address) || stored(fleet, node).is_none();
                assert!(
                    good,
                    "{node} serves no good certificate after {former}: {}",
                    log(fleet, node)
                );
            }
            looks += 1;
        }
        let serials: Vec<_> = NODES.iter().map(|(node, _)| stored(fleet, node)).collect();
        if let [Some(one), Some(two)] = &serials[..]
            && one == two
            && former != Some(one)
            && NODES.iter().all(|(_, address)| serves(fleet, address))
        {
            eprintln!("    {one} after {:.0?}, {looks} looks", begun.elapsed());
            return one.clone();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(seconds),
            "{serials:?} {} {}",
            log(fleet, "one"),
            log(fleet, "two")
        );
        thread::sleep(Duration::from_secs(1));
    }
}

/// The serial number of the certificate that nginx has, if the authority has signed it.
fn stored(fleet: &Fleet, node: &str) -> Option<String> {
    let script = "openssl x509 -in /var/lib/rolesmith-edge/sites/shop.pem -noout -issuer -serial";
    let (status, text) = fleet.shell(node, script);
    let serial = text.lines().find_map(|line| line.strip_prefix("serial="));
    (status == 0 && text.contains("Pebble"))
        .then(|| serial.map(str::to_owned))
        .flatten()
}

/// Whether an edge shows a certificate that leads to the authority's root, from the load balancer's place.
fn serves(fleet: &Fleet, address: &str) -> bool {
    let host = "shop.certified.internal";
    let script = format!(
        "curl -sSk https://localhost:15000/roots/0 >/run/root.pem && curl -sS --max-time 5 --haproxy-protocol \
         --cacert /run/root.pem --resolve {host}:443:{address} https://{host}/"
    );
    let (status, text) = fleet.shell(OUTSIDE, &script);
    status == 0 && text.contains("hello")
}

/// What the service has said.
fn log(fleet: &Fleet, node: &str) -> String {
    let script = "journalctl -q -o cat -u rolesmith-certificates -u rolesmith-certificates-install; rolesmith-agent certificates status";
    fleet.shell(node, script).1
}

/// Tells the load balancer something on its socket.
fn balancer(fleet: &Fleet, words: &str) {
    let script = format!(
        "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"/run/haproxy/admin.sock\"); \
         s.sendall(b\"{words}\\n\"); print(s.recv(4096).decode())'"
    );
    let said = fleet.must(OUTSIDE, &script);
    assert_eq!(said.trim(), "", "{words}");
}
