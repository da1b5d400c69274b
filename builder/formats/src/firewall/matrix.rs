//! Who may reach what, as a matrix: computed from the same values as the rules.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr};

use rolesmith_model::manifest::Protocol;
use serde::{Serialize, Serializer};

use super::policy::{Family, NodePolicy, Policy, Side};

/// Who sends a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Anybody, on the public interface.
    Public,
    /// The load balancer, on the private interface.
    LoadBalancer,
    /// An address of the private network that is neither the load balancer's nor a member's.
    Stranger,
    /// A member of the fleet, on the private interface.
    Member(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::LoadBalancer => f.write_str("load-balancer"),
            Self::Stranger => f.write_str("stranger"),
            Self::Member(name) => write!(f, "member:{name}"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Who sends a packet, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sender {
    /// Who.
    pub name: Source,
    /// On which interface of the receiver it comes in.
    #[serde(serialize_with = "side")]
    pub side: Side,
    /// Its private address, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

fn side<S: Serializer>(side: &Side, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match side {
        Side::Public => "public",
        Side::Private => "private",
    })
}

/// Who may reach a port of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// What listens there.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
    /// Whose packets are let in over IPv4. The node itself is never named: it reaches itself on the loopback interface.
    pub ipv4: Vec<Source>,
    /// The same over IPv6.
    pub ipv6: Vec<Source>,
    /// Whether the node's own address is one that is let in, over IPv4 and over IPv6: so are those that are like it.
    #[serde(skip)]
    pub own: (bool, bool),
}

impl Access {
    /// Whether a source is let in, over IPv4 and over IPv6, were the packet to come from outside.
    #[must_use]
    pub fn of(&self, target: &Target, source: &Source) -> (bool, bool) {
        match source {
            Source::Member(name) if *name == target.name => self.own,
            _ => (self.ipv4.contains(source), self.ipv6.contains(source)),
        }
    }
}

/// What can be reached on a node. All other ports are closed to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its private address, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// By protocol and port.
    pub openings: Vec<Access>,
}

/// Who may reach what in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// The fleet's name.
    pub fleet: String,
    /// Everybody who can send a packet; each is like all others of its kind.
    pub sources: Vec<Sender>,
    /// The fleet's nodes, by name.
    pub nodes: Vec<Target>,
}

impl Matrix {
    /// The matrix of the policy, of all nodes or of one.
    #[must_use]
    pub fn new(policy: &Policy<'_>, only: Option<&str>) -> Self {
        let fleet = policy.fleet;
        let private = |name, address| Sender {
            name,
            side: Side::Private,
            address,
        };
        let mut sources = vec![Sender {
            name: Source::Public,
            side: Side::Public,
            address: None,
        }];
        let balancer = fleet.network.load_balancer;
        sources.extend(balancer.map(|address| private(Source::LoadBalancer, Some(address))));
        sources.push(private(Source::Stranger, None));
        let address = |name: &str| fleet.nodes.get(name).and_then(|node| node.address);
        sources.extend(policy.nodes.iter().map(|node| {
            let name = node.node.name.as_str();
            private(Source::Member(name.to_owned()), address(name))
        }));
        let nodes = policy
            .nodes
            .iter()
            .filter(|node| only.is_none_or(|only| node.node.name.as_str() == only))
            .map(|node| Target {
                name: node.node.name.to_string(),
                address: address(node.node.name.as_str()),
                openings: openings(node, &sources),
            })
            .collect();
        Self {
            fleet: fleet.name.to_string(),
            sources,
            nodes,
        }
    }
}

fn openings(node: &NodePolicy<'_>, sources: &[Sender]) -> Vec<Access> {
    let mut ports: BTreeMap<(Protocol, u16), &str> = BTreeMap::new();
    for way in &node.ways {
        let opening = way.opening;
        ports.insert((opening.protocol, opening.port), &opening.name);
    }
    let is_own = |from: &Sender| from.name == Source::Member(node.node.name.to_string());
    ports
        .into_iter()
        .map(|((protocol, port), name)| {
            let lets_in = |family, from: &Sender| {
                node.ways.iter().any(|way| {
                    (way.opening.protocol, way.opening.port) == (protocol, port)
                        && way.admits.lets_in(family, from.side, from.address)
                })
            };
            let others = |family| {
                sources
                    .iter()
                    .filter(|from| !is_own(from) && lets_in(family, from))
                    .map(|from| from.name.clone())
                    .collect()
            };
            let own = |family| {
                sources
                    .iter()
                    .any(|from| is_own(from) && lets_in(family, from))
            };
            Access {
                name: name.to_owned(),
                protocol,
                port,
                ipv4: others(Family::V4),
                ipv6: others(Family::V6),
                own: (own(Family::V4), own(Family::V6)),
            }
        })
        .collect()
}
