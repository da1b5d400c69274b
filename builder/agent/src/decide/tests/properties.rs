//! What holds for every machine, above all after a crash between any two steps.

use proptest::prelude::*;
use rolesmith_model::facts::Origin;

use super::*;
use crate::act::{Outcome, remember};

/// What an action does to the machine, without the memory of it.
fn effect(seen: &mut Observed, action: &Action) {
    match action {
        Action::Accept { .. } | Action::Forget { .. } | Action::Join { .. } => {}
        Action::Guard { set, confirmed } => {
            seen.guard = if *confirmed {
                seen.guard.activated(set)
            } else {
                seen.guard.tried(set, 1000)
            };
            let base = seen.roles.get_mut(GUARDED_ROLE).unwrap();
            for file in base
                .files
                .iter_mut()
                .filter(|file| is_guarded(GUARDED_ROLE, &file.path))
            {
                file.installed = file.wanted.clone().ok();
            }
            base.strays.retain(|path| !is_guarded(GUARDED_ROLE, path));
        }
        Action::ApplicationKey { spec } => {
            seen.application_key.as_mut().unwrap().installed = Some(spec.clone());
        }
        Action::Install { role, path, spec } => {
            let files = &mut seen.roles.get_mut(role).unwrap().files;
            files
                .iter_mut()
                .find(|file| file.path == *path)
                .unwrap()
                .installed = Some(spec.clone());
        }
        Action::Remove { role, path } => seen
            .roles
            .get_mut(role)
            .unwrap()
            .strays
            .retain(|stray| stray != path),
        Action::Unit {
            role, unit, verb, ..
        } => {
            let unit = seen
                .roles
                .get_mut(role)
                .unwrap()
                .units
                .get_mut(unit)
                .unwrap();
            unit.running |= *verb != Verb::Note;
        }
    }
}

fn outcome(action: &Action) -> Outcome {
    match action {
        Action::Join { .. } => Outcome::Joined(JoinResult::Done),
        _ => Outcome::Done,
    }
}

/// Where the agent is killed.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Never,
    /// After the effect of the n-th action, before it is remembered.
    Unremembered(usize),
    /// After the n-th action.
    Remembered(usize),
}

/// Runs the agent to its end, and again after a crash. Returns the number of actions; `None` if it does not come to rest.
fn run(seen: &mut Observed, cut: Cut) -> Option<usize> {
    let mut count = 0;
    for _ in 0..20 {
        let decision = decide(seen);
        if decision.actions.is_empty() {
            return Some(count);
        }
        for action in &decision.actions {
            effect(seen, action);
            count += 1;
            if matches!(cut, Cut::Unremembered(at) if at == count) {
                break;
            }
            let boot = seen.boot.clone();
            remember(&mut seen.memory, action, &outcome(action), &boot);
            if matches!(cut, Cut::Remembered(at) if at == count) {
                break;
            }
        }
    }
    None
}

fn any_change() -> impl Strategy<Value = OnChange> {
    prop_oneof![
        Just(OnChange::Restart),
        Just(OnChange::Reload),
        Just(OnChange::Nothing)
    ]
}

type AnyUnit = (Start, OnChange, OnChange, UnitSeen);

fn any_unit() -> impl Strategy<Value = AnyUnit> {
    let start = prop_oneof![
        Just(Start::Enrolled),
        Just(Start::Install),
        Just(Start::Never)
    ];
    let seen = (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.1),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(known, masked, running, enabled)| UnitSeen {
            known: known && !masked,
            masked,
            running,
            enabled,
        });
    (start, any_change(), any_change(), seen)
}

fn any_file() -> impl Strategy<Value = (Result<FileSpec, Missing>, Option<FileSpec>)> {
    let wanted = prop_oneof![
        8 => Just(Ok(spec("new"))),
        1 => Just(Err(Missing::Secret("s".to_owned()))),
        1 => Just(Err(Missing::Owner("u".to_owned()))),
    ];
    let installed = prop_oneof![Just(None), Just(Some(spec("old"))), Just(Some(spec("new")))];
    (wanted, installed)
}

type AnyRole = (
    Option<&'static str>,
    bool,
    Vec<AnyUnit>,
    Vec<(Result<FileSpec, Missing>, Option<FileSpec>)>,
    bool,
    bool,
    bool,
);

fn any_role() -> impl Strategy<Value = AnyRole> {
    (
        prop_oneof![1 => Just(None), 6 => Just(Some("1"))],
        prop::bool::weighted(0.1),
        prop::collection::vec(any_unit(), 0..3),
        prop::collection::vec(any_file(), 0..4),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
}

/// A machine with up to three roles, in any state, after an earlier run that went as far as it could.
fn any_machine() -> impl Strategy<Value = Observed> {
    let roles = prop::collection::vec(any_role(), 1..4);
    (
        roles,
        any::<bool>(),
        any::<bool>(),
        prop::option::of(any_file()),
        prop::option::of(any::<u32>()),
    )
        .prop_map(|(roles, seed, rebooted, key, changes)| {
            let mut seen = machine(roles);
            seen.application_key = key.map(|(wanted, installed)| WantedFile {
                path: "/etc/rolesmith/application.key".to_owned(),
                wanted,
                installed,
            });
            super::identity(&mut seen).origin = if seed { Origin::Seed } else { Origin::Enroll };
            if let Some(changes) = changes {
                run(&mut seen, Cut::Never);
                change(&mut seen, changes);
            }
            if rebooted {
                seen.boot = "boot-2".to_owned();
            }
            seen
        })
}

fn machine(roles: Vec<AnyRole>) -> Observed {
    let mut seen = fresh();
    let names = ["base", "app", "edge"];
    facts(&mut seen).members[0].roles = names[..roles.len()]
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    seen.roles.clear();
    // Paths in order: two of the first three are guarded where the role is base.
    let paths = ["firewall.v4", "other", "sshd.conf", "z"];
    for (name, (configured, unsettled, units, files, joins, chained, stray)) in
        names.into_iter().zip(roles)
    {
        let before: &[&str] = if chained && name != "base" {
            &["base"]
        } else {
            &[]
        };
        let mut made = role(name, before);
        made.configured = configured.map(str::to_owned);
        made.unsettled = unsettled.then(|| "unpacked".to_owned());
        for (number, (start, on_change, on_certificate, found)) in units.into_iter().enumerate() {
            let unit_name = format!("{name}-{number}.service");
            let mut unit = unit(&unit_name, start, on_change);
            unit.on_certificate = on_certificate;
            manifest(&mut made).units.push(unit);
            made.units.insert(unit_name, found);
        }
        let files = files.into_iter().zip(paths);
        made.files = files
            .map(|((wanted, installed), path)| WantedFile {
                path: path.to_owned(),
                wanted,
                installed,
            })
            .collect();
        if joins {
            manifest(&mut made).cluster = Some(Cluster::Join("/join".to_owned()));
        }
        if stray {
            made.strays = vec!["firewall.old".to_owned(), "stray".to_owned()];
        }
        seen.roles.insert(name.to_owned(), made);
    }
    seen
}

/// Newer facts, certificates, versions and files, units that came and went: each bit of `changes` is one of these.
fn change(seen: &mut Observed, mut changes: u32) {
    let mut next = || {
        changes = changes.rotate_left(1);
        changes & 1 == 1
    };
    facts(seen).version = 8;
    if next() {
        seen.certificates = "second".to_owned();
        if let Some(key) = &mut seen.application_key {
            key.wanted = key.wanted.clone().map(|_| spec("newer"));
        }
    }
    for role in seen.roles.values_mut() {
        if next() {
            role.configured = role.configured.as_ref().map(|_| "2".to_owned());
        }
        for file in &mut role.files {
            if next() && file.wanted.is_ok() {
                file.wanted = Ok(spec("newer"));
            }
        }
        for unit in role.units.values_mut() {
            unit.running ^= next();
        }
    }
}

proptest! {
    #[test]
    fn every_machine_comes_to_rest(mut seen in any_machine()) {
        prop_assert!(run(&mut seen, Cut::Never).is_some());
        let decision = decide(&seen);
        let all_ready = decision.roles.iter().all(|role| role.phase == RolePhase::Ready);
        prop_assert_eq!(decision.phase == Phase::Converged, all_ready);
    }

    #[test]
    fn a_crash_anywhere_leads_to_the_same_end(seen in any_machine()) {
        let mut expected = seen.clone();
        let count = run(&mut expected, Cut::Never).unwrap();
        for at in 1..=count {
            for cut in [Cut::Unremembered(at), Cut::Remembered(at)] {
                let mut crashed = seen.clone();
                prop_assert!(run(&mut crashed, cut).is_some(), "{:?}", cut);
                prop_assert_eq!(&crashed, &expected, "{:?}", cut);
            }
        }
    }

    #[test]
    fn units_and_joins_of_roles_that_are_not_configured_are_never_touched(seen in any_machine()) {
        for action in decide(&seen).actions {
            if let Action::Unit { role, .. } | Action::Join { role, .. } | Action::Install { role, .. } = action {
                let role = &seen.roles[&role];
                prop_assert!(role.configured.is_some() && role.unsettled.is_none());
            }
        }
    }

    #[test]
    fn an_enrolled_machine_never_confirms_by_itself(mut seen in any_machine()) {
        super::identity(&mut seen).origin = Origin::Enroll;
        seen.guard = Guard::default();
        seen.keeps_way_in = true;
        run(&mut seen, Cut::Never);
        prop_assert_eq!(seen.guard.confirmed, None);
    }
}
