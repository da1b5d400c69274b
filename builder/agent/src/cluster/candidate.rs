//! Asking for an epoch: pre-vote, grants, and who yields to whom.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::ids::NodeName;

use super::config::Stamp;
use super::core::{Asked, Core};
use super::ids::Epoch;
use super::message::{Bid, Granted, Refusal, Reply, Request, Response};
use super::mutation::Mutation;
use super::voter::Measure;

/// How far a campaign is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing durable was asked for yet.
    PreVote {
        /// Who would grant it.
        favours: BTreeSet<NodeName>,
    },
    /// The own promise is made.
    Grants {
        /// Who granted it, with what each says of its log.
        granted: BTreeMap<NodeName, Granted>,
    },
}

/// A wish for an epoch.
#[derive(Debug, Clone)]
pub(super) struct Campaign {
    pub epoch: Epoch,
    pub phase: Phase,
    pub since: u64,
    /// The configuration under which it is run.
    pub stamp: Stamp,
    pub handed_over: Option<Epoch>,
    /// Voters that were asked for a grant, and when they may be asked again (None: an answer is awaited).
    pub asked: BTreeMap<NodeName, Option<u64>>,
    /// Since when it is known that a voter has promised this epoch to another candidate.
    pub contested: Option<u64>,
}

impl Campaign {
    pub(super) fn before_grants(&self) -> bool {
        matches!(self.phase, Phase::PreVote { .. })
    }
}

impl Core {
    pub(super) fn decide_campaign(&mut self, now: u64) {
        if self.campaign.is_none() {
            self.maybe_stand(now);
        }
        self.pursue(now);
    }

    fn maybe_stand(&mut self, now: u64) {
        if now < self.campaign_at || !self.electable() {
            return;
        }
        let contested = self.office.as_ref().is_some_and(|office| office.contested);
        if self.office.is_some() && (!contested || self.mutation == Mutation::NoReaffirm) {
            return;
        }
        let nudged = self.nudged.take();
        if nudged.is_none() && self.office.is_none() && self.hears_primary(now).is_some() {
            // Heard again since: no reason is left.
            let incumbent = self.runs_as_primary() && self.may_be_primary();
            let own = self
                .following
                .as_ref()
                .is_some_and(|following| following.holder == self.me);
            if !incumbent && !own && self.mutation != Mutation::NoPreVote {
                self.suspect_later(now);
                return;
            }
        }
        let highest = self
            .peers
            .values()
            .map(|peer| peer.promised)
            .max()
            .unwrap_or_default()
            .max(self.durable.promised())
            .max(self.durable.config.stamp.epoch);
        if highest.next() == highest {
            // After the last number no epoch has one holder.
            return;
        }
        self.campaign = Some(Campaign {
            epoch: highest.next(),
            phase: Phase::PreVote {
                favours: BTreeSet::from([self.me.clone()]),
            },
            since: now,
            stamp: self.durable.config.stamp,
            handed_over: nudged,
            asked: BTreeMap::new(),
            contested: None,
        });
        if nudged.is_some() || self.mutation == Mutation::NoPreVote {
            self.ask_for_grants(now);
            return;
        }
        let bid = self.bid();
        let epoch = highest.next();
        for voter in self.other_voters() {
            self.send(
                &voter,
                Request::PreVote(bid.clone()),
                Asked::PreVote { epoch },
            );
        }
    }

    fn other_voters(&self) -> Vec<NodeName> {
        self.durable
            .config
            .voters
            .keys()
            .filter(|name| **name != self.me)
            .cloned()
            .collect()
    }

    fn bid(&self) -> Bid {
        let (row, lsn) = self.known_newness();
        let campaign = self.campaign.as_ref();
        Bid {
            epoch: campaign.map_or(Epoch::default(), |campaign| campaign.epoch),
            row,
            lsn,
            handed_over: campaign.and_then(|campaign| campaign.handed_over),
        }
    }

    /// The point of no return: the own promise, durable before anybody is asked for one.
    fn ask_for_grants(&mut self, now: u64) {
        let Some(campaign) = &mut self.campaign else {
            return;
        };
        campaign.phase = Phase::Grants {
            granted: BTreeMap::new(),
        };
        campaign.since = now;
        let epoch = campaign.epoch;
        let me = self.me.clone();
        // A running primary keeps its server up while it asks for a new epoch: its own agent would be the only one to
        // let it serve on (rule 8). What attaches to it afterwards attaches under the new epoch.
        if let Some(office) = self.office.take() {
            self.incumbent_until = Some(office.backed_at + self.timing.fence);
            self.forget_lane(super::action::Lane::Commit);
        }
        self.promise(now, epoch, &me);
        self.log(format!("asking for epoch {epoch}"));
    }

    pub(super) fn pre_vote_answered(
        &mut self,
        now: u64,
        from: &NodeName,
        epoch: Epoch,
        reply: &Reply,
    ) {
        let votes = self.durable.config.votes(from, reply.incarnation);
        let config = &self.durable.config;
        let Some(campaign) = &mut self.campaign else {
            return;
        };
        let Phase::PreVote { favours } = &mut campaign.phase else {
            return;
        };
        if campaign.epoch != epoch {
            return;
        }
        match &reply.response {
            Response::Favour if votes => {
                favours.insert(from.clone());
                if config.count(&*favours) >= config.majority() && config.reads(&*favours) {
                    self.ask_for_grants(now);
                }
            }
            Response::Refused(Refusal::StaleEpoch) if reply.promised >= epoch => {
                self.give_up(now, self.timing.again);
            }
            Response::Refused(Refusal::Newer { .. }) => {
                self.give_up(now, self.timing.spread);
            }
            _ => {}
        }
    }

    /// Ends a campaign; the next one begins after `pause` and a random time.
    fn give_up(&mut self, now: u64, pause: u64) {
        self.campaign = None;
        let spread = self.random(self.timing.spread);
        self.campaign_at = now + pause + spread;
    }

    pub(super) fn grant_answered(
        &mut self,
        now: u64,
        from: &NodeName,
        epoch: Epoch,
        reply: &Reply,
    ) {
        let votes = self.durable.config.votes(from, reply.incarnation);
        let again = now + self.timing.again;
        let Some(campaign) = &mut self.campaign else {
            return;
        };
        if campaign.epoch != epoch {
            return;
        }
        campaign.asked.insert(from.clone(), Some(again));
        match &reply.response {
            Response::Granted(grant) if votes && grant.epoch == epoch => {
                if let Phase::Grants { granted } = &mut campaign.phase {
                    granted.insert(from.clone(), grant.clone());
                }
            }
            Response::Refused(Refusal::StaleEpoch) if reply.promised > epoch => {
                self.give_up(now, self.timing.again);
            }
            Response::Refused(Refusal::StaleEpoch) if reply.promised == epoch => {
                campaign.contested.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// When a campaign is given up. Two that ask for one epoch may each hold what the other one lacks: the one that is to yield
    /// to nobody then asks for the next epoch first.
    fn ends_at(&self, campaign: &Campaign) -> u64 {
        let patience = match campaign.phase {
            Phase::PreVote { .. } => self.timing.answer,
            Phase::Grants { .. } => self.timing.election,
        };
        let end = campaign.since + patience;
        campaign.contested.map_or(end, |at| {
            end.min(at + self.timing.split + self.rank() * self.timing.rank)
        })
    }

    fn pursue(&mut self, now: u64) {
        let Some(campaign) = &self.campaign else {
            return;
        };
        let over = now > self.ends_at(campaign);
        if over && let Phase::Grants { granted } = &campaign.phase {
            let waited = self.durable.config.voters.keys();
            let silent: Vec<&str> = waited
                .filter(|name| **name != self.me && !granted.contains_key(*name))
                .map(NodeName::as_str)
                .collect();
            let own = match self.measure() {
                Measure::Cut(Some(_)) => "",
                _ => "; the end of the own log is not known",
            };
            self.log(format!(
                "epoch {} was not won in time; no grant of {}{own}",
                campaign.epoch,
                silent.join(" ")
            ));
        }
        let Some(campaign) = &self.campaign else {
            return;
        };
        if over
            || campaign.stamp != self.durable.config.stamp
            || !campaign.before_grants() && campaign.epoch != self.durable.promised()
        {
            self.give_up(now, self.timing.again);
            return;
        }
        let config = &self.durable.config;
        if campaign.before_grants() {
            // A lone voter needs nobody's favour.
            if config.majority() == 1 || self.mutation == Mutation::Minority {
                self.ask_for_grants(now);
                self.pursue(now);
            }
            return;
        }
        self.ask_again(now);
        self.count_grants(now);
    }

    fn ask_again(&mut self, now: u64) {
        let bid = self.bid();
        for voter in self.other_voters() {
            let Some(campaign) = &mut self.campaign else {
                return;
            };
            let Phase::Grants { granted } = &campaign.phase else {
                return;
            };
            let due = match campaign.asked.get(&voter) {
                None => true,
                Some(Some(at)) => *at <= now && !granted.contains_key(&voter),
                Some(None) => false,
            };
            if due {
                campaign.asked.insert(voter.clone(), None);
                let epoch = campaign.epoch;
                self.send(&voter, Request::Grant(bid.clone()), Asked::Grant { epoch });
            }
        }
    }

    fn count_grants(&mut self, now: u64) {
        let Measure::Cut(Some(own)) = self.measure() else {
            return;
        };
        let Some(campaign) = &self.campaign else {
            return;
        };
        let Phase::Grants { granted } = &campaign.phase else {
            return;
        };
        let epoch = campaign.epoch;
        let config = &self.durable.config;
        let newer = granted
            .iter()
            .filter_map(|(name, grant)| Some((name, grant.report.as_ref()?)))
            .filter(|(name, _)| config.data.contains(*name))
            .max_by_key(|(_, report)| report.newness())
            .filter(|(_, report)| report.newness() > own.newness())
            .map(|(name, _)| name.clone());
        if let Some(newer) = newer {
            self.log(format!("{newer} has newer data: it should be primary"));
            let request = Request::HandOver { epoch, end: None };
            self.send(&newer, request, Asked::Other);
            self.give_up(now, self.timing.suspect);
            return;
        }
        let everyone: Vec<&NodeName> = granted.keys().chain([&self.me]).collect();
        let reporters: Vec<&NodeName> = granted
            .iter()
            .filter(|(_, grant)| {
                grant.report.is_some() || self.mutation == Mutation::WitnessCountsForWal
            })
            .map(|(name, _)| name)
            .chain([&self.me])
            .collect();
        let majority = match self.mutation {
            Mutation::Minority => 1,
            _ => config.majority(),
        };
        let wal = match self.mutation {
            Mutation::WitnessCountsForWal => reporters.len() + config.k + 1 > config.data.len(),
            Mutation::NoReports => true,
            _ => {
                let replaced = self.replaced_logs(granted, own.row);
                config.reads(reporters.iter().copied().chain(replaced))
            }
        };
        if config.count(everyone.iter().copied()) < majority || !wal {
            return;
        }
        // Nobody's log was left out: no unknown holder of an earlier epoch can have written anything.
        let all = config.data.iter().all(|name| reporters.contains(&name));
        self.campaign = None;
        self.take_office(now, epoch, own, all);
    }

    /// Members that gave their log up, and confirmed nothing that this node's log might lack.
    fn replaced_logs<'a>(
        &'a self,
        granted: &'a BTreeMap<NodeName, Granted>,
        row: Epoch,
    ) -> impl Iterator<Item = &'a NodeName> + 'a {
        let rows = self.seen.as_ref().map_or(&[][..], |seen| &seen.rows);
        // What a copy confirmed came from the holder of its epoch: that one's log has to be among those compared.
        let compared = move |epoch: Epoch| {
            let Some(row) = rows.iter().find(|row| row.epoch == epoch) else {
                return false;
            };
            let report = granted
                .get(&row.node)
                .and_then(|grant| grant.report.as_ref());
            row.node == self.me || report.is_some_and(|report| report.row >= epoch)
        };
        granted
            .iter()
            .filter(move |(_, grant)| {
                grant
                    .given_up
                    .is_some_and(|given_up| match given_up.attached {
                        _ if self.mutation == Mutation::GivenUpCounts => true,
                        true => compared(given_up.epoch),
                        false => row >= given_up.epoch,
                    })
            })
            .map(|(name, _)| name)
    }
}
