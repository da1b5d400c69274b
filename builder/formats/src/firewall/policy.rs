//! Who may reach what, as values.

use std::{collections::BTreeSet, net::Ipv4Addr};

use rolesmith_model::{
    fleet::Fleet,
    network::Ipv4Network,
    opening::{OpenTo, Opening},
    plan::{NodePlan, Plan},
};

use super::rules::{FLEET_SET, set_name};

/// Where a packet comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// On the interface towards the internet.
    Public,
    /// On the interface in the private network.
    Private,
}

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// RFC 791.
    V4,
    /// RFC 8200. Members have no addresses of their own in it.
    V6,
}

/// Whom a way lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admits {
    /// Everybody, on every interface, in both families.
    Everybody,
    /// Every address of the private network, on its interface.
    Network(Ipv4Network),
    /// One address, on the private interface.
    Host(Ipv4Addr),
    /// Members' addresses, on the private interface.
    Members {
        /// The kernel's set that holds them.
        set: String,
        /// The addresses that are recorded.
        addresses: BTreeSet<Ipv4Addr>,
    },
}

impl Admits {
    /// Whether a packet of that family is let in that comes in there. `address` is its source, where that is an address that
    /// the fleet knows; all others are the same to every way.
    #[must_use]
    pub fn lets_in(&self, family: Family, side: Side, address: Option<Ipv4Addr>) -> bool {
        if *self == Self::Everybody {
            return true;
        }
        if family == Family::V6 || side == Side::Public {
            return false;
        }
        match self {
            Self::Everybody | Self::Network(_) => true,
            Self::Host(host) => address == Some(*host),
            Self::Members { addresses, .. } => address.is_some_and(|a| addresses.contains(&a)),
        }
    }
}

/// A way into a node.
#[derive(Debug, Clone)]
pub struct Way<'a> {
    /// The port, and what its role says of it.
    pub opening: &'a Opening,
    /// Whom it lets in.
    pub admits: Admits,
}

/// The ways into one node. What none of them lets in is dropped.
#[derive(Debug, Clone)]
pub struct NodePolicy<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The node.
    pub node: &'a NodePlan,
    /// Recorded addresses of all members.
    pub members: BTreeSet<Ipv4Addr>,
    /// In the order of the rules.
    pub ways: Vec<Way<'a>>,
}

/// The ways into every node of a fleet.
#[derive(Debug, Clone)]
pub struct Policy<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// By node.
    pub nodes: Vec<NodePolicy<'a>>,
}

impl<'a> Policy<'a> {
    /// What the plan's openings come to.
    #[must_use]
    pub fn new(plan: &'a Plan) -> Self {
        let fleet = &plan.fleet;
        Self {
            fleet,
            nodes: plan
                .nodes
                .iter()
                .map(|node| NodePolicy {
                    fleet,
                    node,
                    members: addresses(plan, |_| true),
                    ways: ways(plan, node),
                })
                .collect(),
        }
    }

    /// The ways into the node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodePolicy<'a>> {
        self.nodes.iter().find(|n| n.node.name.as_str() == name)
    }
}

/// A way for each opening; openings to several lists of roles are one, as the roles' members are.
fn ways<'a>(plan: &Plan, node: &'a NodePlan) -> Vec<Way<'a>> {
    let openings: BTreeSet<&Opening> = node.openings.iter().collect();
    let mut ways: Vec<Way<'_>> = Vec::new();
    for opening in openings {
        let admits = admits(plan, node, opening);
        let is_there = |way: &Way<'_>| {
            let other = way.opening;
            (other.port, other.protocol, other.per_minute)
                == (opening.port, opening.protocol, opening.per_minute)
                && way.admits == admits
        };
        if !ways.iter().any(is_there) {
            ways.push(Way { opening, admits });
        }
    }
    ways
}

/// Recorded addresses of the members that are `wanted`.
fn addresses(plan: &Plan, wanted: impl Fn(&NodePlan) -> bool) -> BTreeSet<Ipv4Addr> {
    plan.nodes
        .iter()
        .filter(|node| wanted(node))
        .filter_map(|node| plan.fleet.nodes.get(&node.name)?.address)
        .collect()
}

fn admits(plan: &Plan, node: &NodePlan, opening: &Opening) -> Admits {
    let network = &plan.fleet.network;
    match &opening.from {
        OpenTo::Public => Admits::Everybody,
        OpenTo::LoadBalancer => network
            .load_balancer
            .map_or(Admits::Everybody, Admits::Host),
        // Peers that are being looked for come from addresses that no facts know yet. Certificates tell agents who is a
        // member; everything else is reached once the address is recorded.
        OpenTo::Fleet if plan.fleet.discovery.any() && opening.port == network.agent_port => {
            Admits::Network(network.private)
        }
        OpenTo::Fleet => Admits::Members {
            set: FLEET_SET.to_owned(),
            addresses: addresses(plan, |_| true),
        },
        // Roles may open a port to some members each; there is one set for the port.
        OpenTo::Roles(_) => {
            let asked = |o: &&Opening| (o.port, o.protocol) == (opening.port, opening.protocol);
            let wanted = |member: &NodePlan| {
                node.openings.iter().filter(asked).any(|o| match &o.from {
                    OpenTo::Roles(roles) => member.roles.iter().any(|role| roles.contains(role)),
                    OpenTo::Public | OpenTo::LoadBalancer | OpenTo::Fleet => false,
                })
            };
            Admits::Members {
                set: set_name(opening.protocol, opening.port),
                addresses: addresses(plan, wanted),
            }
        }
    }
}
