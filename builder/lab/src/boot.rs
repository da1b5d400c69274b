//! Bringing a lab up: what is there is kept, what is missing is made, what was begun by a program that died is begun again.

use std::{
    path::Path,
    sync::Mutex,
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use rustix::fs::FsWord;

use crate::{
    LabReport, Progress,
    cgroup::Hierarchies,
    down::{end_unrecorded, remove_node, teardown},
    error::{LabError, Result},
    fault,
    lab::socket_path,
    launch::Server,
    network::Namespace,
    node::{Clock, Work},
    outcome::{NodeReport, Start},
    outside,
    preflight::preflight,
    process::Process,
    spec::{LabSpec, NodeSpec},
    state::{NodeState, ServerState, Stage, State, Store, remove_file},
    tree::{self, Tree},
};

/// How [`up`] goes about it.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// End a lab that is there and begin with empty disks.
    pub fresh: bool,
    /// Build a new root tree even if one is known.
    pub refresh_tree: bool,
    /// Start these nodes alone ([`crate::OUTSIDE`] may be among them); the others stay as they are, running or not. Nothing: all.
    pub only: Option<Vec<String>>,
    /// How long a node may take from its start until its systemd has nothing more to do. What cloud-init runs, installing packages
    /// among it, is part of that.
    pub boot_limit: Duration,
}

impl Default for UpOptions {
    fn default() -> Self {
        UpOptions {
            fresh: false,
            refresh_tree: false,
            only: None,
            boot_limit: Duration::from_secs(600),
        }
    }
}

impl UpOptions {
    /// Whether the machine of this name is to run afterwards.
    pub(crate) fn starts(&self, name: &str) -> bool {
        let only = self.only.as_ref();
        only.is_none_or(|only| only.iter().any(|one| one == name))
    }
}

/// How long the repository's server may take until it listens.
const SERVER_LIMIT: Duration = Duration::from_secs(20);

/// Brings the lab up, or completes it, and reports how every node came up. Nodes that run already are left alone.
///
/// A node that boots badly is no error here: it is in the report, see [`NodeReport::complaints`].
///
/// # Errors
/// [`LabError::Missing`] when the machine cannot run a lab, [`LabError::Spec`], [`LabError::Busy`] while another process works on
/// this lab, [`LabError::Boot`] or [`LabError::Timeout`] for a node that did not come up ([`LabError::Nodes`] for several). What runs
/// at that moment goes on running, for a look or for another try; [`crate::down`] ends it.
pub fn up(spec: &LabSpec, options: &UpOptions, progress: &dyn Progress) -> Result<LabReport> {
    spec.check()?;
    preflight()?;
    let mut clock = Clock::new();
    let store = Store::at(&spec.state_dir);
    let _lock = store.lock()?;
    can_carry_disks(&spec.state_dir)?;

    let mut recorded = store.load()?;
    if let (true, Some(state)) = (options.fresh, &recorded) {
        progress.step(None, "ending the lab that is there");
        teardown(&store, state)?;
        recorded = None;
        clock.lap("end of the old lab");
    }
    if recorded.is_none() {
        // Its nodes would hold the names and addresses of the new ones.
        end_unrecorded(&spec.state_dir, progress)?;
    }
    let mut state = recorded.unwrap_or_else(|| State::new(&spec.name, &spec.state_dir));
    if state.name != spec.name {
        return Err(LabError::Spec(format!(
            "{} holds the lab of fleet {}",
            spec.state_dir.display(),
            state.name
        )));
    }
    let chosen: Vec<&NodeSpec> = spec
        .nodes
        .iter()
        .filter(|node| options.starts(&node.name))
        .collect();
    let trees = trees(spec, &chosen, options, progress)?;
    clock.lap("root tree");

    store.save(&state)?;
    for tree in &trees {
        tree.hold(&state.id, &spec.state_dir)?;
    }
    let hierarchies = Hierarchies::detect()?;
    drop_surplus_nodes(spec, &store, &mut state, &hierarchies)?;
    let namespace = Namespace::named(&state.id);
    namespace.create(&spec.network)?;
    clock.lap("network");
    serve_repository(spec, &store, &mut state, &hierarchies, progress)?;
    clock.lap("repository");

    let starts = record_nodes(spec, &chosen, &store, &mut state, &hierarchies, &trees)?;
    let beside = outside::boot::record(spec, options, &store, &mut state, &hierarchies, progress)?;
    if beside == Some(Start::New) {
        clock.lap("root tree outside");
    }
    outside::boot::refresh(spec, &state, &hierarchies)?;
    outside::forwarder::serve(spec, &store, &mut state, &hierarchies, progress)?;
    // Cables are plugged in by number, and a new node has a new one.
    fault::apply(&state)?;
    let forwards = state.forwards();
    let work = Work {
        spec,
        options,
        progress,
        store: &store,
        hierarchies: &hierarchies,
        state: Mutex::new(state),
    };
    let (results, beside) = thread::scope(|scope| {
        let work = &work;
        let nodes = chosen.iter().zip(&starts);
        let threads: Vec<_> = nodes
            .map(|(node, start)| scope.spawn(|| work.node(node, *start)))
            .collect();
        let beside = beside.map(|start| scope.spawn(move || work.outside(start)));
        let results: Vec<_> = threads.into_iter().map(join).collect();
        (results, beside.map(join))
    });
    clock.lap("nodes");

    let mut nodes = Vec::new();
    let mut errors = Vec::new();
    let beside = match beside.transpose() {
        Ok(report) => report,
        Err(error) => {
            errors.push((outside::NAME.to_owned(), error));
            None
        }
    };
    for (node, result) in chosen.iter().zip(results) {
        match result {
            Ok(report) => nodes.push(report),
            Err(error) => errors.push((node.name.clone(), error)),
        }
    }
    match errors.len() {
        0 => Ok(LabReport {
            name: spec.name.clone(),
            tree: trees.into_iter().next().map(|tree| tree.root),
            phases: clock.laps,
            nodes,
            outside: beside,
            forwards,
        }),
        1 => Err(errors.remove(0).1),
        _ => Err(LabError::Nodes(errors)),
    }
}

/// The trees that these nodes stand on when they are new, one for each; made if they are not there.
fn trees(
    spec: &LabSpec,
    chosen: &[&NodeSpec],
    options: &UpOptions,
    progress: &dyn Progress,
) -> Result<Vec<Tree>> {
    let mut refresh = options.refresh_tree;
    let tree = |node: &&NodeSpec| match &node.baked {
        Some(baked) => tree::unpack(&spec.tree.cache_dir, &spec.tree.suite, baked, progress),
        // Anew once, not for each of them.
        None => tree::ensure(&spec.tree, std::mem::take(&mut refresh), progress),
    };
    chosen.iter().map(tree).collect()
}

/// What a machine's thread brought.
fn join(thread: ScopedJoinHandle<'_, Result<NodeReport>>) -> Result<NodeReport> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Ends what the record has and the specification has not.
fn drop_surplus_nodes(
    spec: &LabSpec,
    store: &Store,
    state: &mut State,
    hierarchies: &Hierarchies,
) -> Result<()> {
    let surplus: Vec<String> = state
        .nodes
        .keys()
        .filter(|name| !spec.nodes.iter().any(|node| node.name == **name))
        .cloned()
        .collect();
    for name in surplus {
        remove_node(store, &state.id, hierarchies, &name, &state.nodes[&name])?;
        state.nodes.remove(&name);
        state.cuts.retain(|cut| !cut.names(&name));
        store.save(state)?;
    }
    Ok(())
}

/// Has the repository served, by the process that does so already or by a new one.
fn serve_repository(
    spec: &LabSpec,
    store: &Store,
    state: &mut State,
    hierarchies: &Hierarchies,
    progress: &dyn Progress,
) -> Result<()> {
    let wanted = spec.repository.as_ref().map(|repository| {
        (
            repository,
            format!("{}:{}", spec.network.public_prefix.first(), repository.port),
        )
    });
    if let (Some(server), Some((repository, listen))) = (&state.server, &wanted) {
        let same = server.dir == repository.dir && server.listen == *listen;
        if same && server.process.is_some_and(Process::is_alive) {
            return Ok(());
        }
    }
    if let Some(old) = &state.server {
        hierarchies.group(&old.group).destroy()?;
    }
    state.server = wanted.as_ref().map(|(repository, listen)| ServerState {
        dir: repository.dir.clone(),
        listen: listen.clone(),
        group: State::new_group(&state.id, "server"),
        process: None,
    });
    store.save(state)?;
    let (Some((repository, listen)), Some(server)) = (wanted, &state.server) else {
        return Ok(());
    };
    let group = hierarchies.group(&server.group);
    progress.step(None, "serving the repository");
    group.create()?;
    let mut words = repository.server.clone();
    words.extend([
        "--dir".into(),
        repository.dir.clone().into(),
        "--listen".into(),
        listen.into(),
    ]);
    remove_file(&store.server_log())?;
    let (process, _) = Server {
        what: "the repository's server",
        namespace: Some(&Namespace::named(&state.id)),
        group: &group,
        log: &store.server_log(),
        socket: &socket_path(&state.id, "server"),
        words: &words,
        limit: SERVER_LIMIT,
    }
    .start("READY=")?;
    if let Some(server) = &mut state.server {
        server.process = Some(process);
    }
    store.save(state)
}

/// Writes every chosen node down before anything is made of it, and says how each is to come to run.
fn record_nodes(
    spec: &LabSpec,
    chosen: &[&NodeSpec],
    store: &Store,
    state: &mut State,
    hierarchies: &Hierarchies,
    trees: &[Tree],
) -> Result<Vec<Start>> {
    let mut starts = Vec::new();
    let id = state.id.clone();
    for (node, tree) in chosen.iter().zip(trees) {
        let public_address = spec.public_address(node).ok_or_else(|| {
            LabError::Spec(format!(
                "{} of node {} has no public counterpart",
                node.address, node.name
            ))
        })?;
        let Some(known) = state.nodes.get_mut(&node.name) else {
            let index = state.free_index();
            let new = NodeState {
                index,
                address: node.address,
                public_address,
                roles: node.roles.clone(),
                tree: tree.root.clone(),
                group: State::new_group(&id, &node.name),
                stage: Stage::Starting,
            };
            state.nodes.insert(node.name.clone(), new);
            starts.push(Start::New);
            continue;
        };
        if (known.address, known.public_address) != (node.address, public_address) {
            let why = format!(
                "node {} was made with the address {}, now it has {}; begin afresh",
                node.name, known.address, node.address
            );
            return Err(LabError::Spec(why));
        }
        known.roles.clone_from(&node.roles);
        starts.push(again(known, &node.name, &id, hierarchies)?);
    }
    store.save(state)?;
    Ok(starts)
}

/// How a machine that is recorded in the lab with this id is to come to run; the record is made ready for it.
pub(crate) fn again(
    known: &mut NodeState,
    name: &str,
    id: &str,
    hierarchies: &Hierarchies,
) -> Result<Start> {
    if hierarchies.group(&known.group).is_frozen() {
        return Err(LabError::Frozen(name.to_owned()));
    }
    let start = match known.stage {
        Stage::Started { nspawn, leader } if nspawn.is_alive() && leader.is_alive() => {
            return Ok(Start::Running);
        }
        _ if !known.tree.is_dir() => {
            let why = format!(
                "the root tree of node {name} ({}) is gone; begin afresh",
                known.tree.display()
            );
            return Err(LabError::Spec(why));
        }
        Stage::Started { .. } => Start::Again,
        // Whoever wrote this never saw it run: nothing on its disk is worth keeping.
        Stage::Starting => Start::New,
    };
    // What a killed program, or a machine that ended, left.
    hierarchies.group(&known.group).destroy()?;
    known.group = State::new_group(id, name);
    known.stage = Stage::Starting;
    Ok(start)
}

/// overlayfs cannot keep a writable layer everywhere, and its own words on that are "wrong fs type, bad option, bad superblock".
fn can_carry_disks(state_dir: &Path) -> Result<()> {
    // <linux/magic.h>
    const OVERLAYFS: FsWord = 0x794c_7630;
    const NFS: FsWord = 0x6969;
    const MSDOS: FsWord = 0x4d44;
    const V9FS: FsWord = 0x0102_1997;
    let kind = rustix::fs::statfs(state_dir)
        .map_err(|error| LabError::file("examine", state_dir)(error.into()))?
        .f_type;
    let name = match kind {
        OVERLAYFS => "overlayfs (inside a container? mount a volume there)",
        NFS => "NFS",
        MSDOS => "FAT",
        V9FS => "9p (on WSL, choose a directory of the Linux file system)",
        _ => return Ok(()),
    };
    Err(LabError::Spec(format!(
        "{} is on {name}, where the nodes' disks cannot be kept; choose another directory",
        state_dir.display()
    )))
}
