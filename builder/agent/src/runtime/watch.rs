//! Who is the primary, for a node that has no part in the cluster: it asks those that have.
//!
//! A member's word alone is not enough, the primary's neither: a pgbouncer follows who a majority of the voters have
//! promised the newest epoch to, and who says itself that its row of that epoch is committed (rule 13). A majority for an
//! epoch leaves none for a later one, so what was heard may be old, but never contradicts itself; and one epoch's answer
//! never takes the place of a later one's.
//!
//! Nobody calls this node, since a primary has no list of who looks at it. So it does not ask every now and then, which would
//! add half of that to every interruption: it says what it knows of a member, and the member answers when that is no longer
//! so ([`Stance`]).

use std::collections::BTreeMap;

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

use crate::cluster::{
    Config, Declared, Epoch, EpochRow, Incarnation, Reply, RequestId, Response, RoleWord, Stamp,
    StatusReport, SystemId,
};

/// How long a member keeps a question whose answer would be no news (ms). Until then one that is lost is not missed, and it is
/// about what an asker noticed before who asked once a second.
pub const HOLD: u64 = 1_000;
/// How long beyond that an answer is waited for (ms).
pub const ANSWER: u64 = 900;
/// Questions to one member in a second: one that has news without end gets no more.
const BUDGET: u32 = 20;

/// What of a member's state bears on who is the primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stance {
    role: RoleWord,
    promised: Option<(Epoch, NodeName)>,
    row: Option<EpochRow>,
    configuration: Stamp,
}

impl From<&StatusReport> for Stance {
    fn from(report: &StatusReport) -> Self {
        Self {
            role: report.role,
            promised: report.promised.clone(),
            row: report.row.clone(),
            configuration: report.config.stamp,
        }
    }
}

/// A member that is asked.
#[derive(Debug, Default)]
struct Asked {
    /// The question that waits for its answer, and when it was put (ms).
    waiting: Option<(RequestId, u64)>,
    /// Questions put since the last second began.
    spent: u32,
    /// What it said last; nothing when it did not answer the last time.
    said: Option<(Incarnation, StatusReport)>,
}

/// What members said last; who did not answer the last time said nothing.
#[derive(Debug, Default)]
pub struct Watch {
    members: BTreeMap<NodeName, Asked>,
    /// The last answer, and of which database: kept while too few answer to tell otherwise.
    known: Option<(SystemId, EpochRow)>,
}

impl Watch {
    /// Another second: these are the members. Gives those that have to be asked now.
    pub fn second(&mut self, members: &BTreeMap<NodeName, Declared>) -> Vec<NodeName> {
        self.members.retain(|name, _| members.contains_key(name));
        for name in members.keys() {
            self.members.entry(name.clone()).or_default().spent = 0;
        }
        let idle = self
            .members
            .iter()
            .filter(|(_, asked)| asked.waiting.is_none());
        idle.map(|(name, _)| name.clone()).collect()
    }

    /// A question goes to that member; gives what it need not be answered with.
    pub fn ask(&mut self, member: &NodeName, id: RequestId, now: u64) -> Option<Stance> {
        let asked = self.members.get_mut(member)?;
        asked.waiting = Some((id, now));
        asked.spent += 1;
        asked.said.as_ref().map(|(_, report)| report.into())
    }

    /// An answer to that question came, or none. Whether the next one is due at once.
    pub fn heard(
        &mut self,
        from: &NodeName,
        id: RequestId,
        reply: Option<Reply>,
        now: u64,
    ) -> bool {
        let Some(asked) = self.members.get_mut(from) else {
            return false;
        };
        let Some((_, since)) = asked.waiting.take_if(|(waiting, _)| *waiting == id) else {
            return false;
        };
        let before = asked.said.take();
        let Some(Reply {
            incarnation,
            response: Response::Status(report),
            ..
        }) = reply
        else {
            return false;
        };
        let before = before.map(|(_, report)| Stance::from(&report));
        let news = before.as_ref() != Some(&Stance::from(&*report));
        // One that does not keep questions answers at once, and has time until the next second.
        let kept = now.saturating_sub(since) >= HOLD / 2;
        asked.said = Some((incarnation, *report));
        (news || kept) && asked.spent < BUDGET
    }

    /// Makes of it who the primary is; `own` is what this node says where it is a voter itself.
    pub fn learn(&mut self, own: Option<(Incarnation, StatusReport)>) {
        let said = self.members.iter();
        let mut said: BTreeMap<&NodeName, &(Incarnation, StatusReport)> = said
            .filter_map(|(name, asked)| Some((name, asked.said.as_ref()?)))
            .collect();
        if let Some(own) = &own {
            said.insert(&own.1.node, own);
        }
        let Some((system, row)) = find(&said) else {
            return;
        };
        let older =
            |(known, before): &(SystemId, EpochRow)| *known == system && row.epoch < before.epoch;
        if !self.known.as_ref().is_some_and(older) {
            self.known = Some((system, row));
        }
    }

    /// The primary, as far as is known. While no majority answers it stays the one that was known: connections to it are
    /// no worse than none.
    #[must_use]
    pub fn primary(&self) -> Option<&EpochRow> {
        self.known.as_ref().map(|(_, row)| row)
    }
}

fn find(said: &BTreeMap<&NodeName, &(Incarnation, StatusReport)>) -> Option<(SystemId, EpochRow)> {
    let config = said
        .values()
        .map(|(_, status)| &status.config)
        .max_by_key(|config| config.stamp)?;
    let row = said.iter().find_map(|(name, (_, status))| {
        let row = status.row.as_ref()?;
        (status.role == RoleWord::Primary && row.node == **name && promised(said, config, row))
            .then_some(row)
    })?;
    Some((config.system_id, row.clone()))
}

/// Whether a majority of the voters has promised that row's epoch to its node.
fn promised(
    said: &BTreeMap<&NodeName, &(Incarnation, StatusReport)>,
    config: &Config,
    row: &EpochRow,
) -> bool {
    let to_it = |(voter, incarnation): &(&NodeName, &Incarnation)| {
        let Some((machine, status)) = said.get(voter) else {
            return false;
        };
        let promise = status.promised.as_ref();
        machine == *incarnation
            && promise.is_some_and(|(epoch, to)| *epoch == row.epoch && *to == row.node)
    };
    config.voters.iter().filter(to_it).count() >= config.majority()
}

#[cfg(test)]
mod tests;
