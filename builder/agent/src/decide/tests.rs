//! Decisions as tables. What holds for every machine stands in [`properties`].

use rolesmith_model::facts::Origin;
use rolesmith_model::manifest::{OnChange, Start};

use super::*;
use crate::guard::{GUARDED_ROLE, Guard, is_guarded};
use crate::inputs::Missing;
use crate::state::JoinResult;

pub(crate) mod machines;
mod properties;

use machines::{done, facts, fresh, identity, manifest, role, spec, unit};

/// One word an action, for tables.
fn words(decision: &Decision) -> Vec<String> {
    decision
        .actions
        .iter()
        .map(|action| match action {
            Action::Accept { version, .. } => format!("accept {version}"),
            Action::Forget { role } => format!("forget {role}"),
            Action::Guard { confirmed, .. } => format!("guard {confirmed}"),
            Action::ApplicationKey { .. } => "application key".to_owned(),
            Action::Install { role, path, .. } => format!("install {role}/{path}"),
            Action::Remove { role, path } => format!("remove {role}/{path}"),
            Action::Join { role, .. } => format!("join {role}"),
            Action::Unit { unit, verb, .. } => format!("{verb:?} {unit}"),
        })
        .collect()
}

fn phase_of<'a>(decision: &'a Decision, role: &str) -> &'a RolePhase {
    &decision
        .roles
        .iter()
        .find(|report| report.name == role)
        .expect("the role is reported")
        .phase
}

#[test]
fn a_fresh_machine_is_made_in_order() {
    let decision = decide(&fresh());
    assert_eq!(
        words(&decision),
        [
            "accept 7",
            "guard true",
            "install base/jail.local",
            "install app/app.env",
            "join app",
            "Start app.service"
        ]
    );
    assert!(matches!(decision.phase, Phase::Waiting { .. }));
}

#[test]
fn the_key_of_applications_is_there_before_what_wants_it_and_as_the_nodes_key_has_it() {
    let wanted = |wanted, installed| {
        let path = "/etc/rolesmith/application.key".to_owned();
        Some(WantedFile {
            path,
            wanted,
            installed,
        })
    };
    let mut seen = fresh();
    seen.application_key = wanted(Ok(spec("new")), None);
    let told = words(&decide(&seen));
    let at = |word: &str| told.iter().position(|other| other == word);
    assert!(at("application key") > at("guard true"), "{told:?}");
    assert!(at("application key") < at("join app"), "{told:?}");

    for (installed, rewritten) in [
        (None, true),
        (Some(spec("old")), true),
        (
            Some(FileSpec {
                mode: 0o640,
                ..spec("new")
            }),
            true,
        ),
        (Some(spec("new")), false),
    ] {
        let (mut seen, _) = done();
        seen.application_key = wanted(Ok(spec("new")), installed.clone());
        let expected: &[&str] = if rewritten { &["application key"] } else { &[] };
        assert_eq!(words(&decide(&seen)), expected, "{installed:?}");
    }

    // Who does not need it goes on, and somebody is told to look.
    let (mut seen, _) = done();
    seen.application_key = wanted(Err(Missing::Key("it is not there".into())), None);
    seen.roles.get_mut("app").unwrap().configured = Some("2".to_owned());
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["join app", "Restart app.service"]);
    assert!(
        matches!(phase_of(&decision, "base"), RolePhase::Failed { what } if what.contains("application.key cannot be made")
            && what.contains("node.key: it is not there")),
        "{decision:?}"
    );

    // Nothing is written for a fleet that this machine does not belong to, nor while its package is not there.
    let mut seen = fresh();
    seen.application_key = wanted(Ok(spec("new")), None);
    seen.roles.get_mut("base").unwrap().configured = None;
    assert_eq!(words(&decide(&seen)), ["accept 7"]);
    facts(&mut seen).fleet = "other".to_owned();
    assert_eq!(words(&decide(&seen)), Vec::<String>::new());
}

#[test]
fn who_does_not_belong_is_refused() {
    type Change = fn(&mut Observed);
    let cases: [(Change, &str); 14] = [
        (|seen| seen.identity = Seen::Absent, "NotEnrolled"),
        (
            |seen| seen.identity = Seen::Broken("x".into()),
            "Failed identity cannot be read",
        ),
        (
            |seen| seen.facts = Seen::Absent,
            "Waiting acme-facts is not installed",
        ),
        (
            |seen| seen.facts = Seen::Broken("x".into()),
            "Failed facts cannot be read",
        ),
        (
            |seen| seen.facts_unsettled = Some("half-installed".into()),
            "Waiting acme-facts is half-installed",
        ),
        (
            |seen| facts(seen).format = FACTS_FORMAT + 1,
            "Failed upgrade rolesmith-agent",
        ),
        (
            |seen| facts(seen).fleet = "evil".into(),
            "Failed those of the fleet \"evil\"",
        ),
        (
            |seen| (seen.memory.fleet, seen.memory.facts_version) = (Some("acme".into()), 8),
            "Failed older facts are refused",
        ),
        (
            |seen| identity(seen).node = "n9".into(),
            "Failed declare no node \"n9\"",
        ),
        (
            |seen| facts(seen).members[0].incarnation = 2,
            "Failed replaced it by incarnation 2",
        ),
        (
            |seen| identity(seen).incarnation = 2,
            "Waiting do not know incarnation 2",
        ),
        (|seen| seen.node = Seen::Absent, "Failed hold nothing"),
        (
            |seen| seen.node = Seen::Broken("x".into()),
            "Failed cannot be read",
        ),
        (
            |seen| {
                if let Seen::Is(node) = &mut seen.node {
                    node.name = "n2".into();
                }
            },
            "Failed speak of \"n2\"",
        ),
    ];
    for (change, expected) in cases {
        let mut seen = fresh();
        change(&mut seen);
        let decision = decide(&seen);
        let (state, text) = expected.split_once(' ').unwrap_or((expected, ""));
        let found = format!("{:?}", decision.phase).replace("\\\"", "\"");
        assert!(
            found.starts_with(state) && found.contains(text),
            "{expected}: {found}"
        );
        assert_eq!(words(&decision), Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn facts_of_a_former_fleet_do_not_count_as_newer() {
    let mut seen = fresh();
    (seen.memory.fleet, seen.memory.facts_version) = (Some("former".into()), 99);
    assert_eq!(words(&decide(&seen))[0], "accept 7");
}

#[test]
fn a_role_waits_for_what_comes_and_fails_for_what_does_not() {
    type Change = fn(&mut RoleSeen);
    let cases: [(Change, bool, &str); 7] = [
        (|app| app.configured = None, true, "not configured"),
        (
            |app| app.unsettled = Some("unpacked".into()),
            true,
            "unpacked",
        ),
        (|app| app.manifest = Seen::Absent, false, "no manifest"),
        (
            |app| app.files[0].wanted = Err(Missing::Secret("db".into())),
            true,
            "enroll --secrets",
        ),
        (
            |app| app.files[0].wanted = Err(Missing::Owner("app".into())),
            false,
            "no user or group",
        ),
        (
            |app| manifest(app).requires.push("edge".into()),
            false,
            "role edge",
        ),
        (
            |app| app.units.clear(),
            false,
            "does not know the unit app.service",
        ),
    ];
    for (change, waits, text) in cases {
        let mut seen = fresh();
        change(seen.roles.get_mut("app").unwrap());
        let decision = decide(&seen);
        let found = match phase_of(&decision, "app") {
            RolePhase::Waiting { why } if waits => why,
            RolePhase::Failed { what } if !waits => what,
            other => panic!("{text}: {other:?}"),
        };
        assert!(found.contains(text), "{text}: {found}");
        assert!(
            !words(&decision)
                .iter()
                .any(|word| word.contains(".service")),
            "{text}: a unit was touched"
        );
    }
}

#[test]
fn what_a_failed_role_carries_waits() {
    let mut seen = fresh();
    seen.failures
        .insert("base".to_owned(), Failure::Failed("no".to_owned()));
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["accept 7"]);
    assert_eq!(
        phase_of(&decision, "base"),
        &RolePhase::Failed {
            what: "no".to_owned()
        }
    );
    assert!(matches!(
        phase_of(&decision, "app"),
        RolePhase::Waiting { .. }
    ));
}

#[test]
fn nothing_is_done_twice() {
    let (seen, fingerprint) = done();
    let decision = decide(&seen);
    assert_eq!(words(&decision), Vec::<String>::new());
    assert_eq!(decision.phase, Phase::Converged);
    assert_eq!(decision.ready["app"], fingerprint);
}

#[test]
fn a_change_touches_its_role_alone() {
    let (mut seen, _) = done();
    seen.roles.get_mut("app").unwrap().configured = Some("2".to_owned());
    assert_eq!(words(&decide(&seen)), ["join app", "Restart app.service"]);

    let (mut seen, _) = done();
    seen.roles.get_mut("base").unwrap().files[1].installed = Some(spec("edited by hand"));
    seen.roles
        .get_mut("base")
        .unwrap()
        .strays
        .push("old.conf".to_owned());
    assert_eq!(
        words(&decide(&seen)),
        ["install base/jail.local", "remove base/old.conf"]
    );

    let (mut seen, _) = done();
    seen.roles.get_mut("app").unwrap().configured = None;
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["forget app"]);
}

#[test]
fn units_by_what_they_are_and_what_changed() {
    use OnChange::{Nothing, Reload, Restart};
    use Start::{Enrolled, Install, Never};
    // start, on change, running, changed -> what is done
    let table = [
        (Enrolled, Restart, false, true, Some("Start")),
        (Enrolled, Restart, true, true, Some("Restart")),
        (Enrolled, Reload, true, true, Some("Reload")),
        (Enrolled, Reload, false, true, Some("Start")),
        (Enrolled, Nothing, true, true, Some("Note")),
        (Enrolled, Nothing, false, true, Some("Start")),
        (Enrolled, Restart, true, false, None),
        // Stopped by somebody: it stays so.
        (Enrolled, Restart, false, false, None),
        (Install, Restart, true, true, Some("Restart")),
        (Install, Restart, false, true, Some("Note")),
        (Never, Reload, true, true, Some("Reload")),
        (Never, Restart, false, true, Some("Note")),
        (Never, Restart, false, false, None),
    ];
    for (start, on_change, running, changed, expected) in table {
        let (mut seen, _) = done();
        let app = seen.roles.get_mut("app").unwrap();
        manifest(app).cluster = None;
        manifest(app).units = vec![unit("app.service", start, on_change)];
        app.units.get_mut("app.service").unwrap().running = running;
        if changed {
            app.configured = Some("2".to_owned());
        }
        let expected: Vec<String> = expected
            .iter()
            .map(|verb| format!("{verb} app.service"))
            .collect();
        assert_eq!(
            words(&decide(&seen)),
            expected,
            "{start:?} {on_change:?} running {running} changed {changed}"
        );
    }
}

#[test]
fn a_unit_that_another_role_started_begins_anew_once() {
    use OnChange::{Nothing, Reload, Restart};
    // on change, of the role's own package, running -> what is done
    let table = [
        (Reload, true, true, "Restart"),
        (Reload, true, false, "Start"),
        (Restart, true, true, "Restart"),
        // It is to live through every change.
        (Nothing, true, true, "Note"),
        // One of Debian's reads a drop-in that is new to it.
        (Reload, false, true, "Reload"),
    ];
    for (on_change, own, running, expected) in table {
        let (mut seen, _) = done();
        seen.memory.roles.get_mut("app").unwrap().units.clear();
        let app = seen.roles.get_mut("app").unwrap();
        let mut unit = unit("app.service", Start::Enrolled, on_change);
        unit.own = own;
        manifest(app).units = vec![unit];
        app.units.get_mut("app.service").unwrap().running = running;
        let decision = decide(&seen);
        let case = format!("{on_change:?} own {own} running {running}");
        assert_eq!(
            words(&decision),
            [format!("{expected} app.service")],
            "{case}"
        );
        for action in &decision.actions {
            let boot = seen.boot.clone();
            crate::act::remember(&mut seen.memory, action, &crate::act::Outcome::Done, &boot);
        }
        assert_eq!(words(&decide(&seen)), Vec::<String>::new(), "{case}");
    }
}

#[test]
fn another_certificate_or_ca_does_what_the_unit_needs_and_no_more() {
    use OnChange::{Nothing, Reload, Restart};
    // on change, on certificate, running, package changed, certificates changed -> what is done
    let table = [
        (Restart, Reload, true, false, true, Some("Reload")),
        (Nothing, Restart, true, false, true, Some("Restart")),
        (Restart, Nothing, true, false, true, None),
        (Restart, Reload, true, false, false, None),
        // The stronger of two reasons.
        (Restart, Reload, true, true, true, Some("Restart")),
        (Reload, Restart, true, true, true, Some("Restart")),
        (Reload, Restart, true, true, false, Some("Reload")),
        (Nothing, Reload, true, true, true, Some("Reload")),
        (Nothing, Reload, true, true, false, Some("Note")),
        // Stopped by somebody: it stays so, and reads them when it starts.
        (Restart, Reload, false, false, true, Some("Note")),
        (Restart, Reload, false, true, true, Some("Start")),
    ];
    for (on_change, on_certificate, running, changed, renewed, expected) in table {
        let (mut seen, _) = done();
        let app = seen.roles.get_mut("app").unwrap();
        manifest(app).cluster = None;
        let mut unit = unit("app.service", Start::Enrolled, on_change);
        unit.on_certificate = on_certificate;
        manifest(app).units = vec![unit];
        app.units.get_mut("app.service").unwrap().running = running;
        if changed {
            app.configured = Some("2".to_owned());
        }
        if renewed {
            seen.certificates = "second".to_owned();
        }
        let expected: Vec<String> = expected
            .iter()
            .map(|verb| format!("{verb} app.service"))
            .collect();
        let case = format!(
            "{on_change:?} {on_certificate:?} running {running} changed {changed} renewed {renewed}"
        );
        assert_eq!(words(&decide(&seen)), expected, "{case}");
    }
}

#[test]
fn an_agent_that_did_not_remember_certificates_makes_sure_once() {
    let (mut seen, _) = done();
    let app = seen.roles.get_mut("app").unwrap();
    let mut unit = unit("app.service", Start::Enrolled, OnChange::Restart);
    unit.on_certificate = OnChange::Reload;
    manifest(app).units = vec![unit];
    app.units.get_mut("app.service").unwrap().running = true;
    let memory = seen.memory.roles.get_mut("app").unwrap();
    memory.units.get_mut("app.service").unwrap().certificates = None;
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["Reload app.service"]);
    for action in &decision.actions {
        let boot = seen.boot.clone();
        crate::act::remember(&mut seen.memory, action, &crate::act::Outcome::Done, &boot);
    }
    assert_eq!(words(&decide(&seen)), Vec::<String>::new());
}

#[test]
fn what_systemd_does_not_start_at_boot_is_started_once_a_boot() {
    let table = [
        (false, false, vec!["Start app.service"]),
        // Whoever started it: it was up in this boot, so it stays stopped if somebody stops it.
        (false, true, vec!["Note app.service"]),
        (true, false, vec![]),
        (true, true, vec![]),
    ];
    for (enabled, running, expected) in table {
        let (mut seen, _) = done();
        seen.boot = "boot-2".to_owned();
        let app = seen.roles.get_mut("app").unwrap();
        *app.units.get_mut("app.service").unwrap() = UnitSeen {
            known: true,
            masked: false,
            running,
            enabled,
        };
        assert_eq!(
            words(&decide(&seen)),
            expected,
            "enabled {enabled} running {running}"
        );
    }
}

#[test]
fn masked_units_are_left_alone() {
    let mut seen = fresh();
    seen.roles
        .get_mut("app")
        .unwrap()
        .units
        .get_mut("app.service")
        .unwrap()
        .masked = true;
    assert!(
        !words(&decide(&seen))
            .iter()
            .any(|word| word.contains("app.service"))
    );
}

#[test]
fn a_join_is_repeated_until_it_is_done() {
    let (mut seen, _) = done();
    let join = seen
        .memory
        .roles
        .get_mut("app")
        .unwrap()
        .join
        .as_mut()
        .unwrap();
    join.result = JoinResult::Later {
        output: "no peer".into(),
    };
    assert_eq!(words(&decide(&seen)), ["join app"]);
    seen.failures
        .insert("app".to_owned(), Failure::Later("no peer".to_owned()));
    let decision = decide(&seen);
    assert_eq!(
        decision.phase,
        Phase::Waiting {
            why: "app: no peer".to_owned()
        }
    );
    assert_eq!(words(&decision), Vec::<String>::new());
}

#[test]
fn an_enrolled_machine_opens_nothing_before_its_rules_are_confirmed() {
    let mut seen = fresh();
    identity(&mut seen).origin = Origin::Enroll;
    let decision = decide(&seen);
    assert_eq!(
        words(&decision),
        ["accept 7", "guard false", "install base/jail.local"]
    );
    assert!(matches!(
        phase_of(&decision, "app"),
        RolePhase::Waiting { .. }
    ));

    // Confirmed once, other roles go on while a later set is pending or was taken back.
    let (mut seen, _) = done();
    identity(&mut seen).origin = Origin::Enroll;
    seen.roles.get_mut("base").unwrap().files[0].wanted = Ok(spec("newer"));
    seen.roles.get_mut("app").unwrap().configured = Some("2".to_owned());
    assert_eq!(
        words(&decide(&seen)),
        ["guard false", "join app", "Restart app.service"]
    );
    // Nobody is needed where nobody can be locked out.
    seen.keeps_way_in = true;
    assert_eq!(
        words(&decide(&seen)),
        ["guard true", "join app", "Restart app.service"]
    );
    seen.keeps_way_in = false;
    let set = set_fingerprint(&[("firewall.v4", &spec("newer")), ("sshd.conf", &spec("new"))]);
    seen.guard = seen.guard.tried(&set, 1000);
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["join app", "Restart app.service"]);
    assert!(
        matches!(phase_of(&decision, "base"), RolePhase::Waiting { why } if why.contains("firewall confirm"))
    );
    seen.guard = seen.guard.rolled_back("nobody confirmed", 1120).unwrap();
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["join app", "Restart app.service"]);
    assert!(
        matches!(phase_of(&decision, "base"), RolePhase::Failed { what } if what.contains("firewall load"))
    );
}

#[test]
fn a_package_and_facts_of_different_versions_wait_for_each_other() {
    let name = |seen: &mut Observed, role: &str, version: &str| {
        let package = format!("acme-{role}");
        facts(seen).packages.insert(package, version.to_owned());
    };
    // Never applied: neither it nor what builds on it begins.
    let mut seen = fresh();
    name(&mut seen, "base", "2");
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["accept 7", "guard true"]);
    assert!(
        matches!(phase_of(&decision, "base"), RolePhase::Waiting { why } if why.contains("acme-base 1 is installed") && why.contains("version 2"))
    );
    assert!(matches!(
        phase_of(&decision, "app"),
        RolePhase::Waiting { .. }
    ));

    // Newer facts first, then the package, and the other way round: both ways end in the same machine.
    for facts_first in [true, false] {
        let (mut seen, fingerprint) = done();
        name(&mut seen, "app", "1");
        seen.memory.roles.get_mut("app").unwrap().applied = Some(fingerprint);
        let (mut bring_facts, mut bring_package) = (
            |seen: &mut Observed| {
                name(seen, "app", "2");
                seen.roles.get_mut("app").unwrap().files[0].wanted = Ok(spec("of 2"));
            },
            |seen: &mut Observed| {
                seen.roles.get_mut("app").unwrap().configured = Some("2".to_owned());
            },
        );
        let steps: [&mut dyn FnMut(&mut Observed); 2] = if facts_first {
            [&mut bring_facts, &mut bring_package]
        } else {
            [&mut bring_package, &mut bring_facts]
        };
        let [first, second] = steps;
        first(&mut seen);
        let decision = decide(&seen);
        assert_eq!(words(&decision), Vec::<String>::new());
        assert!(
            matches!(&decision.phase, Phase::Waiting { why } if why.contains("apt has to bring both"))
        );
        assert!(!decision.ready.contains_key("app"));
        second(&mut seen);
        assert_eq!(
            words(&decide(&seen)),
            ["install app/app.env", "join app", "Restart app.service"]
        );
    }
}

#[test]
fn a_role_that_was_taken_away_is_told_and_left_alone() {
    let (mut seen, _) = done();
    facts(&mut seen).members[0].roles.pop();
    let decision = decide(&seen);
    assert_eq!(words(&decision), Vec::<String>::new());
    assert!(
        matches!(&decision.phase, Phase::Failed { what } if what.contains("apt purge acme-app"))
    );
    seen.roles.get_mut("app").unwrap().configured = None;
    let decision = decide(&seen);
    assert_eq!(words(&decision), ["forget app"]);
    assert_eq!(decision.roles.len(), 1);
}
