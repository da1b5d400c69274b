//! What a node does with its own PostgreSQL: always one action that brings it nearer to what it may be.

use super::action::{Action, Effect, Failure, Lane, Outcome};
use super::core::{Core, Following};
use super::durable::DataState;
use super::ids::{Epoch, EpochRow};
use super::lineage::{Local, Relation, relation};
use super::mutation::Mutation;
use super::observed::{Access, Data, Observed, Process};

/// How many times [`Timing::hopeless`] a copy may take to catch up before it is given up: a large database has much to replay.
///
/// [`Timing::hopeless`]: super::timing::Timing::hopeless
const COPY_AGAIN: u64 = 6;

impl Core {
    pub(super) fn decide_database(&mut self, now: u64) {
        if self.busy(Lane::Database) {
            self.abandon_copy(now);
            return;
        }
        let Some(seen) = self.seen.clone() else {
            return;
        };
        if !self.holds_data() && !self.durable.config.data.contains(&self.me) {
            if self.durable.config.formed() && seen.process != Process::Stopped {
                self.act(now, Action::Stop { immediate: false });
            }
            return;
        }
        if seen.is_primary() && !self.may_be_primary() {
            // Nobody voted for it, or its time is over. It could acknowledge nothing; now it serves no stale reads
            // either (rules 8, 10 and 14).
            self.act(now, Action::Stop { immediate: true });
            return;
        }
        if self.office.is_some() {
            if seen.process == Process::Stopped && self.complete_and_idle() {
                self.start(now, &seen);
            } else {
                self.decide_primary(now);
            }
            return;
        }
        if seen.is_primary() {
            return;
        }
        if self.must_sever(&seen) {
            self.act(now, Action::Sever);
            return;
        }
        if seen.process == Process::Running && seen.halted {
            // Started anew it has the settings that its primary has by now, and no order to halt. Cut off it would never tell the end
            // of its log, and an election could wait for it for ever (rule 3).
            self.act(now, Action::Stop { immediate: false });
            return;
        }
        match seen.process {
            Process::Stopped => self.start(now, &seen),
            Process::Starting => self.mend_copy(now, &seen),
            Process::Running => self.attach(now, &seen),
        }
    }

    fn complete_and_idle(&self) -> bool {
        self.office
            .as_ref()
            .is_some_and(|office| office.handover.is_none())
    }

    /// Rule 1: a server may be connected only to the holder of the epoch promised last, and only if that was decided
    /// under this very epoch.
    fn must_sever(&self, seen: &Observed) -> bool {
        let candidate = self.durable.promise.as_ref();
        let other = candidate.is_some_and(|promise| promise.holder != self.me);
        if seen.process == Process::Stopped || other && self.mutation == Mutation::NoSever {
            return false;
        }
        let Some(upstream) = &seen.conninfo else {
            // A receiver that lives on after its reload is not yet gone.
            return seen.receiver.is_some();
        };
        let promised = self.durable.promise.as_ref();
        let holder = promised.is_some_and(|promise| promise.holder == *upstream);
        let epoch = self.durable.followed == promised.map(|promise| promise.epoch);
        if holder && epoch {
            return false;
        }
        !(holder && self.target().is_some_and(|to| self.goes_on(to)))
    }

    /// Whom this node should follow now.
    fn target(&self) -> Option<&Following> {
        // Under the name of a machine that still counts, this one would confirm commits in that one's place (rule 5).
        if self.durable.config.data.contains(&self.me) && !self.is_voter() {
            return None;
        }
        self.following.as_ref().filter(|following| {
            (following.epoch == self.durable.promised()
                || self.mutation == Mutation::FollowLowerEpoch)
                && following.beat.attach
                && following.holder != self.me
        })
    }

    /// Whether the holder only re-affirmed: its log under the new epoch is the log that this node followed before.
    fn goes_on(&self, following: &Following) -> bool {
        let Some(followed) = self.durable.followed else {
            return false;
        };
        let lineage = &following.beat.lineage;
        let Some(at) = lineage.iter().position(|row| row.epoch == followed) else {
            return false;
        };
        let same =
            |row: &EpochRow| row.node == following.holder && row.timeline == lineage[at].timeline;
        lineage
            .last()
            .is_some_and(|row| row.epoch == following.epoch)
            && lineage[at..].iter().all(same)
    }

    /// The server is down: what starts it, or what has to come first.
    fn start(&mut self, now: u64, seen: &Observed) {
        let system = self.durable.config.system_id;
        let whole = matches!(seen.data, Data::Complete(id) if id == system);
        let discard = self.discard.take();
        match (self.durable.data.clone(), self.copyable(now)) {
            (DataState::Complete, Some((source, sure)))
                if whole && discard.is_some_and(|(epoch, _)| epoch == source.epoch) =>
            {
                let tail = discard.is_some_and(|(_, relation)| relation == Relation::Tail);
                let from = source.holder.clone();
                if !(tail && sure) {
                    self.copy(now, &source, sure);
                } else if self.act(now, Action::Rewind { from }) {
                    self.copying = source.epoch;
                    self.durably(|durable| durable.data = DataState::Rewinding(source.epoch));
                }
                if !self.busy(Lane::Database) {
                    self.discard = discard;
                }
            }
            (DataState::Complete, _) if whole => {
                // Without upstream: what it has is replayed and measured before it may attach to anybody.
                self.act(now, Action::Start { upstream: None });
            }
            // The copy needs the rest of the very log that it was made from.
            (DataState::Copied(epoch), _)
                if whole && discard.is_none() && self.continues(epoch).is_some() =>
            {
                if let Some(source) = self.continues(epoch) {
                    self.durably(|durable| durable.followed = Some(source.epoch));
                    let upstream = Some(source.holder);
                    self.act(now, Action::Start { upstream });
                }
            }
            (DataState::Founding, _) | (_, None) => {}
            (_, Some((source, sure))) => self.copy(now, &source, sure),
        }
    }

    /// The present holder, if a copy that was made in that epoch is one of its log.
    fn continues(&self, epoch: Epoch) -> Option<Following> {
        self.target()
            .filter(|target| target.epoch == epoch || self.goes_on(target))
            .cloned()
    }

    /// From whom a copy may be made, and whether what stands here may be given up for it. It may once the holder's row
    /// is safe on enough logs (rule 4). If that row waits for somebody who cannot attach, a copy is made all the same,
    /// but the old data counts until the copy has taken its place.
    fn copyable(&self, now: u64) -> Option<(Following, bool)> {
        if let Some(source) = self.source() {
            return Some((source.clone(), true));
        }
        let target = self.target()?;
        let patient = now > target.since + self.timing.replace;
        patient.then(|| (target.clone(), false))
    }

    /// A copy of whoever held an earlier epoch is of no use once a confirmed holder of a later one stands, and could take for ever
    /// where the former one only hangs.
    fn abandon_copy(&mut self, now: u64) {
        let Some(holder) = self.source().map(|source| source.holder.clone()) else {
            return;
        };
        let again = self.timing.retry;
        let Some(running) = self.lanes.get_mut(&Lane::Database) else {
            return;
        };
        let (Action::Clone { from } | Action::Rewind { from }) = &running.action else {
            return;
        };
        if *from != holder && running.abandoned.is_none_or(|at| now >= at + again) {
            running.abandoned = Some(now);
            self.effects.push(Effect::Abandon { id: running.id });
        }
    }

    fn copy(&mut self, now: u64, source: &Following, sure: bool) {
        let from = source.holder.clone();
        if self.act(now, Action::Clone { from }) {
            self.copying = source.epoch;
            let state = self.durable.data.copying(source.epoch, sure);
            if self.durable.data != state {
                self.durably(|durable| durable.data = state);
            }
        }
    }

    /// A copy that was cut off from its source before it was consistent has to be attached again, or made again.
    fn mend_copy(&mut self, now: u64, seen: &Observed) {
        if seen.conninfo.is_some() {
            self.copy_again(now);
            return;
        }
        if self.durable.data == DataState::Complete {
            self.revive(now);
            return;
        }
        let DataState::Copied(epoch) = self.durable.data else {
            return;
        };
        if let Some(source) = self.continues(epoch) {
            self.follow(now, &source);
        } else if self.copyable(now).is_some() {
            self.act(now, Action::Stop { immediate: true });
        }
    }

    /// A copy that is attached and takes no connection for very long asks for log that is gone: another copy is made.
    fn copy_again(&mut self, now: u64) {
        if matches!(self.durable.data, DataState::Copied(_))
            && self.starting_for(now) > COPY_AGAIN * self.timing.hopeless
            && let Some(source) = self.source().cloned()
            && self.act(now, Action::Stop { immediate: true })
        {
            self.discard = Some((source.epoch, Relation::Foreign));
        }
    }

    /// A server that was cut off or started while a transaction with many subtransactions was open takes no connection before it has
    /// more log. The holder whose log it followed last may give it that unmeasured: the own log is a beginning of that one.
    fn revive(&mut self, now: u64) {
        let waited = self.starting_for(now);
        let known = self
            .durable
            .followed
            .and_then(|epoch| self.continues(epoch));
        if let Some(holder) = known {
            if waited > self.timing.revive {
                self.follow(now, &holder);
            }
        } else if waited > self.timing.hopeless
            && let Some(source) = self.source().cloned()
            && self.act(now, Action::Stop { immediate: true })
        {
            self.discard = Some((source.epoch, Relation::Foreign));
        }
    }

    /// The server runs as standby: to whom does it attach?
    fn attach(&mut self, now: u64, seen: &Observed) {
        let Some(target) = self.target().cloned() else {
            self.prepare(now, seen);
            return;
        };
        if seen.conninfo.as_ref() == Some(&target.holder) {
            // Not severed, so it may stay; from now on under the new epoch.
            if self.durable.followed != Some(target.epoch) {
                self.durably(|durable| durable.followed = Some(target.epoch));
            }
            if outrun(seen, &target) && self.give_up_data(now, &target, Relation::Foreign) {
                return;
            }
            if seen.nameless {
                self.follow(now, &target);
            } else {
                self.prepare(now, seen);
            }
            return;
        }
        let copyable = self.copyable(now);
        match self.durable.data.clone() {
            DataState::Complete => {}
            DataState::Copied(epoch) if self.continues(epoch).is_some() => {
                self.follow(now, &target);
                return;
            }
            // What it runs is nothing that counts: it is replaced once the primary may be copied.
            _ => {
                if copyable.is_some() {
                    self.act(now, Action::Stop { immediate: true });
                }
                return;
            }
        }
        let end = match self.mutation {
            Mutation::NoSever => seen.end_of_wal.or(seen.position),
            _ => seen.end_of_wal,
        };
        let Some(end) = end else {
            return;
        };
        let local = Local {
            rows: &seen.rows,
            end,
            history: &seen.history,
            followed: self.durable.followed,
        };
        let related = match self.mutation {
            Mutation::NoLineage => Relation::Prefix,
            _ => relation(&local, &target.beat.lineage, &target.beat.history),
        };
        match related {
            Relation::Prefix if !outrun(seen, &target) => self.follow(now, &target),
            _ if copyable.is_none() => self.prepare(now, seen),
            // The own log goes on in an epoch that the holder does not know of, and may hold what was acknowledged in it:
            // it is not given up for an earlier one.
            _ if seen.row().is_some_and(|row| row.epoch > target.epoch) => {
                self.prepare(now, seen);
            }
            // Not a tail to be rewound: what it lacks is gone.
            Relation::Prefix => {
                self.give_up_data(now, &target, Relation::Foreign);
            }
            _ => {
                self.give_up_data(now, &target, related);
            }
        }
    }

    /// Stops the server so that its data can be rewound, or replaced by a copy, where that may be done. Says whether.
    fn give_up_data(&mut self, now: u64, target: &Following, relation: Relation) -> bool {
        if self.copyable(now).is_none() || self.durable.data != DataState::Complete {
            return false;
        }
        let immediate = relation == Relation::Foreign;
        if self.act(now, Action::Stop { immediate }) {
            self.discard = Some((target.epoch, relation));
        }
        true
    }

    fn follow(&mut self, now: u64, target: &Following) {
        let node = target.holder.clone();
        if self.act(now, Action::Follow { node }) {
            self.durably(|durable| durable.followed = Some(target.epoch));
        }
    }

    /// What can be set right before it is needed: the names of rule 9, and no application on a standby that was primary.
    fn prepare(&mut self, now: u64, seen: &Observed) {
        let wanted = self.durable.config.sync_of(&self.me);
        if self.durable.config.data.contains(&self.me) && seen.sync != wanted {
            self.act(now, Action::SetSync { sync: wanted });
        } else if seen.access == Access::Open {
            self.act(now, Action::Close);
        }
    }

    /// A copy came to its end.
    pub(super) fn copied(&mut self, action: &Action, result: &Result<Outcome, Failure>) {
        let state = match (action, result) {
            (Action::Rewind { .. }, Ok(_)) | (Action::Clone { .. }, Ok(_)) => {
                DataState::Copied(self.copying)
            }
            // A rewind that did not come to its end leaves nothing that can be trusted; the state says so already.
            _ => return,
        };
        let epoch = self.copying;
        self.durably(|durable| {
            if state == DataState::Copied(epoch) {
                durable.followed = Some(epoch);
            }
            durable.data = state;
        });
    }
}

/// Whether that holder no longer keeps the log that would have to come after this node's: it can be followed no more.
fn outrun(seen: &Observed, target: &Following) -> bool {
    let streams = seen
        .receiver
        .as_ref()
        .is_some_and(|receiver| receiver.streaming);
    !streams
        && seen
            .position
            .is_some_and(|position| position.lsn < target.beat.kept_from)
}
