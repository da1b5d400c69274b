//! Rules broken on purpose: a simulator that notices none of it proves nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rolesmith_agent::cluster::Mutation;

use crate::faults::Profile;
use crate::runs::{say, setting, threads};
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
        "a client believes one alone",
        Mutant::Credulous,
        Profile::Pendulum,
        (3, 0, 1),
        &["backwards"],
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

pub fn named(name: &str) -> Option<Mutant> {
    let case = CASES.iter().find(|case| case.name == name);
    case.map(|case| case.mutant)
}

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

/// Hunts mutants on as many threads as sweeps use; those that were not noticed.
fn survivors(cases: &[&Case], most: u64) -> Vec<&'static str> {
    let next = AtomicUsize::new(0);
    let survivors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match hunt(case, most) {
                        Some((runs, class)) => {
                            say(&format!(
                                "{:<28} caught in run {runs:>5}: {class}",
                                case.name
                            ));
                        }
                        None => survivors.lock().expect("no panic").push(case.name),
                    }
                }
            });
        }
    });
    survivors.into_inner().expect("no panic")
}

/// Those that show within seconds, also where nothing is optimised; the rest is in the full run.
#[test]
fn quick_mutants_are_caught() {
    let names = [
        "amnesia",
        "hasty sever",
        "no sever",
        "no reports",
        "witness counts for the log",
        "LSN only",
        "no lineage",
        "stale configuration",
        "two members at once",
        "genesis without a majority",
        "minority",
        "no pre-vote",
        "no re-affirmation",
        "a client believes one alone",
    ];
    let quick = |case: &&Case| names.contains(&case.name);
    let cases: Vec<&Case> = CASES.iter().filter(quick).collect();
    assert_eq!(cases.len(), names.len());
    let survivors = survivors(&cases, 60);
    assert!(
        survivors.is_empty(),
        "not noticed in 60 runs: {survivors:?}"
    );
}

#[test]
#[ignore = "half a minute of both processors where it is optimised"]
fn every_mutant_is_caught() {
    let number = |name: &str| setting(name)?.parse().ok();
    let most = number("SIMULATOR_SEEDS").unwrap_or(5_000);
    let only = setting("SIMULATOR_MUTANT");
    let asked = |case: &&Case| only.as_ref().is_none_or(|only| only == case.name);
    let cases: Vec<&Case> = CASES.iter().filter(asked).collect();
    let survivors = survivors(&cases, most);
    assert!(
        survivors.is_empty(),
        "not noticed in {most} runs: {survivors:?}"
    );
}
