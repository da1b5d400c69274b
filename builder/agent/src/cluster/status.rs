//! What a node says about itself, and where its pgbouncer goes.

use super::action::Action;
use super::core::Core;
use super::durable::DataState;
use super::message::{RoleWord, StatusReport};
use super::observed::{Access, Data, Observed};

impl Core {
    /// This node's view of itself and its cluster.
    #[must_use]
    pub fn status(&self, now: u64) -> StatusReport {
        let seen = self.seen.as_ref();
        let open = seen.is_some_and(|seen| seen.is_primary() && seen.access == Access::Open);
        let config = &self.durable.config;
        let role = match &self.office {
            Some(office) if office.confirmed && open => RoleWord::Primary,
            Some(_) => RoleWord::Promoting,
            None if !config.formed() => RoleWord::Waiting,
            None if self.campaign.is_some() => RoleWord::Candidate,
            None if !self.is_voter() => RoleWord::Learner,
            None if !self.holds_data() => RoleWord::Witness,
            None if self.durable.data == DataState::Complete => RoleWord::Standby,
            None => RoleWord::Learner,
        };
        let primary = match &self.office {
            Some(_) => Some((self.me.clone(), 0)),
            None => self.following.as_ref().map(|following| {
                let ago = now.saturating_sub(following.heard);
                (following.holder.clone(), ago)
            }),
        };
        StatusReport {
            node: self.me.clone(),
            role,
            promised: self
                .durable
                .promise
                .as_ref()
                .map(|promise| (promise.epoch, promise.holder.clone())),
            primary,
            row: seen.and_then(|seen| seen.row().cloned()),
            position: seen.and_then(|seen| seen.position),
            system_id: seen.and_then(|seen| match seen.data {
                Data::Complete(id) => Some(id),
                _ => None,
            }),
            data: self.durable.data.clone(),
            standbys: seen
                .map(|seen| {
                    seen.standbys
                        .iter()
                        .map(|(name, seen)| (name.clone(), (seen.streaming, seen.flush)))
                        .collect()
                })
                .unwrap_or_default(),
            config: config.clone(),
            facts: self.facts.version,
            alarms: self.alarms(now),
        }
    }

    fn alarms(&self, now: u64) -> Vec<String> {
        let mut alarms: Vec<String> = self
            .failures
            .values()
            .map(|failure| format!("failing: {failure}"))
            .collect();
        let config = &self.durable.config;
        if let Some(alone) = &config.alone {
            alarms.push(format!("{alone} goes on without a synchronous copy"));
        }
        let data = self.facts.members.values().filter(|member| member.data);
        let copies = self.facts.synchronous.min(data.count().saturating_sub(1));
        if config.formed() && config.k == 0 && copies > 0 {
            alarms.push("commits wait for no synchronous copy".to_owned());
        }
        if !config.formed() {
            alarms.push("no cluster is known yet".to_owned());
        } else if self.office.is_none() && self.hears_primary(now).is_none() {
            alarms.push("no primary is heard".to_owned());
        }
        if config.formed() && !self.is_voter() {
            alarms.push("this machine has no vote".to_owned());
        }
        for (name, voter) in &config.voters {
            if self
                .peers
                .get(name)
                .is_some_and(|peer| peer.incarnation != *voter)
            {
                alarms.push(format!("another machine answers as {name}"));
            }
        }
        alarms
    }

    /// Rule 13: the local pgbouncer goes to the confirmed primary and to nobody else.
    pub(super) fn decide_pooler(&mut self, now: u64) {
        // A witness has none. A machine that held data before may have one that still serves programs there.
        let witness = !self.holds_data() && !self.durable.config.data.contains(&self.me);
        let empty = |seen: &Observed| seen.data == Data::Absent;
        if witness && self.seen.as_ref().is_none_or(empty) {
            return;
        }
        let row = match &self.office {
            Some(office) if office.confirmed => self.own_row(),
            Some(_) => None,
            None => self.source().and_then(|source| {
                let last = source.beat.lineage.last()?;
                (last.epoch == source.epoch).then(|| last.clone())
            }),
        };
        if row.is_some() && row != self.pooler {
            let primary = row.clone();
            if self.act(now, Action::Pooler { primary }) {
                self.pooler = row;
            }
        }
    }
}
