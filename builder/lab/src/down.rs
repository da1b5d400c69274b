//! Ending a lab, whole or in part, whatever state it is in.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    Progress,
    cgroup::Hierarchies,
    error::Result,
    lab::{RUN, RUN_PREFIX, run_directory},
    network::{NAMESPACES, Namespace, Ports},
    state::{NodeState, Stage, State, Store, is_id_of, remove_tree},
    tree,
};

/// Ends the lab in this directory and removes all of it: processes, network, control groups, disks, records. Root trees stay, they
/// are shared. Returns false when there was no lab.
///
/// It works on what any crash left, and as often as one likes; also where the directory was deleted while the lab was up, since what
/// is on the machine is named after the directory.
///
/// # Errors
/// [`crate::LabError::Busy`] while another process works on this lab, or whatever could not be removed.
pub fn down(state_dir: &Path, progress: &dyn Progress) -> Result<bool> {
    let hierarchies = Hierarchies::detect()?;
    if !state_dir.exists() && unrecorded(state_dir, &hierarchies).is_empty() {
        return Ok(false);
    }
    let store = Store::at(state_dir);
    let lock = store.lock()?;
    let was = if let Some(state) = store.load()? {
        progress.step(None, "ending the nodes");
        teardown(&store, &state)?;
        true
    } else {
        let was = end_unrecorded(state_dir, progress)?;
        store.clear()?;
        was
    };
    store.forget_kept()?;
    lock.remove()?;
    // Only if nothing else is in it; the directory may have been the caller's.
    let _ = fs::remove_dir(state_dir);
    Ok(was)
}

/// Ends and removes everything recorded. The caller holds the lock.
pub(crate) fn teardown(store: &Store, state: &State) -> Result<()> {
    // Everything the lab ever started is in here, recorded one by one or not.
    Hierarchies::detect()?.group(&state.id).destroy()?;
    for node in state.machines() {
        kill_recorded(node.stage);
    }
    let server = state.server.as_ref().and_then(|server| server.process);
    let forwarder = state.forwarder.as_ref().and_then(|known| known.process);
    for process in server.into_iter().chain(forwarder) {
        process.kill();
    }
    remove_names(&state.id)?;
    for node in state.machines() {
        tree::release(&node.tree, &state.id)?;
    }
    store.clear()
}

/// Ends and removes what is on the machine of a lab in this directory of which nothing is recorded: somebody deleted the directory
/// while the lab was up. Returns false when there is nothing. The caller holds the lock.
pub(crate) fn end_unrecorded(state_dir: &Path, progress: &dyn Progress) -> Result<bool> {
    let hierarchies = Hierarchies::detect()?;
    let ids = unrecorded(state_dir, &hierarchies);
    for id in &ids {
        progress.step(None, "ending what runs without a record");
        hierarchies.group(id).destroy()?;
        remove_names(id)?;
    }
    Ok(!ids.is_empty())
}

/// The ids of labs in this directory, whatever their fleet is called, that something on the machine is named after.
fn unrecorded(state_dir: &Path, hierarchies: &Hierarchies) -> BTreeSet<String> {
    hierarchies
        .roots()
        .chain([Path::new(RUN), Path::new(NAMESPACES)])
        .flat_map(|place| fs::read_dir(place).into_iter().flatten().flatten())
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_prefix(RUN_PREFIX).unwrap_or(&name);
            is_id_of(id, state_dir).then(|| id.to_owned())
        })
        .collect()
}

fn remove_names(id: &str) -> Result<()> {
    Namespace::named(id).delete()?;
    remove_tree(&run_directory(id))
}

/// Ends one machine of the lab with this id, and removes its disk.
pub(crate) fn remove_node(
    store: &Store,
    id: &str,
    hierarchies: &Hierarchies,
    name: &str,
    node: &NodeState,
) -> Result<()> {
    hierarchies.group(&node.group).destroy()?;
    kill_recorded(node.stage);
    let namespace = Namespace::named(id);
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
