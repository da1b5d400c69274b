//! The runs that are tests.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::faults::Profile;
use crate::mutants;
use crate::scenario::{SERVICE, Setup, replay, run, shrink};
use crate::world::Stats;

/// What many runs saw together.
#[derive(Default)]
struct Tally {
    runs: u64,
    acked: u64,
    promotion: u64,
    genesis: u64,
    change: u64,
    replaced: u64,
    alone: u64,
    rewind: u64,
    clone: u64,
    held: u64,
    followed: u64,
    slowest: u64,
    total: u64,
    healed: u64,
}

impl Tally {
    fn add(&mut self, stats: &Stats) {
        self.runs += 1;
        self.acked += stats.acked;
        // The first promotion is the founder's.
        self.promotion += u64::from(stats.promotions > 1);
        self.genesis += u64::from(stats.genesis);
        self.change += u64::from(stats.changes > 0);
        self.replaced += u64::from(stats.replaced > 0);
        self.alone += u64::from(stats.alone > 0);
        self.rewind += u64::from(stats.rewinds > 0);
        self.clone += u64::from(stats.clones > 0);
        self.held += u64::from(stats.held);
        self.followed += stats.followed;
        self.healed += u64::from(stats.recovery > 0);
        self.total += stats.recovery;
        self.slowest = self.slowest.max(stats.recovery);
    }

    fn report(&self) -> String {
        let share = |count: u64| 100.0 * count as f64 / self.runs.max(1) as f64;
        format!(
            "{} runs, {} acknowledged commits; share with a genesis {:.1} %, a promotion after it {:.1} %, a change of \
             the members {:.1} %, a replaced machine {:.1} %, one going on alone {:.1} %, a rewind {:.1} %, a copy {:.1} \
             %, a watch that nothing is disturbed {:.1} %; {} times a client's pooler was led elsewhere; return of service after the heal: {} ms on average, {} ms at \
             most, {SERVICE} ms are allowed",
            self.runs,
            self.acked,
            share(self.genesis),
            share(self.promotion),
            share(self.change),
            share(self.replaced),
            share(self.alone),
            share(self.rewind),
            share(self.clone),
            share(self.held),
            self.followed,
            self.total / self.healed.max(1),
            self.slowest,
        )
    }
}

pub fn say(line: &str) {
    // Tests report to whoever runs them with --nocapture.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs seeds on SIMULATOR_THREADS threads (two); the first that fails ends it, shrunk.
fn sweep(seeds: std::ops::Range<u64>, make: impl Fn(u64) -> Setup + Sync) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let failed: Mutex<Vec<(Setup, crate::world::Violation)>> = Mutex::new(Vec::new());
    let most = setting("SIMULATOR_FAILURES")
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().expect("no panic").len() >= most {
                        return;
                    }
                    let setup = make(seed);
                    let verdict = run(&setup);
                    tally.lock().expect("no panic").add(&verdict.stats);
                    if let Some(violation) = verdict.violation {
                        failed.lock().expect("no panic").push((setup, violation));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    for (setup, violation) in &failed {
        say(&format!(
            "seed {}: {}: {}",
            setup.seed, violation.class, violation.text
        ));
    }
    if let Some((setup, violation)) = failed.first() {
        let small = shrink(setup, violation.class);
        let verdict = run(&small);
        panic!(
            "{}: {}\nreplay with\n    {}",
            violation.class,
            verdict
                .violation
                .map_or_else(String::new, |found| found.text),
            replay(&small)
        );
    }
    tally.into_inner().expect("no panic")
}

pub fn threads() -> usize {
    setting("SIMULATOR_THREADS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(2)
}

pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn fleets_survive() {
    let tally = sweep(0..50, Setup::seed);
    assert!(
        tally.promotion > 0
            && tally.change > 0
            && tally.replaced > 0
            && tally.followed > tally.runs,
        "{}",
        tally.report()
    );
}

#[test]
#[ignore = "minutes; the full run"]
fn ten_thousand_fleets_survive() {
    let count = setting("SIMULATOR_SEEDS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(10_000);
    let first = setting("SIMULATOR_FIRST")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let tally = sweep(first..first + count, |seed| asked_for(Setup::seed(seed)));
    say(&tally.report());
}

/// What the environment asks for: SIMULATOR_PROFILE, SIMULATOR_MUTANT, SIMULATOR_SHAPE (data members, witnesses, k), SIMULATOR_KEEP.
fn asked_for(mut setup: Setup) -> Setup {
    let numbers = |name: &str| -> Option<Vec<usize>> {
        Some(
            setting(name)?
                .split(',')
                .filter_map(|number| number.parse().ok())
                .collect(),
        )
    };
    setup.profile = setting("SIMULATOR_PROFILE").map(|name| match name.as_str() {
        "Elections" => Profile::Elections,
        "Membership" => Profile::Membership,
        "Genesis" => Profile::Genesis,
        "Calm" => Profile::Calm,
        "Duel" => Profile::Duel,
        "Pendulum" => Profile::Pendulum,
        "Alone" => Profile::Alone,
        "Growth" => Profile::Growth,
        "Victim" => Profile::Victim,
        "Alarm" => Profile::Alarm,
        "Copies" => Profile::Copies,
        _ => Profile::Mixed,
    });
    setup.shape = numbers("SIMULATOR_SHAPE")
        .filter(|numbers| numbers.len() == 3)
        .map(|numbers| (numbers[0], numbers[1], numbers[2]));
    setup.mutant = setting("SIMULATOR_MUTANT").and_then(|name| mutants::named(&name));
    setup.keep =
        numbers("SIMULATOR_KEEP").map(|numbers| numbers.into_iter().collect::<BTreeSet<usize>>());
    setup
}

#[test]
#[ignore = "minutes; the full run"]
fn fleets_of_fifty_survive() {
    let tally = sweep(0..100, |seed| Setup {
        shape: Some(if seed % 2 == 0 {
            (7, 43, 2)
        } else {
            (15, 35, 7)
        }),
        ..Setup::seed(seed)
    });
    say(&tally.report());
}

#[test]
#[ignore = "needs SIMULATOR_SEED"]
fn replay_one() {
    let Some(seed) = setting("SIMULATOR_SEED").and_then(|text| text.parse().ok()) else {
        return;
    };
    let mut setup = asked_for(Setup::seed(seed));
    setup.trace = true;
    let verdict = run(&setup);
    for line in &verdict.trace {
        say(line);
    }
    say(&format!("{:?}\n{:?}", verdict.stats, verdict.violation));
}
