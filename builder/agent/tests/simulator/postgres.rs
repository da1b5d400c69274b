//! As much of PostgreSQL as the rules are about: a log of records on timelines that are known by number only, crash
//! recovery, streaming from whatever server answers, synchronous waits, copies and rewinds.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_agent::cluster::{
    Access, Data, EpochRow, Lsn, Observed, Position, Process, Receiver, StandbySeen, SyncSetting,
    SystemId, Timeline, TimelineStart,
};
use rolesmith_model::ids::NodeName;

/// One record of the log. Its place is its index; its identity is unique in a run, which real logs lack: so the
/// simulator sees it when two logs were mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub id: u64,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A client's number.
    Number(u64),
    /// An epoch row, by its place in [`crate::world::World::rows`].
    Row(usize),
    /// Checkpoints, heartbeats, ends of recovery.
    Other,
}

/// A data directory.
#[derive(Debug, Clone)]
pub struct Directory {
    pub system_id: u64,
    pub wal: Vec<Record>,
    /// Timelines of the log with their beginnings, the present one last.
    pub history: Vec<(u32, u64)>,
    /// Numbers of timelines of which a history file is at hand; a promotion takes the next one.
    pub highest_timeline: u32,
    /// It is consistent only after this place (copies and rewinds).
    pub consistent_at: u64,
    /// A copy was interrupted.
    pub incomplete: bool,
    /// A rewind was interrupted: it can be started, and holds rubbish.
    pub broken: bool,
    pub clean: bool,
    pub sync: SyncSetting,
    pub conninfo: Option<usize>,
}

impl Directory {
    pub fn created(system_id: u64, record: Record) -> Self {
        Self {
            system_id,
            wal: vec![record],
            history: vec![(1, 0)],
            highest_timeline: 1,
            consistent_at: 0,
            incomplete: false,
            broken: false,
            clean: true,
            sync: SyncSetting::default(),
            conninfo: None,
        }
    }

    pub fn len(&self) -> u64 {
        self.wal.len() as u64
    }

    pub fn timeline(&self) -> u32 {
        self.history.last().map_or(1, |last| last.0)
    }

    /// Where the timeline of that number ends in this log; None if it does not occur.
    fn end_of(&self, timeline: u32) -> Option<u64> {
        let at = self.history.iter().position(|(id, _)| *id == timeline)?;
        Some(self.history.get(at + 1).map_or(self.len(), |next| next.1))
    }

    /// What a walsender checks before it streams to a standby that is at `len` on `timeline`.
    pub fn can_stream_to(&self, timeline: u32, len: u64) -> bool {
        self.end_of(timeline).is_some_and(|end| len <= end)
    }

    /// Where pg_rewind finds that both histories part, by numbers and beginnings of timelines.
    pub fn parting(&self, source: &Self) -> Option<u64> {
        let shared = self
            .history
            .iter()
            .zip(&source.history)
            .take_while(|(a, b)| a == b)
            .count();
        let last = self.history.get(shared.checked_sub(1)?)?.0;
        Some(self.end_of(last)?.min(source.end_of(last)?))
    }

    /// Takes the source's records from the own end on, with the timelines they are on.
    pub fn extend_from(&mut self, records: &[Record], history: &[(u32, u64)], highest: u32) {
        self.wal.extend_from_slice(records);
        let len = self.len();
        self.history = history
            .iter()
            .filter(|(_, begins)| *begins < len || *begins == 0)
            .copied()
            .collect();
        self.highest_timeline = self.highest_timeline.max(highest);
    }
}

/// Somebody who waits for standbys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Client(u64),
    /// An action of the agent, of one run of it.
    Agent {
        session: u64,
        action: u64,
    },
}

#[derive(Debug, Clone)]
pub struct Waiter {
    pub lsn: u64,
    pub who: Who,
    pub row: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub struct Connected {
    pub flush: u64,
    pub heard: u64,
}

/// The server on one node.
#[derive(Debug, Clone, Default)]
pub struct Server {
    pub directory: Option<Directory>,
    pub process: Process,
    /// Counts lives of the postmaster.
    pub session: u64,
    pub in_recovery: bool,
    pub conninfo: Option<usize>,
    /// The walreceiver lives, and whether it streams.
    pub receiver: Option<(usize, bool)>,
    pub access: Access,
    pub sync: SyncSetting,
    pub standbys: BTreeMap<usize, Connected>,
    pub waiters: Vec<Waiter>,
    pub shutting_down: bool,
}

impl Server {
    pub fn running(&self) -> bool {
        self.process == Process::Running
    }

    pub fn is_primary(&self) -> bool {
        self.running() && !self.in_recovery && !self.shutting_down
    }

    /// The process is gone, whatever it did.
    pub fn dead(&mut self, clean: bool) {
        self.process = Process::Stopped;
        self.session += 1;
        self.receiver = None;
        self.conninfo = None;
        self.standbys.clear();
        self.waiters.clear();
        self.access = Access::Closed;
        self.shutting_down = false;
        if let Some(directory) = &mut self.directory {
            directory.clean = clean;
        }
    }

    /// Waiters that the standbys' answers release.
    pub fn release(&mut self, names: &[NodeName]) -> Vec<Waiter> {
        let sync = &self.sync;
        let mut flushed: Vec<u64> = self
            .standbys
            .iter()
            .filter(|(node, _)| sync.names.contains(&names[**node]))
            .map(|(_, standby)| standby.flush)
            .collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        let reached = match sync.k {
            0 => u64::MAX,
            k => flushed.get(k - 1).copied().unwrap_or(0),
        };
        let (done, waiting) = self
            .waiters
            .drain(..)
            .partition(|waiter| waiter.lsn <= reached);
        self.waiters = waiting;
        done
    }

    pub fn observe(&self, names: &[NodeName], rows: &[EpochRow]) -> Observed {
        let mut seen = Observed {
            process: match self.process {
                Process::Running if self.shutting_down => Process::Starting,
                process => process,
            },
            ..Observed::default()
        };
        let Some(directory) = &self.directory else {
            return seen;
        };
        seen.data = if directory.incomplete {
            Data::Incomplete
        } else {
            Data::Complete(SystemId(directory.system_id))
        };
        seen.conninfo = directory
            .conninfo
            .or(self.conninfo)
            .map(|node| names[node].clone());
        seen.receiver = self.receiver.map(|(node, streaming)| Receiver {
            upstream: Some(names[node].clone()),
            timeline: Timeline(directory.timeline()),
            streaming,
        });
        if !self.running() || self.shutting_down {
            return seen;
        }
        let end = Position {
            timeline: Timeline(directory.timeline()),
            lsn: Lsn(directory.len()),
        };
        seen.in_recovery = self.in_recovery;
        seen.position = Some(end);
        let cut =
            self.conninfo.is_none() && directory.conninfo.is_none() && self.receiver.is_none();
        seen.end_of_wal = (cut || !self.in_recovery).then_some(end);
        seen.history = directory
            .history
            .iter()
            .map(|(timeline, begins)| TimelineStart {
                timeline: Timeline(*timeline),
                begins: Lsn(*begins),
            })
            .collect();
        let hidden: BTreeSet<usize> = self.waiters.iter().filter_map(|wait| wait.row).collect();
        // By epoch, as the agent asks for them: a command of an agent that died may come after its successor's.
        let mut all: Vec<EpochRow> = directory
            .wal
            .iter()
            .filter_map(|record| match record.kind {
                Kind::Row(row) if !hidden.contains(&row) => Some(rows[row].clone()),
                _ => None,
            })
            .collect();
        all.sort_by_key(|row| row.epoch);
        seen.rows = all[all.len().saturating_sub(32)..].to_vec();
        seen.standbys = self
            .standbys
            .iter()
            .map(|(node, standby)| {
                (
                    names[*node].clone(),
                    StandbySeen {
                        streaming: true,
                        flush: Lsn(standby.flush),
                    },
                )
            })
            .collect();
        seen.access = self.access;
        seen.sync = self.sync.clone();
        seen
    }
}
