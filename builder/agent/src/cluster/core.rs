//! The state machine itself: its state, its entry points and what all its parts use.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::ids::NodeName;

use super::action::{Action, ActionId, Effect, Failure, Lane, Outcome, Step};
use super::candidate::Campaign;
use super::config::{ClusterFacts, Config, Stamp};
use super::durable::{Ballot, DataState, Durable, Promise};
use super::genesis::Quest;
use super::ids::{Epoch, EpochRow, Incarnation};
use super::lineage::Relation;
use super::message::{Beat, Envelope, Reply, Request, RequestId, Response, Unreachable};
use super::mutation::Mutation;
use super::observed::{Data, Observed, Process};
use super::primary::Office;
use super::timing::Timing;

/// What a node knows of a peer from its last answers.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub incarnation: Incarnation,
    /// Since when only this machine answered.
    pub since: u64,
    pub heard: u64,
    pub promised: Epoch,
    pub data: DataState,
    pub streaming: bool,
    /// The newest accepted beat: its epoch, the configuration it carried, when it was sent.
    pub accepted: Option<(Epoch, Stamp, u64)>,
}

/// The holder whom this node follows.
#[derive(Debug, Clone)]
pub(super) struct Following {
    pub epoch: Epoch,
    pub holder: NodeName,
    /// When it was heard first.
    pub since: u64,
    pub heard: u64,
    pub beat: Beat,
}

/// What a request was about, to understand its answer.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Beat { epoch: Epoch, stamp: Stamp },
    PreVote { epoch: Epoch },
    Grant { epoch: Epoch },
    Genesis { ballot: Ballot },
    Other,
}

/// An action that was begun and not yet reported.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub id: ActionId,
    pub action: Action,
    pub since: u64,
    /// When it was last asked to end for nothing.
    pub abandoned: Option<u64>,
}

/// One node's part of the cluster. See the module's documentation for how it is driven.
#[derive(Debug, Clone)]
pub struct Core {
    pub(super) me: NodeName,
    pub(super) facts: ClusterFacts,
    pub(super) timing: Timing,
    pub(super) durable: Durable,
    pub(super) mutation: Mutation,
    dirty: bool,
    pub(super) effects: Vec<Effect>,
    random: u64,
    next_id: u64,
    requests: BTreeMap<RequestId, (NodeName, Asked)>,
    pub(super) lanes: BTreeMap<Lane, Running>,
    retry_at: BTreeMap<Lane, u64>,
    /// The database; None while it is not known, or no longer, since an action changed it.
    pub(super) seen: Option<Observed>,
    pub(super) peers: BTreeMap<NodeName, Peer>,
    pub(super) following: Option<Following>,
    pub(super) campaign: Option<Campaign>,
    /// When this node may next ask for an epoch.
    pub(super) campaign_at: u64,
    /// A campaign need not wait for pre-votes: the holder of this epoch asked for it.
    pub(super) nudged: Option<Epoch>,
    pub(super) office: Option<Office>,
    /// A running primary without an epoch may go on until then, to win a new one (rule 8).
    pub(super) incumbent_until: Option<u64>,
    /// The server was told to stop so that its data can be rewound, or copied anew, from the holder of that epoch.
    pub(super) discard: Option<(Epoch, Relation)>,
    /// Since when the server runs and takes no connection.
    pub(super) starting: Option<u64>,
    /// From which epoch's holder the copy comes that is being made.
    pub(super) copying: Epoch,
    /// The first observation of this run is still to come.
    pub(super) newborn: bool,
    pub(super) quest: Quest,
    pub(super) pooler: Option<EpochRow>,
    pub(super) reconciled: Option<(Epoch, BTreeMap<NodeName, Incarnation>)>,
    pub(super) failures: BTreeMap<Lane, String>,
}

impl Core {
    /// A core for the node `me`. `durable` is what [`Step::persist`] last said, or [`Durable::fresh`]; `seed` is any
    /// random number. It asks nothing before its first [`Self::tick`].
    #[must_use]
    pub fn new(
        me: NodeName,
        facts: ClusterFacts,
        timing: Timing,
        durable: Durable,
        now: u64,
        seed: u64,
    ) -> Self {
        let mut core = Self {
            me,
            facts,
            timing,
            durable,
            mutation: Mutation::None,
            dirty: false,
            effects: Vec::new(),
            random: seed,
            next_id: 0,
            requests: BTreeMap::new(),
            lanes: BTreeMap::new(),
            retry_at: BTreeMap::new(),
            seen: None,
            peers: BTreeMap::new(),
            following: None,
            campaign: None,
            campaign_at: 0,
            nudged: None,
            office: None,
            incumbent_until: None,
            discard: None,
            starting: None,
            copying: Epoch::default(),
            newborn: true,
            quest: Quest::default(),
            pooler: None,
            reconciled: None,
            failures: BTreeMap::new(),
        };
        core.durable.facts = core.durable.facts.max(core.facts.version);
        core.suspect_later(now);
        core.quest.at = now + core.timing.genesis * core.founder_rank();
        core
    }

    /// The same with a fault built in. Only tests of the simulator use it.
    #[doc(hidden)]
    #[must_use]
    pub fn sabotaged(mut self, mutation: Mutation) -> Self {
        self.mutation = mutation;
        self
    }

    /// What this node has to remember.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// A request arrived from the authenticated peer `from`. The step holds exactly one [`Effect::Reply`].
    pub fn request(&mut self, now: u64, from: &NodeName, envelope: Envelope) -> Step {
        let theirs = envelope.config.stamp;
        self.adopt(now, &envelope.config);
        let response = self.answer(now, from, envelope, theirs);
        let newer = self.durable.config.stamp > theirs;
        let config = (newer && self.mutation != Mutation::StaleConfiguration)
            .then(|| self.durable.config.clone());
        self.effects.push(Effect::Reply(Box::new(Reply {
            incarnation: self.durable.incarnation,
            facts: self.facts.version,
            config,
            promised: self.durable.promised(),
            response,
        })));
        self.decide(now);
        self.step()
    }

    /// The answer to a request of [`Effect::Send`], or that there is none.
    pub fn response(
        &mut self,
        now: u64,
        id: RequestId,
        answer: Result<Reply, Unreachable>,
    ) -> Step {
        let Some((from, asked)) = self.requests.remove(&id) else {
            return Step::default();
        };
        match answer {
            Ok(reply) => {
                self.note_peer(now, &from, &reply);
                if let Some(config) = &reply.config {
                    self.adopt(now, config);
                }
                self.answered(now, &from, asked, reply);
            }
            Err(Unreachable) => {
                if let Some(campaign) = &mut self.campaign {
                    campaign.asked.remove(&from);
                }
            }
        }
        self.decide(now);
        self.step()
    }

    /// The database was looked at. The look has to have begun after the last [`Self::done`] of an action of the lane
    /// [`Lane::Database`] was handed over, and be handed over at once.
    pub fn observed(&mut self, now: u64, observed: Observed) -> Step {
        self.starting = match observed.process {
            Process::Starting => self.starting.or(Some(now)),
            _ => None,
        };
        self.notice(now, &observed);
        self.seen = Some(observed);
        self.decide(now);
        self.step()
    }

    /// An action came to its end.
    pub fn done(&mut self, now: u64, id: ActionId, result: Result<Outcome, Failure>) -> Step {
        let found = self
            .lanes
            .iter()
            .find_map(|(lane, running)| (running.id == id).then_some(*lane));
        let Some(lane) = found else {
            return Step::default();
        };
        if let Some(running) = self.lanes.remove(&lane) {
            if lane == Lane::Database {
                self.seen = None;
            }
            match &result {
                Ok(_) => {
                    self.failures.remove(&lane);
                }
                Err(failure) => {
                    self.retry_at.insert(lane, now + self.timing.retry);
                    let told = format!("{:?}: {failure}", running.action);
                    // Tried again and again, it is news once.
                    if self.failures.get(&lane) != Some(&told) {
                        self.log(format!("failed: {told}"));
                    }
                    self.failures.insert(lane, told);
                }
            }
            self.finished(now, running, result);
        }
        self.decide(now);
        self.step()
    }

    /// Newer facts are in force on this node. Older ones are ignored.
    pub fn facts(&mut self, now: u64, facts: ClusterFacts) -> Step {
        if facts.version > self.facts.version {
            self.durable.facts = self.durable.facts.max(facts.version);
            self.dirty = true;
            self.facts = facts;
        }
        self.decide(now);
        self.step()
    }

    /// Time passed. To be called when [`Self::wake`] says, or oftener.
    pub fn tick(&mut self, now: u64) -> Step {
        self.decide(now);
        self.step()
    }

    /// When [`Self::tick`] is due if nothing happens before.
    #[must_use]
    pub fn wake(&self, now: u64) -> u64 {
        let mut at = now + self.timing.heartbeat;
        if let Some(office) = &self.office {
            at = at.min(office.beat_at);
        }
        if self.campaign.is_some() {
            at = at.min(now + self.timing.again);
        } else if self.campaign_at > now {
            at = at.min(self.campaign_at);
        } else {
            at = at.min(now + self.timing.beat);
        }
        for &retry in self.retry_at.values() {
            if retry > now {
                at = at.min(retry);
            }
        }
        if !self.durable.config.formed() {
            at = at.min(self.quest.at.max(now + self.timing.again));
        }
        at.max(now + 1)
    }

    /// Everything that follows from what is known now.
    fn decide(&mut self, now: u64) {
        self.decide_genesis(now);
        self.decide_office(now);
        self.decide_campaign(now);
        self.decide_database(now);
        self.decide_pooler(now);
    }

    fn step(&mut self) -> Step {
        let persist = std::mem::take(&mut self.dirty).then(|| Box::new(self.durable.clone()));
        Step {
            persist,
            effects: std::mem::take(&mut self.effects),
        }
    }

    // ---- what the parts use ----

    /// Changes what is durable; it will be stored before any effect of this step.
    pub(super) fn durably(&mut self, change: impl FnOnce(&mut Durable)) {
        change(&mut self.durable);
        self.dirty = true;
    }

    pub(super) fn log(&mut self, line: impl Into<String>) {
        self.effects.push(Effect::Log(line.into()));
    }

    /// A number below `limit`, reproducible from the seed (splitmix64).
    pub(super) fn random(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn send(&mut self, to: &NodeName, request: Request, asked: Asked) {
        self.next_id += 1;
        let id = self.next_id;
        self.requests.insert(id, (to.clone(), asked));
        self.effects.push(Effect::Send {
            to: to.clone(),
            id,
            envelope: Box::new(Envelope {
                incarnation: self.durable.incarnation,
                facts: self.facts.version,
                config: self.durable.config.clone(),
                request,
            }),
            timeout: self.timing.answer,
        });
    }

    /// Begins an action unless its lane is busy or waits after a failure. Says whether it was begun.
    pub(super) fn act(&mut self, now: u64, action: Action) -> bool {
        let lane = action.lane();
        if self.busy(lane) || self.retry_at.get(&lane).is_some_and(|&at| at > now) {
            return false;
        }
        self.next_id += 1;
        let id = self.next_id;
        self.lanes.insert(
            lane,
            Running {
                id,
                action: action.clone(),
                since: now,
                abandoned: None,
            },
        );
        self.effects.push(Effect::Act { id, action });
        true
    }

    pub(super) fn busy(&self, lane: Lane) -> bool {
        self.lanes.contains_key(&lane)
    }

    pub(super) fn running(&self, lane: Lane) -> Option<&Running> {
        self.lanes.get(&lane)
    }

    /// What is still running in that lane no longer matters.
    pub(super) fn forget_lane(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
        self.retry_at.remove(&lane);
    }

    /// Everybody this node talks to: declared members and voters, also those of a configuration that is being left,
    /// without itself.
    pub(super) fn everybody(&self) -> BTreeSet<NodeName> {
        let leaving = self
            .office
            .as_ref()
            .and_then(|office| office.previous.as_ref());
        self.facts
            .members
            .keys()
            .chain(self.durable.config.voters.keys())
            .chain(leaving.iter().flat_map(|config| config.voters.keys()))
            .filter(|name| **name != self.me)
            .cloned()
            .collect()
    }

    /// Whether this machine votes.
    pub(super) fn is_voter(&self) -> bool {
        self.durable
            .config
            .votes(&self.me, self.durable.incarnation)
    }

    /// Whether facts want data on this node.
    pub(super) fn holds_data(&self) -> bool {
        self.facts
            .members
            .get(&self.me)
            .is_some_and(|member| member.data)
    }

    /// Whether the own data directory is whole, of the right cluster, and counts.
    pub(super) fn complete(&self) -> bool {
        let right = self.seen.as_ref().is_some_and(
            |seen| matches!(seen.data, Data::Complete(id) if id == self.durable.config.system_id),
        );
        right && self.durable.data == DataState::Complete
    }

    /// A candidate that can win.
    pub(super) fn electable(&self) -> bool {
        self.is_voter() && self.durable.config.data.contains(&self.me) && self.complete()
    }

    pub(super) fn runs_as_primary(&self) -> bool {
        self.seen.as_ref().is_some_and(Observed::is_primary)
    }

    /// Promises an epoch; whatever this node held or wished for below it ends.
    pub(super) fn promise(&mut self, now: u64, epoch: Epoch, holder: &NodeName) {
        let promise = Promise {
            epoch,
            holder: holder.clone(),
        };
        if self.durable.promise.as_ref() == Some(&promise) {
            return;
        }
        if *holder != self.me {
            self.leave_office(now, "another epoch was granted");
            self.incumbent_until = None;
            if self
                .campaign
                .as_ref()
                .is_some_and(|campaign| campaign.epoch <= epoch)
            {
                self.campaign = None;
            }
        }
        self.durably(|durable| durable.promise = Some(promise));
    }

    /// Takes a newer configuration (rule 6).
    pub(super) fn adopt(&mut self, now: u64, config: &Config) {
        if config.stamp <= self.durable.config.stamp {
            return;
        }
        let ours = self.durable.config.system_id;
        let foreign = self.durable.config.formed() && ours != config.system_id
            || self
                .facts
                .system_id
                .is_some_and(|id| id != config.system_id);
        if foreign {
            self.log(format!(
                "a configuration of another database ({}) is refused; this one is {ours}",
                config.system_id
            ));
            return;
        }
        self.durably(|durable| durable.config = config.clone());
        if self.campaign.take().is_some() {
            self.campaign_at = now + self.timing.again;
        }
        if let Some(office) = &self.office
            && config.stamp.epoch > office.epoch
        {
            self.contest(now);
        }
    }

    fn note_peer(&mut self, now: u64, from: &NodeName, reply: &Reply) {
        let before = self.peers.remove(from);
        let same = before
            .as_ref()
            .is_some_and(|peer| peer.incarnation == reply.incarnation);
        let mut peer = match before {
            Some(peer) if same => peer,
            _ => Peer {
                incarnation: reply.incarnation,
                since: now,
                heard: now,
                promised: Epoch::default(),
                data: DataState::Empty,
                streaming: false,
                accepted: None,
            },
        };
        peer.heard = now;
        peer.promised = reply.promised;
        if let Response::Followed {
            data, streaming, ..
        } = &reply.response
        {
            peer.data = data.clone();
            peer.streaming = *streaming;
        }
        self.peers.insert(from.clone(), peer);
    }

    fn answered(&mut self, now: u64, from: &NodeName, asked: Asked, reply: Reply) {
        match asked {
            Asked::Beat { epoch, stamp } => self.beat_answered(now, from, epoch, stamp, &reply),
            Asked::PreVote { epoch } => self.pre_vote_answered(now, from, epoch, &reply),
            Asked::Grant { epoch } => self.grant_answered(now, from, epoch, &reply),
            Asked::Genesis { ballot } => self.genesis_answered(now, from, &ballot, reply),
            Asked::Other => {}
        }
    }

    fn finished(&mut self, now: u64, running: Running, result: Result<Outcome, Failure>) {
        match running.action {
            Action::CreateCluster => self.created(now, &result),
            Action::CommitEpoch { .. } | Action::Heartbeat => {
                self.committed(now, running.since, &result);
            }
            Action::Clone { .. } | Action::Rewind { .. } => self.copied(&running.action, &result),
            Action::Pooler { primary } if result.is_err() && self.pooler == primary => {
                self.pooler = None;
            }
            Action::Reconcile { .. } if result.is_err() => self.reconciled = None,
            _ => {}
        }
    }

    /// For how long the server runs and takes no connection.
    pub(super) fn starting_for(&self, now: u64) -> u64 {
        self.starting.map_or(0, |since| now.saturating_sub(since))
    }

    /// What an observation tells beyond itself.
    fn notice(&mut self, now: u64, seen: &Observed) {
        if std::mem::take(&mut self.newborn) && seen.is_primary() {
            self.resume(now, seen);
        }
        let served = self
            .office
            .as_ref()
            .is_some_and(|office| office.promoted && office.handover.is_none());
        // Alive without an answer is not dead: beats, and commits that hang, judge that.
        let ended = match seen.process {
            Process::Stopped => true,
            Process::Running => seen.in_recovery,
            Process::Starting => self.starting_for(now) > self.timing.fence,
        };
        if served && ended {
            // The postmaster died, or somebody stopped it. Its own agent is the first to know.
            self.leave_office(now, "PostgreSQL is no longer primary");
            if self.nudged.is_none() {
                self.campaign_at = now;
            }
        }
        let copied = match self.durable.data {
            DataState::Copied(epoch) => seen
                .row()
                .is_some_and(|row| row.epoch >= epoch && seen.process == Process::Running),
            _ => false,
        };
        if copied && !self.busy(Lane::Database) {
            self.durably(|durable| durable.data = DataState::Complete);
        }
    }
}
