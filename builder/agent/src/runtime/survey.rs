//! How all members are, gathered by one of them for its operator.

use std::collections::BTreeMap;

use rolesmith_model::facts::Facts;
use rolesmith_model::status::{
    Configuration, DatabaseStatus, FleetStatus, MachineStatus, MemberStatus, RedisStatus,
    STATUS_FORMAT,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::deciders::cluster_facts;
use crate::cluster::{DataState, Reply, RequestId, Response, RoleWord, StatusReport};
use crate::drain;
use crate::files::Root;
use crate::net::{Peer, Unreachable};
use crate::redis::state::{Report, read_report};
use crate::state::Phase;
use crate::status::Status;

/// Alarms of a member that are passed on, and characters of each: an answer has to fit into one frame.
const ALARMS: (usize, usize) = (40, 400);

/// An answer with what the machine says beside it. Agents of older versions pass over the one and do not give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// The answer.
    #[serde(flatten)]
    pub reply: Reply,
    /// The machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineStatus>,
}

/// What this machine says about itself.
#[must_use]
pub fn machine(root: &Root, now: u64) -> MachineStatus {
    let status = Status::read(root, now);
    let (count, length) = ALARMS;
    let alarms = status.alarms.into_iter().take(count);
    MachineStatus {
        agent: Some(env!("CARGO_PKG_VERSION").to_owned()),
        healthy: Some(status.health.healthy),
        drained: drain::since(root),
        applied: status
            .report
            .filter(|report| report.phase == Phase::Converged)
            .and_then(|report| report.facts_version),
        // Who asks knows what is in force.
        certificate: None,
        authorities: Vec::new(),
        redis: redis(["server", "watch"].map(|unit| read_report(root, unit))),
        alarms: alarms
            .map(|alarm| alarm.chars().take(length).collect())
            .collect(),
    }
}

/// A wait is the first thing to know; else what the last look at the running cluster showed.
fn redis([server, watch]: [Option<Report>; 2]) -> Option<RedisStatus> {
    let word = |role: &str| RedisStatus {
        role: role.to_owned(),
        ..RedisStatus::default()
    };
    if let Some(Report::Waiting { why }) = server {
        return Some(RedisStatus {
            waiting: Some(why),
            ..word("waiting")
        });
    }
    Some(match watch.or(server)? {
        Report::Running {
            role,
            master,
            epoch,
            sentinels,
            voters,
            ..
        } => RedisStatus {
            role,
            master,
            epoch,
            sentinels: sentinels as u64,
            voters: voters as u64,
            waiting: None,
        },
        Report::Started { .. } => word("started"),
        Report::Waiting { why } => RedisStatus {
            waiting: Some(why),
            ..word("waiting")
        },
    })
}

/// A question to all members that waits for answers.
pub(super) struct Survey {
    /// Requests without an outcome yet.
    waiting: BTreeMap<RequestId, String>,
    status: FleetStatus,
    reports: Vec<StatusReport>,
    reply: oneshot::Sender<Vec<u8>>,
}

impl Survey {
    /// Begins with what the facts say.
    pub(super) fn new(facts: &Facts, me: &str, now: u64, reply: oneshot::Sender<Vec<u8>>) -> Self {
        let parts = cluster_facts(facts).members;
        let members = facts.members.iter().map(|member| MemberStatus {
            name: member.name.clone(),
            incarnation: member.incarnation,
            address: member.address.clone(),
            roles: member.roles.clone(),
            part: parts
                .iter()
                .find(|(name, _)| name.as_str() == member.name)
                .map(|(_, declared)| if declared.data { "data" } else { "witness" }.to_owned()),
            ..MemberStatus::default()
        });
        Self {
            waiting: BTreeMap::new(),
            status: FleetStatus {
                format: STATUS_FORMAT,
                at: now,
                fleet: facts.fleet.clone(),
                asked: me.to_owned(),
                facts: facts.version,
                configuration: None,
                members: members.collect(),
            },
            reports: Vec::new(),
            reply,
        }
    }

    /// A request to that member was sent.
    pub(super) fn sent(&mut self, number: RequestId, to: &str) {
        self.waiting.insert(number, to.to_owned());
    }

    /// Whether it waits for that request.
    pub(super) fn waits_for(&self, number: RequestId) -> bool {
        self.waiting.contains_key(&number)
    }

    /// What became of a request; exactly one outcome comes for each.
    pub(super) fn heard(
        &mut self,
        number: RequestId,
        result: Result<(Peer, Vec<u8>), Unreachable>,
    ) {
        let Some(name) = self.waiting.remove(&number) else {
            return;
        };
        let (peer, body) = match result {
            Ok(answer) => answer,
            Err(why) => {
                if let Some(member) = self.member(&name) {
                    member.problem = Some(why.to_string());
                }
                return;
            }
        };
        match serde_json::from_slice::<Told>(&body) {
            Ok(told) => self.told(&name, peer.id, told),
            Err(_) => {
                if let Some(member) = self.member(&name) {
                    member.reachable = true;
                    member.problem =
                        Some("it gives no answer that this version of the agent knows".to_owned());
                }
            }
        }
    }

    /// What a member, or this node itself, says.
    pub(super) fn told(&mut self, name: &str, machine: u64, told: Told) {
        let Some(member) = self.member(name) else {
            return;
        };
        member.reachable = true;
        member.machine = Some(format!("{machine:016x}"));
        member.facts = Some(told.reply.facts);
        let given = told.machine.is_some();
        member.machine_status = told.machine.unwrap_or_default();
        if let Response::Status(report) = told.reply.response {
            if !given {
                member.machine_status.alarms.clone_from(&report.alarms);
            }
            member.database = Some(database(&report));
            self.reports.push(*report);
        }
    }

    fn member(&mut self, name: &str) -> Option<&mut MemberStatus> {
        let mut members = self.status.members.iter_mut();
        members.find(|member| member.name == name)
    }

    /// Whether nothing is waited for any more.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Answers.
    pub(super) fn finish(self) {
        let Self {
            mut status,
            reports,
            reply,
            ..
        } = self;
        let newest = reports
            .iter()
            .map(|report| &report.config)
            .filter(|config| config.formed())
            .max_by_key(|config| config.stamp);
        status.configuration = newest.map(|config| Configuration {
            epoch: config.stamp.epoch.0,
            version: config.stamp.version,
            voters: config
                .voters
                .iter()
                .map(|(name, machine)| (name.to_string(), format!("{:016x}", machine.id)))
                .collect(),
            data: config.data.iter().map(ToString::to_string).collect(),
            synchronous: config.k as u64,
            alone: config.alone.as_ref().map(ToString::to_string),
            system_id: config.system_id.to_string(),
        });
        let primary = status.primary().map(|member| member.name.clone());
        let standbys = reports
            .iter()
            .find(|report| Some(report.node.as_str()) == primary.as_deref())
            .map(|report| {
                let seen = report.standbys.iter();
                seen.map(|(name, (streaming, end))| (name.to_string(), (*streaming, end.0)))
                    .collect()
            });
        status.measure(&standbys.unwrap_or_default());
        // Who asked may have gone.
        let _ = reply.send(super::json(&status));
    }
}

fn database(report: &StatusReport) -> DatabaseStatus {
    let config = &report.config;
    let role = match report.role {
        RoleWord::Waiting => "waiting",
        RoleWord::Witness => "witness",
        RoleWord::Learner => "learner",
        RoleWord::Standby => "standby",
        RoleWord::Candidate => "candidate",
        RoleWord::Promoting => "promoting",
        RoleWord::Primary => rolesmith_model::status::PRIMARY,
    };
    let data = match report.data {
        DataState::Empty => "empty",
        DataState::Cloning(_) => "cloning",
        DataState::Rewinding(_) => "rewinding",
        DataState::Copied(_) => "copied",
        DataState::Founding => "founding",
        DataState::Complete => "complete",
    };
    DatabaseStatus {
        role: role.to_owned(),
        epoch: report.promised.as_ref().map(|(epoch, _)| epoch.0),
        holder: report
            .promised
            .as_ref()
            .map(|(_, holder)| holder.to_string()),
        primary: report.primary.as_ref().map(|(name, _)| name.to_string()),
        row: report.row.as_ref().map(|row| row.epoch.0),
        data: data.to_owned(),
        system_id: report.system_id.map(|id| id.to_string()),
        formed: config.formed().then(|| config.system_id.to_string()),
        configuration: config
            .formed()
            .then_some((config.stamp.epoch.0, config.stamp.version)),
        position: report.position.map(|position| position.lsn.0),
        lag: None,
        streaming: None,
    }
}
