//! Deterministic tar archives of a file tree, as `dpkg` wants them, and a reader for those of others.
//!
//! Headers are GNU headers set by hand: dpkg refuses every PAX header, and a long or non-ASCII path makes most writers
//! emit one. Owner is root by number and by name, parent directories are always present, names are sorted, and all
//! times are the one that is given, so that the same tree gives the same bytes on every machine.

mod read;
mod write;

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

pub use read::{Listed, ListedKind, list, read_entries};

/// The bytes of a file; clones share them.
#[derive(Clone)]
pub struct Content(Bytes);

#[derive(Clone)]
enum Bytes {
    Static(&'static [u8]),
    Shared(Arc<Vec<u8>>),
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Static(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.len())
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::Shared(Arc::new(bytes)))
    }
}

impl From<Arc<Vec<u8>>> for Content {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Self(Bytes::Shared(bytes))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::Static(bytes))
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with its bytes.
    File(Content),
    /// A directory.
    Directory,
    /// A symbolic link and what it points to, absolute or relative, as `readlink` shows it.
    Symlink(String),
}

/// One object of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path, e.g. `/etc/acme/x.conf`; no trailing slash, no empty, `.` or `..` component.
    pub path: String,
    /// What stands there.
    pub kind: EntryKind,
    /// Permission bits, at most 0o7777. Not used for symbolic links, which have 0777 always.
    pub mode: u32,
}

impl Entry {
    /// A regular file.
    pub fn file(path: impl Into<String>, content: impl Into<Content>, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind: EntryKind::File(content.into()),
            mode,
        }
    }

    /// A directory.
    pub fn directory(path: impl Into<String>, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind: EntryKind::Directory,
            mode,
        }
    }

    /// A symbolic link.
    pub fn symlink(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind: EntryKind::Symlink(target.into()),
            mode: 0o777,
        }
    }
}

/// Why a list of entries is no tree that can be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The path is not absolute and normal, or holds a newline or NUL byte (dpkg's lists have one path a line).
    #[error(
        "{0:?} is not an absolute path without empty, `.` or `..` components, newlines or NUL bytes"
    )]
    Path(String),
    /// Two entries have the same path.
    #[error("{0} occurs twice")]
    Duplicate(String),
    /// A path lies below one that is a file or a symbolic link.
    #[error("{child} lies below {parent}, which is not a directory")]
    ParentNotDirectory {
        /// The path that lies below.
        child: String,
        /// The file or symbolic link.
        parent: String,
    },
    /// The mode has bits beyond 0o7777.
    #[error("{path} has mode {mode:#o}, which has bits beyond 07777")]
    Mode {
        /// The entry's path.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A symbolic link's target is empty or holds a newline or NUL byte.
    #[error("symbolic link {path} points to {target:?}, which is no path")]
    Target {
        /// The link's path.
        path: String,
        /// Its target.
        target: String,
    },
}

/// A validated tree: sorted, each path once, every parent directory present.
#[derive(Debug, Clone)]
pub struct Tree<'a> {
    /// By path without the leading slash; the root directory is the empty string.
    nodes: BTreeMap<&'a str, Node<'a>>,
}

#[derive(Debug, Clone, Copy)]
enum Node<'a> {
    File { content: &'a [u8], mode: u32 },
    Directory { mode: u32 },
    Symlink { target: &'a str },
}

impl<'a> Tree<'a> {
    /// Validates and sorts entries. Directories that are not listed become root:root 0755.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn new(entries: &'a [Entry]) -> Result<Self, TreeError> {
        let mut nodes = BTreeMap::new();
        for entry in entries {
            let path = relative(&entry.path)?;
            if entry.mode > 0o7777 {
                return Err(TreeError::Mode {
                    path: entry.path.clone(),
                    mode: entry.mode,
                });
            }
            let node = match &entry.kind {
                EntryKind::File(content) => Node::File {
                    content,
                    mode: entry.mode,
                },
                EntryKind::Directory => Node::Directory { mode: entry.mode },
                EntryKind::Symlink(target) => {
                    if target.is_empty() || target.contains(['\n', '\0']) {
                        return Err(TreeError::Target {
                            path: entry.path.clone(),
                            target: target.clone(),
                        });
                    }
                    Node::Symlink { target }
                }
            };
            if nodes.insert(path, node).is_some() {
                return Err(TreeError::Duplicate(entry.path.clone()));
            }
        }
        for entry in entries {
            let mut path = &entry.path[1..];
            while let Some((parent, _)) = path.rsplit_once('/') {
                if !matches!(
                    nodes
                        .entry(parent)
                        .or_insert(Node::Directory { mode: 0o755 }),
                    Node::Directory { .. }
                ) {
                    return Err(TreeError::ParentNotDirectory {
                        child: entry.path.clone(),
                        parent: format!("/{parent}"),
                    });
                }
                path = parent;
            }
        }
        nodes.insert("", Node::Directory { mode: 0o755 });
        Ok(Self { nodes })
    }

    /// Regular files in their order: path without the leading slash, and bytes.
    pub fn files(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File { content, .. } => Some((*path, *content)),
            _ => None,
        })
    }

    /// Everything but directories in its order: path without the leading slash. What a Contents index lists.
    pub fn leaves(&self) -> impl Iterator<Item = &'a str> {
        self.nodes
            .iter()
            .filter(|(_, node)| !matches!(node, Node::Directory { .. }))
            .map(|(path, _)| *path)
    }

    /// Whether a regular file stands at the absolute path.
    pub fn is_file(&self, path: &str) -> bool {
        matches!(
            path.strip_prefix('/').and_then(|path| self.nodes.get(path)),
            Some(Node::File { .. })
        )
    }

    /// Whether anything stands at the absolute path.
    pub fn contains(&self, path: &str) -> bool {
        path.strip_prefix('/')
            .is_some_and(|path| self.nodes.contains_key(path))
    }

    /// Installed size in KiB as `dpkg-gencontrol` estimates it ([deb-substvars(5)]): files and symbolic links rounded up
    /// to 1 KiB each, 1 KiB for every other object.
    ///
    /// [deb-substvars(5)]: https://manpages.debian.org/deb-substvars.5
    pub fn installed_size(&self) -> u64 {
        let kib = |node: &Node<'_>| match node {
            Node::File { content, .. } => (content.len() as u64).div_ceil(1024),
            Node::Symlink { target } => (target.len() as u64).div_ceil(1024),
            Node::Directory { .. } => 1,
        };
        self.nodes.values().map(kib).sum()
    }
}

fn relative(path: &str) -> Result<&str, TreeError> {
    path.strip_prefix('/')
        .filter(|rest| !rest.contains(['\n', '\0']))
        .filter(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
        .ok_or_else(|| TreeError::Path(path.to_owned()))
}

#[cfg(test)]
mod tests;
