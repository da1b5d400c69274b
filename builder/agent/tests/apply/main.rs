//! `apply` on a directory that stands for the machine, with its programs played by [`machine::Script`].

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rolesmith_agent::apply::apply;
use rolesmith_agent::files;
use rolesmith_agent::state::{JoinResult, Phase};
use rolesmith_agent::status::Status;
use serde_json::json;

mod guard;
mod machine;

use machine::{Machine, TIME};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_machine_that_is_not_enrolled_is_left_alone() {
    let machine = Machine::new();
    machine.write("/run/rolesmith/poke", "");
    assert_eq!(machine.apply().report.phase, Phase::NotEnrolled);
    assert_eq!(machine.read("/run/rolesmith/poke"), None);
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    assert!(!Status::read(&machine.root, TIME).enrolled);
}

#[test]
fn an_enrolled_machine_waits_for_facts_and_packages() {
    let machine = Machine::new();
    machine.enroll("seed");
    assert_eq!(
        machine.apply().report.phase,
        Phase::Waiting {
            why: "the package acme-facts is not installed".into()
        }
    );
    machine.facts(1);
    let phase = machine.apply().report.phase;
    assert_eq!(
        phase,
        Phase::Waiting {
            why: "base: its package is not configured; app: its package is not configured".into()
        }
    );
    assert_eq!(machine.script.acts(), Vec::<String>::new());
}

#[test]
fn a_node_is_made_once_and_kept() {
    let machine = Machine::node("seed");
    let state = machine.apply();
    assert_eq!(state.report.phase, Phase::Converged, "{state:?}");
    assert_eq!(
        machine.script.acts(),
        [
            "iptables-restore -w 10 --test",
            "iptables-restore -w 10",
            "systemctl reload ssh.service",
            "systemctl stop rolesmith-firewall-rollback.timer",
            "/join",
            "systemctl start -- app.service",
        ]
    );
    let env = machine.root.join("/var/lib/rolesmith/conf/app/app.env");
    assert_eq!(fs::read_to_string(&env).unwrap(), "PASSWORD=s3cret-value\n");
    assert_eq!(mode(&env), 0o600);
    assert_eq!(
        machine
            .read("/var/lib/rolesmith/conf/app/sub/peers")
            .unwrap(),
        "10.77.0.11\n"
    );
    assert_eq!(
        mode(&machine.root.join("/var/lib/rolesmith/state.json")),
        0o600
    );
    assert_eq!(
        mode(&machine.root.join("/run/rolesmith/status.json")),
        0o644
    );

    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(machine.script.acts(), Vec::<String>::new());

    // Put right what was changed by hand, and nothing else.
    fs::write(&env, "PASSWORD=mine\n").unwrap();
    machine.write("/var/lib/rolesmith/conf/app/stray", "");
    machine.apply();
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(&env).unwrap(), "PASSWORD=s3cret-value\n");
    assert_eq!(machine.read("/var/lib/rolesmith/conf/app/stray"), None);

    // A changed secret is a change of the role.
    machine.write("/etc/rolesmith/secrets/db-password", "other-value\n");
    machine.apply();
    assert_eq!(
        machine.script.acts(),
        ["/join", "systemctl restart -- app.service"]
    );
}

#[test]
fn another_certificate_or_ca_reaches_the_units_that_asked_for_it() {
    let machine = Machine::node("seed");
    let (ca, certificate) = (
        "/usr/lib/rolesmith/facts/ca.pem",
        "/usr/lib/rolesmith/facts/nodes/n1/cert.pem",
    );
    machine.write(ca, "one");
    machine.write(certificate, "first");
    let unit =
        json!({ "name": "app.service", "start": "enrolled", "on_change": "restart", "own": true });
    let mut manifest = json!({ "role": "app", "requires": ["base"], "units": [unit] });
    machine.configure("app", "1.0", &manifest);
    machine.apply();
    machine.script.acts();
    machine.write(certificate, "second");
    machine.apply();
    assert_eq!(machine.script.acts(), Vec::<String>::new());

    manifest["units"][0]["on_certificate"] = json!("reload");
    machine.configure("app", "1.1", &manifest);
    machine.apply();
    assert_eq!(machine.script.acts(), ["systemctl restart -- app.service"]);
    for (path, text) in [(ca, "one, two"), (certificate, "third"), (ca, "two")] {
        machine.write(path, text);
        machine.apply();
        assert_eq!(
            machine.script.acts(),
            ["systemctl reload-or-restart -- app.service"]
        );
    }
    // Newer facts with the same certificates.
    machine.facts(2);
    machine.apply();
    let acts = machine.script.acts();
    assert!(
        !acts.iter().any(|act| act.contains("app.service")),
        "{acts:?}"
    );
}

#[test]
fn an_edge_is_out_of_service_while_an_upgrade_restarts_units() {
    let machine = Machine::node("seed");
    let file = "/usr/lib/rolesmith/facts/facts.json";
    let edges = |version: u64| {
        machine.facts(version);
        let mut facts: serde_json::Value =
            serde_json::from_str(&machine.read(file).unwrap()).unwrap();
        facts["members"] = json!([
            { "name": "n1", "roles": ["base", "app", "edge"], "incarnation": 1, "certificate": "" },
            { "name": "n2", "roles": ["base", "app", "edge"], "incarnation": 1, "certificate": "" },
        ]);
        machine.write(file, &facts.to_string());
    };
    edges(1);
    let settings = json!({ "fleet": "acme", "node": "n1", "https": "10.77.0.11:443", "services": [], "leave_seconds": 0 });
    machine.write(
        "/var/lib/rolesmith/conf/edge/edge.json",
        &settings.to_string(),
    );
    machine.configure(
        "edge",
        "1.0",
        &json!({ "role": "edge", "requires": ["base"], "units": [] }),
    );
    let mark = machine.root.join(rolesmith_agent::edge::UPGRADING);
    *machine.script.mark.borrow_mut() = Some(mark.clone());
    machine.apply();
    machine.script.acts();

    // What a run left that was cut off counts no more.
    machine.write(rolesmith_agent::edge::UPGRADING, "");
    let unit =
        json!({ "name": "app.service", "start": "enrolled", "on_change": "restart", "own": true });
    let manifest = json!({ "role": "app", "requires": ["base"], "units": [unit] });
    let dir = "/usr/lib/rolesmith/facts/nodes/n1/files/app";
    machine.write(&format!("{dir}/app.env"), "PASSWORD=of other facts\n");
    machine.apply();
    assert_eq!(
        machine.script.acts(),
        ["/join", "systemctl restart -- app.service"]
    );

    machine.configure("app", "1.1", &manifest);
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(
        machine.script.acts(),
        ["marked:", "systemctl restart -- app.service"]
    );
    assert!(!mark.exists());
}

/// A key as a seed brings it; it is nobody's.
const NODE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQggVPFshBBIlIW9ZD7
Y+Ody8daI86WiK5+JiV0Iw3ZdgShRANCAAS2HSx9jjxKaz6PkOh68m4RW9diLQhi
Z+cPVkLiUpyUnRE2V/UQ7W+PLnLe4UQrsaFODr2frONj8Wg8s7NtNO5T
-----END PRIVATE KEY-----
";

#[test]
fn the_key_of_applications_is_made_where_the_facts_hold_its_certificate() {
    const KEY: &str = "/etc/rolesmith/application.key";
    let certificate = "/usr/lib/rolesmith/facts/nodes/n1/application.pem";
    let machine = Machine::node("seed");
    let unit = json!({ "name": "app.service", "start": "enrolled", "on_change": "restart",
        "on_certificate": "restart", "own": true });
    let manifest = json!({ "role": "app", "requires": ["base"], "units": [unit] });
    machine.configure("app", "1.0", &manifest);
    machine.write("/etc/rolesmith/node.key", NODE_KEY);
    // Facts of an older builder.
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(machine.read(KEY), None);
    machine.script.acts();

    machine.write(certificate, "first");
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(machine.script.acts(), ["systemctl restart -- app.service"]);
    let made = machine.read(KEY).unwrap();
    let derived = rolesmith_keys::ApplicationKey::of(NODE_KEY, "acme", "n1").unwrap();
    assert_eq!(made, derived.to_pem());
    assert_eq!(mode(&machine.root.join(KEY)), 0o600);
    machine.apply();
    assert_eq!(machine.script.acts(), Vec::<String>::new());

    // It is what the node's key gives, whatever is done to it; services have theirs.
    machine.write(KEY, "by hand");
    fs::set_permissions(machine.root.join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
    machine.apply();
    assert_eq!(machine.read(KEY).as_ref(), Some(&made));
    assert_eq!(mode(&machine.root.join(KEY)), 0o600);
    assert_eq!(machine.script.acts(), Vec::<String>::new());

    // The machine was enrolled anew: another key, and facts that hold a certificate for it.
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    machine.write("/etc/rolesmith/node.key", &other);
    machine.write(certificate, "second");
    machine.apply();
    assert_ne!(machine.read(KEY).as_ref(), Some(&made));
    assert_eq!(machine.script.acts(), ["systemctl restart -- app.service"]);

    // Without a key that can be read nothing is made up, and the rest goes on.
    machine.write("/etc/rolesmith/node.key", "no key");
    let before = machine.read(KEY);
    machine.write(certificate, "third");
    let state = machine.apply();
    assert!(
        matches!(&state.report.phase, Phase::Failed { what } if what.contains("application.key cannot be made")
            && what.contains("/etc/rolesmith/node.key: the node's key is no private key in PEM")),
        "{state:?}"
    );
    assert_eq!(machine.read(KEY), before);
    assert_eq!(machine.script.acts(), ["systemctl restart -- app.service"]);
    for path in [
        "/var/lib/rolesmith/state.json",
        "/run/rolesmith/status.json",
    ] {
        let text = machine.read(path).unwrap();
        assert!(!text.contains(made.lines().nth(1).unwrap()), "{path}");
    }
}

#[test]
fn older_facts_are_refused() {
    let machine = Machine::node("seed");
    machine.facts(5);
    machine.apply();
    machine.script.acts();
    machine.facts(4);
    let Phase::Failed { what } = machine.apply().report.phase else {
        panic!("it was accepted")
    };
    assert!(what.contains("version 4, but version 5 was seen"), "{what}");
    assert_eq!(machine.script.acts(), Vec::<String>::new());
}

#[test]
fn a_join_that_waits_is_no_failure_and_one_that_fails_is_shown_without_secrets() {
    let machine = Machine::node("seed");
    *machine.script.join.borrow_mut() = Some((75, "no peer yet"));
    let state = machine.apply();
    assert_eq!(
        state.report.phase,
        Phase::Waiting {
            why: "app: its join waits: no peer yet".into()
        }
    );
    *machine.script.join.borrow_mut() = Some((1, "cannot log in with s3cret-value"));
    let state = machine.apply();
    let Phase::Failed { what } = &state.report.phase else {
        panic!("{state:?}")
    };
    assert_eq!(
        what,
        "app: its join failed: /join: exit status 1: cannot log in with ****"
    );
    assert!(matches!(
        state.report.roles[1].join,
        Some(JoinResult::Failed { .. })
    ));
    assert!(
        !machine
            .script
            .acts()
            .iter()
            .any(|act| act.contains("app.service"))
    );
    *machine.script.join.borrow_mut() = None;
    assert_eq!(machine.apply().report.phase, Phase::Converged);
}

#[test]
fn a_damaged_state_is_never_replaced_by_an_empty_one() {
    let machine = Machine::node("seed");
    machine.write("/var/lib/rolesmith/state.json", "{");
    let error = apply(&machine.root, &machine.script, &|| TIME).unwrap_err();
    assert!(
        error.to_string().contains("state.json cannot be read"),
        "{error}"
    );
    assert_eq!(
        machine.read("/var/lib/rolesmith/state.json").as_deref(),
        Some("{")
    );
}

#[test]
fn paths_that_lead_out_are_refused() {
    for (path, below) in [
        ("a", true),
        ("a/b.c", true),
        ("", false),
        ("/a", false),
        ("../a", false),
        ("a/../b", false),
    ] {
        assert_eq!(files::stays_below(path), below, "{path}");
    }
}

#[test]
fn a_unit_whose_condition_is_not_met_does_not_count_as_started() {
    let machine = Machine::node("seed");
    *machine.script.skipped.borrow_mut() = Some("app.service");
    let state = machine.apply();
    assert!(
        matches!(&state.report.phase, Phase::Waiting { why } if why.contains("app.service was not started")),
        "{state:?}"
    );
    machine.script.acts();
    *machine.script.skipped.borrow_mut() = None;
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(machine.script.acts(), ["systemctl start -- app.service"]);
}

#[test]
fn a_configured_role_that_the_facts_do_not_give_is_found() {
    let machine = Machine::node("seed");
    machine.apply();
    machine.script.acts();
    machine.configure(
        "former",
        "1.0",
        &json!({ "role": "former", "requires": [], "units": [] }),
    );
    let state = machine.apply();
    assert!(
        matches!(&state.report.phase, Phase::Failed { what } if what.contains("apt purge acme-former")),
        "{state:?}"
    );
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    assert!(
        Status::read(&machine.root, TIME)
            .alarms
            .iter()
            .any(|alarm| alarm.contains("former"))
    );
}

#[test]
fn the_end_of_the_certificate_is_told_in_time() {
    let machine = Machine::node("seed");
    let day = 24 * 60 * 60;
    let path = "/usr/lib/rolesmith/facts/facts.json";
    let facts = machine.read(path).unwrap();
    for (end, told) in [
        (None, None),
        (Some(TIME + 31 * day), None),
        (Some(TIME + 30 * day), Some("ends in 30 days")),
        (Some(TIME + 1), Some("ends in 1 day:")),
        (Some(TIME), Some("has expired")),
        (Some(1), Some("has expired")),
    ] {
        if let Some(end) = end {
            let mut facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
            facts["members"][0]["certificate_expires"] = json!(end);
            machine.write(path, &facts.to_string());
        }
        let alarms = Status::read(&machine.root, TIME).alarms.join("; ");
        assert_eq!(
            alarms.contains("certificate"),
            told.is_some(),
            "{end:?}: {alarms}"
        );
        assert!(
            alarms.contains(told.unwrap_or_default()),
            "{end:?}: {alarms}"
        );
    }
}
