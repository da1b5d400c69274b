//! The machine's way up, beside the nodes'; and what it is told while it runs.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use super::{
    NAME, Outside, SUITE,
    files::{File, files},
};
use crate::{
    Progress,
    boot::{UpOptions, again},
    cgroup::Hierarchies,
    down::remove_node,
    error::{LabError, Result},
    lab::enter,
    node::{Machine, Work},
    outcome::{NodeReport, Start},
    seed::Disk,
    spec::{LabSpec, Purpose, TreeSpec},
    state::{NodeState, Stage, State, Store},
    tree,
};

/// What has to run.
fn units(outside: &Outside) -> impl Iterator<Item = &'static str> {
    let authority = outside.authority.as_ref().map(|_| super::acme::UNIT);
    std::iter::once("haproxy.service").chain(authority)
}

/// How long a service may take to take over what has changed.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// Writes the machine down before anything is made of it, and says how it is to come to run; nothing where it stays as it is. Its root
/// tree is made if it needs one.
pub(crate) fn record(
    spec: &LabSpec,
    options: &UpOptions,
    store: &Store,
    state: &mut State,
    hierarchies: &Hierarchies,
    progress: &dyn Progress,
) -> Result<Option<Start>> {
    let Some(outside) = &spec.outside else {
        if let Some(gone) = state.outside.take() {
            remove_node(store, &state.id, hierarchies, NAME, &gone)?;
            state.cuts.retain(|cut| !cut.names(NAME));
            store.save(state)?;
        }
        return Ok(None);
    };
    if !options.starts(NAME) {
        return Ok(None);
    }
    let public_address = public_address(spec, outside)?;
    let id = state.id.clone();
    let start = if let Some(known) = &mut state.outside {
        if (known.address, known.public_address) != (outside.address, public_address) {
            return Err(LabError::Spec(format!(
                "the machine outside the fleet was made with the address {}, now it has {}; begin afresh",
                known.address, outside.address
            )));
        }
        again(known, NAME, &id, hierarchies)?
    } else {
        let wanted = TreeSpec {
            purpose: Purpose::Outside,
            suite: SUITE.to_owned(),
            cache_dir: spec.tree.cache_dir.clone(),
            key_extra: None,
            sources: None,
        };
        let tree = tree::ensure(&wanted, options.refresh_tree, progress)?;
        tree.hold(&id, &spec.state_dir)?;
        state.outside = Some(NodeState {
            index: state.free_index(),
            address: outside.address,
            public_address,
            roles: Vec::new(),
            tree: tree.root,
            group: State::new_group(&id, NAME),
            stage: Stage::Starting,
        });
        Start::New
    };
    store.save(state)?;
    Ok(Some(start))
}

/// Makes the files of a machine that runs what they are to be, and has its services take that over. A machine that is off finds
/// them when it boots; one that is frozen or has not come up yet keeps what it has.
pub(crate) fn refresh(spec: &LabSpec, state: &State, hierarchies: &Hierarchies) -> Result<()> {
    let (Some(outside), Some(known)) = (&spec.outside, &state.outside) else {
        return Ok(());
    };
    let Stage::Started { leader, .. } = known.stage else {
        return Ok(());
    };
    if !leader.is_alive() || hierarchies.group(&known.group).is_frozen() {
        return Ok(());
    }
    let root = PathBuf::from(format!("/proc/{}/root", leader.pid));
    let mut reload: Vec<&str> = Vec::new();
    for file in files(spec, outside, known.public_address) {
        if fs::read(root.join(&file.path)).is_ok_and(|text| text == file.text.as_bytes()) {
            continue;
        }
        put(&root, &file)?;
        reload.extend(file.reload.filter(|unit| !reload.contains(unit)));
    }
    // Once each, when all that a service reads is there.
    for unit in reload {
        let command = ["systemctl", "reload-or-restart", unit];
        enter(leader.pid, &command, Some(RELOAD_LIMIT))?;
    }
    Ok(())
}

impl Work<'_> {
    /// Brings the machine up and asks how it is.
    pub(crate) fn outside(&self, start: Start) -> Result<NodeReport> {
        let known = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.outside.clone()
        };
        let (Some(outside), Some(known)) = (&self.spec.outside, known) else {
            return Err(LabError::NoNode(NAME.to_owned()));
        };
        let write = |disk: &Disk| {
            for directory in [disk.work(), disk.merged()] {
                fs::create_dir_all(&directory).map_err(LabError::file("make", directory))?;
            }
            files(self.spec, outside, known.public_address)
                .iter()
                .try_for_each(|file| put(&disk.upper(), file))
        };
        let machine = Machine {
            name: NAME,
            memory_limit: None,
            cloud_init: false,
            write: &write,
        };
        let mut report = self.machine(&machine, &known, start)?;
        if let Some(pid) = self.leader_of_outside() {
            // Debian's units of some services are restarted for ever, and are then neither failed nor there.
            for unit in units(outside) {
                let show = [
                    "systemctl",
                    "show",
                    "--property=ActiveState",
                    "--value",
                    unit,
                ];
                let state = enter(pid, &show, Some(RELOAD_LIMIT))?;
                if state.trim() != "active" && !report.failed_units.iter().any(|name| name == unit)
                {
                    report.failed_units.push(unit.to_owned());
                }
            }
        }
        Ok(report)
    }

    fn leader_of_outside(&self) -> Option<u32> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.outside.as_ref()?.stage {
            Stage::Started { leader, .. } => Some(leader.pid),
            Stage::Starting => None,
        }
    }
}

/// Writes a file that everybody may read below this root directory: the new one or the old one is there at any time.
fn put(root: &Path, file: &File) -> Result<()> {
    let path = root.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(LabError::file("make", parent))?;
    }
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let write = || {
        fs::write(&new, &file.text)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, &path)
    };
    write().map_err(LabError::file("write", &path))
}

/// The machine's address in the public network.
pub(crate) fn public_address(spec: &LabSpec, outside: &Outside) -> Result<Ipv4Addr> {
    spec.public_counterpart(outside.address).ok_or_else(|| {
        LabError::Spec(format!(
            "{} of the machine outside the fleet has no public counterpart",
            outside.address
        ))
    })
}
