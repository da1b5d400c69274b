//! What may befall a node: power loss, a crash, a freeze, cut cables. Each is harmless to repeat.

use std::{collections::BTreeSet, path::Path};

use crate::{
    cgroup::{Group, Hierarchies},
    cut::{self, Cut},
    down::remove_node,
    error::{LabError, Result},
    network::{Namespace, Ports},
    state::{NodeState, Stage, State, Store},
};

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As by power loss: every process is killed and not one frame leaves, so that peers find out by themselves.
    PowerLoss,
    /// As by a crash of everything but the kernel: processes are killed, and the kernel closes their connections, which peers see.
    Crash,
}

/// A lab held for one change.
struct Held {
    store: Store,
    state: State,
    hierarchies: Hierarchies,
    _lock: crate::state::Lock,
}

impl Held {
    fn take(state_dir: &Path) -> Result<Held> {
        let store = Store::at(state_dir);
        // No directory is made for the lock of a lab that is not there.
        if store.load()?.is_none() {
            return Err(LabError::NoLab(state_dir.to_owned()));
        }
        let lock = store.lock()?;
        let state = store
            .load()?
            .ok_or_else(|| LabError::NoLab(state_dir.to_owned()))?;
        Ok(Held {
            store,
            state,
            hierarchies: Hierarchies::detect()?,
            _lock: lock,
        })
    }

    fn node(&self, name: &str) -> Result<&NodeState> {
        self.state
            .machine(name)
            .ok_or_else(|| LabError::NoNode(name.to_owned()))
    }

    /// The group of a node that runs.
    fn running(&self, name: &str) -> Result<Group> {
        let node = self.node(name)?;
        match node.stage {
            Stage::Started { leader, .. } if leader.is_alive() => {
                Ok(self.hierarchies.group(&node.group))
            }
            _ => Err(LabError::NotRunning(name.to_owned())),
        }
    }
}

/// Puts the cuts that are recorded in force, and no others.
pub(crate) fn apply(state: &State) -> Result<()> {
    Namespace::named(&state.id).filter(&cut::script(&state.cuts, ports(state)))
}

/// The ports of a machine by its name.
fn ports(state: &State) -> impl Fn(&str) -> Option<Ports> {
    |name| state.machine(name).map(|machine| Ports::of(machine.index))
}

/// Ends a node at once. Its disk stays as the kernel has it: what was written is there, synced or not, since the kernel goes on.
/// Returns false when the node was not running.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::NoNode`], [`LabError::Busy`] while another process works on this lab.
pub fn kill(state_dir: &Path, node: &str, how: End) -> Result<bool> {
    let held = Held::take(state_dir)?;
    let was = held.running(node).is_ok();
    let known = held.node(node)?;
    let namespace = Namespace::named(&held.state.id);
    if how == End::PowerLoss {
        let silent: BTreeSet<Cut> = held
            .state
            .cuts
            .iter()
            .cloned()
            .chain(Cut::between(node, None, false))
            .collect();
        namespace.filter(&cut::script(&silent, ports(&held.state)))?;
    }
    held.hierarchies.group(&known.group).destroy()?;
    namespace.unplug(&Ports::of(known.index))?;
    apply(&held.state)?;
    Ok(was)
}

/// Stops all of a node's processes where they stand, or lets them go on. The network does not notice: frames arrive and nobody
/// reads them. Returns false when it was so already.
///
/// # Errors
/// As [`kill`], [`LabError::NotRunning`], and [`LabError::Timeout`] when a process cannot be stopped.
pub fn freeze(state_dir: &Path, node: &str, frozen: bool) -> Result<bool> {
    let held = Held::take(state_dir)?;
    let group = held.running(node)?;
    if group.is_frozen() == frozen {
        return Ok(false);
    }
    group.freeze(frozen)?;
    Ok(true)
}

/// Cuts a node off from another one, or from everybody, see [`Cut::between`]. The cut outlives the node's end and is in force when
/// it boots again. Returns false when it was cut already.
///
/// # Errors
/// As [`kill`].
pub fn cut(state_dir: &Path, node: &str, from: Option<&str>, one_way: bool) -> Result<bool> {
    let mut held = Held::take(state_dir)?;
    for name in [Some(node), from].into_iter().flatten() {
        held.node(name)?;
    }
    if from == Some(node) {
        return Err(LabError::Spec(format!(
            "{node} cannot be cut off from itself"
        )));
    }
    let before = held.state.cuts.len();
    held.state.cuts.extend(Cut::between(node, from, one_way));
    held.change(before)
}

/// Mends every cut in which this node is a party, or all of them. Returns false when there was none.
///
/// # Errors
/// As [`kill`].
pub fn mend(state_dir: &Path, node: Option<&str>) -> Result<bool> {
    let mut held = Held::take(state_dir)?;
    let before = held.state.cuts.len();
    match node {
        Some(node) => {
            held.node(node)?;
            held.state.cuts.retain(|cut| !cut.names(node));
        }
        None => held.state.cuts.clear(),
    }
    held.change(before)
}

impl Held {
    fn change(&self, before: usize) -> Result<bool> {
        self.store.save(&self.state)?;
        // Also where the record says so already: whoever wrote it may have been killed before this.
        apply(&self.state)?;
        Ok(self.state.cuts.len() != before)
    }
}

/// Ends a node and removes it with its disk and its cuts, as a provider destroys a machine. [`crate::up`] makes a new one under
/// its name. Returns false when the lab has no such node, so that what was cut off can be repeated.
///
/// # Errors
/// [`LabError::NoLab`], [`LabError::Busy`].
pub fn destroy(state_dir: &Path, node: &str) -> Result<bool> {
    let mut held = Held::take(state_dir)?;
    let Some(known) = held.state.nodes.get(node) else {
        return Ok(false);
    };
    let id = &held.state.id;
    remove_node(&held.store, id, &held.hierarchies, node, known)?;
    held.state.nodes.remove(node);
    held.state.cuts.retain(|cut| !cut.names(node));
    held.change(0)?;
    Ok(true)
}
