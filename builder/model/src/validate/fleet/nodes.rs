//! [nodes.NAME]

use std::{collections::BTreeMap, net::Ipv4Addr, ops::Range};

use toml::Spanned;

use super::Check;
use crate::{
    facts::application_name,
    finding::Place,
    fleet::{Network, Node},
    fleet_file::{FleetFile, NodeEntry},
    ids::{NodeName, RoleName},
};

/// Most characters of a common name in a certificate (RFC 5280, appendix A.1).
const COMMON_NAME: usize = 64;

impl Check<'_> {
    pub(super) fn node(
        &mut self,
        key: &Spanned<String>,
        entry: &NodeEntry,
        network: Option<&Network>,
        looked_for: bool,
    ) -> Option<Node> {
        let name = match NodeName::new(key.get_ref().as_str()) {
            Ok(name) => name,
            Err(why) => {
                self.error(
                    "fleet::node-name",
                    key.span(),
                    format!("the node's name {why}"),
                    "becomes its host name (RFC 1123)",
                    "write the first label alone, such as app-1; the domain stands in [fleet]",
                );
                return None;
            }
        };
        let length = name.as_str().len();
        let more = application_name(name.as_str()).len() - length;
        if length + more > COMMON_NAME {
            self.error(
                "fleet::node-name",
                key.span(),
                format!(
                    "the node's name has {length} characters; at most {} are allowed",
                    COMMON_NAME - more
                ),
                "its applications get a certificate for application.NAME, which has at most 64 (RFC 5280, ub-common-name)",
                "shorten it",
            );
            return None;
        }
        if entry.roles.get_ref().is_empty() {
            self.error(
                "fleet::no-roles",
                entry.roles.span(),
                format!("node {name} has no role"),
                "it would be a member that does nothing",
                "add roles such as [\"app\"], or remove the node",
            );
        }
        let mut roles: Vec<(RoleName, Range<usize>)> = Vec::new();
        for role in entry.roles.get_ref() {
            let wanted = role.get_ref().as_str();
            match self.roles.get(wanted) {
                Some(found) if roles.iter().any(|(r, _)| *r == found.name) => self.error(
                    "fleet::role-twice",
                    role.span(),
                    format!("node {name} names the role {wanted} twice"),
                    "a duplicate",
                    "remove one of them",
                ),
                Some(found) => roles.push((found.name.clone(), role.span())),
                // What is wrong with it is told where it is wrong.
                None if self.roles.is_broken(wanted) => {}
                None => {
                    let help = self.roles.similar(wanted).map_or_else(
                        || format!("known roles are {}", self.roles.names().join(", ")),
                        |near| format!("did you mean {near:?}?"),
                    );
                    self.error(
                        "fleet::unknown-role",
                        role.span(),
                        format!("there is no role {wanted:?}"),
                        "neither built in nor a directory in roles/",
                        help,
                    );
                }
            }
        }
        let private = network.map(|n| n.private);
        let address = entry
            .address
            .as_ref()
            .and_then(|a| self.address(a, private, "node"));
        if entry.address.is_none() {
            self.findings.advice(
                "fleet::no-address",
                Place::new(self.id, key.span()),
                format!("the address of {name} is not known yet"),
                if looked_for {
                    "its peers' agents look for it; services are told where it is, and let it in, by facts alone"
                } else {
                    "its peers cannot be told where it is"
                },
                format!("once the machine exists: rolesmith record {name} ADDRESS"),
            );
        }
        Some(Node {
            name,
            span: key.span(),
            roles,
            address,
            ssh_port: self.port("ssh_port", entry.ssh_port.as_ref(), 22),
            memory: self.number(
                "memory",
                entry.memory.as_ref(),
                1024,
                256..=4_194_304,
                "MiB",
            ),
        })
    }

    pub(super) fn distinct_addresses(&mut self, file: &FleetFile, network: Option<&Network>) {
        let mut seen: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        if let Some(lb) = network.and_then(|n| n.load_balancer) {
            seen.insert(lb, "the load balancer".into());
        }
        for (key, entry) in &file.nodes {
            let Some(text) = &entry.address else { continue };
            let Ok(address) = text.get_ref().parse() else {
                continue;
            };
            if let Some(other) = seen.insert(address, key.get_ref().clone()) {
                self.error(
                    "fleet::address-twice",
                    text.span(),
                    format!("{address} is the address of {other} too"),
                    "two machines cannot share an address",
                    "see what `ip address` shows on both",
                );
            }
        }
    }
}
