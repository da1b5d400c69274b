//! The verdict over a drill: a pure function of what clients wrote down and of what is in the database.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ledger::{Entry, Event, EventKind, Outcome, Via};

/// The longest gap between two acknowledgements that a control may have, in nanoseconds. A machine on which clients wait longer
/// when nothing happens cannot measure what a fault costs.
pub const CONTROL_GAP: u64 = 500_000_000;

/// The rows that were found.
pub type Rows = [u64];

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// All ledgers, in any order; of one writer in its own.
    pub entries: &'a [Entry],
    /// The drill's log. Without a control and a fault in it nothing can be valid.
    pub events: &'a [Event],
    /// The numbers in the table after the heal, each as often as it is there.
    pub rows: &'a Rows,
}

/// Writers' longest waits, in nanoseconds: of each, and of them all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// By writer.
    pub writers: BTreeMap<String, u64>,
    /// The middle one, the higher of two.
    pub median: u64,
    /// The longest.
    pub max: u64,
}

/// An acknowledgement by a server that had been followed by another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// The number that was acknowledged.
    pub number: u64,
    /// Who acknowledged it, and on which timeline.
    pub old: Reign,
    /// Who had acknowledged something before it was sent.
    pub new: Reign,
}

/// A server as primary on one timeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reign {
    /// Its address.
    pub server: String,
    /// Its timeline.
    pub timeline: Option<u32>,
}

/// Everything that can be told. Numbers are in the order in which they were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How many attempts there were.
    pub attempts: usize,
    /// Of these: acknowledged, refused, unknown.
    pub ok: usize,
    /// See above.
    pub failed: usize,
    /// See above.
    pub unknown: usize,
    /// Acknowledged and not there.
    pub lost: Vec<u64>,
    /// There more than once.
    pub duplicate: Vec<u64>,
    /// Refused, and there all the same.
    pub ghosts: Vec<u64>,
    /// There, though nobody wrote them.
    pub foreign: Vec<u64>,
    /// Acknowledged by two primaries at one time.
    pub double: Vec<Overlap>,
    /// Numbers that were given to two attempts: the ledgers contradict themselves.
    pub reused: Vec<u64>,
    /// Who acknowledged, in the order of their first acknowledgements.
    pub reigns: Vec<Reign>,
    /// Longest waits while nothing was done to the fleet.
    pub control: Gap,
    /// Longest waits from the first fault on, of the writers through the pooler whose node no fault took away.
    pub interruption: Gap,
    /// Why the run proves nothing; empty where it does.
    pub invalid: Vec<String>,
}

/// What a run is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// Valid, and nothing was lost or doubled.
    Passed,
    /// Something was lost or doubled. It is so even where the run is not valid.
    Failed,
    /// Nothing was seen, and nothing can be concluded.
    Invalid,
}

impl Verdict {
    /// The verdict in a word.
    pub fn case(&self) -> Case {
        let broken = [&self.lost, &self.duplicate, &self.ghosts, &self.foreign]
            .into_iter()
            .any(|numbers| !numbers.is_empty());
        if broken || !self.double.is_empty() {
            Case::Failed
        } else if !self.invalid.is_empty() {
            Case::Invalid
        } else {
            Case::Passed
        }
    }
}

/// Judges a drill.
pub fn judge(question: &Question<'_>) -> Verdict {
    let Question {
        entries,
        events,
        rows,
    } = *question;
    let mut there: BTreeMap<u64, usize> = BTreeMap::new();
    for row in rows {
        *there.entry(*row).or_default() += 1;
    }
    let written: BTreeSet<u64> = entries.iter().map(|entry| entry.number).collect();
    let with = |result: Outcome| entries.iter().filter(move |entry| entry.result == result);
    let count = |result| with(result).count();
    let reigns = reigns(entries);
    let windows = Windows::of(events);
    let mut verdict = Verdict {
        attempts: entries.len(),
        ok: count(Outcome::Ok),
        failed: count(Outcome::Failed),
        unknown: count(Outcome::Unknown) + count(Outcome::Sent),
        lost: with(Outcome::Ok)
            .map(|entry| entry.number)
            .filter(|number| !there.contains_key(number))
            .collect(),
        duplicate: more_than_once(&there),
        ghosts: with(Outcome::Failed)
            .map(|entry| entry.number)
            .filter(|number| there.contains_key(number))
            .collect(),
        foreign: there
            .keys()
            .copied()
            .filter(|number| !written.contains(number))
            .collect(),
        double: overlaps(entries, &reigns),
        reused: reused(entries),
        reigns: reigns.into_iter().map(|(reign, _)| reign).collect(),
        control: gaps(entries, windows.control, &[]),
        interruption: gaps(entries, windows.fault, &windows.taken),
        invalid: Vec::new(),
    };
    verdict.invalid = doubts(&verdict, &windows);
    verdict
}

/// Why a run may prove nothing.
fn doubts(verdict: &Verdict, windows: &Windows) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut doubt = |text: String| doubts.push(text);
    if windows.control.is_none() {
        doubt("there was no control".into());
    } else if verdict.control.writers.is_empty() {
        doubt("no writer was at work during the control".into());
    } else if verdict.control.max > CONTROL_GAP {
        doubt(format!(
            "a writer waited {} ms during the control, when nothing was done to the fleet",
            verdict.control.max / 1_000_000
        ));
    }
    if windows.fault.is_none() {
        doubt("there was no fault".into());
    } else if verdict.interruption.writers.is_empty() {
        doubt("no writer was left to see the fault".into());
    }
    if !verdict.reused.is_empty() {
        doubt("a number was given to two attempts".into());
    }
    doubts
}

/// Begin and end, CLOCK_MONOTONIC.
type Window = (u64, u64);

struct Windows {
    control: Option<Window>,
    fault: Option<Window>,
    /// The nodes that faults took from their clients, and when.
    taken: Vec<(String, u64)>,
}

impl Windows {
    fn of(events: &[Event]) -> Windows {
        let first = |kind| {
            let event = events.iter().find(|event| event.event == kind);
            event.map(|event| event.at.monotonic)
        };
        let (control, fault) = (first(EventKind::Control), first(EventKind::Fault));
        let end = first(EventKind::End);
        Windows {
            // A control alone, without a fault, is a drill too.
            control: control.zip(fault.or(end)),
            fault: fault.zip(end),
            taken: events
                .iter()
                .flat_map(|event| {
                    let at = event.at.monotonic;
                    event.nodes.iter().map(move |node| (node.clone(), at))
                })
                .collect(),
        }
    }
}

fn more_than_once(there: &BTreeMap<u64, usize>) -> Vec<u64> {
    let several = there.iter().filter(|(_, times)| **times > 1);
    several.map(|(number, _)| *number).collect()
}

fn reused(entries: &[Entry]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let numbers = entries.iter().map(|entry| entry.number);
    numbers.filter(|number| !seen.insert(*number)).collect()
}

/// Who acknowledged, and when the first acknowledgement of each was back at its client.
fn reigns(entries: &[Entry]) -> Vec<(Reign, u64)> {
    let mut first: BTreeMap<Reign, u64> = BTreeMap::new();
    for (reign, entry) in acknowledged(entries) {
        let at = entry.returned.map_or(u64::MAX, |moment| moment.monotonic);
        let known = first.entry(reign).or_insert(at);
        *known = at.min(*known);
    }
    let mut ordered: Vec<_> = first.into_iter().collect();
    ordered.sort_by_key(|(_, at)| *at);
    ordered
}

/// Acknowledgements whose server is known.
fn acknowledged(entries: &[Entry]) -> impl Iterator<Item = (Reign, &Entry)> {
    entries
        .iter()
        .filter(|entry| entry.result == Outcome::Ok)
        .filter_map(|entry| {
            let reign = Reign {
                server: entry.server.clone()?,
                timeline: entry.timeline,
            };
            Some((reign, entry))
        })
}

/// Acknowledgements of a server for what was sent when its successor's first acknowledgement was back already. What was in the
/// air at that moment is in doubt, and is no proof.
fn overlaps(entries: &[Entry], reigns: &[(Reign, u64)]) -> Vec<Overlap> {
    let overlap = |(reign, entry): (Reign, &Entry)| {
        let place = reigns.iter().position(|(other, _)| *other == reign)?;
        let (new, at) = reigns.get(place + 1)?;
        (entry.sent.monotonic > *at).then(|| Overlap {
            number: entry.number,
            old: reign,
            new: new.clone(),
        })
    };
    acknowledged(entries).filter_map(overlap).collect()
}

/// The longest wait of each writer within the window: from one acknowledgement to the next, from the window's begin (or the last
/// acknowledgement before it) to the first, and from the last to the window's end. For a writer that was started within the
/// window it begins with its first attempt; one that was started later does not count.
///
/// Where its node was taken from its clients a writer sees nothing more; it counts until then. Those of the machine that comes
/// back there count from the first time that they were served: how long a boot takes is no interruption.
fn gaps(entries: &[Entry], window: Option<Window>, taken: &[(String, u64)]) -> Gap {
    let Some((begin, end)) = window else {
        return Gap::default();
    };
    // When each began, where, and its acknowledgements.
    let mut times: BTreeMap<&str, (u64, &str, Vec<u64>)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.via == Via::Pooler) {
        let sent = entry.sent.monotonic;
        let writer = times.entry(&entry.writer);
        let (first, _, times) = writer.or_insert((sent, &entry.node, Vec::new()));
        *first = sent.min(*first);
        if let (Outcome::Ok, Some(returned)) = (entry.result, entry.returned) {
            times.push(returned.monotonic);
        }
    }
    let longest = |first: u64, node: &str, times: Vec<u64>| {
        let of_node = || taken.iter().filter(|(name, _)| name == node);
        let lost = of_node().map(|(_, at)| *at).filter(|at| *at > first).min();
        let end = lost.map_or(end, |at| at.min(end));
        let begin = if of_node().any(|(_, at)| *at <= first) {
            times.iter().copied().min()?.max(begin)
        } else {
            begin.max(first)
        };
        if begin >= end {
            return None;
        }
        let before = times.iter().copied().filter(|at| *at < begin).max();
        let mut last = before.unwrap_or(begin);
        let mut longest = 0;
        let within = times.iter().copied().filter(|at| (begin..end).contains(at));
        for at in within.chain([end]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        Some(longest)
    };
    let writers: BTreeMap<String, u64> = times
        .into_iter()
        .filter_map(|(writer, (first, node, times))| {
            Some((writer.to_owned(), longest(first, node, times)?))
        })
        .collect();
    let mut sorted: Vec<u64> = writers.values().copied().collect();
    sorted.sort_unstable();
    Gap {
        median: sorted.get(sorted.len() / 2).copied().unwrap_or(0),
        max: sorted.last().copied().unwrap_or(0),
        writers,
    }
}

#[cfg(test)]
mod tests;
