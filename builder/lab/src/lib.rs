//! The fleet on one machine: every node a real Debian system, booted by systemd-nspawn inside a private network namespace.
//!
//! The way of a lab: [`preflight`] says what the machine lacks, [`tree::ensure`] keeps one root tree per suite, [`up`] gives
//! every node an overlay on that tree, a seed for its own cloud-init, a place in two bridged networks and a control group, boots
//! them all at once and reports what systemd and cloud-init said. [`Lab`] talks to the running nodes. [`down`] ends everything.
//!
//! Nothing here prints: progress goes to a [`Progress`], results are values, errors are [`LabError`]. Everything that is started
//! is recorded (or is inside a control group that is recorded) before it is started, so a lab left by a killed program can always
//! be ended or taken up again.

mod boot;
mod cgroup;
mod command;
mod cut;
mod down;
pub mod drill;
mod error;
mod fault;
mod http;
mod lab;
mod launch;
mod network;
mod node;
mod outcome;
mod outside;
mod preflight;
mod process;
mod seed;
mod spec;
mod state;
pub mod tree;

pub use boot::{UpOptions, up};
pub use cgroup::Memory;
pub use cut::Cut;
pub use down::down;
pub use error::LabError;
pub use fault::{End, cut, destroy, freeze, kill, mend};
pub use http::{accept, answer_stdin, serve};
pub use lab::{Lab, NodeStatus, Output, OutsideStatus, RunState, Status};
pub use outcome::{CloudInit, NodeReport, Phase, Start};
pub use outside::{
    Authority, Backend, BackendStatus, Balancer, Forward, NAME as OUTSIDE, Outside, ProxyProtocol,
    forward,
};
pub use preflight::{Missing, MissingItem, preflight};
pub use spec::{
    BakedTree, Host, LabSpec, Network, NodeSpec, Prefix, Purpose, Repository, TreeSpec,
};
pub use state::{KEPT, labs_of, state_dir};

/// Told what the lab is doing, as it does it. Calls come from several threads at once.
pub trait Progress: Sync {
    /// One step has begun: of the node named, or of the lab as a whole. `text` is a short present-tense phrase without a full stop.
    fn step(&self, node: Option<&str>, text: &str);
}

/// A [`Progress`] that tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _node: Option<&str>, _text: &str) {}
}

/// What a lab's report holds: the nodes as they came up, and the time each part took.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LabReport {
    /// Name of the fleet.
    pub name: String,
    /// The root tree below the first node that this call was to start.
    pub tree: Option<std::path::PathBuf>,
    /// Seconds of every part of the work that is not of one node.
    pub phases: Vec<Phase>,
    /// One report per node, in the order of the specification.
    pub nodes: Vec<NodeReport>,
    /// The machine outside the fleet, where this call was to start it.
    pub outside: Option<NodeReport>,
    /// The ports of this machine's loopback address that lead to the load balancer.
    pub forwards: Vec<Forward>,
}

impl LabReport {
    /// True when every machine runs with nothing to complain about, see [`NodeReport::is_clean`].
    pub fn is_clean(&self) -> bool {
        self.nodes
            .iter()
            .chain(&self.outside)
            .all(NodeReport::is_clean)
    }
}
