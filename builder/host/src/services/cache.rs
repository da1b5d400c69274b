//! What is kept between builds.
//!
//! Everything is made under a temporary name and renamed when it is complete and on the disk, so that a killed build leaves nothing
//! that could be taken for the whole; what it leaves is removed by the next one that makes something.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rolesmith_formats::tarball::{self, EntryKind};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::error::{ServiceError, io_error};
use super::{TreeContent, TreeEntry};
use crate::atomic::{self, TEMP_PREFIX};
use crate::lock::DirectoryLock;

/// How long something is kept that nobody asked for.
const KEPT: Duration = Duration::from_secs(60 * 86_400);

/// What a package manager has installed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Installed {
    /// Digest of what it was installed from.
    pub digest: String,
    /// See [`Tree::unbuilt`](super::Tree::unbuilt).
    pub unbuilt: Vec<String>,
    /// Files and links, sorted by path.
    pub entries: Vec<TreeEntry>,
}

/// What a saved install says of itself, besides its files.
#[derive(Serialize, Deserialize)]
struct Label {
    unbuilt: Vec<String>,
}

/// Where the label stands in the archive; the files are below [`FILES`].
const LABEL: &str = "/install.json";
const FILES: &str = "/files";

/// The directory.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Makes the directory where it is missing.
    pub(super) fn open(user_cache: &Path) -> Result<Self, ServiceError> {
        let directory = user_cache.join("services");
        for part in ["systems", "installs", "tools", "downloads"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(io_error("make the directory", &path))?;
        }
        Ok(Self { directory })
    }

    /// For who makes something; `waiting` is called when another one does.
    pub(super) fn lock(&self, waiting: impl FnOnce()) -> DirectoryLock {
        DirectoryLock::take(&self.directory, waiting)
    }

    /// Debian trees.
    pub(super) fn systems(&self) -> PathBuf {
        self.directory.join("systems")
    }

    /// Package managers that projects pin.
    pub(super) fn tools(&self) -> PathBuf {
        self.directory.join("tools")
    }

    /// Caches of the package managers themselves.
    pub(super) fn downloads(&self) -> PathBuf {
        self.directory.join("downloads")
    }

    /// A directory to work in, gone when dropped.
    pub(super) fn scratch(&self) -> Result<TempDir, ServiceError> {
        let made = tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .tempdir_in(&self.directory);
        made.map_err(io_error("make a directory in", &self.directory))
    }

    fn install_path(&self, digest: &str) -> PathBuf {
        self.directory
            .join("installs")
            .join(format!("{digest}.tar"))
    }

    /// The install of this digest, if there is one that can be read.
    pub(super) fn installed(&self, digest: &str) -> Option<Installed> {
        let path = self.install_path(digest);
        let bytes = fs::read(&path).ok()?;
        let installed = unpack(digest, &bytes)?;
        touch(&path);
        Some(installed)
    }

    /// Keeps an install.
    pub(super) fn keep(&self, installed: &Installed) -> Result<(), ServiceError> {
        let path = self.install_path(&installed.digest);
        let written = pack(installed).and_then(|bytes| atomic::write(&path, &bytes));
        written.map_err(io_error("write", &path))
    }

    /// Removes what killed builds left and what nobody asked for in two months. The caller holds the lock, so nobody works on any of
    /// it. What cannot be removed now (an unpacker that outlived its build) is tried again next time.
    pub(super) fn sweep(&self) {
        let old = |path: &Path| {
            let used = fs::metadata(path).and_then(|data| data.modified());
            used.is_ok_and(|used| SystemTime::now().duration_since(used).unwrap_or_default() > KEPT)
        };
        for part in ["", "systems", "installs", "tools"] {
            for entry in fs::read_dir(self.directory.join(part))
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = entry.path();
                if atomic::is_temp(&entry.file_name()) || !part.is_empty() && old(&path) {
                    // A tree that goes must not look whole on the way.
                    let away = atomic::temp_beside(&path);
                    let _ = fs::rename(&path, &away).and_then(|()| {
                        if away.is_dir() {
                            fs::remove_dir_all(&away)
                        } else {
                            fs::remove_file(&away)
                        }
                    });
                }
            }
        }
    }
}

/// Notes that something was asked for. Who may not write there may still use it.
pub(super) fn touch(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

fn pack(installed: &Installed) -> io::Result<Vec<u8>> {
    let label = serde_json::to_vec(&Label {
        unbuilt: installed.unbuilt.clone(),
    })?;
    let mut entries = vec![tarball::Entry::file(LABEL, label, 0o644)];
    entries.extend(installed.entries.iter().map(|entry| {
        let path = format!("{FILES}/{}", entry.path);
        match &entry.content {
            TreeContent::File { bytes, executable } => tarball::Entry::file(
                path,
                bytes.to_vec(),
                if *executable { 0o755 } else { 0o644 },
            ),
            TreeContent::Symlink(target) => tarball::Entry::symlink(path, target.clone()),
        }
    }));
    let tree = tarball::Tree::new(&entries).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    tree.write_to(&mut bytes, 1)?;
    Ok(bytes)
}

/// Nothing for what is not one of ours: it is made anew then.
fn unpack(digest: &str, bytes: &[u8]) -> Option<Installed> {
    let mut unbuilt = None;
    let mut entries = Vec::new();
    for entry in tarball::read_entries(bytes).ok()? {
        if entry.path == LABEL {
            let EntryKind::File(content) = &entry.kind else {
                return None;
            };
            unbuilt = Some(serde_json::from_slice::<Label>(content).ok()?.unbuilt);
            continue;
        }
        let content = match entry.kind {
            EntryKind::Directory => continue,
            EntryKind::File(content) => TreeContent::File {
                bytes: content[..].into(),
                executable: entry.mode & 0o100 != 0,
            },
            EntryKind::Symlink(target) => TreeContent::Symlink(target),
        };
        let path = entry
            .path
            .strip_prefix(FILES)?
            .strip_prefix('/')?
            .to_owned();
        entries.push(TreeEntry { path, content });
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Some(Installed {
        digest: digest.to_owned(),
        unbuilt: unbuilt?,
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed() -> Installed {
        let file = |path: &str, executable| TreeEntry {
            path: path.to_owned(),
            content: TreeContent::File {
                bytes: path.as_bytes().into(),
                executable,
            },
        };
        Installed {
            digest: "0123".into(),
            unbuilt: vec!["a 1".into()],
            entries: vec![
                TreeEntry {
                    path: "node_modules/.bin/ä".into(),
                    content: TreeContent::Symlink("../a/cli.js".into()),
                },
                file("node_modules/a/cli.js", true),
                file(&format!("node_modules/a/{}/x", "long".repeat(60)), false),
            ],
        }
    }

    #[test]
    fn an_install_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let installed = installed();
        assert_eq!(cache.installed(&installed.digest), None);
        cache.keep(&installed).unwrap();
        assert_eq!(cache.installed(&installed.digest), Some(installed));
    }

    #[test]
    fn a_damaged_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let installed = installed();
        let path = cache.install_path(&installed.digest);
        let whole = pack(&installed).unwrap();
        for length in [0, 512, whole.len() / 2] {
            fs::write(&path, &whole[..length]).unwrap();
            let found = cache.installed(&installed.digest);
            assert_eq!(found, None, "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn what_killed_builds_left_and_what_is_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        cache.keep(&installed()).unwrap();
        let left = cache.scratch().unwrap().keep();
        fs::write(left.join("half"), "").unwrap();
        let system = cache.systems().join("trixie-1");
        fs::create_dir(&system).unwrap();
        let tool = cache.tools().join("yarn-1.js");
        fs::write(&tool, "").unwrap();
        File::open(&tool)
            .unwrap()
            .set_modified(SystemTime::now() - KEPT - Duration::from_secs(9))
            .unwrap();
        cache.sweep();
        assert!(!left.exists() && !tool.exists());
        assert!(system.exists() && cache.installed("0123").is_some());
        let names = fs::read_dir(cache.tools()).unwrap().count();
        assert_eq!(names, 0);
    }
}
