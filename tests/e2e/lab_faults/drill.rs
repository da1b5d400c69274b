//! Drills on a database that is one node: writers, ledgers and verdict for real; what a cluster does is for other tests.

use std::{fs, path::Path};

use rolesmith_tests::Fleet;
use serde_json::Value;

/// The postmaster is killed; what was acknowledged is there, the interruption is seen, and a row that is taken away as well.
pub fn on_one_node(fleet: &Fleet) {
    let artefacts = fleet.dir.join("drills");
    let directory = artefacts.to_str().expect("a name");
    let words = [
        "lab",
        "drill",
        "postmaster-killed",
        "--json",
        "--artefacts",
        directory,
    ];
    let output = fleet.command(&words).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let runs: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let verdict = &runs[0]["verdict"];
    for promise in ["lost", "duplicate", "ghosts", "foreign", "double", "reused"] {
        assert_eq!(
            verdict[promise].as_array().map(Vec::len),
            Some(0),
            "{promise}: {verdict}"
        );
    }
    let number = |pointer: &str| verdict.pointer(pointer).and_then(Value::as_u64);
    assert!(number("/ok") > Some(100), "{verdict}");
    // Recovery takes part of a second at the least.
    assert!(number("/interruption/max") > Some(200_000_000), "{verdict}");
    assert!(number("/failed") > Some(0), "{verdict}");
    assert_eq!(
        verdict["interruption"]["writers"]
            .as_object()
            .map(|w| w.len()),
        Some(6)
    );

    let run = artefacts.join("postmaster-killed/1");
    let (code, said) = judge(fleet, &run, "rows.txt");
    let valid = verdict["invalid"].as_array().is_some_and(Vec::is_empty);
    assert_eq!(code == 0, valid, "{said}");
    // A row that was acknowledged is taken away, another one doubled.
    let rows = fs::read_to_string(run.join("rows.txt")).expect("read");
    let mut rows: Vec<&str> = rows.lines().collect();
    let first = acknowledged(&run);
    rows.retain(|row| **row != *first);
    rows.push(rows[0]);
    fs::write(run.join("worse.txt"), rows.join("\n") + "\n").expect("written");
    let (code, said) = judge(fleet, &run, "worse.txt");
    assert_eq!(code, 1);
    assert!(
        said.contains(&format!("acknowledged and lost: 1 ({first})")),
        "{said}"
    );
    assert!(said.contains("there more than once: 1"), "{said}");
}

/// A number that the ledgers call acknowledged.
fn acknowledged(run: &Path) -> String {
    let ledger = ledgers(run).remove(0);
    let text = fs::read_to_string(ledger).expect("read");
    let entries = text
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("JSON") });
    let number = entries
        .filter(|entry| entry["result"] == "ok")
        .find_map(|entry| entry["number"].as_u64());
    number.expect("something was acknowledged").to_string()
}

fn ledgers(run: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(run.join("ledgers"))
        .expect("read")
        .map(|entry| entry.expect("read").path().display().to_string())
        .filter(|path| path.ends_with(".jsonl"))
        .collect();
    found.sort();
    found
}

/// `rolesmith lab verdict` over a run's files.
fn judge(fleet: &Fleet, run: &Path, rows: &str) -> (i32, String) {
    let file = |name: &str| run.join(name).display().to_string();
    let (rows, events) = (file(rows), file("events.jsonl"));
    let ledgers = ledgers(run);
    let mut words = vec!["lab", "verdict", "--rows", &rows, "--events", &events];
    words.extend(ledgers.iter().map(String::as_str));
    let output = fleet.command(&words).output().expect("the program starts");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap_or(-1), said)
}
