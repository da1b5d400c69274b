//! rolesmith lab visits

use std::{fs, path::Path};

use rolesmith_lab::drill::{
    LedgerError, parse_events,
    web::{Visits, VisitsVerdict, judge_visits, parse_balancer, parse_visits},
};

use super::drill::{BALANCER, ORDERS, VIEWS, VISITS};
use crate::{
    app::{App, line, out},
    report::{Failure, Outcome},
};

/// Judges the visitors of a run by its files, and fails unless every promise was kept.
pub fn run(app: &App, directory: &Path) -> Outcome {
    let verdict = read(directory)?;
    if app.json {
        line(serde_json::to_string_pretty(&verdict)?)?;
    } else {
        out(text(&verdict))?;
    }
    let broken = verdict.broken_promises();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        broken.join("; "),
        "the ledgers have every attempt with its time; look for the ids named with `--json`",
    ))
}

/// The verdict over the files in a run's directory.
pub fn read(directory: &Path) -> Outcome<VisitsVerdict> {
    let beside = directory.join(VISITS);
    let mut visits = Vec::new();
    let mut ledgers: Vec<_> = fs::read_dir(&beside)
        .map_err(|error| unreadable(&beside, &error))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    ledgers.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jsonl")
            && path.file_name().is_some_and(|name| name != BALANCER)
    });
    ledgers.sort();
    for ledger in &ledgers {
        visits.extend(parsed(ledger, parse_visits)?);
    }
    let ids = |name: &str| -> Outcome<Vec<String>> {
        let path = beside.join(name);
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        Ok(text
            .lines()
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .collect())
    };
    Ok(judge_visits(&Visits {
        visits: &visits,
        events: &parsed(&directory.join("events.jsonl"), parse_events)?,
        balancer: &parsed(&beside.join(BALANCER), parse_balancer)?,
        orders: &ids(ORDERS)?,
        views: &ids(VIEWS)?,
    }))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        format!("{}: {error}", path.display()),
        "name the directory of one run of a drill with visitors; docs/lab.md says what is in it",
    )
}

fn parsed<T>(path: &Path, parse: fn(&str) -> Result<T, LedgerError>) -> Outcome<T> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    parse(&text).map_err(|error| unreadable(path, &error))
}

/// The verdict for people, two lines.
pub fn text(verdict: &VisitsVerdict) -> String {
    let by_node: Vec<String> = verdict
        .failed_by_node
        .iter()
        .map(|(node, many)| format!("{many} on connections to {node}"))
        .collect();
    let by_node = if by_node.is_empty() {
        String::new()
    } else {
        format!(" ({})", by_node.join(", "))
    };
    format!(
        "visitors: {} requests, {} answered 201, {} answered 202; {} attempts failed{by_node}, {} of them without excuse; \
         {} answered at the second attempt, {} not\n\
         visitors: {} answered and lost, {} views lost that only the cache had; slowest {} ms, {} ms without any answer\n",
        verdict.requests,
        verdict.ok,
        verdict.accepted,
        verdict.failed_attempts,
        verdict.stray.len(),
        verdict.retried,
        verdict.unanswered.len(),
        verdict.lost.len(),
        verdict.views_lost,
        verdict.slowest_ms,
        verdict.gap_ms
    )
}
