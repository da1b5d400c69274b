//! tests/fleets/invalid: each directory is a fleet with one mistake, and expect.txt is what the program says about it.
//!
//! Files of a case that are no part of the fleet: `cmd` holds the arguments (`check` where it is missing), `setup` what
//! is done before: `keys` brings secrets/, `open` lets others read them, `value=NAME:VALUE` sets a secret, `built` runs
//! a build. expect.txt is compared and, with UPDATE_GOLDENS=1, written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rolesmith_testkit::TestFleet;

use crate::{ROLESMITH, cases, golden, name};

/// Files of a case that are about the fleet, not of it.
const ABOUT: [&str; 3] = ["cmd", "setup", "expect.txt"];

/// A fleet whose secrets the cases take: a key, a CA and the identity of app-1.
fn donor() -> TestFleet {
    let donor = TestFleet::empty(ROLESMITH);
    donor
        .run(&["init", "--name", "acme", "--domain", "example.com"])
        .succeeded();
    donor.edit("fleet.toml", "[nodes.node-1]", "[nodes.app-1]");
    donor.edit("fleet.toml", "\"db-primary-capable\"", "\"base\"");
    donor.run(&["build", "--without-agent"]).succeeded();
    donor
}

fn words(case: &Path, file: &str, default: &str) -> Vec<String> {
    std::fs::read_to_string(case.join(file))
        .unwrap_or_else(|_| default.to_owned())
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// What differs between two runs of the same case: sizes of packages, which hold keys made at random.
fn steady(stderr: &str) -> String {
    stderr
        .lines()
        .filter(|line| !line.ends_with("  built") && !line.ends_with("  as before"))
        .map(|line| format!("{}\n", without_size(line)))
        .collect()
}

/// The size of a seed differs from run to run: the signature of the certificate in it has 70 to 72 bytes, seldom less (X.690, 8.3: integers
/// are as short as they can be).
fn without_size(line: &str) -> String {
    match line.split_once(" bytes; DigitalOcean takes") {
        Some((before, after)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit());
            format!("{before}(too many) bytes; DigitalOcean takes{after}")
        }
        None => line.to_owned(),
    }
}

/// Every message says where (if it is about a file), why, and what to do.
fn complete(stderr: &str) -> Result<String, String> {
    let mut first = None;
    let lines: Vec<&str> = stderr.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let finding = ["error: ", "warning: ", "advice: "]
            .iter()
            .any(|severity| line.starts_with(severity))
            && line.ends_with(']');
        let after = &lines[number + 1..];
        if finding {
            let at = |n: usize, what: &str| after.get(n).and_then(|l| l.strip_prefix(what));
            let place = at(0, "  at: ").ok_or(format!("no place after {line:?}"))?;
            let mut parts = place.rsplit(':');
            let (column, row) = (parts.next(), parts.next());
            let number = |part: Option<&str>| part.is_some_and(|p| p.parse::<u32>().is_ok());
            if !number(column) || !number(row) {
                return Err(format!("{place:?} is not file:line:column"));
            }
            for (n, what) in [(1, "  why: "), (2, "  help: ")] {
                if at(n, what).is_none_or(|text| text.trim().len() < 4) {
                    return Err(format!("no {what:?} after {line:?}"));
                }
            }
        } else if line.starts_with("error: ") && !after.iter().any(|l| l.starts_with("  help: ")) {
            return Err(format!("no help after {line:?}"));
        }
        if first.is_none() && line.starts_with("error: ") {
            first = Some((*line).to_owned());
        }
    }
    // `check --strict` fails on warnings alone.
    first
        .or_else(|| lines.first().map(|l| (*l).to_owned()))
        .ok_or_else(|| "it says nothing".to_owned())
}

/// Runs a case. Gives its first error, by which cases are told apart.
fn run(case: &Path, donor: &TestFleet) -> Result<String, String> {
    let fleet = TestFleet::copy_of(ROLESMITH, case, |name| ABOUT.contains(&name));
    for word in words(case, "setup", "") {
        match word.split_once('=') {
            None if word == "keys" => fleet.take_secrets(donor),
            None if word == "open" => fleet.chmod("secrets", 0o755),
            None if word == "built" => {
                fleet.run(&["build", "--without-agent"]).succeeded();
            }
            Some(("value", value)) => {
                let (name, value) = value.split_once(':').ok_or("value=NAME:VALUE")?;
                let path = format!("secrets/fleet/{name}");
                fleet.write(&path, value);
                fleet.chmod(&path, 0o600);
            }
            _ => return Err(format!("setup does not know {word:?}")),
        }
    }
    let before = fleet.tree();
    let run = fleet.run(&words(case, "cmd", "check"));
    if run.status != Some(1) {
        return Err(format!(
            "exit status {:?} instead of 1; it said\n{}",
            run.status, run.stderr
        ));
    }
    let after = fleet.tree();
    if before != after {
        return Err(format!("it changed {:?}", before.differences(&after)));
    }
    if !run.stdout.is_empty() {
        return Err(format!("it wrote to standard output: {}", run.stdout));
    }
    let stderr = steady(&run.stderr);
    golden(&case.join("expect.txt"), &stderr)?;
    complete(&stderr)
}

#[test]
fn every_malformed_fleet_gets_the_message_that_was_reviewed_and_nothing_is_written() {
    let donor = donor();
    let all = cases("invalid");
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<PathBuf, Result<String, String>>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(case) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = std::panic::catch_unwind(|| run(case, &donor))
                        .unwrap_or_else(|_| Err("it panicked, see above".into()));
                    results.lock().unwrap().insert(case.clone(), result);
                }
            });
        }
    });
    let (mut problems, mut seen) = (Vec::new(), BTreeMap::new());
    for (case, result) in results.into_inner().unwrap() {
        let case = name(&case);
        match result {
            Err(problem) => problems.push(format!("--- {case}: {problem}")),
            Ok(first) => {
                if let Some(other) = seen.insert(first.clone(), case.clone()) {
                    problems.push(format!("--- {case} says the same as {other}: {first}"));
                }
            }
        }
    }
    assert!(
        problems.is_empty(),
        "{} of {} cases:\n{}",
        problems.len(),
        all.len(),
        problems.join("\n")
    );
}
