//! Starting the process that leads from this machine into the lab, and remembering which ports it got.

use std::{ffi::OsString, net::SocketAddrV4, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Outside,
    boot::public_address,
    forward::{Forward, PORTS},
};
use crate::{
    Progress,
    cgroup::Hierarchies,
    error::{LabError, Result},
    lab::socket_path,
    launch::Server,
    network::Namespace,
    process::Process,
    spec::LabSpec,
    state::{State, Store, remove_file},
};

/// The load balancer's ports and where they are on this machine, while those are free: 443 and 80 are root's and may be in use.
const FORWARDS: [(u16, u16); 2] = [(8443, 443), (8080, 80)];

/// How long it may take until it listens.
const LIMIT: Duration = Duration::from_secs(20);

/// The process that leads from this machine's loopback address into the lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForwarderState {
    /// From where to where. The ports are the wanted ones until it is known to listen.
    pub(crate) forwards: Vec<Forward>,
    /// The name of its control group, see [`State::new_group`].
    pub(crate) group: String,
    /// The process, once it is known to listen.
    pub(crate) process: Option<Process>,
}

/// Has the load balancer be reached from this machine's loopback address, by the process that does so already or by a new one, on
/// the ports of an earlier one as far as they are free; on none where the specification says so.
pub(crate) fn serve(
    spec: &LabSpec,
    store: &Store,
    state: &mut State,
    hierarchies: &Hierarchies,
    progress: &dyn Progress,
) -> Result<()> {
    let outside = spec.outside.as_ref();
    let wanted = outside.filter(|outside| !outside.forwarder.is_empty() && state.outside.is_some());
    let forwards = wanted.map_or(Ok(Vec::new()), |outside| forwards(spec, outside, state))?;
    let known = state.forwarder.as_ref();
    if known.is_some_and(|known| known.forwards == forwards && known.is_alive()) {
        return Ok(());
    }
    if let Some(old) = &state.forwarder {
        hierarchies.group(&old.group).destroy()?;
    }
    let Some(outside) = wanted else {
        if state.forwarder.take().is_some() {
            store.save(state)?;
        }
        return Ok(());
    };
    progress.step(None, "leading loopback ports into the lab");
    let group_name = State::new_group(&state.id, "forwarder");
    let new = state.forwarder.insert(ForwarderState {
        forwards,
        group: group_name.clone(),
        process: None,
    });
    let namespace = Namespace::named(&state.id);
    let mut words = outside.forwarder.clone();
    words.extend(["--namespace".into(), namespace.path().into_os_string()]);
    for forward in &new.forwards {
        words.extend([
            OsString::from("--forward"),
            OsString::from(forward.to_string()),
        ]);
    }
    store.save(state)?;
    let group = hierarchies.group(&group_name);
    group.create()?;
    remove_file(&store.forwarder_log())?;
    let (process, ports) = Server {
        what: "the forwarder",
        // It has to begin where its listeners are to be.
        namespace: None,
        group: &group,
        log: &store.forwarder_log(),
        socket: &socket_path(&state.id, "forwarder"),
        words: &words,
        limit: LIMIT,
    }
    .start(PORTS)?;
    let ports: Vec<u16> = ports
        .split(',')
        .filter_map(|port| port.parse().ok())
        .collect();
    let Some(new) = state
        .forwarder
        .as_mut()
        .filter(|new| new.forwards.len() == ports.len())
    else {
        return Err(LabError::Spec(format!(
            "the forwarder reports the ports {ports:?}"
        )));
    };
    for (forward, port) in new.forwards.iter_mut().zip(ports) {
        forward.port = port;
    }
    new.process = Some(process);
    store.save(state)
}

/// What is to lead where: to the load balancer's public address, as whatever comes from outside does.
fn forwards(spec: &LabSpec, outside: &Outside, state: &State) -> Result<Vec<Forward>> {
    let address = public_address(spec, outside)?;
    let known = state.forwarder.iter().flat_map(|known| &known.forwards);
    Ok(FORWARDS
        .iter()
        .map(|(port, service)| {
            let before = known.clone().find(|known| known.to.port() == *service);
            Forward {
                port: before.map_or(*port, |before| before.port),
                to: SocketAddrV4::new(address, *service),
            }
        })
        .collect())
}

impl ForwarderState {
    /// Whether it forwards.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.is_some_and(Process::is_alive)
    }
}
