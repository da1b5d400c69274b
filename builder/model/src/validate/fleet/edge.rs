//! What nodes behind the load balancer can promise together.

use std::collections::BTreeMap;

use super::Check;
use crate::{
    finding::Place,
    fleet::{Network, Node},
    ids::NodeName,
};

/// The role whose nodes are behind the load balancer.
const EDGE: &str = "edge";

impl Check<'_> {
    /// A single node behind the load balancer has nobody to leave requests to.
    pub(super) fn edges(&mut self, network: Option<&Network>, nodes: &BTreeMap<NodeName, Node>) {
        if network.and_then(|network| network.load_balancer).is_none() {
            return;
        }
        let mut edges = nodes.values().filter_map(|node| {
            let role = node.roles.iter().find(|(role, _)| role.as_str() == EDGE)?;
            Some((node, role.1.clone()))
        });
        if let (Some((only, span)), None) = (edges.next(), edges.next()) {
            self.findings.advice(
                "fleet::one-edge",
                Place::new(self.id, span),
                format!("{} alone is behind the load balancer", only.name),
                "while it boots, is upgraded or is off, nobody answers",
                "give the role to another node, and either may be away",
            );
        }
    }
}
