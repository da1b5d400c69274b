//! Holding an epoch: from the grant to the open database, and out of office again.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::facts::Genesis;
use rolesmith_model::ids::NodeName;

use super::action::{Action, Failure, Lane, Outcome};
use super::config::{Config, Stamp, SyncSetting};
use super::core::{Asked, Core};
use super::durable::DataState;
use super::ids::{Epoch, EpochRow, Lsn, TimelineStart};
use super::message::{Beat, Refusal, Reply, Report, Request, Response};
use super::mutation::Mutation;
use super::observed::{Access, Observed, Process};

/// How many rows of the lineage a beat carries.
const ROWS: usize = 32;

/// An epoch held by this node.
#[derive(Debug, Clone)]
pub(super) struct Office {
    pub epoch: Epoch,
    /// PostgreSQL was seen as primary in this epoch.
    pub promoted: bool,
    /// Found at the start of the agent: the last change of the configuration may be known here alone.
    pub resumed: bool,
    /// Sessions of an earlier epoch have to end before standbys attach.
    pub must_close: bool,
    /// The row is committed synchronously.
    pub confirmed: bool,
    /// A voter promised a higher epoch: a new one has to be won (rule 8).
    pub contested: bool,
    /// When the newest beat was sent that a majority accepted.
    pub backed_at: u64,
    pub beat_at: u64,
    /// `attach` and `confirmed` of the last beat: a change is told at once.
    told: (bool, bool, Stamp),
    /// The setting in force, and whether a commit began after it was and returned.
    pub sync: SyncSetting,
    pub sync_proven: bool,
    sync_since: u64,
    pub committed_at: u64,
    /// The configuration before the present one, until that is kept by majorities of both.
    pub previous: Option<Config>,
    /// Since when each data member does not stream.
    pub gone: BTreeMap<NodeName, u64>,
    /// To whom it is handed over, since when.
    pub handover: Option<(NodeName, u64)>,
    /// Where the log began that was kept at the last beat.
    kept_from: Lsn,
    /// The lineage of the last beat.
    lineage: Vec<EpochRow>,
    /// The timelines of the last beat.
    history: Vec<TimelineStart>,
}

impl Core {
    fn office_at(&self, now: u64, epoch: Epoch) -> Office {
        Office {
            epoch,
            promoted: false,
            resumed: false,
            must_close: false,
            confirmed: false,
            contested: false,
            backed_at: now,
            beat_at: now,
            told: (false, false, Stamp::default()),
            sync: SyncSetting::default(),
            sync_proven: false,
            sync_since: now,
            committed_at: now,
            previous: None,
            gone: BTreeMap::new(),
            handover: None,
            kept_from: Lsn::default(),
            lineage: Vec::new(),
            history: Vec::new(),
        }
    }

    /// The epoch is won. The configuration is written anew in it, so that no earlier, half-made change of it can come
    /// into force any more (rule 6).
    pub(super) fn take_office(&mut self, now: u64, epoch: Epoch, own: Report, all: bool) {
        let mut office = self.office_at(now, epoch);
        office.must_close = !all && self.mutation != Mutation::ReaffirmOpen;
        self.log(format!(
            "epoch {epoch} is won at row {} and {}",
            own.row, own.end.lsn
        ));
        office.previous = Some(self.durable.config.clone());
        if self.mutation != Mutation::NoRestamp {
            self.durably(|durable| durable.config.stamp.epoch = epoch);
        }
        self.durably(|durable| durable.followed = Some(epoch));
        self.office = Some(office);
        self.following = None;
        self.incumbent_until = None;
        self.decide_office(now);
    }

    /// Looks at a running primary that the agent finds at its start.
    pub(super) fn resume(&mut self, now: u64, seen: &Observed) {
        let Some(row) = seen.row() else {
            return;
        };
        if row.node != self.me {
            return;
        }
        let mine = self
            .durable
            .promise
            .as_ref()
            .is_some_and(|promise| promise.holder == self.me && promise.epoch == row.epoch);
        if mine {
            let epoch = row.epoch;
            let mut office = self.office_at(now, epoch);
            office.promoted = true;
            office.resumed = true;
            office.previous = Some(self.durable.config.clone());
            self.office = Some(office);
            self.log(format!("epoch {epoch} goes on"));
        } else {
            self.incumbent_until = Some(now + self.timing.fence);
            self.campaign_at = now;
        }
    }

    /// Whether PostgreSQL may run as primary here, for now. It acknowledges nothing without standbys that follow.
    pub(super) fn may_be_primary(&self) -> bool {
        self.office.is_some() || self.incumbent_until.is_some()
    }

    pub(super) fn leave_office(&mut self, now: u64, why: &str) {
        if let Some(office) = self.office.take() {
            self.log(format!("epoch {} is left: {why}", office.epoch));
            self.forget_lane(Lane::Commit);
            self.suspect_later(now);
        }
    }

    /// A higher epoch was promised somewhere.
    pub(super) fn contest(&mut self, now: u64) {
        let spread = self.random(self.timing.spread);
        let at = now + self.timing.again + spread;
        if let Some(office) = &mut self.office
            && !office.contested
        {
            office.contested = true;
            self.campaign_at = at;
        }
    }

    pub(super) fn beat_answered(
        &mut self,
        now: u64,
        from: &NodeName,
        epoch: Epoch,
        stamp: Stamp,
        reply: &Reply,
    ) {
        let Some(office) = &self.office else {
            return;
        };
        if office.epoch != epoch {
            return;
        }
        match &reply.response {
            Response::Followed { sent, .. } => {
                let sent = (*sent).min(now);
                if let Some(peer) = self.peers.get_mut(from) {
                    let before = peer.accepted.filter(|(at, ..)| *at == epoch);
                    if before.is_none_or(|(_, _, at)| at <= sent) {
                        peer.accepted = Some((epoch, stamp, sent));
                    }
                }
            }
            Response::Refused(Refusal::StaleEpoch)
                if reply.promised > epoch && self.durable.config.votes(from, reply.incarnation) =>
            {
                self.contest(now);
            }
            _ => {}
        }
    }

    /// Voters of `config` that accepted a beat of the present epoch, with when it was sent and what it carried.
    fn backers<'a>(
        &'a self,
        config: &'a Config,
        epoch: Epoch,
    ) -> impl Iterator<Item = (Stamp, u64)> + 'a {
        config.voters.iter().filter_map(move |(name, incarnation)| {
            let peer = self.peers.get(name)?;
            let (at, stamp, sent) = peer.accepted?;
            (peer.incarnation == *incarnation && at == epoch).then_some((stamp, sent))
        })
    }

    /// When the newest beat was sent that a majority accepted.
    fn backed_at(&self, now: u64, office: &Office) -> u64 {
        let config = &self.durable.config;
        let mut times: Vec<u64> = self
            .backers(config, office.epoch)
            .map(|(_, sent)| sent)
            .collect();
        if self.is_voter() {
            times.push(now);
        }
        times.sort_unstable_by(|a, b| b.cmp(a));
        times
            .get(config.majority() - 1)
            .copied()
            .unwrap_or(office.backed_at)
            .max(office.backed_at)
    }

    /// Whether a majority of that configuration's voters keeps the present one.
    pub(super) fn installed_by(&self, config: &Config, epoch: Epoch) -> bool {
        let stamp = self.durable.config.stamp;
        let kept = self
            .backers(config, epoch)
            .filter(|(theirs, _)| *theirs == stamp)
            .count();
        let own = usize::from(config.votes(&self.me, self.durable.incarnation));
        kept + own >= config.majority()
    }

    pub(super) fn decide_office(&mut self, now: u64) {
        if self.incumbent_until.is_some_and(|until| until <= now) {
            self.incumbent_until = None;
        }
        let Some(office) = &self.office else {
            return;
        };
        let backed_at = self.backed_at(now, office);
        let fenced = now.saturating_sub(backed_at) > self.timing.fence
            && self.mutation != Mutation::NoFencing;
        if fenced {
            self.leave_office(now, "no majority answers");
            return;
        }
        if let Some(office) = &mut self.office {
            office.backed_at = backed_at;
        }
        self.watch_commits(now);
        self.watch_standbys(now);
        self.decide_handover(now);
        self.decide_membership(now);
        self.send_beats(now);
    }

    fn watch_commits(&mut self, now: u64) {
        let Some(office) = &self.office else {
            return;
        };
        let stuck = self.running(Lane::Commit).is_some_and(|running| {
            now.saturating_sub(running.since.max(office.sync_since)) > self.timing.stuck
        });
        let could = self.seen.as_ref().is_some_and(|seen| {
            let streaming = seen.sync.names.iter().filter(|name| {
                seen.standbys
                    .get(*name)
                    .is_some_and(|standby| standby.streaming)
            });
            streaming.count() >= seen.sync.k.max(1)
        });
        if stuck && could {
            self.leave_office(now, "commits hang although standbys stream");
            self.campaign_at = now + 3 * self.timing.suspect;
        }
    }

    fn watch_standbys(&mut self, now: u64) {
        let (Some(office), Some(seen)) = (&mut self.office, &self.seen) else {
            return;
        };
        if seen.is_primary() && seen.sync != office.sync {
            office.sync = seen.sync.clone();
            office.sync_proven = false;
            office.sync_since = now;
        }
        for name in &self.durable.config.data {
            let streams = seen.standbys.get(name).is_some_and(|seen| seen.streaming);
            if streams || *name == self.me {
                office.gone.remove(name);
            } else {
                office.gone.entry(name.clone()).or_insert(now);
            }
        }
    }

    /// The own row: who writes, on which timeline, from where.
    pub(super) fn own_row(&self) -> Option<EpochRow> {
        let (office, seen) = (self.office.as_ref()?, self.seen.as_ref()?);
        if !seen.is_primary() {
            return None;
        }
        let start = seen.history.last()?;
        Some(EpochRow {
            epoch: office.epoch,
            node: self.me.clone(),
            timeline: start.timeline,
            switch: start.begins,
        })
    }

    /// Whether standbys may attach: a running primary, and nothing of an earlier epoch waits for their answer.
    pub(super) fn attachable(&self) -> bool {
        let (Some(office), Some(seen)) = (&self.office, &self.seen) else {
            return self.office.as_ref().is_some_and(|office| office.told.0);
        };
        office.handover.is_none()
            && seen.is_primary()
            && (!office.must_close || seen.access == Access::Closed || office.confirmed)
    }

    fn send_beats(&mut self, now: u64) {
        let attach = self.attachable();
        let row = self.own_row();
        let stamp = self.durable.config.stamp;
        let Some(office) = &mut self.office else {
            return;
        };
        let told = (attach, office.confirmed, stamp);
        if now < office.beat_at && told == office.told {
            return;
        }
        // Unseen for a moment: what was told before still holds.
        if let Some(seen) = &self.seen {
            office.lineage.clone_from(&seen.rows);
            if let Some(row) = row.filter(|row| !seen.rows.contains(row)) {
                office.lineage.push(row);
            }
            let skip = office.lineage.len().saturating_sub(ROWS);
            office.lineage.drain(..skip);
            office.kept_from = seen.kept_from;
            let oldest = office.lineage.first().map(|row| row.timeline);
            let known = seen.history.iter();
            office.history = known
                .skip_while(|start| oldest.is_some_and(|oldest| start.timeline != oldest))
                .copied()
                .collect();
        }
        let lineage = office.lineage.clone();
        let history = office.history.clone();
        let kept_from = office.kept_from;
        office.told = told;
        office.beat_at = now + self.timing.beat;
        let epoch = office.epoch;
        let confirmed = office.confirmed;
        let beat = Beat {
            epoch,
            attach,
            confirmed,
            lineage,
            history,
            kept_from,
            sync: self.durable.config.sync_of(&self.me),
            sent: now,
        };
        for name in self.everybody() {
            self.send(
                &name,
                Request::Beat(beat.clone()),
                Asked::Beat { epoch, stamp },
            );
        }
    }

    /// The next action of a node in office on its database.
    pub(super) fn decide_primary(&mut self, now: u64) {
        let (Some(office), Some(seen)) = (&self.office, &self.seen) else {
            return;
        };
        let (epoch, confirmed, must_close) = (office.epoch, office.confirmed, office.must_close);
        if office.handover.is_some() {
            if seen.process != Process::Stopped {
                self.act(now, Action::Stop { immediate: false });
            }
            return;
        }
        if seen.in_recovery || seen.process != Process::Running {
            if seen.process != Process::Running {
                return;
            }
            let wanted = self.durable.config.sync_of(&self.me);
            if seen.sync != wanted {
                self.act(now, Action::SetSync { sync: wanted });
            } else if seen.access == Access::Open {
                self.act(now, Action::Close);
            } else if self.promotable(seen) {
                self.act(now, Action::Promote);
            }
            return;
        }
        let row = self.own_row();
        let visible = seen.rows.iter().any(|row| row.epoch == epoch);
        let (access, sync) = (seen.access, seen.sync.clone());
        let committed_at = office.committed_at;
        let closing = must_close && access == Access::Open && !confirmed;
        if let Some(office) = &mut self.office {
            office.promoted = true;
        }
        if closing {
            self.act(now, Action::Close);
            return;
        }
        if !confirmed && !visible {
            if let Some(row) = row {
                self.act(now, Action::CommitEpoch { row });
            }
        } else if !confirmed || now >= committed_at + self.timing.heartbeat {
            self.act(now, Action::Heartbeat);
        }
        if let Some(wanted) = self.wanted_sync()
            && wanted != sync
        {
            self.act(now, Action::SetSync { sync: wanted });
            return;
        }
        let early = self.mutation == Mutation::NoEpochRow;
        if (confirmed || early) && access == Access::Closed && self.may_open(&sync) {
            self.act(now, Action::Open);
        }
        self.reconcile(now);
    }

    /// Cut off still, and its whole log is replayed.
    fn promotable(&self, seen: &Observed) -> bool {
        seen.conninfo.is_none() && seen.receiver.is_none() && seen.end_of_wal.is_some()
    }

    /// Rule 4; and as long as genesis is open no application comes in before commits wait for a copy.
    fn may_open(&self, sync: &SyncSetting) -> bool {
        let config = &self.durable.config;
        let declared = self
            .facts
            .members
            .values()
            .filter(|member| member.data)
            .count();
        let enough = config.k >= 1 && config.alone.is_none()
            || self.facts.genesis == Genesis::Closed
            || declared <= 1
            || self.facts.synchronous == 0;
        enough && config.covers(&self.me, sync, true)
    }

    /// A synchronous commit of the Commit lane came back.
    pub(super) fn committed(&mut self, now: u64, since: u64, result: &Result<Outcome, Failure>) {
        let Some(office) = &mut self.office else {
            return;
        };
        if result.is_ok() {
            office.committed_at = now;
            // It may have begun before the setting changed; then it proves nothing about the new one.
            if since >= office.sync_since {
                office.sync_proven = true;
            }
            if !office.confirmed {
                office.confirmed = true;
                let epoch = office.epoch;
                self.log(format!("epoch {epoch} is confirmed"));
            }
        }
    }

    pub(super) fn switch_to(&mut self, now: u64, from: &NodeName, to: NodeName) -> Response {
        let streams = self.seen.as_ref().is_some_and(|seen| {
            seen.standbys
                .get(&to)
                .is_some_and(|standby| standby.streaming)
        });
        let known = self.durable.config.data.contains(&to) && to != self.me;
        let complete = self
            .peers
            .get(&to)
            .is_some_and(|peer| peer.data == DataState::Complete);
        match &mut self.office {
            Some(office)
                if *from == self.me
                    && office.confirmed
                    && office.handover.is_none()
                    && known
                    && complete
                    && streams =>
            {
                office.handover = Some((to, now));
                Response::Ok
            }
            _ => Response::Refused(Refusal::NotNow),
        }
    }

    /// The old primary of a planned switchover: once its server is down cleanly, every standby that streamed has its
    /// last record, and the chosen one is told to ask for the next epoch at once.
    fn decide_handover(&mut self, now: u64) {
        let Some(office) = &self.office else {
            return;
        };
        let Some((to, since)) = office.handover.clone() else {
            return;
        };
        let epoch = office.epoch;
        let seen_primary = self.runs_as_primary();
        let stopped = self
            .seen
            .as_ref()
            .is_some_and(|seen| seen.process == Process::Stopped);
        if stopped && !self.busy(Lane::Database) {
            self.leave_office(now, "it is handed over");
            self.campaign_at = now + self.timing.handover;
            self.send(&to, Request::HandOver { epoch, end: None }, Asked::Other);
        } else if now > since + self.timing.handover && !self.busy(Lane::Database) {
            // The server did not go down: it serves on, or is stopped without mercy where it is neither up nor down.
            match &mut self.office {
                Some(office) if seen_primary => office.handover = None,
                _ => self.leave_office(now, "the switchover failed half-way"),
            }
        }
    }

    /// repmgr's view follows the active configuration (rule 14).
    fn reconcile(&mut self, now: u64) {
        let Some(office) = self.office.as_ref().filter(|office| office.confirmed) else {
            return;
        };
        let epoch = office.epoch;
        let members: BTreeMap<_, _> = self
            .repmgr_members()
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.machine(&name)?)))
            .collect();
        if self.seen.as_ref().is_some_and(|seen| seen.slot_lost) {
            // Nobody can follow through it any more, and it is made anew there.
            self.reconciled = None;
        }
        let wanted = Some((epoch, members.clone()));
        let action = Action::Reconcile {
            members,
            primary: self.me.clone(),
        };
        if self.reconciled != wanted && self.act(now, action) {
            self.reconciled = wanted;
        }
    }

    fn repmgr_members(&self) -> BTreeSet<NodeName> {
        let learners = self
            .facts
            .members
            .iter()
            .filter(|(name, member)| {
                // A voter that has not answered since this agent started keeps its slot all the same.
                member.data
                    && (self.peers.contains_key(*name)
                        || self.durable.config.voters.contains_key(*name))
            })
            .map(|(name, _)| name.clone());
        let mut names: BTreeSet<_> = self.durable.config.data.iter().cloned().collect();
        names.extend(learners);
        names
    }

    fn machine(&self, name: &NodeName) -> Option<super::ids::Incarnation> {
        if *name == self.me {
            return Some(self.durable.incarnation);
        }
        self.peers
            .get(name)
            .map(|peer| peer.incarnation)
            .or_else(|| self.durable.config.voters.get(name).copied())
    }
}
