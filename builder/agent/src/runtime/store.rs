//! What survives the process, the power and a crash half way through writing: the core's state.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use crate::cluster::{DURABLE_FORMAT, Durable, Incarnation};
use crate::files::{self, Access, Root, Seen};
use crate::observe;
use crate::state::State;

/// Directory of the cluster's state.
pub const DIR: &str = "/var/lib/rolesmith/cluster";
/// The state.
pub const FILE: &str = "/var/lib/rolesmith/cluster/state.json";

/// Why the state cannot be used or kept. In each case the node must not take part.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A state that is not whole. It is not replaced by an empty one: its promises would be forgotten (rule 5).
    #[error(
        "{FILE} cannot be read: {0}; its promises are lost. Once this machine is to be treated as a new one, delete the file"
    )]
    Broken(String),
    /// Written by a newer agent.
    #[error(
        "{FILE} has format {0}, and this agent knows {DURABLE_FORMAT}: install the newer agent again"
    )]
    Newer(u32),
    /// Another process has it.
    #[error("another process keeps this node's promises already")]
    InUse,
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(io::Error),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { path, error }
}

/// The place of the state. At most one process has it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Takes the place, and what stands there. `number` is the incarnation of the identity: with another one, or without
    /// any state, the machine is a new one and begins without promises.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(root: &Root, number: u64) -> Result<(Self, Durable), StoreError> {
        let dir = root.join(DIR);
        if !dir.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(at(&dir))?;
            if let Some(parent) = dir.parent() {
                // The directory too has to survive.
                File::open(parent)
                    .and_then(|parent| parent.sync_all())
                    .map_err(at(parent))?;
            }
        }
        let path = dir.join("lock");
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => StoreError::InUse,
            error => at(&path)(error.into()),
        })?;
        let mut store = Self {
            path: root.join(FILE),
            _lock: lock,
        };
        let durable = store.load(number)?;
        Ok((store, durable))
    }

    fn load(&mut self, number: u64) -> Result<Durable, StoreError> {
        /// The format first: a newer one may hold anything.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        match files::read_json::<Format>(&self.path) {
            Seen::Absent => {}
            Seen::Broken(why) => return Err(StoreError::Broken(why)),
            Seen::Is(Format { format }) if format > DURABLE_FORMAT => {
                return Err(StoreError::Newer(format));
            }
            Seen::Is(_) => match files::read_json::<Durable>(&self.path) {
                Seen::Is(durable) if durable.incarnation.number == number => return Ok(durable),
                Seen::Is(former) => {
                    // For people; nothing reads it again.
                    let name = format!("state.json.incarnation-{}", former.incarnation.number);
                    let kept = self.path.with_file_name(name);
                    fs::rename(&self.path, &kept).map_err(at(&kept))?;
                }
                Seen::Absent => {}
                Seen::Broken(why) => return Err(StoreError::Broken(why)),
            },
        }
        let id = random().map_err(StoreError::Random)?;
        let fresh = Durable::fresh(Incarnation { number, id });
        // The id has to be the same ever after, whether or not anything was promised.
        self.save(&fresh)?;
        Ok(fresh)
    }

    /// Makes the state durable.
    ///
    /// # Errors
    /// [`StoreError::Io`]. Whether the old or the new state stands there is unknown then.
    pub fn save(&mut self, durable: &Durable) -> Result<(), StoreError> {
        let bytes =
            serde_json::to_vec(durable).map_err(|error| at(&self.path)(io::Error::other(error)))?;
        files::write(&self.path, &bytes, Access::PRIVATE).map_err(at(&self.path))
    }
}

/// A random number.
///
/// # Errors
/// What the system calls return.
pub fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// The id of this boot.
#[must_use]
pub fn boot(root: &Root) -> String {
    let path = root.join("/proc/sys/kernel/random/boot_id");
    let text = files::read(&path).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// The highest version of this fleet's facts that the agent's other half has acted upon, or this one (0: none).
#[must_use]
pub fn facts_seen(root: &Root) -> u64 {
    let fleet = match observe::identity(root) {
        Seen::Is(identity) => identity.fleet,
        _ => return 0,
    };
    let applied = State::load(root)
        .ok()
        .filter(|state| state.memory.fleet.as_ref() == Some(&fleet))
        .map_or(0, |state| state.memory.facts_version);
    let clustered = match files::read_json::<Durable>(&root.join(FILE)) {
        Seen::Is(durable) => durable.facts,
        _ => 0,
    };
    applied.max(clustered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Epoch, Promise};
    use rolesmith_model::ids::NodeName;

    #[test]
    fn a_first_start_makes_an_identity_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let (store, first) = Store::open(&root, 1).unwrap();
        assert!(matches!(Store::open(&root, 1), Err(StoreError::InUse)));
        drop(store);
        let (mut store, second) = Store::open(&root, 1).unwrap();
        assert_eq!(first, second);
        let mut promised = second.clone();
        promised.promise = Some(Promise {
            epoch: Epoch(7),
            holder: NodeName::new("n2").unwrap(),
        });
        store.save(&promised).unwrap();
        drop(store);
        assert_eq!(Store::open(&root, 1).unwrap().1, promised);
        // Another incarnation of the name has promised nothing, and is another machine.
        let fresh = Store::open(&root, 2).unwrap().1;
        assert_eq!((fresh.promise, fresh.incarnation.number), (None, 2));
        assert_ne!(fresh.incarnation.id, promised.incarnation.id);
    }

    #[test]
    fn a_damaged_state_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        drop(Store::open(&root, 1).unwrap());
        let path = root.join(FILE);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(
                matches!(Store::open(&root, 1), Err(StoreError::Broken(_))),
                "{length}"
            );
            assert_eq!(fs::read(&path).unwrap(), whole[..length]);
        }
        fs::write(&path, "{\"format\":99,\"promise\":[]}").unwrap();
        assert!(matches!(Store::open(&root, 1), Err(StoreError::Newer(99))));
    }
}
