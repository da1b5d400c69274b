//! The lab's machine outside the fleet: what it is to be for this fleet.

use std::path::Path;

use rolesmith_lab::{Backend, Balancer, Forward, OUTSIDE, Outside, ProxyProtocol};
use rolesmith_model::plan::Plan;

/// The role whose nodes are behind the load balancer.
const EDGE: &str = "edge";

/// The machine, where the fleet has a load balancer. `program` is this one.
pub fn outside(plan: &Plan, program: &Path) -> Option<Outside> {
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
        forwarder: vec![program.into(), "lab".into(), "__forward".into()],
    })
}

/// Whether this name is that of the machine, in a lab of this fleet.
pub fn is(plan: &Plan, name: &str) -> bool {
    name == OUTSIDE && plan.fleet.network.load_balancer.is_some()
}

/// What to open in a browser on this machine, one a port that leads to the load balancer.
pub fn urls(forwards: &[Forward]) -> Vec<String> {
    forwards
        .iter()
        .filter_map(|forward| match forward.to.port() {
            443 => Some(format!("https://127.0.0.1:{}/", forward.port)),
            80 => Some(format!("http://127.0.0.1:{}/health", forward.port)),
            _ => None,
        })
        .collect()
}
