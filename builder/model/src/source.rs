//! The texts that a fleet is made of, kept so that a finding can point into them.

use std::{collections::BTreeMap, sync::Arc};

/// Which source a finding points to: its index in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(usize);

/// One file as it was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path as shown to people, relative to the fleet's directory; built-in roles begin with `builtin:`.
    pub path: String,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

impl Source {
    /// The text, where the file is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// A directory with everything below it, to be shipped as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    /// By path relative to it.
    pub entries: BTreeMap<String, TreeEntry>,
    /// A value that is another one when anything in it is: the release of a service.
    pub digest: String,
}

/// What stands in a [`Tree`]. Directories are there when something is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeEntry {
    /// A regular file.
    File {
        /// Its bytes.
        bytes: Arc<[u8]>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to the target.
    Link(String),
}

/// A role's directory as it was read.
#[derive(Debug, Clone)]
pub struct RoleDir {
    /// The directory's name.
    pub name: String,
    /// Shipped with rolesmith, rather than found in the fleet's own `roles/`.
    pub builtin: bool,
    /// Its role.toml.
    pub manifest: SourceId,
    /// Every other file by its path relative to the directory, such as `templates/redis.conf`.
    pub files: BTreeMap<String, SourceId>,
}

/// An image's directory as it was read.
#[derive(Debug, Clone)]
pub struct ImageDir {
    /// The directory's name.
    pub name: String,
    /// Shipped with rolesmith, rather than found in the fleet's own `images/`.
    pub builtin: bool,
    /// Its image.toml.
    pub manifest: SourceId,
}

/// Every input of a build, read before the first stage begins.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    sources: Vec<Source>,
    /// The roles' directories: built-in first, then the fleet's own, each sorted by name.
    pub roles: Vec<RoleDir>,
    /// The images' directories: built-in first, then the fleet's own, each sorted by name.
    pub images: Vec<ImageDir>,
    /// The fleet.toml.
    pub fleet: Option<SourceId>,
    /// What the fleet's services and sites consist of, by the role that is made for each (`service-shop`). A service that was
    /// not built is missing here: everything can be checked without it, and nothing can be packed.
    pub trees: BTreeMap<String, Arc<Tree>>,
}

impl Sources {
    /// No input yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file and gives its id.
    pub fn add(&mut self, path: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> SourceId {
        self.sources.push(Source {
            path: path.into(),
            bytes: bytes.into(),
        });
        SourceId(self.sources.len() - 1)
    }

    /// The file that people know by this path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<SourceId> {
        self.sources
            .iter()
            .position(|source| source.path == path)
            .map(SourceId)
    }

    /// The file of that id.
    #[must_use]
    pub fn get(&self, id: SourceId) -> &Source {
        &self.sources[id.0]
    }
}

/// Line and column (both from 1; the column counts characters) of a byte offset.
#[must_use]
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary_compat(offset)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

trait FloorCharBoundary {
    fn floor_char_boundary_compat(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_compat(&self, index: usize) -> usize {
        let mut index = index.min(self.len());
        while !self.is_char_boundary(index) {
            index -= 1;
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::line_column;

    #[test]
    fn lines_and_columns_count_from_one() {
        assert_eq!(line_column("", 0), (1, 1));
        assert_eq!(line_column("ab\ncd", 4), (2, 2));
        assert_eq!(line_column("ä\nb", 3), (2, 1));
        assert_eq!(line_column("ab", 99), (1, 3));
    }
}
