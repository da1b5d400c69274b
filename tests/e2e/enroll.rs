//! Machines that were there before the fleet become its nodes, and lose nothing of what they were.
//!
//! Two ordinary Debian machines boot, each with a site on port 80, PostgreSQL's `17/main` on 5432, Redis on 6379, a wiki on
//! 8080, sshd on port 2222 and an administrator who logs in by password. One is enrolled and then installs its roles; the
//! other has the packages before it belongs to anybody, and sshd moves to another port.

#[path = "../support/enrolled.rs"]
mod enrolled;
#[path = "../support/existing.rs"]
mod existing;
#[path = "../support/existing_lab.rs"]
mod existing_lab;

use enrolled::{
    assert_password_is_refused, brings_a_changed_secret, is_a_node, leaves, waits_for_the_other,
};
use existing::{Login, Machine, Operator, SSH_PORT, WIKI_PORT, tell};
use existing_lab::{LabGuard, fleet_toml, machines, up};
use rolesmith_lab::LabSpec;
use rolesmith_tests::{Fleet, need_root};

/// What apt is told where nobody watches.
const INSTALL: &str = "export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install";
/// The packages of the node's roles.
const PACKAGES: &str = "old-archive-keyring old-facts rolesmith-agent old-base old-db-client old-db-primary-capable old-redis old-edge";
/// Succeeds when new rules are in force for the time being: the agent says so before it loads them.
const IS_ON_TRIAL: &str =
    "rolesmith-agent firewall status | grep ^pending && [ ! -e /run/rolesmith/poke ] &&
    systemctl show --property ActiveState --value rolesmith-apply.service | grep -qx inactive";
/// Conflicts that are left when fleet.toml fits the machine, and what is given up by accepting them.
const ACCEPTED: [&str; 8] = [
    "--accept",
    "hostname",
    "--accept",
    "password-login",
    "--accept",
    "nginx-sites",
    "--accept",
    "ports-closed",
];

#[test]
#[ignore = "needs root: boots real machines"]
fn an_existing_machine_becomes_a_node_and_keeps_what_it_has() {
    need_root();
    let operator = Operator::new();
    let fleet = Fleet::create("old", &fleet_toml(&operator, 22, 5432));
    fleet.run(&["mirror"]);
    fleet.run(&["publish"]);
    let _guard = LabGuard::new(&fleet);
    let spec = machines(
        &fleet,
        &operator,
        &[("shop-1", "legacy", 11), ("shop-2", "shop-2", 12)],
    );
    assert_eq!(up(&spec), Vec::<String>::new());
    let machine = |name, address| Machine {
        name,
        address,
        port: SSH_PORT,
        fleet: &fleet,
        operator: &operator,
    };
    let first = machine("shop-1", "203.0.113.11");
    let mut second = machine("shop-2", "203.0.113.12");
    let foreign = [first.foreign(), second.foreign()];
    let processes = [first.processes(), second.processes()];
    for (text, name) in foreign.iter().zip(["shop-1", "shop-2"]) {
        for part in ["rows: Ada,Grace", "redis: 1815", "local site: the old shop"] {
            assert!(text.contains(part), "{name} is not as it has to be: {text}");
        }
        assert!(text.ends_with("public site: the old shop\n"), "{text}");
    }
    assert_eq!(first.site(WIKI_PORT), "the old wiki\n");

    tell("every conflict is named, and nothing is changed");
    names_every_conflict(&first);

    tell("fleet.toml is mended, and the machine is enrolled");
    let mended = fleet_toml(&operator, SSH_PORT, 5433);
    std::fs::write(fleet.dir.join("fleet.toml"), mended).expect("written");
    fleet.run(&["publish"]);
    enrolls(&first);
    assert_eq!(first.foreign(), foreign[0]);

    tell("the roles are installed; nobody confirms");
    first.must_ssh(Login::FleetRoot, &format!("{INSTALL} {PACKAGES}"));
    let tried = is_on_trial(&first);
    assert_eq!(first.foreign(), foreign[0]);

    tell("meanwhile the other machine gets the packages without being enrolled");
    installed_before_enrolled(&second);
    assert_eq!(second.foreign(), foreign[1]);
    assert_eq!(second.processes(), processes[1]);

    tell("the trial ends by itself");
    is_taken_back(&first);
    assert_eq!(first.foreign(), foreign[0]);

    tell("the rules are tried again and confirmed");
    is_confirmed(&first, &tried);
    waits_for_the_other(&first);
    assert_eq!(first.foreign(), foreign[0]);
    assert_eq!(first.processes(), processes[0], "a service was restarted");

    tell("the other machine is enrolled, and its sshd moves");
    wakes_what_was_installed(&mut second, &spec);
    let since_boot = second.processes();
    enrolls_in_one_go(&mut second);
    is_a_node(&second);
    is_a_node(&first);
    assert_eq!(second.foreign(), foreign[1]);
    assert_eq!(second.processes(), since_boot, "a service was restarted");

    tell("a secret changes");
    brings_a_changed_secret(&first);

    tell("the machine is booted again");
    assert_eq!(first.reboot(&spec), Vec::<String>::new());
    first.must("rolesmith-agent wait --timeout 120");
    assert_eq!(
        first.firewall(),
        tried,
        "other rules are loaded after a boot"
    );
    assert_password_is_refused(&first);
    is_a_node(&first);
    assert_eq!(first.foreign(), foreign[0]);

    tell("it leaves the fleet");
    leaves(&first, &spec);
    assert_eq!(first.foreign(), foreign[0]);
    tell("done");
}

/// (1) The first run: every conflict, and not one byte changed.
fn names_every_conflict(machine: &Machine<'_>) {
    // Once before, so that what a first login leaves is there.
    machine.must_ssh(Login::OldRoot, "true");
    machine.must_ssh(Login::Password, "true");
    let before = machine.snapshot();
    let (code, said) = machine.enroll(&[]);
    let after = machine.snapshot();
    tell(&said);
    assert_eq!(code, 1, "{said}");
    for part in [
        "conflict: sshd listens on port 2222, fleet.toml says 22 [ssh-port]",
        "help: set `ssh_port = 2222` under [nodes.shop-1] in fleet.toml",
        "conflict: the PostgreSQL cluster 17/main has port 5432, runs and holds 1 database [database-port]",
        "conflict: nginx has sites of its own: /etc/nginx/sites-enabled/default [nginx-sites]",
        "conflict: python3 (port 8080) can be reached from other machines, as far as a firewall lets them [ports-closed]",
        "note: something listens on port 6379, as Debian's own Redis does [redis]",
        "conflict: admin can log in by password and has no ssh key [password-login]",
        "conflict: the machine is called legacy, the node shop-1 [hostname]",
        "note: redis-server.service is in use [masked-units]",
    ] {
        assert!(said.contains(part), "not said: {part}\n{said}");
    }
    for part in ["impossible:", "changed:", "port-taken"] {
        assert!(!said.contains(part), "said: {part}\n{said}");
    }
    assert_same(&before, &after);
}

/// (2) What is accepted is done, each thing is said, and once is enough.
fn enrolls(machine: &Machine<'_>) {
    // A slip of the finger is no consent.
    let (code, said) = machine.enroll(&["--accept", "hostnam"]);
    assert_eq!(code, 1, "{said}");
    assert!(!said.contains("changed:"), "{said}");
    let (_, before) = machine.shell("cat /etc/hostname /etc/hosts");
    let mut dry = ACCEPTED.to_vec();
    dry.push("--dry-run");
    let (code, said) = machine.enroll(&dry);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Nothing was changed."), "{said}");
    assert_eq!(before, machine.shell("cat /etc/hostname /etc/hosts").1);

    let (code, said) = machine.enroll(&ACCEPTED);
    tell(&said);
    assert_eq!(code, 0, "{said}");
    for part in [
        "changed: names the machine shop-1",
        "changed: lets the key fleet@operator log in (/root/.ssh/authorized_keys)",
        "changed: writes /etc/apt/sources.list.d/old.sources",
        "changed: writes /etc/rolesmith/node.key, which is secret",
        "changed: writes /etc/rolesmith/secrets/redis-password, which is secret",
        "changed: writes /etc/rolesmith/node.json",
        "changed: masks pgbouncer.service: the node has an instance of its own",
        "changed: reads the package lists (apt-get update)",
        "note: the PostgreSQL cluster 17/main on port 5432 runs and holds 1 database [postgresql]",
    ] {
        assert!(said.contains(part), "not said: {part}\n{said}");
    }
    // In use, so not masked.
    assert!(!said.contains("masks redis-server.service"), "{said}");
    machine.must(
        "[ \"$(hostname)\" = shop-1 ] && getent hosts shop-1
        [ \"$(stat -c '%a %U:%G' /etc/rolesmith/node.key /etc/rolesmith/secrets)\" = '600 root:root
700 root:root' ]
        [ \"$(stat -c '%a %U:%G' /etc/rolesmith/secrets/* | sort -u)\" = '600 root:root' ]
        ls /etc/rolesmith/secrets | grep -q .",
    );

    let before = machine.snapshot();
    let (code, said) = machine.enroll(&ACCEPTED);
    assert_eq!(code, 0, "{said}");
    let changed: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("changed:"))
        .collect();
    // The lists may be newer than a moment ago, so they are read every time.
    assert_eq!(
        changed,
        ["changed: reads the package lists (apt-get update)"]
    );
    let lists = |text: &str| -> String {
        let lines = text
            .lines()
            .filter(|line| !line.contains(" ./var/lib/apt/") && !line.contains(" ./var/cache/apt"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_same(&lists(&before), &lists(&machine.snapshot()));
}

/// (3) The new rules and ssh settings are in force and let the operator in, for the time being. Gives the rules.
fn is_on_trial(machine: &Machine<'_>) -> String {
    machine.wait_until("the firewall goes on trial", 60, IS_ON_TRIAL);
    let rules = machine.firewall();
    assert!(rules.contains(":INPUT DROP"), "{rules}");
    assert!(rules.contains(&format!("--dport {SSH_PORT}")), "{rules}");
    machine.must_ssh(Login::OldRoot, "true");
    machine.must_ssh(Login::FleetRoot, "true");
    assert_password_is_refused(machine);
    assert!(machine.site(WIKI_PORT).contains("timed out"));
    machine.must(&format!(
        "dpkg --audit && dpkg-query -W -f '${{db:Status-Status}}\n' {PACKAGES} | sort -u | grep -qx installed"
    ));
    // Nothing that the rules would protect has started.
    let (_, clusters) = machine.shell("pg_lsclusters --no-header | wc -l");
    assert_eq!(
        clusters.trim(),
        "1",
        "a cluster was made before the rules were confirmed"
    );
    rules
}

fn is_taken_back(machine: &Machine<'_>) {
    machine.wait_until(
        "the trial ends",
        150,
        "rolesmith-agent firewall status | grep '^taken back: nobody confirmed them in time'",
    );
    let rules = machine.firewall();
    assert!(!rules.contains("DROP") && !rules.contains("-A "), "{rules}");
    // Whoever the new settings locked out is let in again.
    machine.must_ssh(Login::Password, "true");
    machine.must_ssh(Login::OldRoot, "true");
    assert_eq!(machine.site(WIKI_PORT), "the old wiki\n");
    let status = machine.must("rolesmith-agent status");
    assert!(status.contains("rolesmith-agent firewall load"), "{status}");
    // It is not tried again by itself.
    machine.must("rolesmith-agent poke; systemctl start rolesmith-apply.service || true");
    let status = machine.must("rolesmith-agent firewall status");
    assert!(status.starts_with("taken back"), "{status}");
}

fn is_confirmed(machine: &Machine<'_>, tried: &str) {
    let said = machine.must_ssh(Login::FleetRoot, "rolesmith-agent firewall load");
    assert!(said.starts_with("pending"), "{said}");
    assert_eq!(machine.firewall(), tried);
    let said = machine.must_ssh(Login::FleetRoot, "rolesmith-agent firewall confirm");
    assert_eq!(said, "confirmed\n");
    machine.wait_until(
        "every role is ready",
        180,
        "rolesmith-agent status | grep '^state *converged'",
    );
    assert_eq!(machine.firewall(), tried);
    assert_password_is_refused(machine);
    machine.must("! systemctl is-active --quiet rolesmith-firewall-rollback.timer");
}

/// (6) `apt install` before the machine belongs to anybody: packages are configured and wait.
fn installed_before_enrolled(machine: &Machine<'_>) {
    let packages = PACKAGES.replace(" old-redis", "");
    let sources = "Types: deb\nURIs: http://apt.old.example\nSuites: trixie\nComponents: main\nTrusted: yes\n";
    let firewall = machine.firewall();
    let state = "sshd -T | grep -v '^port'; systemctl is-enabled nginx redis-server postgresql";
    let before = machine.must(state);
    // By hand, as somebody would who has read that the machine may be enrolled later. The keyring brings its own entry.
    machine.must_ssh(
        Login::OldRoot,
        &format!(
            "set -e
            printf '{sources}' >/etc/apt/sources.list.d/by-hand.sources
            apt-get -q update
            {INSTALL} old-archive-keyring
            rm /etc/apt/sources.list.d/by-hand.sources
            apt-get -q update
            {INSTALL} {packages}"
        ),
    );
    machine.must(&format!(
        "dpkg --audit && dpkg-query -W -f '${{db:Status-Status}}\n' {packages} | sort -u | grep -qx installed"
    ));
    machine.wait_until(
        "the agent has looked",
        30,
        "rolesmith-agent status | grep -q 'state  *not enrolled'",
    );
    let rules = machine.firewall();
    assert!(!rules.contains("DROP") && !rules.contains("-A "), "{rules}");
    assert_eq!(rules.replace("rolesmith", ""), rules, "{rules}");
    assert!(rules.starts_with(&firewall), "{rules}");
    assert_eq!(machine.must(state), before);
    let clusters = machine.must("pg_lsclusters --no-header | awk '{ print $1, $2 }'");
    assert_eq!(clusters, "17 main\n");
    machine.must(
        "for unit in rolesmith-redis rolesmith-sentinel rolesmith-pgbouncer rolesmith-postgresql; do
            ! systemctl is-active --quiet $unit
        done
        systemctl list-units --failed --no-legend | { ! grep . ; }",
    );
    machine.must_ssh(Login::Password, "true");
}

/// The identity arrives on a machine that has the packages: the agent is told and tries the rules. Somebody takes them
/// back; when they are tried again, a boot does.
fn wakes_what_was_installed(machine: &mut Machine<'_>, spec: &LabSpec) {
    let mut arguments = ACCEPTED[2..].to_vec();
    let (code, said) = machine.enroll(&arguments);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("in the way (ssh-port)"), "{said}");
    arguments.extend(["--accept", "ssh-port"]);
    let (code, said) = machine.enroll(&arguments);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("changed: wakes the agent"), "{said}");
    machine.wait_until("the firewall goes on trial", 60, IS_ON_TRIAL);
    machine.port = 22;
    let said = machine.must_ssh(Login::FleetRoot, "rolesmith-agent firewall rollback");
    assert_eq!(said, "taken back\n");
    machine.port = SSH_PORT;
    machine.must_ssh(Login::Password, "true");
    assert_eq!(machine.site(WIKI_PORT), "the old wiki\n");

    let said = machine.must_ssh(Login::OldRoot, "rolesmith-agent firewall load");
    assert!(said.starts_with("pending"), "{said}");
    // Somebody has to look, and systemd says so.
    assert_eq!(
        machine.reboot(spec),
        [
            "shop-2: systemd is degraded",
            "shop-2: unit rolesmith-apply.service failed"
        ]
    );
    let said = machine.must("rolesmith-agent firewall status");
    assert!(
        said.starts_with("taken back: the machine was started anew"),
        "{said}"
    );
    machine.must_ssh(Login::Password, "true");
    assert_eq!(machine.site(WIKI_PORT), "the old wiki\n");
}

/// `--install`: what was taken back is tried again, and confirmed over a new connection to the port where sshd is now.
fn enrolls_in_one_go(machine: &mut Machine<'_>) {
    let mut arguments = ACCEPTED[2..].to_vec();
    arguments.extend(["--accept", "ssh-port", "--install"]);
    let (code, said) = machine.enroll(&arguments);
    tell(&said);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("The firewall let a new connection in and is confirmed."),
        "{said}"
    );
    let (code, said) = machine.ssh(Login::OldRoot, "true");
    assert_eq!(code, 255, "the old port is open still: {said}");
    machine.port = 22;
    machine.must_ssh(Login::OldRoot, "true");
    machine.must("rolesmith-agent wait --timeout 180");
    assert_password_is_refused(machine);
}

/// Equal texts, or a failure that shows the lines that differ.
fn assert_same(before: &str, after: &str) {
    let lines = |text: &str| -> std::collections::BTreeSet<String> {
        text.lines().map(ToOwned::to_owned).collect()
    };
    let (before, after) = (lines(before), lines(after));
    let gone: Vec<_> = before.difference(&after).collect();
    let new: Vec<_> = after.difference(&before).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
}
