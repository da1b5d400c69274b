//! Rules and ssh settings that can lock somebody out.

use std::collections::BTreeMap;

use rolesmith_agent::guard::{Guard, PATIENCE};
use rolesmith_agent::state::Phase;
use rolesmith_agent::status::Status;
use serde_json::json;

use super::machine::{Machine, TIME, rules};

#[test]
fn an_enrolled_machine_returns_to_its_own_rules() {
    let machine = Machine::node("enroll");
    let state = machine.apply();
    assert!(
        matches!(state.report.phase, Phase::Waiting { .. }),
        "{state:?}"
    );
    // The way back is open before the first rule is loaded.
    let acts = machine.script.acts();
    assert_eq!(
        acts[..4],
        [
            "ipset save",
            "systemctl restart rolesmith-firewall-rollback.timer",
            "iptables-restore -w 10 --test",
            "iptables-restore -w 10",
        ]
    );
    assert!(
        !acts
            .iter()
            .any(|act| act.contains("join") || act.contains("app.service")),
        "{acts:?}"
    );
    assert!(
        machine
            .read("/var/lib/rolesmith/conf/base/sshd.conf")
            .is_some()
    );
    assert_eq!(Status::read(&machine.root, TIME).firewall, "pending");

    // The timer was lost in a crash: the next run takes them back.
    let state = machine.apply_at(TIME + PATIENCE);
    assert!(
        matches!(&state.report.phase, Phase::Failed { what } if what.contains("nobody confirmed")),
        "{state:?}"
    );
    let calls = machine.script.calls.take();
    let restored = calls
        .iter()
        .find(|call| call.name() == "iptables-restore")
        .unwrap();
    assert!(restored.stdin.as_ref().unwrap().contains("192.0.2.1"));
    assert_eq!(machine.read("/var/lib/rolesmith/conf/base/sshd.conf"), None);

    // Not again, until they change.
    machine.apply_at(TIME + PATIENCE + 1);
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    machine.facts(2);
    machine.apply_at(TIME + 500);
    assert!(machine.guard().pending.is_some());
    assert!(machine.firewall(TIME + 510).confirm().unwrap());
    assert_eq!(machine.apply_at(TIME + 511).report.phase, Phase::Converged);
    assert_eq!(machine.read("/var/lib/rolesmith/guard/saved.json"), None);
}

#[test]
fn an_ssh_server_that_fails_does_not_keep_rules_from_being_taken_back() {
    let machine = Machine::node("enroll");
    machine.apply();
    *machine.script.broken.borrow_mut() = Some("systemctl reload ssh.service");
    assert!(
        machine
            .firewall(TIME + 120)
            .rollback("nobody confirmed")
            .unwrap()
    );
    let why = machine.guard().rejected.unwrap().why;
    assert!(
        why.starts_with("nobody confirmed; then: systemctl reload"),
        "{why}"
    );
    assert!(
        machine
            .script
            .acts()
            .contains(&"iptables-restore -w 10".to_owned())
    );
}

#[test]
fn nothing_unconfirmed_survives_a_boot() {
    let machine = Machine::node("enroll");
    machine.apply();
    machine.firewall(TIME).confirm().unwrap();
    machine.facts(2);
    machine.apply();
    assert!(machine.guard().pending.is_some());
    machine.script.acts();

    machine.firewall(TIME + 60).boot().unwrap();
    assert_eq!(
        machine.script.calls.borrow()[0].stdin.as_deref(),
        Some(rules(1).as_str())
    );
    assert_eq!(
        machine
            .read("/var/lib/rolesmith/conf/base/firewall.v4")
            .unwrap(),
        rules(1)
    );
    let guard = machine.guard();
    assert!(guard.pending.is_none() && guard.rejected.unwrap().why.contains("started anew"));
}

#[test]
fn rules_that_cannot_be_loaded_change_nothing() {
    for origin in ["seed", "enroll"] {
        let machine = Machine::node(origin);
        *machine.script.broken.borrow_mut() = Some("iptables-restore");
        let state = machine.apply();
        assert!(
            matches!(&state.report.phase, Phase::Failed { what } if what.contains("no such match")),
            "{state:?}"
        );
        assert_eq!(machine.guard().confirmed, None);
        assert_eq!(
            machine.read("/var/lib/rolesmith/conf/base/firewall.v4"),
            None
        );
        assert!(
            !machine
                .script
                .acts()
                .iter()
                .any(|act| act.contains("app.service"))
        );
        *machine.script.broken.borrow_mut() = None;
        machine.facts(2);
        machine.apply();
        assert_ne!(machine.guard(), Guard::default(), "{origin}");
    }
}

/// Rules that were loaded last, by program.
fn loaded(machine: &Machine) -> BTreeMap<String, String> {
    let calls = machine.script.calls.take();
    let rules = calls
        .iter()
        .filter(|call| call.name().ends_with("-restore"));
    rules
        .map(|call| {
            (
                call.name().to_owned(),
                call.stdin.clone().unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn a_boot_without_usable_rules_leaves_a_way_in_and_nothing_else() {
    type Damage = fn(&Machine);
    let damages: [Damage; 3] = [
        // ipset was removed: rules that name sets are refused.
        |machine| *machine.script.broken.borrow_mut() = Some("iptables-restore -w 10"),
        |machine| {
            let set = machine.guard().confirmed.unwrap();
            machine.write(&format!("/var/lib/rolesmith/guard/sets/{set}.json"), "{");
        },
        |machine| machine.write("/var/lib/rolesmith/guard/state.json", "{"),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let machine = Machine::node("seed");
        machine.write(
            "/usr/lib/rolesmith/facts/nodes/n1/files/base/sshd.conf",
            "Port 2222\n",
        );
        assert_eq!(machine.apply().report.phase, Phase::Converged);
        machine.script.acts();
        damage(&machine);
        assert!(machine.firewall(TIME).boot().is_err(), "{number}");
        let built_in = &loaded(&machine)["iptables-restore"];
        assert!(
            built_in.contains(":INPUT DROP") && built_in.contains("--dport 2222"),
            "{number}: {built_in}"
        );

        // What was damaged is in nobody's way: as soon as the rules can be loaded, they are.
        *machine.script.broken.borrow_mut() = None;
        assert_eq!(machine.apply().report.phase, Phase::Converged, "{number}");
        assert_eq!(loaded(&machine)["iptables-restore"], rules(1));
        assert_eq!(machine.guard().fallback, None);
        machine.firewall(TIME).boot().unwrap();
        assert_eq!(loaded(&machine)["iptables-restore"], rules(1));
    }
}

#[test]
fn a_damaged_way_back_leads_to_the_confirmed_rules() {
    let machine = Machine::node("enroll");
    machine.apply();
    machine.firewall(TIME).confirm().unwrap();
    machine.facts(2);
    machine.apply();
    machine.write("/var/lib/rolesmith/guard/saved.json", "{");
    machine.script.acts();
    assert!(
        machine
            .firewall(TIME + 200)
            .rollback("nobody confirmed")
            .unwrap()
    );
    assert_eq!(loaded(&machine)["iptables-restore"], rules(1));
    assert!(
        machine
            .guard()
            .rejected
            .unwrap()
            .why
            .contains("was damaged")
    );
}

#[test]
fn what_leaves_the_way_in_needs_nobody() {
    let facts = "/usr/lib/rolesmith/facts/nodes/n1/files/base";
    let machine = Machine::node("enroll");
    machine.apply();
    machine.firewall(TIME).confirm().unwrap();
    machine.apply();
    machine.script.acts();

    // Another service, and afterwards ssh for some.
    let service = "-A INPUT -p tcp -m tcp --dport 80 -m conntrack --ctstate NEW -j ACCEPT\nCOMMIT";
    let opened = rules(1).replace("COMMIT", service);
    machine.write(&format!("{facts}/firewall.v4"), &opened);
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(loaded(&machine)["iptables-restore"], opened);
    assert_eq!(machine.guard().pending, None);
    let narrowed = opened.replace(
        "-p tcp -m tcp --dport 22",
        "-s 10.0.0.0/8 -p tcp -m tcp --dport 22",
    );
    machine.write(&format!("{facts}/firewall.v4"), &narrowed);
    machine.apply();
    assert!(machine.guard().pending.is_some());
}

#[test]
fn a_member_joins_while_nobody_looks() {
    let machine = Machine::node("enroll");
    let path = "/usr/lib/rolesmith/facts/nodes/n1/node.json";
    let node = machine.read(path).unwrap();
    let mut node: serde_json::Value = serde_json::from_str(&node).unwrap();
    let mut sets = node["files"][0].clone();
    sets["path"] = json!("firewall.ipset");
    node["files"].as_array_mut().unwrap().push(sets);
    machine.write(path, &node.to_string());
    let members = |text: &str| {
        machine.write(
            "/usr/lib/rolesmith/facts/nodes/n1/files/base/firewall.ipset",
            text,
        );
    };
    members("add fleet 10.0.0.1\n");
    machine.apply();
    assert!(machine.guard().pending.is_some());
    machine.firewall(TIME).confirm().unwrap();
    machine.apply();
    machine.script.calls.take();

    members("add fleet 10.0.0.1\nadd fleet 10.0.0.2\n");
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    let calls = machine.script.calls.take();
    let sets: Vec<_> = calls.iter().filter(|call| call.name() == "ipset").collect();
    assert!(sets[0].stdin.as_deref().unwrap().contains("10.0.0.2"));
    // What was a set of the fleet's and is none any more.
    let words: Vec<_> = sets.iter().map(|call| call.argv.join(" ")).collect();
    assert_eq!(
        words,
        [
            "ipset restore -exist",
            "ipset list -name",
            "ipset destroy rolesmith-tcp-6380"
        ]
    );
    assert_eq!(machine.guard().pending, None);
    assert_eq!(machine.guard().rejected, None);
}
