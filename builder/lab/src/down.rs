//! Ending a lab, whole or in part, whatever state it is in.

use std::{fs, path::Path};

use crate::{
    Progress,
    cgroup::Hierarchies,
    error::Result,
    lab::run_directory,
    network::{Namespace, Ports},
    state::{Stage, State, Store, remove_tree},
    tree,
};

/// Ends the lab in this directory and removes all of it: processes, network, control groups, disks, records. Root trees stay, they
/// are shared. Returns false when there was no lab.
///
/// It works on what any crash left, and as often as one likes.
///
/// # Errors
/// [`crate::LabError::Busy`] while another process works on this lab, or whatever could not be removed.
pub fn down(state_dir: &Path, progress: &dyn Progress) -> Result<bool> {
    if !state_dir.exists() {
        return Ok(false);
    }
    let store = Store::at(state_dir);
    let lock = store.lock()?;
    let state = store.load()?;
    if let Some(state) = &state {
        progress.step(None, "ending the nodes");
        teardown(&store, state)?;
    } else {
        store.clear()?;
    }
    lock.remove()?;
    // Only if nothing else is in it; the directory may have been the caller's.
    let _ = fs::remove_dir(state_dir);
    Ok(state.is_some())
}

/// Ends and removes everything recorded. The caller holds the lock.
pub(crate) fn teardown(store: &Store, state: &State) -> Result<()> {
    // Everything the lab ever started is in here, recorded one by one or not.
    Hierarchies::detect()?.group(&state.id).destroy()?;
    for node in state.nodes.values() {
        kill_recorded(node.stage);
    }
    if let Some(process) = state.server.as_ref().and_then(|server| server.process) {
        process.kill();
    }
    Namespace::named(&state.id).delete()?;
    remove_tree(&run_directory(&state.id))?;
    for node in state.nodes.values() {
        tree::release(&node.tree, &state.id)?;
    }
    store.clear()
}

/// Ends one node and removes its disk.
pub(crate) fn remove_node(
    store: &Store,
    state: &State,
    hierarchies: &Hierarchies,
    name: &str,
) -> Result<()> {
    let Some(node) = state.nodes.get(name) else {
        return Ok(());
    };
    hierarchies.group(&node.group).destroy()?;
    kill_recorded(node.stage);
    let namespace = Namespace::named(&state.id);
    if namespace.path().exists() {
        namespace.unplug(&Ports::of(node.index))?;
    }
    remove_tree(&store.nodes().join(name))
}

fn kill_recorded(stage: Stage) {
    if let Stage::Started { nspawn, leader } = stage {
        nspawn.kill();
        leader.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lab, LabError};

    #[test]
    fn ending_a_lab_that_never_was_is_no_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let gone = directory.path().join("never");
        assert!(!down(&gone, &crate::Silent).expect("nothing to do"));
        assert!(matches!(Lab::open(&gone), Err(LabError::NoLab(_))));
    }
}
