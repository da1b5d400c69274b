//! Paths below a root directory, and files that are either the old or the new ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

/// Directory of what the agent remembers across boots.
pub const STATE_DIR: &str = "/var/lib/rolesmith";
/// Directory of what the agent remembers until the next boot. Root's.
pub const RUN_DIR: &str = "/run/rolesmith";
/// Directory of the unprivileged daemon (RuntimeDirectory= of rolesmith-agent.service).
pub const DAEMON_DIR: &str = "/run/rolesmith-agent";

/// How temporary names begin; whoever holds the directory's lock may delete them.
const TEMP_PREFIX: &str = ".rolesmith-tmp-";

/// The directory that stands for `/`, so that a test can give the agent a machine of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The machine itself.
    #[must_use]
    pub fn machine() -> Self {
        Self(PathBuf::from("/"))
    }

    /// Another directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where an absolute path stands below this root.
    #[must_use]
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Whether a relative path stays below the directory it is joined to: no root, no `..`, not empty.
#[must_use]
pub fn stays_below(path: &str) -> bool {
    !path.is_empty()
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// What tells cheaply whether a file was replaced: device-independent, and different for every rename over it, also where a
/// package gives the new file the old one's time.
pub type Stamp = Option<(u64, i64, i64, u64)>;

/// Looks at a file; one that is not there has a stamp of its own.
#[must_use]
pub fn stamp(path: &Path) -> Stamp {
    let seen = fs::metadata(path).ok()?;
    Some((seen.ino(), seen.ctime(), seen.ctime_nsec(), seen.size()))
}

/// SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Reads a file; a missing one is `None`.
///
/// # Errors
/// What open(2) and read(2) return, `ENOENT` and `ENOTDIR` excepted.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Something read from a file that may be missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// No such file.
    Absent,
    /// It cannot be read or understood, and why.
    Broken(String),
    /// Its value.
    Is(T),
}

/// Reads a JSON file.
#[must_use]
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Seen<T> {
    match read(path) {
        Ok(None) => Seen::Absent,
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(value) => Seen::Is(value),
            Err(error) => Seen::Broken(error.to_string()),
        },
        Err(error) => Seen::Broken(error.to_string()),
    }
}

/// Who owns a file and who may do what with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group by number; `None` leaves them to the kernel.
    pub owner: Option<(u32, u32)>,
}

impl Access {
    /// Readable by everybody.
    pub const PUBLIC: Self = Self {
        mode: 0o644,
        owner: None,
    };
    /// Readable by its owner.
    pub const PRIVATE: Self = Self {
        mode: 0o600,
        owner: None,
    };
}

/// Replaces a file by these bytes; durable when it returns. Missing parent directories are made.
///
/// The owner is set before the permissions, so that nobody reads what was not meant for them, not even for an instant.
///
/// # Errors
/// What the system calls return; `path` is then as it was.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = parent.join(format!("{TEMP_PREFIX}{}-{name}", std::process::id()));
    let written = write_new(&temp, bytes, access).and_then(|()| fs::rename(&temp, path));
    match written {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) => {
            // The first error is the one to report.
            let _ = fs::remove_file(&temp);
            Err(error)
        }
    }
}

fn write_new(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    let made = file.metadata()?;
    if let Some((user, group)) = access.owner
        && (made.uid(), made.gid()) != (user, group)
    {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    file.set_permissions(fs::Permissions::from_mode(access.mode))?;
    file.sync_all()
}

/// Writes these bytes over a file that somebody has mounted or open and would not see replaced; durable when it returns. Whoever
/// reads it meanwhile may see what comes behind them of the older ones: it is for lists of lines of which each stands for itself.
///
/// # Errors
/// What the system calls return; the file may then be a mixture.
pub fn write_over(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Writes a value as JSON, as [`write()`] does.
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: Serialize>(path: &Path, value: &T, access: Access) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write(path, &text, access)
}

/// Deletes a file, durably; a missing one is fine.
///
/// # Errors
/// What unlink(2) and fsync(2) return.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Every file below a directory, as relative paths in order; none when the directory is missing.
///
/// # Errors
/// What readdir(3) returns.
pub fn list(dir: &Path) -> io::Result<Vec<String>> {
    fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = if prefix.is_empty() {
                name
            } else {
                format!("{prefix}/{name}")
            };
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), &path, found)?;
            } else {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    if dir.is_dir() {
        walk(dir, "", &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// An exclusive lock that ends with the value, or with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of that name in [`RUN_DIR`].
    ///
    /// # Errors
    /// What open(2) and flock(2) return.
    pub fn take(root: &Root, name: &str) -> io::Result<Self> {
        let path = root.join(RUN_DIR).join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_file_open_reads_what_was_written_over_it() {
        use std::io::{Read as _, Seek as _};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        write(&path, b"10.0.0.1 a\n10.0.0.2 b\n", Access::PUBLIC).unwrap();
        let mut open = File::open(&path).unwrap();
        for text in ["10.0.0.3 c\n", "10.0.0.3 c\n10.0.0.4 d\n10.0.0.5 e\n", ""] {
            write_over(&path, text.as_bytes()).unwrap();
            let mut seen = String::new();
            open.rewind().unwrap();
            open.read_to_string(&mut seen).unwrap();
            assert_eq!(seen, text);
        }
        fs::remove_file(&path).unwrap();
        write_over(&path, b"x\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x\n");
    }
}
