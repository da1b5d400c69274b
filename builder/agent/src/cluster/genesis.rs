//! How a fleet without any database gets exactly one: single-decree Paxos over (founder, system identifier), while facts
//! say `genesis = open` (rule 7).

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::facts::Genesis;
use rolesmith_model::ids::NodeName;

use super::action::{Action, Failure, Lane, Outcome};
use super::config::{Config, Stamp};
use super::core::{Asked, Core};
use super::durable::{Accepted, Ballot, DataState, Founding};
use super::ids::{Epoch, Incarnation};
use super::message::{Refusal, Reply, Request, Response};
use super::mutation::Mutation;
use super::observed::{Data, Process};

/// This node's attempt to found the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Quest {
    /// When the next attempt may begin.
    pub at: u64,
    pub attempt: Option<Attempt>,
    /// The highest round heard of.
    pub round: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub ballot: Ballot,
    pub since: u64,
    /// Who promised, with the machine that did and what it had accepted.
    pub promised: BTreeMap<NodeName, (Incarnation, Option<Accepted>)>,
    /// The value of phase 2, once there is one, and who accepted it.
    pub proposed: Option<(Founding, BTreeSet<NodeName>)>,
}

impl Core {
    /// Where this node stands among those that could found the cluster.
    pub(super) fn founder_rank(&self) -> u64 {
        self.facts
            .members
            .iter()
            .filter(|(_, member)| member.data)
            .position(|(name, _)| *name == self.me)
            .unwrap_or(0) as u64
    }

    fn open(&self) -> bool {
        self.facts.genesis == Genesis::Open
            && self.facts.system_id.is_none()
            && !self.durable.config.formed()
    }

    fn declared_majority(&self) -> usize {
        if self.mutation == Mutation::GenesisWithoutMajority {
            return 1;
        }
        self.facts.members.len() / 2 + 1
    }

    pub(super) fn decide_genesis(&mut self, now: u64) {
        self.settle_genesis(now);
        if !self.open() || !self.facts.members.contains_key(&self.me) {
            self.quest.attempt = None;
            return;
        }
        let patience = self.timing.genesis + self.timing.answer;
        if let Some(attempt) = &self.quest.attempt {
            let creating = self.busy(Lane::Database);
            if !creating && now > attempt.since + patience {
                self.quest.attempt = None;
                self.quest_later(now);
            }
        } else if now >= self.quest.at && self.holds_data() && self.virgin() {
            self.prepare_genesis(now);
        }
        self.propose(now);
    }

    fn quest_later(&mut self, now: u64) {
        let spread = self.random(self.timing.genesis);
        self.quest.at = now + self.timing.genesis + self.timing.rank * self.founder_rank() + spread;
    }

    /// Nothing on this machine belongs to a cluster, but perhaps what an attempt of its own made.
    fn virgin(&self) -> bool {
        let Some(seen) = &self.seen else {
            return false;
        };
        let own = match seen.data {
            Data::Absent => true,
            Data::Incomplete => self.durable.data == DataState::Founding,
            // Made by an attempt that was cut off before it could say so.
            Data::Complete(id) => {
                self.durable.genesis.made == Some(id) || self.durable.data == DataState::Founding
            }
        };
        own && seen.process == Process::Stopped && !self.busy(Lane::Database)
    }

    fn prepare_genesis(&mut self, now: u64) {
        let heard = self
            .durable
            .genesis
            .promised
            .as_ref()
            .map_or(0, |ballot| ballot.round);
        let ballot = Ballot {
            round: self.quest.round.max(heard) + 1,
            node: self.me.clone(),
        };
        let accepted = self.durable.genesis.accepted.clone();
        let own = (self.durable.incarnation, accepted);
        let promise = ballot.clone();
        self.durably(|durable| durable.genesis.promised = Some(promise));
        self.quest.attempt = Some(Attempt {
            ballot: ballot.clone(),
            since: now,
            promised: BTreeMap::from([(self.me.clone(), own)]),
            proposed: None,
        });
        for name in self.everybody() {
            let asked = Asked::Genesis {
                ballot: ballot.clone(),
            };
            self.send(&name, Request::GenesisPrepare(ballot.clone()), asked);
        }
    }

    /// Phase 2, as soon as a majority of the declared members promised.
    fn propose(&mut self, now: u64) {
        let majority = self.declared_majority();
        let Some(attempt) = &self.quest.attempt else {
            return;
        };
        if attempt.proposed.is_some() || attempt.promised.len() < majority {
            return;
        }
        let adopted = attempt
            .promised
            .values()
            .filter_map(|(_, accepted)| accepted.as_ref())
            .max_by(|a, b| a.ballot.cmp(&b.ballot))
            .filter(|_| self.mutation != Mutation::AdoptNothing);
        let founding = match (adopted, self.durable.genesis.made) {
            (Some(accepted), _) => accepted.founding.clone(),
            (None, Some(system_id)) => Founding {
                founder: self.me.clone(),
                system_id,
                config: Config {
                    stamp: Stamp {
                        epoch: Epoch::default(),
                        version: 1,
                    },
                    voters: attempt
                        .promised
                        .iter()
                        .map(|(name, (incarnation, _))| (name.clone(), *incarnation))
                        .collect(),
                    // The others hold data once they are copies of it; then they are counted one by one.
                    data: BTreeSet::from([self.me.clone()]),
                    k: 0,
                    alone: None,
                    system_id,
                    founder: Some(self.me.clone()),
                },
            },
            (None, None) => {
                if self.virgin() && self.act(now, Action::CreateCluster) {
                    self.durably(|durable| durable.data = DataState::Founding);
                }
                return;
            }
        };
        let ballot = attempt.ballot.clone();
        let accepted = Accepted {
            ballot: ballot.clone(),
            founding: founding.clone(),
        };
        let own = self.durable.genesis.promised.as_ref() == Some(&ballot);
        let mut by = BTreeSet::new();
        if own {
            by.insert(self.me.clone());
            let accepted = accepted.clone();
            self.durably(|durable| durable.genesis.accepted = Some(accepted));
        }
        if let Some(attempt) = &mut self.quest.attempt {
            attempt.proposed = Some((founding, by));
            attempt.since = now;
        }
        for name in self.everybody() {
            let request = Request::GenesisAccept(accepted.clone());
            let asked = Asked::Genesis {
                ballot: ballot.clone(),
            };
            self.send(&name, request, asked);
        }
        self.count_accepted(now);
    }

    pub(super) fn created(&mut self, now: u64, result: &Result<Outcome, Failure>) {
        if let Ok(Outcome::Created(system_id)) = result {
            let system_id = *system_id;
            self.durably(|durable| durable.genesis.made = Some(system_id));
            if let Some(attempt) = &mut self.quest.attempt {
                attempt.since = now;
            }
        }
    }

    pub(super) fn genesis_prepare(&mut self, facts: u64, ballot: Ballot) -> Response {
        if self.durable.config.formed() {
            return Response::Formed;
        }
        // Majorities of different declarations need not meet.
        if !self.open() || facts != self.facts.version {
            return Response::Refused(Refusal::NotNow);
        }
        self.quest.round = self.quest.round.max(ballot.round);
        if self.durable.genesis.promised.as_ref() >= Some(&ballot) {
            return Response::GenesisRefused(self.durable.genesis.promised.clone());
        }
        self.durably(|durable| durable.genesis.promised = Some(ballot));
        Response::GenesisPromise {
            accepted: self.durable.genesis.accepted.clone(),
        }
    }

    pub(super) fn genesis_accept(&mut self, facts: u64, accepted: Accepted) -> Response {
        if self.durable.config.formed() {
            return Response::Formed;
        }
        if !self.open() || facts != self.facts.version {
            return Response::Refused(Refusal::NotNow);
        }
        self.quest.round = self.quest.round.max(accepted.ballot.round);
        if self.durable.genesis.promised.as_ref() > Some(&accepted.ballot) {
            return Response::GenesisRefused(self.durable.genesis.promised.clone());
        }
        let ballot = accepted.ballot.clone();
        self.durably(|durable| {
            durable.genesis.promised = Some(accepted.ballot.clone());
            durable.genesis.accepted = Some(accepted);
        });
        Response::GenesisAccepted(ballot)
    }

    pub(super) fn genesis_answered(
        &mut self,
        now: u64,
        from: &NodeName,
        ballot: &Ballot,
        reply: Reply,
    ) {
        let declared = self.facts.members.contains_key(from);
        let Some(attempt) = &mut self.quest.attempt else {
            return;
        };
        // A promise for an earlier ballot tells what was accepted then, not now.
        if attempt.ballot != *ballot {
            return;
        }
        match reply.response {
            Response::GenesisPromise { accepted } if declared => {
                attempt
                    .promised
                    .insert(from.clone(), (reply.incarnation, accepted));
            }
            Response::GenesisAccepted(ballot) if declared && ballot == attempt.ballot => {
                if let Some((_, by)) = &mut attempt.proposed {
                    by.insert(from.clone());
                }
                self.count_accepted(now);
            }
            Response::GenesisRefused(higher) => {
                let round = higher.map_or(0, |ballot| ballot.round);
                self.quest.round = self.quest.round.max(round);
                self.quest.attempt = None;
                self.quest_later(now);
            }
            _ => {}
        }
    }

    fn count_accepted(&mut self, now: u64) {
        let majority = self.declared_majority();
        let Some(attempt) = &self.quest.attempt else {
            return;
        };
        let Some((founding, by)) = &attempt.proposed else {
            return;
        };
        if by.len() < majority {
            return;
        }
        let founding = founding.clone();
        for name in self.everybody() {
            let request = Request::GenesisChosen(founding.clone());
            self.send(&name, request, Asked::Other);
        }
        self.chosen(now, &founding);
    }

    /// The decision is known here.
    pub(super) fn chosen(&mut self, now: u64, founding: &Founding) {
        if self.durable.config.formed() {
            return;
        }
        self.log(format!(
            "{} founds the database {}",
            founding.founder, founding.system_id
        ));
        self.quest.attempt = None;
        self.adopt(now, &founding.config);
    }

    /// The founder learns, perhaps through a configuration alone, that its own cluster is the chosen one; another one
    /// learns that what it made is worth nothing.
    fn settle_genesis(&mut self, now: u64) {
        if self.durable.data != DataState::Founding || !self.durable.config.formed() {
            return;
        }
        let own = self.durable.genesis.made == Some(self.durable.config.system_id)
            && self
                .durable
                .config
                .votes(&self.me, self.durable.incarnation);
        let state = if own {
            DataState::Complete
        } else {
            DataState::Empty
        };
        self.durably(|durable| durable.data = state);
        if own {
            self.campaign_at = now;
        }
    }
}
