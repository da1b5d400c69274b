//! How the active configuration moves towards what facts propose: one member, or one number, at a time, by majorities of
//! old and new (rules 5, 6 and 11).
//!
//! A configuration may come into force only when every acknowledged commit can be read back under it
//! ([`Config::covers`]): a member is counted after it holds the data, and removed after commits stopped counting on it.

use std::collections::BTreeSet;

use rolesmith_model::ids::NodeName;

use super::config::{Config, Stamp, SyncSetting};
use super::core::Core;
use super::durable::DataState;
use super::ids::Epoch;
use super::message::{Refusal, Response};
use super::mutation::Mutation;

/// Added to the highest epoch known by an order of [`Core::recover`], so that nothing the lost majority promised and
/// did not tell comes near it.
const RECOVERY_STRIDE: u64 = 1_000_000;

impl Core {
    /// `synchronous_standby_names` that should be in force on this primary now.
    pub(super) fn wanted_sync(&self) -> Option<SyncSetting> {
        let office = self.office.as_ref()?;
        let config = &self.durable.config;
        if self.mutation == Mutation::DegradeWithoutWitness
            && config.k > 0
            && config.data.len() == 2
            && office
                .gone
                .values()
                .any(|since| office.backed_at.saturating_sub(*since) > self.timing.alone)
        {
            return Some(SyncSetting::default());
        }
        // Until the last change is kept by majorities of both, what is good under both stays.
        if let Some(previous) = &office.previous {
            let same = previous.data == config.data
                && previous.k == config.k
                && previous.alone == config.alone;
            if !same {
                return previous.bridge(config, &self.me);
            }
            // Found so at a start: whether others keep it is not known yet.
            return (!office.resumed).then(|| config.sync_of(&self.me));
        }
        match self.next_config() {
            Some(next) => config.bridge(&next, &self.me),
            None => Some(config.sync_of(&self.me)),
        }
    }

    pub(super) fn decide_membership(&mut self, now: u64) {
        let Some(office) = &self.office else {
            return;
        };
        if office.contested || office.handover.is_some() {
            return;
        }
        let epoch = office.epoch;
        if office.confirmed && !self.holds_data() {
            self.retire(now);
        }
        let Some(office) = &self.office else {
            return;
        };
        if let Some(previous) = &office.previous {
            let both = self.installed_by(&self.durable.config, epoch)
                && (self.mutation == Mutation::TwoMembersAtOnce
                    || self.installed_by(previous, epoch));
            if !both {
                return;
            }
            if let Some(office) = &mut self.office {
                office.previous = None;
            }
        }
        let Some(next) = self.next_config() else {
            return;
        };
        let Some(office) = &self.office else {
            return;
        };
        let seen_sync = self.seen.as_ref().map(|seen| &seen.sync);
        let in_force = seen_sync == Some(&office.sync) && self.runs_as_primary();
        let covered = in_force && next.covers(&self.me, &office.sync, office.sync_proven);
        let careless = match self.mutation {
            Mutation::RemoveUncovered => next.data.len() < self.durable.config.data.len(),
            Mutation::ClearBeforeSync => {
                self.durable.config.alone.is_some() && next.alone.is_none()
            }
            _ => false,
        };
        if covered || careless {
            self.change(now, next);
        }
    }

    /// Facts no longer want data here: another one takes over, which then can remove this node.
    fn retire(&mut self, now: u64) {
        let heir = self.durable.config.data.iter().find(|name| {
            self.facts
                .members
                .get(*name)
                .is_some_and(|member| member.data)
                && self.caught_up(name, &self.durable.config)
        });
        if let Some(heir) = heir.cloned()
            && let Some(office) = &mut self.office
        {
            office.handover = Some((heir, now));
        }
    }

    fn change(&mut self, now: u64, next: Config) {
        let before = self.durable.config.clone();
        self.log(format!(
            "configuration {}: voters {}, data {}, k {}{}",
            next.stamp.version,
            names(next.voters.keys()),
            names(&next.data),
            next.k,
            next.alone
                .as_ref()
                .map(|alone| format!(", {alone} alone"))
                .unwrap_or_default(),
        ));
        self.durably(|durable| durable.config = next);
        if let Some(office) = &mut self.office {
            office.previous = Some(before);
            office.beat_at = now;
        }
    }

    /// The next step towards the facts, if one can be made from here; not yet whether it is covered.
    fn next_config(&self) -> Option<Config> {
        let office = self.office.as_ref()?;
        let config = &self.durable.config;
        if config.stamp.epoch != office.epoch && self.mutation != Mutation::NoRestamp {
            return None;
        }
        let mut next = config.clone();
        next.stamp = Stamp {
            epoch: office.epoch,
            version: config.stamp.version + 1,
        };
        if self.alone_step(&mut next) {
            return Some(next);
        }
        // All else waits until the epoch is safe: who holds the data is not known before.
        if !office.confirmed {
            return None;
        }
        let changed = self.remove_step(&mut next)
            || self.add_voter_step(&mut next)
            || self.data_step(&mut next)
            || self.k_step(&mut next);
        if changed && self.mutation == Mutation::TwoMembersAtOnce {
            while self.remove_step(&mut next) || self.add_voter_step(&mut next) {}
        }
        changed.then_some(next)
    }

    /// Rule 11: with two data members and a witness the primary goes on without its standby, and comes back.
    fn alone_step(&self, next: &mut Config) -> bool {
        let Some(office) = &self.office else {
            return false;
        };
        let now = office.backed_at;
        let gone_for = |name: &NodeName| {
            let since = office.gone.get(name)?;
            Some(now.saturating_sub(*since))
        };
        if let Some(alone) = next.alone.clone() {
            // Back: as many stream as are waited for again, and the setting that waits for them can be proven.
            let others = next.data.iter().filter(|name| **name != self.me);
            let streaming = others.filter(|name| gone_for(name).is_none()).count();
            // Under the name of a lost machine another one may stream; that one is removed first.
            let lost = next.data.iter().any(|name| self.replaced(name, next));
            let there = alone == self.me || gone_for(&alone).is_none();
            if streaming >= next.k && there && !lost {
                next.alone = None;
                return true;
            }
            // The other one went on alone before, and is gone now: this primary was elected on its log, so it has all.
            if alone != self.me && gone_for(&alone).is_some_and(|time| time > self.timing.alone) {
                next.alone = Some(self.me.clone());
                return true;
            }
            return false;
        }
        let witness = next.voters.len() > next.data.len();
        if next.data.len() != 2 || next.k != 1 || !witness || !next.data.contains(&self.me) {
            return false;
        }
        let gone = next
            .data
            .iter()
            .any(|name| gone_for(name).is_some_and(|time| time > self.timing.alone));
        if gone {
            next.alone = Some(self.me.clone());
        }
        gone
    }

    /// Whether another machine than the voter stands behind its name, and has for a while.
    fn replaced(&self, name: &NodeName, config: &Config) -> bool {
        let Some(office) = &self.office else {
            return false;
        };
        let Some(voter) = config.voters.get(name) else {
            return false;
        };
        let declared = self
            .facts
            .members
            .get(name)
            .is_none_or(|member| member.incarnation > voter.number);
        let other = self.peers.get(name).is_some_and(|peer| {
            peer.incarnation != *voter
                && peer.heard > peer.since + self.timing.replace
                && peer.heard + self.timing.fence > office.backed_at
        });
        *name != self.me && (declared || other)
    }

    fn remove_step(&self, next: &mut Config) -> bool {
        let gone: Vec<NodeName> = next
            .voters
            .keys()
            .filter(|name| self.replaced(name, next))
            .cloned()
            .collect();
        for name in gone {
            let mut trial = next.clone();
            let whole = !trial.data.contains(&name) || self.drop_data(&mut trial, &name);
            if whole {
                trial.voters.remove(&name);
            }
            let changed = trial != *next;
            if changed && self.viable(&trial) {
                *next = trial;
                return true;
            }
        }
        false
    }

    /// Whether a configuration could live with those that answer now: a majority, and as many standbys as commits wait
    /// for. Of two that have to go, the dead one goes first.
    fn viable(&self, next: &Config) -> bool {
        let (Some(office), Some(seen)) = (&self.office, &self.seen) else {
            return false;
        };
        let answering = next
            .voters
            .iter()
            .filter(|(name, incarnation)| {
                **name == self.me
                    || self.peers.get(*name).is_some_and(|peer| {
                        peer.incarnation == **incarnation
                            && peer.accepted.is_some_and(|(epoch, _, sent)| {
                                epoch == office.epoch && sent + self.timing.fresh > office.backed_at
                            })
                    })
            })
            .count();
        let streaming = next
            .data
            .iter()
            .filter(|name| {
                seen.standbys
                    .get(*name)
                    .is_some_and(|standby| standby.streaming)
            })
            .count();
        answering >= next.majority() && (next.alone.is_some() || streaming >= next.k)
    }

    /// Takes a member out of those that hold data. If something else has to come first, it does that and says no.
    fn drop_data(&self, next: &mut Config, name: &NodeName) -> bool {
        if next.alone.as_ref() == Some(name) {
            // This primary was elected on that one's log, so it has all.
            next.alone = Some(self.me.clone());
            return false;
        }
        if next.alone.is_some() {
            // Commits count on nobody else.
            next.data.remove(name);
            next.k = next.k.min(next.data.len() - 1);
            if next.k == 0 {
                next.alone = None;
            }
            return true;
        }
        if next.k + 1 > next.data.len() - 1 {
            // First fewer standbys have to be enough. Of two members this one goes on alone: with k = 0 both logs would
            // have to be read after a restart, and one of them is lost.
            if next.data.len() == 2 && next.k == 1 {
                next.alone = Some(self.me.clone());
            } else {
                next.k = next.k.saturating_sub(1);
            }
            return false;
        }
        next.data.remove(name);
        true
    }

    fn add_voter_step(&self, next: &mut Config) -> bool {
        let Some(office) = &self.office else {
            return false;
        };
        let newcomer = self.facts.members.iter().find_map(|(name, member)| {
            let peer = self.peers.get(name)?;
            let follows = peer.accepted.is_some_and(|(epoch, _, sent)| {
                epoch == office.epoch && sent + self.timing.fence > office.backed_at
            });
            let fit = !next.voters.contains_key(name)
                && follows
                && peer.incarnation.number == member.incarnation;
            fit.then(|| (name.clone(), peer.incarnation))
        });
        let Some((name, incarnation)) = newcomer else {
            return false;
        };
        next.voters.insert(name, incarnation);
        true
    }

    /// A voter whose copy is whole and streams counts as data member; one that facts make a witness no longer does.
    fn data_step(&self, next: &mut Config) -> bool {
        let wanted: BTreeSet<&NodeName> = self
            .facts
            .members
            .iter()
            .filter(|(_, member)| member.data)
            .map(|(name, _)| name)
            .collect();
        let ready = wanted
            .iter()
            .find(|name| {
                !next.data.contains(**name)
                    && next.voters.contains_key(**name)
                    && self.caught_up(name, next)
            })
            .map(|name| (*name).clone());
        if let Some(name) = ready {
            // The first copy: until commits are proven to wait for it, this log alone holds all.
            if next.data.len() == 1 && next.k == 0 && self.facts.synchronous > 0 {
                next.k = 1;
                next.alone = Some(self.me.clone());
            }
            next.data.insert(name);
            return true;
        }
        let surplus = next
            .data
            .iter()
            .find(|name| !wanted.contains(name) && **name != self.me)
            .cloned();
        let Some(name) = surplus else {
            return false;
        };
        let mut trial = next.clone();
        self.drop_data(&mut trial, &name);
        if self.viable(&trial) {
            *next = trial;
        }
        next.data != self.durable.config.data
            || next.k != self.durable.config.k
            || next.alone != self.durable.config.alone
    }

    fn caught_up(&self, name: &NodeName, next: &Config) -> bool {
        let (Some(seen), Some(peer)) = (&self.seen, self.peers.get(name)) else {
            return false;
        };
        next.voters.get(name) == Some(&peer.incarnation)
            && peer.data == DataState::Complete
            && seen
                .standbys
                .get(name)
                .is_some_and(|standby| standby.streaming)
    }

    /// As many synchronous copies as facts want and data members allow.
    fn k_step(&self, next: &mut Config) -> bool {
        if next.alone.is_some() {
            return false;
        }
        let (Some(seen), most) = (&self.seen, next.data.len().saturating_sub(1)) else {
            return false;
        };
        // No more than leave enough others: whoever reported to the winner of an election can attach to it at once, and
        // they have to be able to confirm its row without those that cannot (rule 4).
        let wanted = self.facts.synchronous.min((most / 2).max(1)).min(most);
        if next.k == wanted {
            return false;
        }
        if next.k > wanted {
            next.k -= 1;
            return true;
        }
        let streaming = seen
            .standbys
            .iter()
            .filter(|(name, standby)| standby.streaming && next.data.contains(*name))
            .count();
        if streaming <= next.k {
            return false;
        }
        next.k += 1;
        true
    }

    /// Rule 7: an operator's order, verified by the caller. The survivor alone is the cluster from now on, in an epoch
    /// that nobody else reaches; what only others had is lost.
    pub(super) fn recover(
        &mut self,
        now: u64,
        from: &NodeName,
        survivor: &NodeName,
        replaces: Stamp,
    ) -> Response {
        let config = &self.durable.config;
        let fit = *from == self.me
            && *survivor == self.me
            && config.formed()
            && config.stamp == replaces
            && self.durable.data == DataState::Complete
            && self.office.is_none()
            // A majority that is not lost has a primary, which would go on beside this node.
            && self.hears_primary(now).is_none();
        if !fit {
            return Response::Refused(Refusal::NotNow);
        }
        let highest = self.durable.promised().max(config.stamp.epoch);
        let epoch = Epoch(highest.0.saturating_add(RECOVERY_STRIDE));
        let next = Config {
            stamp: Stamp {
                epoch,
                version: config.stamp.version + 1,
            },
            voters: [(self.me.clone(), self.durable.incarnation)].into(),
            data: BTreeSet::from([self.me.clone()]),
            k: 0,
            alone: None,
            system_id: config.system_id,
            founder: config.founder.clone(),
        };
        self.log("recovered by order: this node alone is the cluster".to_owned());
        self.durably(|durable| durable.config = next);
        self.following = None;
        self.campaign = None;
        self.campaign_at = now;
        Response::Ok
    }
}

fn names<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> String {
    let names: Vec<&str> = names.into_iter().map(NodeName::as_str).collect();
    names.join(" ")
}
