//! Running contestants in turn, and the table of what they took.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;

/// One of those that do the same work. Both functions get the number of the round.
pub(crate) struct Contestant<'a> {
    name: &'static str,
    rounds: usize,
    prepare: Box<dyn FnMut(usize) -> Outcome<()> + 'a>,
    run: Box<dyn FnMut(usize) -> Outcome<()> + 'a>,
    taken: Vec<Duration>,
}

impl<'a> Contestant<'a> {
    /// A contestant that needs `prepare` before each `run`; only `run` is timed.
    pub(crate) fn new(
        name: &'static str,
        prepare: impl FnMut(usize) -> Outcome<()> + 'a,
        run: impl FnMut(usize) -> Outcome<()> + 'a,
    ) -> Self {
        Self {
            name,
            rounds: usize::MAX,
            prepare: Box::new(prepare),
            run: Box::new(run),
            taken: Vec::new(),
        }
    }

    /// Runs in the first so many rounds only: for those that take minutes.
    pub(crate) fn at_most(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

/// Lets all run in turn, another one first in each round, and prints what they took. The first one is what the others
/// are compared with.
pub(crate) fn alternate(
    title: &str,
    place: &Path,
    rounds: usize,
    mut contestants: Vec<Contestant<'_>>,
) -> Outcome<()> {
    let before = load_average();
    let handle = File::open(place)?;
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let number = (round + turn) % contestants.len();
            let contestant = &mut contestants[number];
            if round >= contestant.rounds {
                continue;
            }
            let told = |error| format!("{}: {error}", contestant.name);
            (contestant.prepare)(round).map_err(told)?;
            rustix::fs::syncfs(&handle)?;
            let started = Instant::now();
            (contestant.run)(round).map_err(told)?;
            contestant.taken.push(started.elapsed());
        }
    }
    println!(
        "\n{title} (load average {before} before, {} after)",
        load_average()
    );
    println!(
        "  {:<58} {:>6} {:>10} {:>10} {:>10} {:>9}",
        "", "rounds", "min", "median", "max", "ratio"
    );
    let reference = contestants.first().map(|first| median(&first.taken));
    for contestant in &contestants {
        let taken = &contestant.taken;
        let middle = median(taken);
        let ratio = reference.map_or(1.0, |reference| {
            middle.as_secs_f64() / reference.as_secs_f64()
        });
        println!(
            "  {:<58} {:>6} {:>10} {:>10} {:>10} {:>8.2}×",
            contestant.name,
            taken.len(),
            shown(taken.iter().min()),
            shown(Some(&middle)),
            shown(taken.iter().max()),
            ratio
        );
    }
    Ok(())
}

fn median(taken: &[Duration]) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort();
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => Duration::ZERO,
        odd if odd % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2,
    }
}

fn shown(duration: Option<&Duration>) -> String {
    duration.map_or_else(String::new, |duration| {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    })
}

/// The first three figures of /proc/loadavg.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}
