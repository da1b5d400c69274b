//! The end of the packages, and what may stay.

use rolesmith_tests::Fleet;

use super::{
    NODE, OURS, apt,
    inventory::{self, Inventory},
    sound,
};

/// What may be there after a purge that was not before the installation, and why; with a slash at its end, along with all
/// that is in it. All else fails the test.
const MAY_STAY: [(&str, &str); 9] = [
    (
        "/var/lib/rolesmith-redis/",
        "data: no purge deletes a database",
    ),
    (
        "/var/lib/rolesmith/db-primary-capable/",
        "marks that the database was made, without which a reinstalled role refuses it",
    ),
    ("/var/lib/rolesmith", "holds those marks"),
    (
        "/var/lib/rolesmith/cluster/",
        "what the node promised about that database",
    ),
    (
        "/var/log/rolesmith/",
        "the aggregate: what other machines entrusted to this one",
    ),
    (
        "/var/lib/postgresql/17/pkg/",
        "data: no purge deletes a database; pg_dropcluster does",
    ),
    (
        "/etc/postgresql/17/pkg/",
        "its configuration, without which it is no cluster",
    ),
    ("/var/log/postgresql/", "Debian's, deleted with the cluster"),
    ("/var/lib/cloud/", "cloud-init's own"),
];

/// What was there before and goes: the seed wrote it, the keyring package took it over.
const MAY_GO: [(&str, &str); 2] = [
    ("/etc/apt/sources.list.d/pkg.sources", "its conffile"),
    ("/usr/share/keyrings/pkg-archive-keyring.asc", "its file"),
];

/// Users stay, so that no later user gets the files of an earlier one with his number (Policy 9.2.2 leaves it open).
const USERS: [&str; 3] = ["rolesmith", "rolesmith-perf", "rolesmith-pgbouncer"];

/// Removed packages stop what is theirs, and leave the way in and everybody's data alone.
pub fn remove(fleet: &Fleet) {
    apt(fleet, &format!("remove {OURS}"));
    let running = fleet.must(
        NODE,
        "systemctl list-units --no-legend --plain --state=running,failed 'rolesmith*'",
    );
    assert_eq!(running, "", "units of removed packages");
    for unit in ["ssh", "nginx", "rsyslog", "fail2ban"] {
        fleet.must(NODE, &format!("systemctl is-active {unit}"));
    }
    // Not open because its agent went.
    assert!(
        fleet
            .must(NODE, "iptables -S INPUT")
            .starts_with("-P INPUT DROP")
    );
    fleet.must(NODE, "test -s /etc/rolesmith/node.key");
    sound(fleet);
}

/// Purged one by one, the agent first: the order that takes the most away from those that come after.
pub fn purge(fleet: &Fleet, before: &Inventory) {
    apt(fleet, "purge rolesmith-agent");
    fleet.must(NODE, "test ! -e /etc/rolesmith");
    apt(fleet, &format!("purge {OURS}"));
    sound(fleet);
    let known = fleet.must(
        NODE,
        "dpkg-query -W -f '${Package} ${Status}\\n' 'pkg-*' rolesmith-agent 2>/dev/null || true",
    );
    assert!(
        !known.contains("installed") && !known.contains("config-files"),
        "{known}"
    );
    fleet.must(NODE, "nginx -t && sshd -t && rsyslogd -N1");
    only_ours_went(fleet);

    let after = inventory::take(fleet);
    for (unit, state) in &after.units {
        // systemd-timesyncd, which chrony replaces, leaves an alias behind: Debian's own.
        let debian = unit.contains("timesync");
        assert!(state != "bad" || debian, "{unit} leads nowhere");
        let masked_by_us = [
            "redis-server.service",
            "redis-sentinel.service",
            "pgbouncer.service",
        ]
        .contains(&unit.as_str());
        assert!(state != "masked" || !masked_by_us, "{unit} is still masked");
    }
    // Everything of ours has the project's or the fleet's name in its path.
    let ours = |line: &String| {
        ["rolesmith", "/pkg-", "/pkg.", "/17/pkg"]
            .iter()
            .any(|name| line.contains(name))
    };
    let strange: Vec<_> = inventory::difference(&before.files, &after.files)
        .into_iter()
        .filter(ours)
        .filter(|line| {
            !MAY_STAY
                .iter()
                .chain(&MAY_GO)
                .any(|(path, _)| names(line, path))
        })
        .collect();
    assert!(strange.is_empty(), "left behind: {strange:#?}");
    let users: Vec<_> = inventory::difference(&before.names, &after.names);
    for line in users.iter().filter(|line| line.contains("rolesmith")) {
        assert!(
            USERS.iter().any(|user| line.contains(&format!(" {user} "))),
            "{line}"
        );
    }
}

/// Nothing of the fleet is loaded, linked or secret any more.
fn only_ours_went(fleet: &Fleet) {
    let dangling = fleet.must(
        NODE,
        "find /etc/systemd /var/lib/systemd -name '*rolesmith*'",
    );
    assert_eq!(dangling, "");
    let secrets: Vec<_> = fleet.seed(NODE).secret_values();
    // Memory of programs aside, data directories are what may still know a password: not in clear.
    fleet.feed(
        NODE,
        "cat >/root/patterns; found=$(grep -rlFf /root/patterns / --exclude-dir=proc --exclude-dir=sys --exclude=patterns 2>/dev/null); \
         rm /root/patterns; [ -z \"$found\" ] || { echo \"$found\" >&2; exit 1; }",
        &(secrets.join("\n") + "\n"),
    );
    // The database is there and can be used without us, once somebody says that it may be started, and written to on a timeline
    // of its own.
    let answer = fleet.must(
        NODE,
        "echo manual >/etc/postgresql/17/pkg/start.conf && pg_ctlcluster 17 pkg start && \
         runuser -u postgres -- psql -qAtc 'SELECT answer, pg_is_in_recovery() FROM kept' && \
         pg_ctlcluster 17 pkg promote && \
         runuser -u postgres -- psql -qAtc 'UPDATE kept SET answer = 43 RETURNING answer' && \
         pg_ctlcluster 17 pkg stop",
    );
    assert_eq!(answer, "42|t\n43\n");
}

fn names(line: &str, path: &str) -> bool {
    let line = line.trim_start_matches(['+', '~', '-', ' ']);
    let line = line.strip_prefix("content of ").unwrap_or(line);
    let tree = path.strip_suffix('/');
    line.strip_prefix(tree.unwrap_or(path)).is_some_and(|rest| {
        rest.is_empty() || rest.starts_with(' ') || (tree.is_some() && rest.starts_with('/'))
    })
}
