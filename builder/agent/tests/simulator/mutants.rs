//! Rules broken on purpose: a simulator that notices none of it proves nothing.

use rolesmith_agent::cluster::Mutation;

use crate::faults::Profile;
use crate::scenario::{Setup, run};
use crate::world::Mutant;

type Shape = (usize, usize, usize);

/// A mutant and the kind of run in which it shows soonest.
struct Case {
    name: &'static str,
    mutant: Mutant,
    profile: Profile,
    shape: Option<Shape>,
}

const fn case(
    name: &'static str,
    mutation: Mutation,
    profile: Profile,
    shape: Option<Shape>,
) -> Case {
    Case {
        name,
        mutant: Mutant::Core(mutation),
        profile,
        shape,
    }
}

const CASES: &[Case] = &[
    Case {
        name: "no fsync",
        mutant: Mutant::NoFsync,
        profile: Profile::Elections,
        shape: Some((3, 0, 1)),
    },
    Case {
        name: "amnesia",
        mutant: Mutant::Amnesia,
        profile: Profile::Membership,
        shape: Some((2, 1, 1)),
    },
    Case {
        name: "hasty sever",
        mutant: Mutant::HastySever,
        profile: Profile::Elections,
        shape: Some((3, 0, 1)),
    },
    case(
        "no sever",
        Mutation::NoSever,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "no reports",
        Mutation::NoReports,
        Profile::Elections,
        Some((3, 2, 1)),
    ),
    case(
        "witness counts for the log",
        Mutation::WitnessCountsForWal,
        Profile::Elections,
        Some((3, 2, 1)),
    ),
    case(
        "LSN only",
        Mutation::LsnOnly,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "no lineage",
        Mutation::NoLineage,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "no epoch row",
        Mutation::NoEpochRow,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "re-affirmed while open",
        Mutation::ReaffirmOpen,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "stale configuration",
        Mutation::StaleConfiguration,
        Profile::Membership,
        None,
    ),
    case(
        "two members at once",
        Mutation::TwoMembersAtOnce,
        Profile::Membership,
        Some((3, 0, 1)),
    ),
    case(
        "configuration not renewed",
        Mutation::NoRestamp,
        Profile::Membership,
        None,
    ),
    case(
        "removed uncovered",
        Mutation::RemoveUncovered,
        Profile::Membership,
        Some((4, 1, 1)),
    ),
    case(
        "genesis without a majority",
        Mutation::GenesisWithoutMajority,
        Profile::Genesis,
        Some((3, 0, 1)),
    ),
    case(
        "adopt nothing",
        Mutation::AdoptNothing,
        Profile::Genesis,
        Some((3, 0, 1)),
    ),
    case(
        "minority",
        Mutation::Minority,
        Profile::Elections,
        Some((2, 3, 1)),
    ),
    case(
        "no pre-vote",
        Mutation::NoPreVote,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "no re-affirmation",
        Mutation::NoReaffirm,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "no fencing",
        Mutation::NoFencing,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "follow a lower epoch",
        Mutation::FollowLowerEpoch,
        Profile::Elections,
        Some((3, 0, 1)),
    ),
    case(
        "degrade without the witness",
        Mutation::DegradeWithoutWitness,
        Profile::Elections,
        Some((2, 1, 1)),
    ),
    case(
        "cleared before sync",
        Mutation::ClearBeforeSync,
        Profile::Elections,
        Some((2, 1, 1)),
    ),
];

/// The seeds until the first that fails, and how.
fn hunt(case: &Case, most: u64) -> Option<(u64, &'static str)> {
    (0..most).find_map(|seed| {
        let mut setup = Setup {
            profile: Some(case.profile),
            shape: case.shape,
            mutant: Some(case.mutant),
            ..Setup::seed(seed)
        };
        let violation = run(&setup).violation?;
        // Only what the same run without the fault does not show counts.
        setup.mutant = None;
        run(&setup)
            .violation
            .is_none()
            .then_some((seed + 1, violation.class))
    })
}

/// Those that show within seconds; the rest is in the full run.
#[test]
fn quick_mutants_are_caught() {
    for name in [
        "no fsync",
        "amnesia",
        "genesis without a majority",
        "hasty sever",
    ] {
        let case = CASES.iter().find(|case| case.name == name);
        let caught = case.and_then(|case| hunt(case, 40));
        assert!(caught.is_some(), "{name} was not noticed in 40 runs");
    }
}

#[test]
#[ignore = "minutes; the full run"]
fn every_mutant_is_caught() {
    let most = std::env::var("SIMULATOR_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_000);
    let only = std::env::var("SIMULATOR_MUTANT").ok();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let survivors = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..crate::runs::threads() {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(case) = CASES.get(at) else {
                        return;
                    };
                    if only.as_ref().is_some_and(|only| only != case.name) {
                        continue;
                    }
                    match hunt(case, most) {
                        Some((seeds, class)) => crate::runs::say(&format!(
                            "{:<28} caught in run {seeds:>5}: {class}",
                            case.name
                        )),
                        None => {
                            crate::runs::say(&format!("{:<28} survived {most} runs", case.name));
                            survivors.lock().expect("no panic").push(case.name);
                        }
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().expect("no panic");
    assert!(survivors.is_empty(), "not noticed: {survivors:?}");
}
