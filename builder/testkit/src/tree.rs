//! What a directory holds, to compare it with what it held before.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

/// What stands at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// A directory with its permission bits.
    Directory(u32),
    /// A file with its permission bits and bytes.
    File(u32, Vec<u8>),
    /// A symbolic link with its target.
    Link(String),
}

// Bytes by their number: a failed assertion is read by people.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(mode) => write!(f, "directory {mode:04o}"),
            Self::File(mode, bytes) => write!(f, "file {mode:04o}, {} bytes", bytes.len()),
            Self::Link(target) => write!(f, "link to {target}"),
        }
    }
}

/// Everything below a directory, by relative path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<String, Entry>);

impl Tree {
    /// Reads a directory. Links are not followed.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn read(directory: &Path) -> Self {
        let mut entries = BTreeMap::new();
        walk(directory, "", &mut entries)
            .unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        Self(entries)
    }

    /// The paths that are in one of both only, or differ.
    #[must_use]
    pub fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let mut paths: Vec<&str> = self
            .0
            .keys()
            .chain(other.0.keys())
            .filter(|path| self.0.get(*path) != other.0.get(*path))
            .map(String::as_str)
            .collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }
}

impl Tree {
    /// Asserts that nothing changed since this tree was read.
    ///
    /// # Panics
    /// Something did; the message names it.
    #[track_caller]
    pub fn assert_unchanged(&self, now: &Self) {
        let changed = self.differences(now);
        assert!(changed.is_empty(), "these changed: {changed:#?}");
    }
}

fn walk(directory: &Path, prefix: &str, entries: &mut BTreeMap<String, Entry>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{prefix}{name}");
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.mode() & 0o7777;
        if metadata.is_symlink() {
            let target = fs::read_link(&path)?.to_string_lossy().into_owned();
            entries.insert(name, Entry::Link(target));
        } else if metadata.is_dir() {
            walk(&path, &format!("{name}/"), entries)?;
            entries.insert(name, Entry::Directory(mode));
        } else {
            entries.insert(name, Entry::File(mode, fs::read(&path)?));
        }
    }
    Ok(())
}

/// Copies a tree with its links and permission bits; `skip` tells which names at its top are left out.
///
/// # Panics
/// It cannot be read or written.
pub fn copy(from: &Path, to: &Path, skip: impl Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    for (path, entry) in Tree::read(from).0 {
        if skip(path.split('/').next().unwrap_or_default()) {
            continue;
        }
        let path = to.join(path);
        if let Some(parent) = path.parent() {
            // Its entry, with its mode, may come later.
            fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
        }
        let done = match entry {
            Entry::Directory(mode) => fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode))),
            Entry::File(mode, bytes) => fs::write(&path, bytes)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode))),
            Entry::Link(target) => symlink(target, &path),
        };
        done.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_and_a_change_is_seen() {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        fs::create_dir_all(a.join("secrets/nodes")).unwrap();
        fs::set_permissions(a.join("secrets"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(a.join("secrets/nodes/x"), "1").unwrap();
        symlink("nowhere", a.join("link")).unwrap();
        copy(&a, &b, |_| false);
        assert_eq!(Tree::read(&a), Tree::read(&b));
        fs::write(b.join("secrets/nodes/x"), "2").unwrap();
        fs::set_permissions(b.join("secrets"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(b.join("new"), "").unwrap();
        assert_eq!(
            Tree::read(&a).differences(&Tree::read(&b)),
            ["new", "secrets", "secrets/nodes/x"]
        );
    }

    #[test]
    fn what_is_to_be_skipped_is_not_copied() {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        fs::create_dir_all(a.join("dist/x")).unwrap();
        fs::write(a.join("kept"), "").unwrap();
        copy(&a, &b, |name| name == "dist");
        assert_eq!(Tree::read(&b).0.keys().collect::<Vec<_>>(), ["kept"]);
    }
}
