//! Packages on a machine that nobody has enrolled yet.

use rolesmith_tests::Fleet;

use super::{NODE, OURS, ROLES, apt, sound};

/// Another package manager is busy; ours waits for it and goes on, without a terminal.
pub fn behind_a_lock(fleet: &Fleet) {
    let seconds = if std::env::var_os("ROLESMITH_LONG").is_some() {
        60
    } else {
        20
    };
    // dpkg's front-end lock is one of fcntl(2), which flock(1) does not know: Python has it.
    fleet.must(
        NODE,
        &format!(
            "cat >/root/hold <<'END'
import fcntl, os, time
lock = open('/var/lib/dpkg/lock-frontend', 'w')
fcntl.lockf(lock, fcntl.LOCK_EX)
open('/root/held', 'w').close()
time.sleep({seconds})
open('/root/let-go', 'w').close()
os._exit(0)
END
setsid python3 /root/hold </dev/null >/dev/null 2>&1 &
while [ ! -e /root/held ]; do kill -0 $! || exit 1; done"
        ),
    );
    apt(fleet, "update");
    let told = apt(fleet, &format!("install {ROLES}"));
    assert!(
        told.contains("Waiting for cache lock") || told.contains("Could not get lock"),
        "apt met the lock: {told}"
    );
    fleet.must(
        NODE,
        "test -e /root/let-go && rm /root/let-go /root/held /root/hold",
    );
}

/// Configured, and that is all: nothing opened, closed or taken over.
pub fn is_harmless(fleet: &Fleet) {
    let states = fleet.must(
        NODE,
        &format!("dpkg-query --show --showformat '${{Status}}\\n' {OURS} | sort -u"),
    );
    assert_eq!(states, "install ok installed\n");
    // The run that the last package asked for has ended when its request is gone and it does not run.
    fleet.must(
        NODE,
        "timeout 60 sh -c 'while [ -e /run/rolesmith/poke ] || systemctl -q is-active rolesmith-apply.service \
         || [ \"$(systemctl show -P ActiveState rolesmith-apply.service)\" = activating ]; do sleep 0.1; done'",
    );
    let (_, status) = fleet.shell(NODE, "rolesmith-agent status");
    assert!(status.contains("not enrolled"), "{status}");
    for save in ["iptables-save", "ip6tables-save"] {
        let rules = fleet.must(NODE, &format!("{save} | grep -v '^#' || true"));
        assert!(
            !rules.contains("DROP") && !rules.contains("-A "),
            "{save}: {rules}"
        );
    }
    assert_eq!(fleet.must(NODE, "ipset list -n"), "");
    assert_eq!(
        fleet.must(NODE, "pg_lsclusters --no-header"),
        "",
        "no cluster of PostgreSQL"
    );
    assert_eq!(fleet.must(NODE, "find /var/lib/rolesmith/conf -type f"), "");
    let listeners = fleet.must(
        NODE,
        "ss -Htln 'not src 127.0.0.0/8 and not src [::1]' | awk '{ print $4 }' | sort -u",
    );
    for listener in listeners.lines() {
        // ssh was there before; nginx's default site is what Debian's package does; resolved answers LLMNR.
        let port = listener.rsplit(':').next().unwrap_or_default();
        assert!(
            ["22", "80", "5355"].contains(&port),
            "{listener} is reachable: {listeners}"
        );
    }
    // Debian's postfix has written no configuration of its own, and without one it does not start.
    fleet.must(NODE, "test ! -e /etc/postfix/main.cf");
    for unit in ["pgbouncer", "redis-server", "redis-sentinel", "postfix"] {
        let (_, state) = fleet.shell(NODE, &format!("systemctl is-active {unit}"));
        assert_eq!(state.trim(), "inactive", "Debian's own {unit}");
    }
    let settings = fleet.must(
        NODE,
        "sshd -t && sshd -T | grep -e '^port ' -e '^loglevel '",
    );
    assert!(
        settings.contains("loglevel INFO"),
        "sshd as it was: {settings}"
    );
    sound(fleet);
}

/// What the identity changed.
pub fn is_enrolled(fleet: &Fleet) {
    let status = fleet.must(NODE, "rolesmith-agent status");
    assert!(status.contains("one of pkg, incarnation 1"), "{status}");
    fleet.must(
        NODE,
        "cmp /etc/postfix/main.cf /var/lib/rolesmith/conf/mail/main.cf",
    );
    assert!(
        fleet
            .must(NODE, "iptables -S INPUT")
            .starts_with("-P INPUT DROP")
    );
    // The next start is a standby's, whatever this one is now; that is what pg_lsclusters calls recovery.
    let clusters = fleet.must(
        NODE,
        "pg_lsclusters --no-header | awk '{ print $1, $2, $4 }'",
    );
    assert_eq!(clusters, "17 pkg online,recovery\n");
    assert_eq!(
        fleet.must(
            NODE,
            "runuser -u postgres -- psql -qAtc 'SELECT pg_is_in_recovery()'"
        ),
        "f\n"
    );
    fleet.must(NODE, "runuser -u postgres -- psql -qc 'CREATE TABLE kept (answer int)' -c 'INSERT INTO kept VALUES (42)'");
}
