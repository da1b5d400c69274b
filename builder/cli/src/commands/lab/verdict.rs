//! rolesmith lab verdict

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use rolesmith_lab::drill::{
    Case, LedgerError, Question, Verdict, judge, parse_entries, parse_events, parse_rows,
};

use crate::{
    app::{App, out},
    report::{Failure, Outcome, plural},
};

/// As many numbers of a kind are told; the rest is in the JSON form.
const TOLD: usize = 10;

/// Judges what is in the files, and fails unless the run passed.
pub fn run(app: &App, ledgers: &[PathBuf], rows: &Path, events: &Path) -> Outcome {
    let verdict = read(ledgers, rows, events)?;
    if app.json {
        out(as_json(&verdict)?)?;
    } else {
        out(text(&verdict))?;
    }
    match verdict.case() {
        Case::Passed => Ok(()),
        Case::Failed => Err(Failure::new(
            "the fleet broke its promise",
            "the ledgers have every attempt with its time; look for the numbers named",
        )),
        Case::Invalid => Err(Failure::new(
            "this run proves nothing",
            "run the drill again, where nothing else keeps the machine busy",
        )),
    }
}

/// The verdict over files.
pub fn read(ledgers: &[PathBuf], rows: &Path, events: &Path) -> Outcome<Verdict> {
    let mut entries = Vec::new();
    for ledger in ledgers {
        entries.extend(parsed(ledger, parse_entries)?);
    }
    Ok(judge(&Question {
        entries: &entries,
        events: &parsed(events, parse_events)?,
        rows: &parsed(rows, parse_rows)?,
    }))
}

fn parsed<T>(file: &Path, parse: fn(&str) -> Result<T, LedgerError>) -> Outcome<T> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::new(
            format!("{}: {error}", file.display()),
            "name files that a drill has written; docs/lab.md says what is in them",
        )
    };
    let text = fs::read_to_string(file).map_err(|error| unreadable(&error))?;
    parse(&text).map_err(|error| unreadable(&error))
}

/// The verdict with the word for it.
pub fn as_json(verdict: &Verdict) -> Outcome<String> {
    let mut value = serde_json::to_value(verdict)?;
    value["verdict"] = serde_json::to_value(verdict.case())?;
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

/// The verdict for people.
pub fn text(verdict: &Verdict) -> String {
    let ms = |nanoseconds: u64| nanoseconds / 1_000_000;
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!(
        "{}: {} acknowledged, {} refused, {} unknown",
        plural(verdict.attempts, "attempt", "attempts"),
        verdict.ok,
        verdict.failed,
        verdict.unknown
    ));
    let reigns: Vec<String> = verdict
        .reigns
        .iter()
        .map(|reign| match reign.timeline {
            Some(timeline) => format!("{} (timeline {timeline})", reign.server),
            None => reign.server.clone(),
        })
        .collect();
    line(format!("acknowledged by {}", reigns.join(", then ")));
    let control = &verdict.control;
    line(format!(
        "longest gap in the control: median {} ms, max {} ms",
        ms(control.median),
        ms(control.max)
    ));
    let gap = &verdict.interruption;
    line(format!(
        "longest gap in the fault:   median {} ms, max {} ms ({})",
        ms(gap.median),
        ms(gap.max),
        plural(gap.writers.len(), "writer", "writers")
    ));
    for (what, numbers) in [
        ("acknowledged and lost", &verdict.lost),
        ("there more than once", &verdict.duplicate),
        ("refused, and there", &verdict.ghosts),
        ("there, and written by nobody", &verdict.foreign),
    ] {
        if !numbers.is_empty() {
            let told: Vec<String> = numbers.iter().take(TOLD).map(u64::to_string).collect();
            let more = if numbers.len() > TOLD { ", ..." } else { "" };
            line(format!(
                "{what}: {} ({}{more})",
                numbers.len(),
                told.join(", ")
            ));
        }
    }
    for overlap in verdict.double.iter().take(TOLD) {
        line(format!(
            "two primaries: {} acknowledged {} after {} had acknowledged",
            overlap.old.server, overlap.number, overlap.new.server
        ));
    }
    for doubt in &verdict.invalid {
        line(format!("not valid: {doubt}"));
    }
    line(match verdict.case() {
        Case::Passed => "PASSED".into(),
        Case::Failed => "FAILED".into(),
        Case::Invalid => "INVALID".into(),
    });
    text
}
