//! The ledgers: one JSON object a line, as writers and the drill put them down.

use serde::{Deserialize, Serialize};

/// A moment by the two clocks that all nodes of a lab share, since they share a kernel. Nodes of a real fleet do not: there such
/// moments cannot be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// CLOCK_MONOTONIC in nanoseconds. It is what moments are compared by; nobody sets it.
    pub monotonic: u64,
    /// CLOCK_REALTIME in nanoseconds since 1970, to find the moment in other logs.
    pub realtime: u64,
}

/// The way on which a writer reaches PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The pooler of its node, as applications do.
    Pooler,
    /// The PostgreSQL server of its node, whether that is the primary or not.
    Direct,
}

/// What the client knows about an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is about to be sent. When no later line tells more, it is as [`Outcome::Unknown`].
    Sent,
    /// Committed, and the promise of the fleet's synchronous replication holds.
    Ok,
    /// Refused: it was never sent, or the server said that the transaction was aborted.
    Failed,
    /// Nobody told, or it was told with a reservation: the connection ended, time ran out, or COMMIT came with a warning.
    Unknown,
}

/// One line of a writer's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who wrote.
    pub writer: String,
    /// The node it ran on.
    pub node: String,
    /// On which way.
    pub via: Via,
    /// What was inserted; no number is used twice, by nobody.
    pub number: u64,
    /// When the attempt began.
    pub sent: Moment,
    /// When its outcome was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Moment>,
    /// What is known.
    pub result: Outcome,
    /// Why it is not ok: SQLSTATE and text, or what became of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The address of the server that took the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The timeline on which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
}

/// One line of the drill's own log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What began.
    pub event: EventKind,
    /// When.
    pub at: Moment,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// The nodes that the fault took from their clients: the gaps of writers on them are no interruption of the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
}

/// The parts of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The control begins: nothing is done to the fleet.
    Control,
    /// A fault is about to happen. The first one ends the control.
    Fault,
    /// Something was seen that the drill waited for.
    Seen,
    /// What was broken is about to be put right.
    Heal,
    /// The writers are about to stop.
    End,
}

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LedgerError {
    /// Its number, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads a ledger: the last line about each attempt counts. A last line without an end was being written when its writer was
/// killed; the attempt's line before it is there.
///
/// # Errors
/// The first line that is no entry.
pub fn parse_entries(text: &str) -> Result<Vec<Entry>, LedgerError> {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in lines::<Entry>(text)? {
        // A writer has one attempt in the air at a time.
        match entries.last_mut() {
            Some(last) if last.number == entry.number => *last = entry,
            _ => entries.push(entry),
        }
    }
    Ok(entries)
}

/// Reads the drill's own log.
///
/// # Errors
/// The first line that is no event.
pub fn parse_events(text: &str) -> Result<Vec<Event>, LedgerError> {
    lines(text)
}

/// Reads the rows that were found: one number a line, as often as it is there.
///
/// # Errors
/// The first line that is no number.
pub fn parse_rows(text: &str) -> Result<Vec<u64>, LedgerError> {
    let numbered = text.lines().enumerate();
    numbered
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            line.trim().parse().map_err(|_| LedgerError {
                line: at + 1,
                reason: format!("{line:?} is no number"),
            })
        })
        .collect()
}

pub(super) fn lines<T: for<'a> Deserialize<'a>>(text: &str) -> Result<Vec<T>, LedgerError> {
    let whole = match text.rfind('\n') {
        Some(end) => &text[..end],
        None => "",
    };
    let numbered = whole.lines().enumerate();
    numbered
        .map(|(at, line)| {
            serde_json::from_str(line).map_err(|error| LedgerError {
                line: at + 1,
                reason: error.to_string(),
            })
        })
        .collect()
}
