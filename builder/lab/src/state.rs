//! What is recorded of a lab, so that any later process can find, use and end it.
//!
//! A resource is written down before it is made. Names of namespaces and groups are derived from the lab's directory, so a
//! record that says too much is harmless: what is not there needs no removal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    cut::Cut,
    error::{LabError, Result},
    outside::{self, Forward, ForwarderState},
    process::Process,
};

/// Raised when the shape of the file changes.
const VERSION: u32 = 1;

/// The whole record, `lab.json` in the lab's directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    version: u32,
    /// Name of the fleet.
    pub(crate) name: String,
    /// What the lab's namespace and control group are called on this machine.
    pub(crate) id: String,
    /// The repository's server.
    pub(crate) server: Option<ServerState>,
    /// The nodes by name.
    pub(crate) nodes: BTreeMap<String, NodeState>,
    /// The machine outside the fleet, which a lab may have besides its nodes.
    #[serde(default)]
    pub(crate) outside: Option<NodeState>,
    /// The process that leads from this machine to the one outside the fleet.
    #[serde(default)]
    pub(crate) forwarder: Option<ForwarderState>,
    /// Frames that are lost on purpose.
    #[serde(default)]
    pub(crate) cuts: BTreeSet<Cut>,
}

/// The repository's server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerState {
    /// Directory that is served.
    pub(crate) dir: PathBuf,
    /// `ADDRESS:PORT` it listens on.
    pub(crate) listen: String,
    /// The name of its control group, see [`State::new_group`].
    pub(crate) group: String,
    /// The process, once it is known to listen.
    pub(crate) process: Option<Process>,
}

/// A node, or the machine outside the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    /// The machine's number in this lab, never given twice.
    pub(crate) index: u32,
    /// Address in the private network.
    pub(crate) address: Ipv4Addr,
    /// Address in the public network.
    pub(crate) public_address: Ipv4Addr,
    /// Its roles.
    pub(crate) roles: Vec<String>,
    /// Root tree below its disk. A disk never changes trees.
    pub(crate) tree: PathBuf,
    /// The name of its control group, see [`State::new_group`].
    pub(crate) group: String,
    /// How far it was when last written down.
    pub(crate) stage: Stage,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub(crate) enum Stage {
    /// It is about to be started, or was being started when the program that did so ended.
    Starting,
    /// It was started: systemd-nspawn, and the node's own process 1.
    Started {
        /// systemd-nspawn outside.
        nspawn: Process,
        /// The node's first process, seen from outside.
        leader: Process,
    },
}

/// Where the lab of a fleet lives below the directory that all labs share: `labs/NAME-HASH`. `fleet` is the canonical path of
/// the fleet's directory, so that two checkouts of one fleet have two labs and neither ends the other's.
pub fn state_dir(root: &Path, name: &str, fleet: &Path) -> PathBuf {
    root.join("labs")
        .join(format!("{name}-{}", short_hash(fleet)))
}

/// The labs of the fleet in this directory, each with the name that the fleet had when its lab was booted, whatever it is called
/// now. `root` and `fleet` are those of [`state_dir`].
///
/// # Errors
/// What keeps the directory of labs from being read.
pub fn labs_of(root: &Path, fleet: &Path) -> Result<Vec<(String, PathBuf)>> {
    let labs = root.join("labs");
    let entries = match fs::read_dir(&labs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LabError::file("read", labs)(error)),
    };
    let ending = format!("-{}", short_hash(fleet));
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let name = name.strip_suffix(&ending)?.to_owned();
            entry
                .path()
                .join("lab.json")
                .exists()
                .then(|| (name, entry.path()))
        })
        .collect();
    found.sort();
    Ok(found)
}

/// Eight hexadecimal digits of a path's SHA-256.
fn short_hash(path: &Path) -> String {
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    hash.iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whether a lab in this directory may have this [`State::id`], whatever its fleet is called.
pub(crate) fn is_id_of(id: &str, directory: &Path) -> bool {
    id.strip_prefix("lab-")
        .and_then(|rest| rest.strip_suffix(&short_hash(directory)))
        .is_some_and(|name| name.len() > 1 && name.ends_with('-'))
}

impl State {
    /// The record of a new lab.
    pub(crate) fn new(name: &str, directory: &Path) -> State {
        // Two checkouts may each have a fleet of this name; their directories differ.
        let short = short_hash(directory);
        State {
            version: VERSION,
            name: name.to_owned(),
            id: format!("lab-{name}-{short}"),
            server: None,
            nodes: BTreeMap::new(),
            outside: None,
            forwarder: None,
            cuts: BTreeSet::new(),
        }
    }

    /// A name for the control group of a process that is about to be started. No name is used twice: a process whose starter was
    /// killed before it had entered its group must find that group gone, not the one of its successor.
    pub(crate) fn new_group(id: &str, part: &str) -> String {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        format!("{id}/{part}-{:x}", since.as_nanos())
    }

    /// The node of that name, or the machine outside the fleet.
    pub(crate) fn machine(&self, name: &str) -> Option<&NodeState> {
        match &self.outside {
            Some(outside) if name == outside::NAME => Some(outside),
            _ => self.nodes.get(name),
        }
    }

    /// As [`State::machine`], to be changed.
    pub(crate) fn machine_mut(&mut self, name: &str) -> Option<&mut NodeState> {
        match &mut self.outside {
            Some(outside) if name == outside::NAME => Some(outside),
            _ => self.nodes.get_mut(name),
        }
    }

    /// All nodes, and the machine outside the fleet.
    pub(crate) fn machines(&self) -> impl Iterator<Item = &NodeState> {
        self.nodes.values().chain(&self.outside)
    }

    /// The ports of this machine that lead into the lab.
    pub(crate) fn forwards(&self) -> Vec<Forward> {
        let forwarder = self.forwarder.as_ref().filter(|known| known.is_alive());
        forwarder.map_or(Vec::new(), |known| known.forwards.clone())
    }

    /// The smallest number that no machine has.
    pub(crate) fn free_index(&self) -> u32 {
        (1..)
            .find(|index| self.machines().all(|node| node.index != *index))
            .expect("fewer nodes than numbers")
    }
}

/// A file of the caller's in the lab's directory, which lives as long as the lab: how its certificate authority shows who it is.
pub const KEPT: &str = "authority.json";

/// The lab's directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// The lab in this directory, whether there is one or not.
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Store {
        Store {
            directory: directory.into(),
        }
    }

    /// The directory with the nodes' disks.
    pub(crate) fn nodes(&self) -> PathBuf {
        self.directory.join("nodes")
    }

    /// Where the repository's server writes its complaints.
    pub(crate) fn server_log(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Where the forwarder writes its complaints.
    pub(crate) fn forwarder_log(&self) -> PathBuf {
        self.directory.join("forwarder.log")
    }

    fn file(&self) -> PathBuf {
        self.directory.join("lab.json")
    }

    /// Reads the record; nothing when there is no lab.
    pub(crate) fn load(&self) -> Result<Option<State>> {
        let path = self.file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LabError::file("read", path)(error)),
        };
        let state: State = serde_json::from_slice(&text).map_err(|error| LabError::State {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        if state.version != VERSION {
            let reason = format!(
                "it is of version {}, this program writes {VERSION}",
                state.version
            );
            return Err(LabError::State { path, reason });
        }
        Ok(Some(state))
    }

    /// Writes the record: complete and on disk, or not at all.
    pub(crate) fn save(&self, state: &State) -> Result<()> {
        let path = self.file();
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".lab.json.")
                .tempfile_in(&self.directory)?;
            serde_json::to_writer_pretty(&mut file, state)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(LabError::file("write", &path))
    }

    /// Removes the record and whatever else the lab's directory holds of the lab. The record goes last.
    pub(crate) fn clear(&self) -> Result<()> {
        remove_tree(&self.nodes())?;
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LabError::file("read", &self.directory)(error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // Temporary files of a save that was killed.
            if name == "server.log"
                || name == "forwarder.log"
                || name.to_string_lossy().starts_with(".lab.json.")
            {
                remove_file(&entry.path())?;
            }
        }
        remove_file(&self.file())
    }

    /// Removes what the caller keeps beside the record for as long as the lab lives ([`KEPT`]), with what a write that was killed left.
    pub(crate) fn forget_kept(&self) -> Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LabError::file("read", &self.directory)(error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == KEPT || name.to_string_lossy().starts_with(".rolesmith-tmp-") {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes the lab for this process alone. Fails at once when another has it.
    pub(crate) fn lock(&self) -> Result<Lock> {
        fs::create_dir_all(&self.directory).map_err(LabError::file("make", &self.directory))?;
        Lock::take(&self.directory.join("lock"), false)
    }
}

/// A file lock, given back when dropped or when the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock on this path, making the file; with `wait`, waits until it is free.
    pub(crate) fn take(path: &Path, wait: bool) -> Result<Lock> {
        use rustix::fs::{FlockOperation, flock};
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .map_err(LabError::file("open", path))?;
            let operation = if wait {
                FlockOperation::LockExclusive
            } else {
                FlockOperation::NonBlockingLockExclusive
            };
            match flock(&file, operation) {
                Ok(()) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LabError::Busy(path.to_owned())),
                Err(error) => return Err(LabError::file("lock", path)(error.into())),
            }
            // The holder before may have removed the file (`remove`) between our opening and locking it.
            let held = file.metadata().map_err(LabError::file("read", path))?;
            if fs::metadata(path)
                .is_ok_and(|now| now.ino() == held.ino() && now.dev() == held.dev())
            {
                return Ok(Lock {
                    path: path.to_owned(),
                    _file: file,
                });
            }
        }
    }

    /// Gives the lock back and removes its file.
    pub(crate) fn remove(self) -> Result<()> {
        remove_file(&self.path)
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LabError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory that may not be there, with all below it.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LabError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
