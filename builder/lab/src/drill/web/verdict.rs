//! The verdict over visitors: a pure function of what they wrote down, of the load balancer's log and of what is in the database.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::{
    super::ledger::{Event, EventKind},
    balancer::{BalancerLog, Broken, Change},
    ledger::{Answer, Kind, Visit},
};
use crate::outside::Balancer;

/// How long the load balancer may take to see that a node is lost: so many checks in a row fail, each after its pause, its
/// connection and its answer.
pub const DETECTION: Duration = Duration::from_millis(
    Balancer::FALL as u64
        * (Balancer::CHECK_INTERVAL.as_millis() as u64
            + 2 * Balancer::CHECK_LIMIT.as_millis() as u64),
);

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Visits<'a> {
    /// All ledgers, in any order; of one visitor in its own.
    pub visits: &'a [Visit],
    /// The drill's log.
    pub events: &'a [Event],
    /// The load balancer's.
    pub balancer: &'a BalancerLog,
    /// Ids of the run's orders in the database after the heal, each as often as it is there.
    pub orders: &'a [String],
    /// Ids of the run's views, likewise.
    pub views: &'a [String],
}

/// An attempt that failed and that no fault excuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// The visitor.
    pub visitor: String,
    /// The request.
    pub number: u64,
    /// Which of its attempts.
    pub attempt: u32,
    /// When it was sent, in nanoseconds since 1970.
    pub sent: u64,
    /// What the visitor knows.
    pub error: String,
    /// Why no fault excuses it.
    pub why: String,
}

/// Everything that can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisitsVerdict {
    /// How many requests there were; those that were under way in the end do not count, here and below.
    pub requests: usize,
    /// Of these: answered 201, answered 202.
    pub ok: usize,
    /// See above.
    pub accepted: usize,
    /// Answered at the second attempt.
    pub retried: usize,
    /// Numbers that neither attempt got an answer for.
    pub unanswered: Vec<u64>,
    /// Attempts that failed, or of which nobody knows.
    pub failed_attempts: usize,
    /// Of these, those that no fault excuses: a connection to a node that something was done to, made before the load balancer
    /// took it out, may fail.
    pub stray: Vec<Stray>,
    /// Failed attempts by the node that the load balancer had sent them to.
    pub failed_by_node: BTreeMap<String, usize>,
    /// Attempts during the control, and failed ones.
    pub control: (usize, usize),
    /// Ids that were answered 201 and are not there.
    pub lost: Vec<String>,
    /// Ids that are there more than once.
    pub duplicate: Vec<String>,
    /// Ids that were refused and are there.
    pub ghosts: Vec<String>,
    /// Ids of orders that are there and that nobody sent.
    pub foreign: Vec<String>,
    /// How many views were answered 202 and are not there.
    pub views_lost: usize,
    /// When the load balancer took out and took back which node.
    pub changes: Vec<Change>,
    /// The longest that an answer took, in milliseconds.
    pub slowest_ms: u64,
    /// The longest time from the first fault on without any answer to anybody, in milliseconds.
    pub gap_ms: u64,
    /// Why the run proves nothing; empty where it does.
    pub invalid: Vec<String>,
}

impl VisitsVerdict {
    /// What was promised of every answer and is not so, in words; empty where all is well.
    #[must_use]
    pub fn broken_promises(&self) -> Vec<String> {
        let told = [
            ("answered 201 and lost", self.lost.len()),
            ("there more than once", self.duplicate.len()),
            ("refused and there", self.ghosts.len()),
            ("there and sent by nobody", self.foreign.len()),
        ];
        let told = told.into_iter().filter(|(_, many)| *many > 0);
        told.map(|(what, many)| format!("visitors: {what}: {many}"))
            .chain(
                self.invalid
                    .iter()
                    .map(|why| format!("visitors: not valid: {why}")),
            )
            .collect()
    }
}

/// Judges a drill's visitors.
#[must_use]
pub fn judge_visits(question: &Visits<'_>) -> VisitsVerdict {
    let known: Vec<&Visit> = question
        .visits
        .iter()
        .filter(|visit| visit.answer != Answer::Sent)
        .collect();
    let requests = requests(question.visits);
    let with = |answer| {
        known
            .iter()
            .filter(move |visit| visit.answer == answer)
            .count()
    };
    let failed = |visit: &&&Visit| matches!(visit.answer, Answer::Failed | Answer::Unknown);
    let first = |kind| question.events.iter().find(|event| event.event == kind);
    let (control, fault) = (first(EventKind::Control), first(EventKind::Fault));
    let end = first(EventKind::End);
    let in_control: Vec<&&Visit> = match (control, fault.or(end)) {
        (Some(from), Some(to)) => known
            .iter()
            .filter(|visit| (from.at..to.at).contains(&visit.sent))
            .filter(|visit| visit.returned.is_some_and(|at| at < to.at))
            .collect(),
        _ => Vec::new(),
    };
    let mut stray = Vec::new();
    let mut failed_by_node: BTreeMap<String, usize> = BTreeMap::new();
    for visit in known.iter().filter(failed) {
        let broken = broken(visit, question.balancer);
        if let Some(node) = broken.and_then(|broken| broken.node.clone()) {
            *failed_by_node.entry(node).or_default() += 1;
        }
        if let Err(why) = excuse(visit, broken, question) {
            stray.push(Stray {
                visitor: visit.visitor.clone(),
                number: visit.number,
                attempt: visit.attempt,
                sent: visit.sent.realtime,
                error: visit
                    .error
                    .clone()
                    .unwrap_or_else(|| format!("answered {}", visit.status.unwrap_or_default())),
                why,
            });
        }
    }
    let mut verdict = VisitsVerdict {
        requests: requests.len(),
        ok: with(Answer::Ok),
        accepted: with(Answer::Accepted),
        retried: known
            .iter()
            .filter(|visit| visit.attempt > 1 && !failed(visit))
            .count(),
        unanswered: requests
            .iter()
            .filter(|(_, tries)| tries.iter().all(|visit| failed(&visit)))
            .map(|(number, _)| *number)
            .collect(),
        failed_attempts: known.iter().filter(failed).count(),
        stray,
        failed_by_node,
        control: (
            in_control.len(),
            in_control.iter().filter(|visit| failed(visit)).count(),
        ),
        lost: Vec::new(),
        duplicate: Vec::new(),
        ghosts: Vec::new(),
        foreign: Vec::new(),
        views_lost: 0,
        changes: question.balancer.changes.clone(),
        slowest_ms: slowest(&known) / 1_000_000,
        gap_ms: gap(&known, fault, end) / 1_000_000,
        invalid: Vec::new(),
    };
    compare(&mut verdict, question);
    verdict.invalid = doubts(&verdict, fault.is_some());
    verdict
}

/// The attempts of each request that none of is still in the air.
fn requests(visits: &[Visit]) -> BTreeMap<u64, Vec<&Visit>> {
    let mut requests: BTreeMap<u64, Vec<&Visit>> = BTreeMap::new();
    for visit in visits {
        requests.entry(visit.number).or_default().push(visit);
    }
    // A failed first attempt without a second one: the visitor was ended in between.
    requests.retain(|_, tries| {
        let open = tries.iter().any(|visit| visit.answer == Answer::Sent);
        let answered = tries
            .iter()
            .any(|visit| matches!(visit.answer, Answer::Ok | Answer::Accepted));
        answered || (!open && tries.iter().any(|visit| visit.attempt > 1))
    });
    requests
}

/// What the load balancer's log says of the attempt's connection.
fn broken<'a>(visit: &Visit, log: &'a BalancerLog) -> Option<&'a Broken> {
    let (client, opened) = (visit.client?, visit.opened?);
    // Ports are used again; the journal's clock is the visitor's, to the microsecond.
    log.broken
        .iter()
        .find(|broken| broken.client == client && broken.at / 1000 >= opened.realtime / 1000)
}

/// Whether a fault excuses that the attempt failed; else why none does.
fn excuse(visit: &Visit, broken: Option<&Broken>, question: &Visits<'_>) -> Result<(), String> {
    let (Some(opened), Some(returned)) = (visit.opened, visit.returned) else {
        return Err("it had no connection to the load balancer".into());
    };
    let Some(broken) = broken else {
        return Err("the load balancer saw its connection end as it should".into());
    };
    let Some(node) = &broken.node else {
        return Err("the load balancer had no node for it".into());
    };
    let fault = question.events.iter().rev().find(|event| {
        event.event == EventKind::Fault && event.nodes.contains(node) && event.at <= returned
    });
    let Some(fault) = fault else {
        return Err(format!("it was sent to {node}, to which nothing was done"));
    };
    let out = question
        .balancer
        .changes
        .iter()
        .find(|change| change.node == *node && !change.up && change.at >= fault.at.realtime);
    let latest = fault.at.realtime + nanoseconds(DETECTION);
    let until = out.map_or(latest, |change| change.at.min(latest));
    let back = question.balancer.changes.iter().find(|change| {
        change.node == *node && change.up && change.at >= until && change.at <= opened.realtime
    });
    if back.is_some() {
        return Err(format!("it was sent to {node} after that was back"));
    }
    if opened.realtime > until {
        return Err(format!(
            "it was sent to {node} {} ms after that had to be out",
            (opened.realtime - until) / 1_000_000
        ));
    }
    Ok(())
}

/// What visitors were told, and what is there.
fn compare(verdict: &mut VisitsVerdict, question: &Visits<'_>) {
    let mut told: BTreeMap<(Kind, &str), Vec<Answer>> = BTreeMap::new();
    for visit in question.visits {
        let answers = told.entry((visit.kind, &visit.id)).or_default();
        answers.push(visit.answer);
    }
    let count = |ids: &'_ [String]| {
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for id in ids {
            *counted.entry(id.clone()).or_default() += 1;
        }
        counted
    };
    let there = BTreeMap::from([
        (Kind::Order, count(question.orders)),
        (Kind::View, count(question.views)),
    ]);
    for ((kind, id), answers) in &told {
        let is_there = there[kind].contains_key(*id);
        let any = |answer| answers.contains(&answer);
        if any(Answer::Ok) && !is_there {
            verdict.lost.push((*id).to_owned());
        } else if any(Answer::Accepted) && !is_there {
            verdict.views_lost += 1;
        }
        if is_there && answers.iter().all(|answer| *answer == Answer::Failed) {
            verdict.ghosts.push((*id).to_owned());
        }
    }
    let sent: BTreeSet<&str> = told.keys().map(|(_, id)| *id).collect();
    for (id, times) in there.values().flatten() {
        if *times > 1 {
            verdict.duplicate.push(id.clone());
        }
        if !sent.contains(id.as_str()) {
            verdict.foreign.push(id.clone());
        }
    }
}

fn slowest(known: &[&Visit]) -> u64 {
    let times = known.iter().filter_map(|visit| {
        let answered = matches!(visit.answer, Answer::Ok | Answer::Accepted);
        let returned = visit.returned.filter(|_| answered)?;
        Some(returned.monotonic.saturating_sub(visit.sent.monotonic))
    });
    times.max().unwrap_or(0)
}

/// The longest time without an answer to anybody, from the first fault to the end.
fn gap(known: &[&Visit], fault: Option<&Event>, end: Option<&Event>) -> u64 {
    let (Some(fault), Some(end)) = (fault, end) else {
        return 0;
    };
    let (begin, end) = (fault.at.monotonic, end.at.monotonic);
    let mut times: Vec<u64> = known
        .iter()
        .filter(|visit| matches!(visit.answer, Answer::Ok | Answer::Accepted))
        .filter_map(|visit| Some(visit.returned?.monotonic))
        .filter(|at| (begin..end).contains(at))
        .chain([end])
        .collect();
    times.sort_unstable();
    let mut last = begin;
    let mut longest = 0;
    for at in times {
        longest = longest.max(at.saturating_sub(last));
        last = at;
    }
    longest
}

/// Why a run may prove nothing.
fn doubts(verdict: &VisitsVerdict, fault: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    match verdict.control {
        (0, _) => doubts.push("nobody was answered during the control".into()),
        (_, 0) => {}
        (_, failed) => doubts.push(format!(
            "{failed} attempts failed during the control, when nothing was done to the fleet"
        )),
    }
    if !fault {
        doubts.push("there was no fault".into());
    }
    doubts
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
