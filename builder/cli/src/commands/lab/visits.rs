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

#[cfg(test)]
mod tests {
    use rolesmith_lab::drill::web::visit_id;

    use super::*;

    /// A run of one order, of which nothing is in the database.
    fn written(directory: &Path) {
        let beside = directory.join(VISITS);
        fs::create_dir_all(&beside).expect("made");
        let moment =
            |ms: u64| serde_json::json!({"monotonic": ms * 1_000_000, "realtime": ms * 1_000_000});
        let id = visit_id(1, 7);
        let visit = serde_json::json!({
            "visitor": "order-1", "kind": "order", "number": 7, "id": id, "attempt": 1, "sent": moment(10),
            "returned": moment(20), "answer": "ok", "status": 201,
        });
        let events: String = [("control", 0), ("fault", 100), ("end", 200)]
            .map(|(event, ms)| {
                serde_json::json!({"event": event, "at": moment(ms)}).to_string() + "\n"
            })
            .concat();
        for (path, text) in [
            (beside.join("order-1.jsonl"), format!("{visit}\n")),
            (beside.join(ORDERS), String::new()),
            (beside.join(VIEWS), String::new()),
            (beside.join(BALANCER), String::new()),
            (directory.join("events.jsonl"), events),
        ] {
            fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn a_run_is_judged_by_its_files() {
        let directory = tempfile::tempdir().expect("a directory");
        written(directory.path());
        let verdict = read(directory.path()).expect("a run");
        assert_eq!(verdict.lost, [visit_id(1, 7)]);
        assert_eq!(
            verdict.broken_promises(),
            ["visitors: answered 201 and lost: 1"]
        );
        let told = text(&verdict);
        assert!(
            told.starts_with(
                "visitors: 1 requests, 1 answered 201, 0 answered 202; 0 attempts failed, 0 of"
            ),
            "{told}"
        );
        assert!(
            told.contains("visitors: 1 answered and lost, 0 views lost"),
            "{told}"
        );
        let orders = directory.path().join(VISITS).join(ORDERS);
        fs::write(&orders, visit_id(1, 7) + "\n").expect("written");
        let verdict = read(directory.path()).expect("a run");
        assert_eq!(verdict.broken_promises(), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_missing_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        written(directory.path());
        fs::remove_file(directory.path().join(VISITS).join(BALANCER)).expect("removed");
        let error = read(directory.path()).expect_err("incomplete");
        assert!(error.text().contains("balancer.jsonl"));
    }
}
