//! What a publication is about to make, written down before it begins: `.rolesmith/in-progress`.
//!
//! The next publisher that finds it knows that this one did not get to its end, and which files were its doing. Only
//! these may be swept away; whatever else stands in the repository is somebody else's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::plan::Step;
use super::state::STATE_DIRECTORY;
use super::{PublishError, io_error};
use crate::atomic;

const FILE: &str = "in-progress";

/// Paths are relative to the repository's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    /// Files of the pool and of by-hash that were not there before.
    pub(super) created: BTreeSet<String>,
    /// Files that are replaced, or that the generation's own record leads to.
    placed: BTreeSet<String>,
}

impl Journal {
    /// What `steps` will place below `root`.
    pub(super) fn of(root: &Path, steps: &[Step]) -> Self {
        let mut journal = Self::default();
        for step in steps {
            let Some(path) = step.path().filter(|_| !matches!(step, Step::Remove { .. })) else {
                continue;
            };
            let collected = path.starts_with("pool/") || path.contains("/by-hash/");
            let new = collected && fs::symlink_metadata(root.join(path)).is_err();
            let paths = if new {
                &mut journal.created
            } else {
                &mut journal.placed
            };
            paths.insert(path.to_owned());
        }
        journal
    }

    /// Where temporary files may have been left.
    pub(super) fn directories(&self) -> BTreeSet<String> {
        let all = self.created.iter().chain(&self.placed);
        let mut directories: BTreeSet<String> = all
            .filter_map(|path| Some(path.rsplit_once('/')?.0.to_owned()))
            .collect();
        directories.insert(STATE_DIRECTORY.to_owned());
        directories
    }

    /// The journal of a run that did not get to its end.
    pub(super) fn left(root: &Path) -> Result<Option<Self>, PublishError> {
        let path = root.join(STATE_DIRECTORY).join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut journal = Self::default();
        for line in text.lines() {
            if let Some(path) = line.strip_prefix('+') {
                journal.created.insert(path.to_owned());
            } else if let Some(path) = line.strip_prefix('=') {
                journal.placed.insert(path.to_owned());
            }
        }
        Ok(Some(journal))
    }

    /// Writes it, durably: before the first of its files is made.
    pub(super) fn open(&self, root: &Path) -> Result<(), PublishError> {
        let mut text = String::new();
        for (sign, paths) in [('+', &self.created), ('=', &self.placed)] {
            for path in paths {
                text.push(sign);
                text.push_str(path);
                text.push('\n');
            }
        }
        let path = root.join(STATE_DIRECTORY).join(FILE);
        atomic::write(&path, text.as_bytes()).map_err(io_error("write", &path))
    }

    /// Removes it: all is done, or undone.
    pub(super) fn close(root: &Path) -> Result<(), PublishError> {
        let path = root.join(STATE_DIRECTORY).join(FILE);
        fs::remove_file(&path).map_err(io_error("delete", &path))
    }
}
