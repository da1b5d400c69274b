//! What a lab is doing at this moment.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::Lab;
use crate::{
    cgroup::{Hierarchies, Memory},
    cut::Cut,
    error::{LabError, Result},
    network::Namespace,
    outside::{self, BackendStatus, Forward},
    process::Process,
    state::{NodeState, Stage},
};

/// What a lab is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Name of the fleet.
    pub name: String,
    /// The network namespace, as `nsenter --net=` takes it.
    pub namespace: PathBuf,
    /// `ADDRESS:PORT` where the repository is served to the nodes, while it is.
    pub repository: Option<String>,
    /// The nodes by name.
    pub nodes: Vec<NodeStatus>,
    /// The machine outside the fleet, where the lab has one.
    pub outside: Option<OutsideStatus>,
    /// Frames that are lost, see [`crate::cut()`].
    pub cuts: Vec<Cut>,
}

/// What the machine outside the fleet is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutsideStatus {
    /// The machine.
    #[serde(flatten)]
    pub machine: NodeStatus,
    /// The ports of this machine's loopback address that lead to its load balancer, while they do.
    pub forwards: Vec<Forward>,
}

/// What a node is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Host name.
    pub name: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Address in the private network.
    pub address: Ipv4Addr,
    /// Address in the public network.
    pub public_address: Ipv4Addr,
    /// Whether it runs.
    pub state: RunState,
    /// The node's first process, seen from outside, while it runs.
    pub pid: Option<u32>,
    /// Its memory, while it runs and where the kernel counts it.
    pub memory: Option<Memory>,
    /// Whether its processes stand still, see [`crate::freeze`].
    pub frozen: bool,
}

/// Whether a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Being started, or left so by a program that was killed.
    Starting,
    /// Its first process exists. It may still be booting.
    Running,
    /// It was started and has ended.
    Stopped,
}

impl Lab {
    /// What is running at this moment.
    ///
    /// # Errors
    /// [`LabError::File`] when the machine's mounts cannot be read.
    pub fn status(&self) -> Result<Status> {
        let hierarchies = Hierarchies::detect()?;
        let state = &self.state;
        let server = state
            .server
            .as_ref()
            .filter(|server| server.process.is_some_and(Process::is_alive));
        let machine = |name: &str, node| NodeStatus::of(name, node, &hierarchies);
        Ok(Status {
            name: state.name.clone(),
            namespace: Namespace::named(&state.id).path(),
            repository: server.map(|server| server.listen.clone()),
            nodes: state
                .nodes
                .iter()
                .map(|(name, node)| machine(name, node))
                .collect(),
            outside: state.outside.as_ref().map(|known| OutsideStatus {
                machine: machine(outside::NAME, known),
                forwards: state.forwards(),
            }),
            cuts: state.cuts.iter().cloned().collect(),
        })
    }

    /// What the load balancer thinks of each node behind it, for each of its ports: asked this very moment.
    ///
    /// # Errors
    /// [`LabError::NoNode`] when the lab has no machine outside the fleet, [`LabError::NotRunning`] and [`LabError::Frozen`] when it is in no
    /// state to answer, [`LabError::File`] when it does not.
    pub fn backends(&self) -> Result<Vec<BackendStatus>> {
        let name = || outside::NAME.to_owned();
        let known = self.node(outside::NAME)?;
        let (_, Some(leader)) = run_state(known.stage) else {
            return Err(LabError::NotRunning(name()));
        };
        if Hierarchies::detect()?.group(&known.group).is_frozen() {
            return Err(LabError::Frozen(name()));
        }
        let root = format!("/proc/{}/root", leader.pid);
        outside::ask(Path::new(&root)).map_err(LabError::file("ask", outside::SOCKET))
    }
}

impl NodeStatus {
    fn of(name: &str, node: &NodeState, hierarchies: &Hierarchies) -> NodeStatus {
        let (run, leader) = run_state(node.stage);
        let group = hierarchies.group(&node.group);
        NodeStatus {
            name: name.to_owned(),
            roles: node.roles.clone(),
            address: node.address,
            public_address: node.public_address,
            state: run,
            pid: leader.map(|leader| leader.pid),
            memory: leader.and_then(|_| group.memory()),
            frozen: leader.is_some() && group.is_frozen(),
        }
    }
}

/// Whether a node runs, and its first process if it does.
pub(super) fn run_state(stage: Stage) -> (RunState, Option<Process>) {
    match stage {
        Stage::Starting => (RunState::Starting, None),
        Stage::Started { leader, .. } if leader.is_alive() => (RunState::Running, Some(leader)),
        Stage::Started { .. } => (RunState::Stopped, None),
    }
}
