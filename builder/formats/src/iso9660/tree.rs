//! The files of an image as a tree of directories, every name checked.

use std::collections::BTreeMap;

use super::{IsoError, names};

/// Levels of directories, the root being the first (ECMA-119 section 6.8.2.1); a file is in one of them.
const MAX_COMPONENTS: usize = 8;
/// What Joliet's readers are sure to take. The longest path of the primary hierarchy, 3 bytes longer, stays below its 255.
const MAX_PATH: usize = 240;

/// What a name in a directory stands for: an index into [`Tree::directories`] or [`Tree::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Directory(usize),
    File(usize),
}

/// A directory; the root is its own parent.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    pub(super) parent: usize,
    pub(super) entries: BTreeMap<&'a str, Target>,
}

impl Directory<'_> {
    fn below(parent: usize) -> Self {
        Self {
            parent,
            entries: BTreeMap::new(),
        }
    }

    /// Its name in the parent, its own `.` and the `..` of each directory in it.
    pub(super) fn links(&self) -> u32 {
        let directory = |target: &&Target| matches!(target, Target::Directory(_));
        let below = self.entries.values().filter(directory).count();
        2 + u32::try_from(below).expect("a tree has at most 65535 directories")
    }
}

/// All files by path, and the directories that they need. The first directory is the root.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub(super) directories: Vec<Directory<'a>>,
    pub(super) files: Vec<(&'a str, &'a [u8])>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(files: &[(&'a str, &'a [u8])]) -> Result<Self, IsoError> {
        let mut tree = Self {
            directories: vec![Directory::below(0)],
            files: files.to_vec(),
        };
        tree.files.sort_unstable_by_key(|(path, _)| *path);
        for index in 0..tree.files.len() {
            let (path, data) = tree.files[index];
            check(path, data)
                .and_then(|()| tree.insert(path, index))
                .map_err(|reason| IsoError::File {
                    path: path.to_owned(),
                    reason,
                })?;
        }
        // A path table numbers directories from 1 with 16 bits.
        if tree.directories.len() > usize::from(u16::MAX) {
            return Err(IsoError::TooLarge);
        }
        Ok(tree)
    }

    fn insert(&mut self, path: &'a str, file: usize) -> Result<(), &'static str> {
        let (directories, name) = match path.rsplit_once('/') {
            Some((directories, name)) => (Some(directories), name),
            None => (None, path),
        };
        let mut at = 0;
        for name in directories.iter().flat_map(|path| path.split('/')) {
            let new = self.directories.len();
            let target = *self.directories[at]
                .entries
                .entry(name)
                .or_insert(Target::Directory(new));
            let Target::Directory(found) = target else {
                return Err("one of its directories is a file");
            };
            if found == new {
                self.directories.push(Directory::below(at));
            }
            at = found;
        }
        match self.directories[at]
            .entries
            .insert(name, Target::File(file))
        {
            None => Ok(()),
            Some(Target::File(_)) => Err("it is there twice"),
            Some(Target::Directory(_)) => Err("it is a directory, too"),
        }
    }
}

fn check(path: &str, data: &[u8]) -> Result<(), &'static str> {
    if path.len() > MAX_PATH {
        return Err("a path has at most 240 bytes");
    }
    if path.split('/').count() > MAX_COMPONENTS {
        return Err("a path has at most 8 components");
    }
    if !path.split('/').all(names::valid) {
        return Err(
            "a name is 1 to 64 ASCII letters, digits, dots, underscores and hyphens, the last no dot",
        );
    }
    if u32::try_from(data.len()).is_err() {
        return Err("a file has less than 4 GiB");
    }
    Ok(())
}
