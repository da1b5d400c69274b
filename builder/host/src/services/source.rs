//! A source directory, read whole.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::error::{ServiceError, io_error};
use super::judge::{SIZE_LIMIT, is_good_name, stays_inside};
use super::{TreeContent, TreeEntry};

/// Names what is not part of the service, in the syntax of gitignore(5); `!` brings back what is left out otherwise.
pub const IGNORE_FILE: &str = ".rolesmithignore";

/// Never part of a service unless the ignore file brings it back: what is for version control, and what usually holds secrets of a
/// developer's machine.
const LEFT_OUT: [&str; 8] = [
    ".git",
    ".gitignore",
    ".gitattributes",
    ".hg",
    ".svn",
    ".env",
    ".env.*",
    "/.rolesmithignore",
];

/// What package managers make, which is made anew.
const MADE: [&str; 3] = ["node_modules", "/.pnp.*", "/.yarn"];

/// Read by package managers, and never shipped: they may hold credentials, and are of no use on a node.
const SETTINGS: [&str; 3] = [".npmrc", ".yarnrc", ".yarnrc.yml"];

/// What package managers read besides, whatever the ignore file says.
const MANIFESTS: [&str; 4] = [
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
];

/// Directories of yarn in which a project keeps parts of it.
const YARN_PARTS: [&str; 3] = [".yarn/releases", ".yarn/plugins", ".yarn/patches"];

/// A file of the source.
#[derive(Debug)]
struct Found {
    content: TreeContent,
    /// Part of the service, and not only of its build.
    ships: bool,
}

/// Everything that a service is built from, by its path relative to the source directory.
#[derive(Debug)]
pub(super) struct Snapshot {
    files: BTreeMap<String, Found>,
}

impl Snapshot {
    /// Reads a directory.
    pub(super) fn read(dir: &Path) -> Result<Self, ServiceError> {
        if !dir.is_dir() {
            return Err(ServiceError::NoSource(dir.to_owned()));
        }
        let node = dir.join("package.json").is_file();
        let rules = rules(dir, node)?;
        let mut size = 0;
        let mut files = BTreeMap::new();
        let mut walk = WalkDir::new(dir)
            .min_depth(1)
            .sort_by_file_name()
            .into_iter();
        while let Some(entry) = walk.next() {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(dir).to_owned();
                io_error("read", &path)(error.into())
            })?;
            let relative = entry.path().strip_prefix(dir).unwrap_or(entry.path());
            let kind = entry.file_type();
            // By its bytes: a name that is not UTF-8 may be left out as well.
            let ignored = rules
                .matched_path_or_any_parents(relative, kind.is_dir())
                .is_ignore();
            let needed = node
                && relative
                    .to_str()
                    .is_some_and(|path| manager_reads(path, kind.is_dir()));
            if ignored && !needed {
                if kind.is_dir() {
                    walk.skip_current_dir();
                }
                continue;
            }
            if kind.is_dir() {
                continue;
            }
            let Some(path) = relative.to_str().filter(|path| is_good_name(path)) else {
                return Err(ServiceError::Name(relative.to_owned()));
            };
            let content = content(entry.path(), path)?;
            if let TreeContent::File { bytes, .. } = &content {
                size += bytes.len() as u64;
                if size > SIZE_LIMIT {
                    let largest = vec![path.to_owned()];
                    return Err(ServiceError::TooLarge { size, largest });
                }
            }
            let settings = SETTINGS
                .iter()
                .any(|name| relative.file_name().is_some_and(|n| n == *name));
            let ships = !ignored && !settings;
            files.insert(path.to_owned(), Found { content, ships });
        }
        Ok(Self { files })
    }

    /// The text of a file, if it is there.
    pub(super) fn text(&self, path: &str) -> Result<Option<&str>, ServiceError> {
        match self.files.get(path).map(|found| &found.content) {
            Some(TreeContent::File { bytes, .. }) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(ServiceError::source_says(
                    path,
                    None,
                    "is not UTF-8",
                    "write it in UTF-8",
                )),
            },
            Some(TreeContent::Symlink(_)) => {
                let help = "put the file itself there";
                Err(ServiceError::source_says(
                    path,
                    None,
                    "is a symbolic link",
                    help,
                ))
            }
            None => Ok(None),
        }
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// What the package ships of it.
    pub(super) fn shipped(&self) -> Vec<TreeEntry> {
        let shipped = self.files.iter().filter(|(_, found)| found.ships);
        shipped
            .map(|(path, found)| entry(path, &found.content))
            .collect()
    }

    /// What a package manager is given: everything, or what it reads in any project.
    pub(super) fn for_manager(&self, whole: bool) -> Vec<TreeEntry> {
        let files = self
            .files
            .iter()
            .filter(|(path, _)| whole || manager_reads(path, false));
        files
            .map(|(path, found)| entry(path, &found.content))
            .collect()
    }

    /// Digest of what is shipped.
    pub(super) fn digest(&self) -> String {
        digest_of_entries(&self.shipped())
    }
}

fn entry(path: &str, content: &TreeContent) -> TreeEntry {
    TreeEntry {
        path: path.to_owned(),
        content: content.clone(),
    }
}

/// Whether a package manager reads this file at the top of any project; for a directory, whether there may be one in it.
fn manager_reads(path: &str, directory: bool) -> bool {
    if directory {
        let inside = |part: &&str| path == *part || path.starts_with(&format!("{part}/"));
        return path == ".yarn" || YARN_PARTS.iter().any(inside);
    }
    MANIFESTS.contains(&path)
        || SETTINGS.contains(&path)
        || YARN_PARTS
            .iter()
            .any(|part| path.starts_with(&format!("{part}/")))
}

fn rules(dir: &Path, node: bool) -> Result<Gitignore, ServiceError> {
    let mut builder = GitignoreBuilder::new("");
    let made: &[&str] = if node { &MADE } else { &[] };
    for line in LEFT_OUT.iter().chain(made) {
        builder
            .add_line(None, line)
            .expect("the patterns above are globs");
    }
    let path = dir.join(IGNORE_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    for (index, line) in text.lines().enumerate() {
        builder.add_line(None, line).map_err(|error| {
            ServiceError::source_says(
                IGNORE_FILE,
                Some(index + 1),
                error.to_string(),
                "gitignore(5) tells the syntax",
            )
        })?;
    }
    builder.build().map_err(|error| {
        ServiceError::source_says(
            IGNORE_FILE,
            None,
            error.to_string(),
            "gitignore(5) tells the syntax",
        )
    })
}

/// Reads a file or symbolic link; `path` is where it stands in the tree.
pub(super) fn content(from: &Path, path: &str) -> Result<TreeContent, ServiceError> {
    let metadata = fs::symlink_metadata(from).map_err(io_error("look at", from))?;
    if metadata.is_symlink() {
        let target = fs::read_link(from).map_err(io_error("read", from))?;
        return match target.to_str() {
            Some(target) if stays_inside(path, target) => {
                Ok(TreeContent::Symlink(target.to_owned()))
            }
            _ => Err(ServiceError::Link {
                path: path.to_owned(),
                target: target.to_string_lossy().into_owned(),
            }),
        };
    }
    if !metadata.is_file() {
        return Err(ServiceError::Special(path.to_owned()));
    }
    let bytes = fs::read(from).map_err(io_error("read", from))?;
    Ok(TreeContent::File {
        bytes: bytes.into(),
        // Of the owner alone: the others' bits are the umask's.
        executable: metadata.permissions().mode() & 0o100 != 0,
    })
}

/// Digest of files and links, in their order.
pub(super) fn digest_of_entries(entries: &[TreeEntry]) -> String {
    let parts = entries.iter().flat_map(|entry| {
        let (kind, bytes): (&[u8], &[u8]) = match &entry.content {
            TreeContent::File {
                bytes,
                executable: false,
            } => (b"f", bytes),
            TreeContent::File {
                bytes,
                executable: true,
            } => (b"x", bytes),
            TreeContent::Symlink(target) => (b"l", target.as_bytes()),
        };
        [entry.path.as_bytes(), kind, bytes]
    });
    digest_of(parts)
}

/// SHA-256 of parts, each with its length, so that other parts give another digest; hexadecimal.
pub(super) fn digest_of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
