//! The lab's machine outside the fleet: what it is to be for this fleet.

use rolesmith_lab::{Backend, Balancer, OUTSIDE, Outside, ProxyProtocol};
use rolesmith_model::plan::Plan;

/// The role whose nodes are behind the load balancer.
const EDGE: &str = "edge";

/// The machine, where the fleet has a load balancer.
pub fn outside(plan: &Plan) -> Option<Outside> {
    let address = plan.fleet.network.load_balancer?;
    let edges = plan
        .nodes
        .iter()
        .filter(|node| node.roles.iter().any(|role| role.as_str() == EDGE));
    let backends = edges.filter_map(|node| {
        Some(Backend {
            name: node.name.to_string(),
            // One that has no address yet is not in the lab either.
            address: plan.fleet.nodes[&node.name].address?,
        })
    });
    Some(Outside {
        address,
        balancer: Balancer {
            proxy: ProxyProtocol::default(),
            backends: backends.collect(),
        },
    })
}

/// Whether this name is that of the machine, in a lab of this fleet.
pub fn is(plan: &Plan, name: &str) -> bool {
    name == OUTSIDE && plan.fleet.network.load_balancer.is_some()
}
