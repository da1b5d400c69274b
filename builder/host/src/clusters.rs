//! cluster.lock on the disk; see [`rolesmith_model::cluster_lock`].

use std::{io, path::Path};

use rolesmith_model::cluster_lock::FORMAT;
pub use rolesmith_model::cluster_lock::{ClusterLock, FILE};

use crate::atomic;

const HEAD: &str = "# Made by rolesmith from what the fleet's members say; commit it. While it names a database, facts let no other be made.\n\n";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterLockError {
    /// It cannot be understood.
    #[error("{FILE}{at}: {why}")]
    Malformed {
        /// Where: empty, or `:line`.
        at: String,
        /// What is wrong.
        why: String,
    },
    /// The operating system says no.
    #[error("{FILE}: {0}")]
    Io(#[from] io::Error),
}

impl ClusterLockError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => {
                "take the last good cluster.lock from version control; where there is none, delete it and let `rolesmith status` write it anew"
            }
            Self::Io(_) => "see whether it may be read and written, and the disk has room",
        }
    }
}

/// Reads the lock in a fleet's directory; an absent one knows of no cluster.
///
/// # Errors
/// [`ClusterLockError`].
pub fn read(dir: &Path) -> Result<ClusterLock, ClusterLockError> {
    match std::fs::read_to_string(dir.join(FILE)) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ClusterLock::default()),
        Err(error) => Err(error.into()),
    }
}

fn parse(text: &str) -> Result<ClusterLock, ClusterLockError> {
    let malformed = |span: Option<std::ops::Range<usize>>, why: String| {
        let line = |span: std::ops::Range<usize>| {
            let before = text.get(..span.start).unwrap_or(text);
            format!(":{}", before.matches('\n').count() + 1)
        };
        ClusterLockError::Malformed {
            at: span.map_or_else(String::new, line),
            why,
        }
    };
    let lock: ClusterLock = toml::from_str(text)
        .map_err(|error| malformed(error.span(), error.message().to_owned()))?;
    if lock.format != FORMAT {
        let why = format!("format {} is not known to this rolesmith", lock.format);
        return Err(malformed(None, why));
    }
    if let Some(database) = &lock.database
        && !ClusterLock::is_system_id(&database.system_id)
    {
        let at = text.find("system_id").map(|start| start..start);
        let why = format!("{:?} is no system identifier", database.system_id);
        return Err(malformed(at, why));
    }
    Ok(lock)
}

/// Replaces the lock.
///
/// # Errors
/// [`ClusterLockError::Io`].
pub fn write(dir: &Path, lock: &ClusterLock) -> Result<(), ClusterLockError> {
    let text = toml::to_string(lock).map_err(io::Error::other)?;
    Ok(atomic::write(
        &dir.join(FILE),
        format!("{HEAD}{text}").as_bytes(),
    )?)
}

#[cfg(test)]
mod tests {
    use rolesmith_model::cluster_lock::{Database, Learnt};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), ClusterLock::default());
        let from = vec!["app-1".to_owned(), "app-2".to_owned()];
        let lock = ClusterLock {
            database: Some(Database {
                system_id: u64::MAX.to_string(),
                learnt: 1_800_000_000,
                from: from.clone(),
            }),
            redis: Some(Learnt { learnt: 1, from }),
            ..ClusterLock::default()
        };
        write(dir.path(), &lock).unwrap();
        assert_eq!(read(dir.path()).unwrap(), lock);
    }

    #[test]
    fn a_damaged_lock_is_no_empty_one() {
        for (text, place) in [
            ("", ""),
            ("format = 2\n", ""),
            ("format = 1\n[database]\nsystem_id = 7\n", ":3"),
            (
                "format = 1\n[database]\nsystem_id = \"07\"\nlearnt = 1\nfrom = []\n",
                ":3",
            ),
            ("format = 1\nopen = true\n", ":2"),
            ("<<<<<<< HEAD\nformat = 1\n", ":1"),
        ] {
            let error = parse(text).unwrap_err();
            let ClusterLockError::Malformed { at, .. } = &error else {
                panic!("{error}");
            };
            assert!(!place.is_empty() || at.len() <= 2, "{error}");
            assert!(place.is_empty() || at == place, "{text:?}: {error}");
        }
    }
}
