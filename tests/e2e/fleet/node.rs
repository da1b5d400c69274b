//! One node by itself.

use rolesmith_tests::Fleet;
use serde_json::Value;

/// systemd, cloud-init and the agent have nothing to complain about.
pub fn is_up(fleet: &Fleet, node: &str) {
    assert_eq!(
        fleet.must(node, "systemctl is-system-running --wait"),
        "running\n",
        "{node}"
    );
    assert_eq!(
        fleet.must(node, "systemctl list-units --failed --no-legend --plain"),
        "",
        "{node}"
    );
    let told = fleet.must(node, "cloud-init status --wait --format json");
    let status: Value = serde_json::from_str(&told).expect("cloud-init writes JSON");
    assert_eq!(status["status"], "done", "{node}: {told}");
    assert_eq!(
        status["errors"].as_array().map(Vec::len),
        Some(0),
        "{node}: {told}"
    );
    // cloud-init of bookworm does not know this key; `lab up` reads its log instead.
    assert!(
        status
            .get("recoverable_errors")
            .is_none_or(|errors| errors.as_object().is_some_and(|e| e.is_empty())),
        "{node}: {told}"
    );

    fleet.must(node, "rolesmith-agent wait --timeout 120");
    is_ready(fleet, node);
}

/// The agent calls every role ready.
pub fn is_ready(fleet: &Fleet, node: &str) {
    // Whatever wakes the agent has it look again, and for that moment it says so.
    let told = fleet.must(
        node,
        "rolesmith-agent wait --timeout 120 >&2 && rolesmith-agent status --json",
    );
    let status: Value = serde_json::from_str(&told).expect("the agent writes JSON");
    assert_eq!(status["report"]["state"], "converged", "{node}: {told}");
    assert_eq!(status["health"]["healthy"], true, "{node}: {told}");
    assert_eq!(
        status["alarms"].as_array().map(Vec::len),
        Some(0),
        "{node}: {told}"
    );
    let roles = status["report"]["roles"]
        .as_array()
        .expect("a list of roles");
    assert!(roles.len() >= 5, "{node}: {told}");
    for role in roles {
        assert_eq!(role["state"], "ready", "{node}: {role}");
    }
}

/// Every package of the fleet came from the signed repository, apt verifies it, and dpkg finds each file as it was shipped.
pub fn packages_are_signed(fleet: &Fleet, name: &str, node: &str) {
    let script = r#"
        for package in $(dpkg-query -W -f '${Package} ${Status}\n' 'NAME-*' rolesmith-agent | awk '/install ok installed/ { print $1 }'); do
            apt-cache policy $package |
                awk -v p=$package 'own { print p, $2; own = 0 } $1 == "***" { own = 1 }'
        done"#;
    let origins = fleet.must(node, &script.replace("NAME", name));
    assert!(origins.lines().count() >= 7, "{node}: {origins}");
    for line in origins.lines() {
        assert!(
            line.ends_with(&format!(" http://apt.{name}.internal")),
            "{node}: {line} was installed from elsewhere"
        );
    }
    let lax = fleet.must(node, "apt-config dump | grep -iE 'AllowUnauthenticated|AllowInsecure|AllowWeak|Verify-Peer|trusted' || true");
    for line in lax.lines() {
        assert!(
            line.ends_with("\"0\";")
                || line.ends_with("\"false\";")
                || line.ends_with("\"\";")
                || line.contains("Dir::Etc"),
            "{node}: {line}"
        );
    }
    // From nothing, with this repository's key; then with a key of Debian's, which did not sign it.
    let update = "rm -rf /var/tmp/lists; mkdir -p /var/tmp/lists/partial /root/parts; \
        apt-get -q update -o Dir::State::lists=/var/tmp/lists -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/root/parts";
    let source = format!("/etc/apt/sources.list.d/{name}.sources");
    let good = fleet.must(
        node,
        &format!("mkdir -p /root/parts; cp {source} /root/parts/; {update}"),
    );
    assert!(
        !good.contains("W:") && !good.contains("E:"),
        "{node}: {good}"
    );
    let (code, bad) = fleet.shell(
        node,
        &format!("sed -i 's|^Signed-By:.*|Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg|' /root/parts/*; {update}"),
    );
    assert!(
        code != 0 && bad.contains("is not signed"),
        "{node}: apt takes a repository of another key: {bad}"
    );
    fleet.must(node, "rm -rf /var/tmp/lists /root/parts");

    assert_eq!(fleet.must(node, "dpkg --audit"), "", "{node}");
    // The lab tells cloud-init's template for /etc/hosts its names.
    let changed = fleet.must(
        node,
        "dpkg --verify | grep -v ' /etc/cloud/templates/hosts.debian.tmpl$' || true",
    );
    assert_eq!(changed, "", "{node}: files that are not as shipped");
}

/// The kernel has the rules that were rendered, and no others: what a fresh network namespace has after loading the file is the
/// oracle.
pub fn firewall_is_loaded(fleet: &Fleet, node: &str) {
    fleet.must(
        node,
        "for f in firewall.ipset firewall.v4 firewall.v6; do
            cmp /usr/lib/rolesmith/facts/nodes/$(hostname)/files/base/$f /var/lib/rolesmith/conf/base/$f || exit 1
        done",
    );
    let script = r"
        plain() { sed -e '/^#/d' -e 's/ \[[0-9:]*\]$//'; }
        cd /var/lib/rolesmith/conf/base
        iptables-save -t filter | plain >/root/is4; ip6tables-save -t filter | plain >/root/is6
        members() { grep '^add ' | grep -v '^add rolesmith-ban' | sort; }
        ipset save | members >/root/isset
        unshare --net sh -ec '
            ipset -exist restore <firewall.ipset; iptables-restore <firewall.v4; ip6tables-restore <firewall.v6
            iptables-save -t filter >/root/as4; ip6tables-save -t filter >/root/as6; ipset save >/root/asset'
        plain </root/as4 | diff - /root/is4 && plain </root/as6 | diff - /root/is6 || exit 1
        # Hash parameters of a set differ by chance; its members do not.
        members </root/asset | diff - /root/isset && grep -q rolesmith-fleet4 /root/isset || exit 1
        grep -c DROP /root/is4; rm /root/is4 /root/is6 /root/as4 /root/as6 /root/isset /root/asset";
    let told = fleet.must(node, script);
    assert_ne!(told, "0\n", "{node}: rules that drop nothing");
}
