//! Rules broken on purpose: a simulator that notices none of it proves nothing.

use rolesmith_agent::cluster::Mutation;

use crate::faults::Profile;
use crate::scenario::{Setup, run};
use crate::world::Mutant;

/// Data members, witnesses, `ANY k`.
type Shape = (usize, usize, usize);

/// A mutant, the kind of run in which it shows soonest, and as what it has to show.
struct Case {
    name: &'static str,
    mutant: Mutant,
    profile: Profile,
    shape: Shape,
    shows: &'static [&'static str],
}

const fn case(
    name: &'static str,
    mutant: Mutant,
    profile: Profile,
    shape: Shape,
    shows: &'static [&'static str],
) -> Case {
    Case {
        name,
        mutant,
        profile,
        shape,
        shows,
    }
}

/// What a rule that keeps commits safe has to show as.
const LOSS: &[&str] = &["lost", "two primaries", "corruption"];

const CASES: &[Case] = &[
    case("no fsync", Mutant::NoFsync, Profile::Duel, (3, 0, 1), LOSS),
    case(
        "amnesia",
        Mutant::Amnesia,
        Profile::Pendulum,
        (2, 1, 1),
        LOSS,
    ),
    case(
        "hasty sever",
        Mutant::HastySever,
        Profile::Duel,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "no sever",
        Mutant::Core(Mutation::NoSever),
        Profile::Duel,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "no reports",
        Mutant::Core(Mutation::NoReports),
        Profile::Elections,
        (3, 2, 1),
        LOSS,
    ),
    case(
        "witness counts for the log",
        Mutant::Core(Mutation::WitnessCountsForWal),
        Profile::Elections,
        (3, 2, 1),
        LOSS,
    ),
    case(
        "who gave up counts",
        Mutant::Core(Mutation::GivenUpCounts),
        Profile::Copies,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "LSN only",
        Mutant::Core(Mutation::LsnOnly),
        Profile::Elections,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "no lineage",
        Mutant::Core(Mutation::NoLineage),
        Profile::Duel,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "no epoch row",
        Mutant::Core(Mutation::NoEpochRow),
        Profile::Duel,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "re-affirmed while open",
        Mutant::Core(Mutation::ReaffirmOpen),
        Profile::Duel,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "stale configuration",
        Mutant::Core(Mutation::StaleConfiguration),
        Profile::Pendulum,
        (2, 1, 1),
        LOSS,
    ),
    case(
        "two members at once",
        Mutant::Core(Mutation::TwoMembersAtOnce),
        Profile::Growth,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "configuration not renewed",
        Mutant::Core(Mutation::NoRestamp),
        Profile::Growth,
        (4, 1, 1),
        LOSS,
    ),
    case(
        "removed uncovered",
        Mutant::Core(Mutation::RemoveUncovered),
        Profile::Growth,
        (4, 1, 1),
        LOSS,
    ),
    case(
        "genesis without a majority",
        Mutant::Core(Mutation::GenesisWithoutMajority),
        Profile::Genesis,
        (3, 0, 1),
        &["two databases"],
    ),
    case(
        "adopt nothing",
        Mutant::Core(Mutation::AdoptNothing),
        Profile::Genesis,
        (3, 0, 1),
        &["two databases"],
    ),
    case(
        "minority",
        Mutant::Core(Mutation::Minority),
        Profile::Pendulum,
        (2, 3, 1),
        LOSS,
    ),
    case(
        "no pre-vote",
        Mutant::Core(Mutation::NoPreVote),
        Profile::Victim,
        (3, 0, 1),
        &["disturbed", "stalled"],
    ),
    case(
        "no re-affirmation",
        Mutant::Core(Mutation::NoReaffirm),
        Profile::Alarm,
        (3, 0, 1),
        &["disturbed", "stalled"],
    ),
    case(
        "no fencing",
        Mutant::Core(Mutation::NoFencing),
        Profile::Pendulum,
        (3, 0, 1),
        &["stale"],
    ),
    case(
        "follow a lower epoch",
        Mutant::Core(Mutation::FollowLowerEpoch),
        Profile::Duel,
        (3, 0, 1),
        LOSS,
    ),
    case(
        "degrade without the witness",
        Mutant::Core(Mutation::DegradeWithoutWitness),
        Profile::Alone,
        (2, 1, 1),
        LOSS,
    ),
    case(
        "cleared before sync",
        Mutant::Core(Mutation::ClearBeforeSync),
        Profile::Alone,
        (2, 1, 1),
        LOSS,
    ),
];

/// The seeds until the first that fails as it should, and how.
fn hunt(case: &Case, most: u64) -> Option<(u64, &'static str)> {
    (0..most).find_map(|seed| {
        let mut setup = Setup {
            profile: Some(case.profile),
            shape: Some(case.shape),
            mutant: Some(case.mutant),
            ..Setup::seed(seed)
        };
        let violation = run(&setup).violation?;
        if !case.shows.contains(&violation.class) {
            return None;
        }
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
