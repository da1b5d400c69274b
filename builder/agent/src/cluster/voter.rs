//! Answers to other nodes: promises and what goes with them.

use rolesmith_model::ids::NodeName;

use super::action::{Action, Lane};
use super::config::Stamp;
use super::core::{Core, Following};
use super::durable::DataState;
use super::ids::{Epoch, Lsn};
use super::message::{Beat, Bid, Envelope, Granted, Refusal, Report, Request, Response};
use super::mutation::Mutation;
use super::observed::Process;

/// What can be said about the own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Measure {
    /// The server may still receive, or acknowledge, or is not yet measured.
    NotYet,
    /// It can acknowledge nothing for anybody; the report of a complete member.
    Cut(Option<Report>),
}

impl Core {
    pub(super) fn answer(
        &mut self,
        now: u64,
        from: &NodeName,
        envelope: Envelope,
        theirs: Stamp,
    ) -> Response {
        match envelope.request {
            Request::GenesisPrepare(ballot) => {
                return self.genesis_prepare(envelope.facts, ballot);
            }
            Request::GenesisAccept(accepted) => {
                return self.genesis_accept(envelope.facts, accepted);
            }
            Request::GenesisChosen(founding) => {
                self.chosen(now, &founding);
                return Response::Ok;
            }
            Request::Status => return Response::Status(Box::new(self.status(now))),
            Request::Switchover { to } => return self.switch_to(now, from, to),
            Request::Recover { survivor, replaces } => {
                return self.recover(now, from, &survivor, replaces);
            }
            _ => {}
        }
        if theirs < self.durable.config.stamp && self.mutation != Mutation::StaleConfiguration {
            return Response::Refused(Refusal::StaleConfig);
        }
        // What is not of this cluster has no say in it, and neither has an earlier machine of the same name.
        if !self.durable.config.votes(from, envelope.incarnation)
            && self.mutation != Mutation::StaleConfiguration
        {
            return Response::Refused(Refusal::NoVoter);
        }
        match envelope.request {
            Request::Beat(beat) => self.beat(now, from, beat),
            Request::PreVote(bid) => self.pre_vote(now, from, &bid),
            Request::Grant(bid) => self.grant(now, from, &bid),
            Request::HandOver { epoch, .. } => self.hand_over(now, from, epoch),
            _ => Response::Refused(Refusal::NotNow),
        }
    }

    fn beat(&mut self, now: u64, from: &NodeName, beat: Beat) -> Response {
        let promised = self.durable.promised();
        if beat.epoch < promised && self.mutation != Mutation::FollowLowerEpoch {
            return Response::Refused(Refusal::StaleEpoch);
        }
        if self
            .office
            .as_ref()
            .is_some_and(|office| office.epoch >= beat.epoch)
        {
            return Response::Refused(Refusal::StaleEpoch);
        }
        // Promised to another one, perhaps: who beats has won this epoch, so nobody else can.
        self.promise(now, beat.epoch, from);
        if self
            .campaign
            .as_ref()
            .is_some_and(|campaign| campaign.before_grants())
        {
            self.campaign = None;
        }
        if beat.confirmed {
            for row in &beat.lineage {
                if self.durable.lineage.get(&row.epoch) != Some(row) {
                    let row = row.clone();
                    self.durably(|durable| {
                        durable.lineage.insert(row.epoch, row);
                    });
                }
            }
        }
        let sent = beat.sent;
        let since = self
            .following
            .as_ref()
            .filter(|following| following.epoch == beat.epoch)
            .map_or(now, |following| following.since);
        self.following = Some(Following {
            epoch: beat.epoch,
            holder: from.clone(),
            since,
            heard: now,
            beat,
        });
        self.nudged = None;
        self.suspect_later(now);
        let streaming = self.seen.as_ref().is_some_and(|seen| {
            seen.receiver.as_ref().is_some_and(|receiver| {
                receiver.streaming && receiver.upstream.as_ref().is_none_or(|up| up == from)
            })
        });
        Response::Followed {
            sent,
            data: self.durable.data.clone(),
            streaming,
        }
    }

    fn pre_vote(&mut self, now: u64, from: &NodeName, bid: &Bid) -> Response {
        if !self.is_voter() {
            return Response::Refused(Refusal::NoVoter);
        }
        if bid.epoch <= self.durable.promised() {
            return Response::Refused(Refusal::StaleEpoch);
        }
        if let Some(holder) = self.hears_primary(now)
            && holder != *from
        {
            return Response::Refused(Refusal::PrimaryAlive { holder });
        }
        let (row, lsn) = self.known_newness();
        if self.electable() && (row, lsn) > (bid.row, bid.lsn) {
            self.campaign_at = self.campaign_at.min(now);
            return Response::Refused(Refusal::Newer { row, lsn });
        }
        Response::Favour
    }

    /// The primary, if this voter hears one well or is one.
    pub(super) fn hears_primary(&self, now: u64) -> Option<NodeName> {
        if let Some(office) = &self.office {
            let well = now.saturating_sub(office.backed_at) < self.timing.fresh;
            return well.then(|| self.me.clone());
        }
        let following = self.following.as_ref()?;
        let well = following.epoch == self.durable.promised()
            && now.saturating_sub(following.heard) < self.timing.fresh;
        well.then(|| following.holder.clone())
    }

    /// How new the own data is, without measuring.
    pub(super) fn known_newness(&self) -> (Epoch, Lsn) {
        let Some(seen) = &self.seen else {
            return (Epoch::default(), Lsn::default());
        };
        (
            seen.row().map_or(Epoch::default(), |row| row.epoch),
            seen.position.map_or(Lsn::default(), |at| at.lsn),
        )
    }

    fn grant(&mut self, now: u64, from: &NodeName, bid: &Bid) -> Response {
        if !self.is_voter() {
            return Response::Refused(Refusal::NoVoter);
        }
        let promised = self.durable.promised();
        let other = self
            .durable
            .promise
            .as_ref()
            .is_some_and(|promise| promise.holder != *from);
        if bid.epoch < promised || bid.epoch == promised && other {
            return Response::Refused(Refusal::StaleEpoch);
        }
        if let Some(office) = &self.office {
            let own = bid.handed_over == Some(office.epoch);
            if !own && self.hears_primary(now).is_some() {
                return Response::Refused(Refusal::PrimaryAlive {
                    holder: self.me.clone(),
                });
            }
        }
        if bid.epoch > promised {
            self.promise(now, bid.epoch, from);
            self.campaign_at = self
                .campaign_at
                .max(now + self.timing.suspect + self.timing.again);
            let spread = self.random(self.timing.spread);
            self.campaign_at += spread;
            self.decide_database(now);
        }
        match self.measure() {
            Measure::NotYet if self.mutation != Mutation::NoSever => Response::Pending,
            Measure::NotYet => Response::Granted(Granted {
                epoch: bid.epoch,
                report: self.hasty_report(),
                given_up: None,
            }),
            Measure::Cut(report) => Response::Granted(Granted {
                epoch: bid.epoch,
                given_up: match report {
                    None => self.durable.data.given_up(),
                    Some(_) => None,
                },
                report,
            }),
        }
    }

    /// What a voter that forgets rule 1 would say.
    fn hasty_report(&self) -> Option<Report> {
        let seen = self.seen.as_ref()?;
        Some(Report {
            row: seen.row().map_or(Epoch::default(), |row| row.epoch),
            end: seen.position?,
        })
        .filter(|_| self.complete())
    }

    /// Whether the own server is cut off, and how new its log is then (rules 1 to 3).
    pub(super) fn measure(&self) -> Measure {
        if let Some(running) = self.running(Lane::Database) {
            // No server runs during these, and what they leave is measured before it counts.
            return match running.action {
                Action::Clone { .. } | Action::Rewind { .. } | Action::CreateCluster
                    if self.durable.data != DataState::Complete =>
                {
                    Measure::Cut(None)
                }
                _ => Measure::NotYet,
            };
        }
        let Some(seen) = &self.seen else {
            return Measure::NotYet;
        };
        // Only the log of a counted member has to be read; what another one has lies still.
        let complete = self.complete() && self.durable.config.data.contains(&self.me);
        match seen.process {
            Process::Stopped if complete => Measure::NotYet,
            Process::Stopped => Measure::Cut(None),
            Process::Starting if !complete && seen.conninfo.is_none() => Measure::Cut(None),
            Process::Starting => Measure::NotYet,
            Process::Running if !seen.in_recovery && !self.may_be_primary() => Measure::NotYet,
            Process::Running
                if seen.in_recovery && (seen.conninfo.is_some() || seen.receiver.is_some()) =>
            {
                Measure::NotYet
            }
            Process::Running if !complete => Measure::Cut(None),
            Process::Running => match seen.end_of_wal {
                None => Measure::NotYet,
                Some(end) => {
                    let row = if self.mutation == Mutation::LsnOnly {
                        Epoch::default()
                    } else {
                        seen.row().map_or(Epoch::default(), |row| row.epoch)
                    };
                    Measure::Cut(Some(Report { row, end }))
                }
            },
        }
    }

    fn hand_over(&mut self, now: u64, from: &NodeName, epoch: Epoch) -> Response {
        let theirs = self
            .durable
            .promise
            .as_ref()
            .is_some_and(|promise| promise.epoch == epoch && promise.holder == *from);
        if !theirs || !self.electable() || self.office.is_some() {
            return Response::Refused(Refusal::NotNow);
        }
        self.nudged = Some(epoch);
        self.campaign = None;
        self.campaign_at = now;
        Response::Ok
    }

    /// Whether the node follows somebody whose data it may copy.
    pub(super) fn source(&self) -> Option<&Following> {
        self.following.as_ref().filter(|following| {
            following.epoch == self.durable.promised()
                && following.beat.attach
                && (following.beat.confirmed || self.mutation == Mutation::NoEpochRow)
        })
    }

    /// Puts a suspicion off: the holder was heard.
    pub(super) fn suspect_later(&mut self, now: u64) {
        let spread = self.random(self.timing.spread);
        self.campaign_at = now + self.timing.suspect + self.rank() * self.timing.rank + spread;
    }

    /// How many members' candidacies go before this node's, by their names alone.
    pub(super) fn rank(&self) -> u64 {
        let holder = self.following.as_ref().map(|following| &following.holder);
        let mut candidates = self
            .durable
            .config
            .data
            .iter()
            .filter(|name| Some(*name) != holder);
        candidates.position(|name| *name == self.me).unwrap_or(0) as u64
    }
}
