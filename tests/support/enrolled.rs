//! What holds of an existing machine once it is a node.

use rolesmith_lab::LabSpec;

use crate::existing::{Login, Machine, WIKI_PORT, tell};

/// Keys only: the administrator, who has none, is sent away.
pub fn assert_password_is_refused(machine: &Machine<'_>) {
    let (code, said) = machine.ssh(Login::Password, "true");
    assert_eq!(code, 255, "{said}");
    assert!(said.contains("Permission denied"), "{said}");
}

/// (5) The fleet's instances run beside the machine's own, each on its port.
pub fn is_a_node(machine: &Machine<'_>) {
    // A database that has just come is looked at again within seconds.
    let status = machine.must("rolesmith-agent wait --timeout 120 >&2; rolesmith-agent status");
    for part in ["converged", "firewall   active", "healthy, "] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(!status.contains("NOT healthy"), "{status}");
    assert!(!status.contains("alarm"), "{status}");
    assert_eq!(
        clusters(machine),
        "17 main 5432 online\n17 old 5433 online\n"
    );
    machine.must(
        "runuser -u postgres -- psql -qAt -p 5433 -c 'SELECT 1' | grep -qx 1
        ! runuser -u postgres -- psql -qAt -p 5433 -l | grep -q ^shop
        for unit in redis rolesmith-pgbouncer; do systemctl is-active --quiet $unit; done
        systemctl list-units --failed --no-legend | { ! grep . ; }",
    );
    if machine.name == "shop-1" {
        machine.must("systemctl is-active rolesmith-redis rolesmith-sentinel");
        assert_eq!(redis(machine, "PING"), "PONG\n");
    }
    let health = machine.must(
        "address=$(ip -4 -o addr show eth1 | awk '{ sub(\"/.*\", \"\", $4); print $4 }')
        python3 -c 'import sys, urllib.request as u; print(u.urlopen(\"http://\" + sys.argv[1] + \"/health\").read().decode())' $address",
    );
    assert_eq!(health.trim(), "ok");
}

/// PostgreSQL's clusters and whether they run, as primary or as standby.
fn clusters(machine: &Machine<'_>) -> String {
    machine.must(
        "pg_lsclusters --no-header | awk '{ sub(/,recovery/, \"\", $4); print $1, $2, $3, $4 }'",
    )
}

/// Of two database nodes one alone is no majority: it makes no database, and says what it waits for.
pub fn waits_for_the_other(machine: &Machine<'_>) {
    let status = machine.must("rolesmith-agent status");
    for part in [
        "waiting for the cluster to be formed",
        "no cluster is known yet",
        "NOT healthy",
    ] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert_eq!(clusters(machine), "17 main 5432 online\n");
    machine.must("systemctl list-units --failed --no-legend | { ! grep . ; }");
}

/// What the fleet's Redis answers to whoever knows the password that stands in the secrets directory.
fn redis(machine: &Machine<'_>, command: &str) -> String {
    let file = machine.fleet.dir.join("secrets/fleet/redis-password");
    let password = std::fs::read_to_string(file).expect("the secret is there");
    machine.must(&format!(
        "export REDISCLI_AUTH='{}'
        exec redis-cli --no-auth-warning --tls --cacert /usr/lib/rolesmith/facts/ca.pem --cert /usr/lib/rolesmith/facts/nodes/{}/cert.pem \
            --key /etc/rolesmith/node.key -p 6380 --user app {command}",
        password.trim(),
        machine.name
    ))
}

/// (7) A secret of a running node changes by `enroll --secrets`, and by that alone.
pub fn brings_a_changed_secret(machine: &Machine<'_>) {
    assert_eq!(redis(machine, "SET kept yes"), "OK\n");
    let before = machine.must("cat /etc/rolesmith/secrets/database-pooler-password");
    let file = machine.fleet.dir.join("secrets/fleet/redis-password");
    let secret = "a-new-password-of-the-fleets-redis";
    std::fs::write(file, format!("{secret}\n")).expect("written");
    let (code, said) = machine.enroll(&["--secrets"]);
    tell(&said);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(secret), "{said}");
    let changed: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("changed: writes"))
        .collect();
    assert_eq!(
        changed,
        ["changed: writes /etc/rolesmith/secrets/redis-password, which is secret"]
    );
    machine.wait_until(
        "the new secret is in force",
        60,
        &format!("grep -q {secret} /var/lib/rolesmith/conf/redis/users.acl && rolesmith-agent wait --timeout 30"),
    );
    assert_eq!(redis(machine, "GET kept"), "yes\n");
    assert_eq!(
        before,
        machine.must("cat /etc/rolesmith/secrets/database-pooler-password")
    );
}

/// (8) The way back of docs/enroll.md: what was there before is as it was, and the fleet's data are left to be judged.
pub fn leaves(machine: &Machine<'_>, spec: &LabSpec) {
    machine.must_ssh(
        Login::FleetRoot,
        "DEBIAN_FRONTEND=noninteractive apt-get -q -y purge rolesmith-agent 'old-*' && systemctl reload ssh",
    );
    machine.must_ssh(Login::Password, "true");
    assert!(machine.firewall().contains(":INPUT DROP"), "it stands open");
    assert_eq!(machine.reboot(spec), Vec::<String>::new());
    let rules = machine.firewall();
    assert!(!rules.contains("DROP") && !rules.contains("-A "), "{rules}");
    machine.must_ssh(Login::Password, "true");
    assert_eq!(machine.site(WIKI_PORT), "the old wiki\n");
    // What says that a database was made, and what was promised about it, stays with the database.
    let left = machine.must(
        "find / -xdev -path /proc -prune -o -name '*rolesmith*' -print -o -lname '*rolesmith*' -print | grep -v ^/var/cache/apt | sort
        find /var/lib/rolesmith -type f | sort
        find /etc/systemd/system -lname /dev/null",
    );
    assert_eq!(
        left.lines().collect::<Vec<_>>(),
        [
            "/etc/apt/apt.conf.d/60rolesmith",
            "/etc/postgresql/17/old/conf.d/rolesmith.conf",
            "/var/lib/rolesmith",
            "/var/lib/rolesmith-redis",
            "/var/lib/rolesmith/cluster/lock",
            "/var/lib/rolesmith/cluster/state.json",
            "/var/lib/rolesmith/db-primary-capable/made",
        ]
    );
    assert_eq!(clusters(machine), "17 main 5432 online\n17 old 5433 down\n");
    machine.must(
        "pg_dropcluster 17 old && rm -r /etc/postgresql/17/old /var/lib/rolesmith && ! pg_lsclusters | grep old",
    );
    machine.must("systemctl list-units --failed --no-legend | { ! grep . ; }");
}
