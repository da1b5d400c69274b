//! What is said to other members and taken from them, as values.

use std::collections::BTreeMap;

use rolesmith_model::ids::NodeName;

use super::watch::Stance;
use super::{Decide, Executor, Runtime, boottime};
use crate::cluster::{Config, Envelope, Epoch, Incarnation, Refusal, Reply, Request, Response};
use crate::net::Peer;
use crate::program::Programs;

impl<D: Decide, E: Executor, P: Programs> Runtime<'_, D, E, P> {
    /// What a member may ask over the network, from the machine that it says it is. Who has no part in the cluster may ask
    /// how things are, and tells nothing.
    pub(super) fn admissible(&self, from: &Peer, body: &[u8]) -> Option<(NodeName, Envelope)> {
        let mut envelope: Envelope = serde_json::from_slice(body).ok()?;
        let name = name(&from.name)?;
        let told = Incarnation {
            number: from.number,
            id: from.id,
        };
        let allowed = match envelope.request {
            Request::Switchover { .. } | Request::Recover { .. } => false,
            Request::Status => true,
            _ => self.members.contains(&name),
        };
        if !self.members.contains(&name) {
            envelope.config = Config::default();
        }
        (allowed && envelope.incarnation == told).then_some((name, envelope))
    }

    /// What a node answers that has no part in the cluster.
    pub(super) fn bystander(&self) -> Reply {
        Reply {
            incarnation: self.durable.incarnation,
            facts: self.material.borrow().facts.version,
            config: None,
            promised: Epoch::default(),
            response: Response::Refused(Refusal::NoVoter),
        }
    }

    /// How this node is, as it says it to whoever follows.
    pub(super) fn stance(&self) -> Option<(Stance, Reply)> {
        let report = self.core.as_ref()?.status(boottime());
        let stance = Stance::from(&report);
        let reply = Reply {
            promised: report
                .promised
                .as_ref()
                .map_or(Epoch::default(), |(epoch, _)| *epoch),
            response: Response::Status(Box::new(report)),
            ..self.bystander()
        };
        Some((stance, reply))
    }

    pub(super) fn envelope(&self, request: Request) -> Envelope {
        Envelope {
            incarnation: self.durable.incarnation,
            facts: self.material.borrow().facts.version,
            // Older than any: nobody learns from it, and whoever knows one tells it.
            config: Config::default(),
            request,
        }
    }
}

pub(super) fn name(text: &str) -> Option<NodeName> {
    NodeName::new(text.to_owned()).ok()
}

pub(super) fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Names are the only keys of our maps, so every value has a JSON form; an empty body is understood by nobody.
    serde_json::to_vec(value).unwrap_or_default()
}

/// A reply from the machine that it says it is from.
pub(super) fn understand(peer: &Peer, body: &[u8]) -> Option<Reply> {
    let reply: Reply = serde_json::from_slice(body).ok()?;
    let told = Incarnation {
        number: peer.number,
        id: peer.id,
    };
    (reply.incarnation == told).then_some(reply)
}

pub(super) fn expected(config: &Config) -> BTreeMap<String, u64> {
    config
        .voters
        .iter()
        .map(|(name, incarnation)| (name.to_string(), incarnation.id))
        .collect()
}
