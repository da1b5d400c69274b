//! Whether a node's log is a part of the primary's (rule 3).

use super::ids::{Epoch, EpochRow, Position, TimelineStart};

/// A node's own log.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// Visible epoch rows, oldest first.
    pub rows: &'a [EpochRow],
    /// The measured end.
    pub end: Position,
    /// Its timelines, oldest first.
    pub history: &'a [TimelineStart],
    /// The epoch whose holder's log it last followed, or wrote.
    pub followed: Option<Epoch>,
}

/// What a node's log is to the primary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is a beginning of it: following is safe.
    Prefix,
    /// They share everything up to the end of a timeline that both know; what the node wrote after that was never
    /// acknowledged. `pg_rewind` can undo it.
    Tail,
    /// They part in a way that numbers of timelines cannot tell. Only a new copy is safe.
    Foreign,
}

/// Compares a log with the lineage of the primary, whose last row is that of its present epoch.
///
/// A row that both have proves that the logs are one up to that row, on that row's timeline: rows carry their epoch and
/// an epoch has one holder. A timeline *number* proves nothing, since two nodes can make different timelines of one
/// number; it counts only if the node followed an epoch that is part of the lineage.
///
/// Where a timeline of the primary ends, only its `history` tells: the next row is further on if a promotion in between
/// died before its row. What a node wrote after that end is a tail, although it lies before the next row's switch.
#[must_use]
pub fn relation(local: &Local<'_>, lineage: &[EpochRow], history: &[TimelineStart]) -> Relation {
    let Some((mut at, mut row)) = lineage
        .iter()
        .enumerate()
        .rev()
        .find(|(_, row)| local.rows.contains(row))
    else {
        return Relation::Foreign;
    };
    loop {
        // A re-affirmed epoch goes on in the same log: look for the next one that does not.
        let next = lineage
            .iter()
            .enumerate()
            .skip(at + 1)
            .find(|(_, next)| next.timeline != row.timeline || next.node != row.node);
        let Some((next_at, next)) = next else {
            return if local.end.timeline == row.timeline {
                Relation::Prefix
            } else {
                Relation::Foreign
            };
        };
        if local.end.timeline == row.timeline {
            let unknown_row = local
                .rows
                .last()
                .is_some_and(|last| last.epoch > row.epoch && !lineage.contains(last));
            let end = history
                .iter()
                .skip_while(|start| start.timeline != row.timeline)
                .nth(1)
                .map_or(next.switch, |start| start.begins.min(next.switch));
            return match (local.end.lsn <= end, unknown_row) {
                (true, false) => Relation::Prefix,
                // Its row would have to be in the shared part, and is not.
                (true, true) => Relation::Foreign,
                (false, _) => Relation::Tail,
            };
        }
        let switched_there = local
            .history
            .iter()
            .any(|start| start.timeline == next.timeline && start.begins == next.switch);
        let followed_it = local
            .followed
            .is_some_and(|followed| lineage[next_at..].iter().any(|row| row.epoch == followed));
        if !(switched_there && followed_it) {
            return Relation::Foreign;
        }
        (at, row) = (next_at, next);
    }
}
