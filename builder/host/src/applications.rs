//! What the fleet's services and sites consist of, read from its directory.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use rolesmith_model::source::{Tree, TreeEntry};
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

/// Largest sum of the files of a site or service, in bytes.
pub const TREE_LIMIT: u64 = 256 * 1024 * 1024;

/// Why a directory cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is not there.
    #[error("there is no directory {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing is in it.
    #[error("{} is empty", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// Something that is neither file, directory nor link.
    #[error("{} is neither a file nor a directory", path.display())]
    Special {
        /// What it is.
        path: PathBuf,
    },
    /// A link that leads out of the directory.
    #[error("{} is a symbolic link that leads out of its directory, to {target}", path.display())]
    Escape {
        /// The link.
        path: PathBuf,
        /// Where to.
        target: String,
    },
    /// A name that is not UTF-8, or that holds a control character.
    #[error("{} has a name that is not plain UTF-8", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// Too much.
    #[error("{} has more than {} MiB", path.display(), TREE_LIMIT / 1024 / 1024)]
    TooLarge {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl TreeError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "create it, or correct its path in fleet.toml",
            Self::Empty { .. } => "put something into it, or remove its entry from fleet.toml",
            Self::Special { .. } => "remove it; packages hold files, directories and links",
            Self::Escape { .. } => "copy the file here: the link would lead elsewhere on a node",
            Self::Name { .. } => "rename it",
            Self::TooLarge { .. } => {
                "keep large data out of the package, and what is built out of the source"
            }
            Self::Io { .. } => "see whether it exists and may be read",
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> TreeError + '_ {
    move |source| TreeError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads a directory with everything below it. What version control and editors leave (hidden files at its top) is part of it only
/// where it is `.well-known` (RFC 8615).
///
/// # Errors
/// [`TreeError`].
pub fn read_tree(dir: &Path) -> Result<Tree, TreeError> {
    if !dir.is_dir() {
        return Err(TreeError::Missing {
            path: dir.to_owned(),
        });
    }
    let hidden =
        |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".") && name != ".well-known";
    let mut entries = BTreeMap::new();
    let mut size = 0;
    let walk = WalkDir::new(dir)
        .sort_by_file_name()
        .follow_links(false)
        .into_iter()
        .filter_entry(|entry| entry.depth() != 1 || !hidden(entry.file_name()));
    for entry in walk {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(dir).to_owned();
            io_error(&path)(e.into())
        })?;
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_dir() {
            continue;
        }
        let inside = path.strip_prefix(dir).unwrap_or(path);
        let name = inside
            .to_str()
            .filter(|name| !name.chars().any(char::is_control))
            .ok_or_else(|| TreeError::Name {
                path: path.to_owned(),
            })?;
        let what = if kind.is_symlink() {
            link(path, inside)?
        } else if kind.is_file() {
            let metadata = entry.metadata().map_err(|e| io_error(path)(e.into()))?;
            size += metadata.len();
            if size > TREE_LIMIT {
                return Err(TreeError::TooLarge {
                    path: dir.to_owned(),
                });
            }
            TreeEntry::File {
                bytes: std::fs::read(path).map_err(io_error(path))?.into(),
                executable: metadata.permissions().mode() & 0o100 != 0,
            }
        } else {
            return Err(TreeError::Special {
                path: path.to_owned(),
            });
        };
        entries.insert(name.to_owned(), what);
    }
    if entries.is_empty() {
        return Err(TreeError::Empty {
            path: dir.to_owned(),
        });
    }
    Ok(Tree {
        digest: digest(&entries),
        entries,
    })
}

/// SHA-256 over names, kinds and contents, the first 16 digits: enough to tell releases of one service apart, and readable.
#[must_use]
pub fn digest(entries: &BTreeMap<String, TreeEntry>) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for (path, what) in entries {
        field(path.as_bytes());
        match what {
            TreeEntry::File { bytes, executable } => {
                field(if *executable { b"program" } else { b"file" });
                field(bytes);
            }
            TreeEntry::Link(target) => {
                field(b"link");
                field(target.as_bytes());
            }
        }
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A link, unless it leads out of the directory that its path is relative to.
fn link(path: &Path, inside: &Path) -> Result<TreeEntry, TreeError> {
    let target = std::fs::read_link(path).map_err(io_error(path))?;
    let escape = || TreeError::Escape {
        path: path.to_owned(),
        target: target.display().to_string(),
    };
    let mut depth = inside.components().count() - 1;
    for part in target.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth = depth.checked_sub(1).ok_or_else(escape)?,
            Component::RootDir | Component::Prefix(_) => return Err(escape()),
        }
    }
    match target.to_str() {
        Some(target) if !target.chars().any(char::is_control) => {
            Ok(TreeEntry::Link(target.to_owned()))
        }
        _ => Err(TreeError::Name {
            path: path.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn place() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_tree_has_files_links_and_modes_and_no_hidden_files() {
        let dir = place();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::create_dir_all(at(".git")).unwrap();
        std::fs::create_dir_all(at(".well-known")).unwrap();
        std::fs::write(at("a/b/run"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at("a/b/run"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(at(".git/config"), "x").unwrap();
        std::fs::write(at(".well-known/security.txt"), "x").unwrap();
        symlink("../a/b/run", at("a/link")).unwrap();
        let tree = read_tree(dir.path()).unwrap();
        assert_eq!(
            tree.entries.keys().map(String::as_str).collect::<Vec<_>>(),
            [".well-known/security.txt", "a/b/run", "a/link"]
        );
        assert!(matches!(
            &tree.entries["a/b/run"],
            TreeEntry::File {
                executable: true,
                ..
            }
        ));
        assert_eq!(tree.entries["a/link"], TreeEntry::Link("../a/b/run".into()));
    }

    #[test]
    fn links_out_of_the_directory_are_refused() {
        for target in ["/etc/passwd", "../x", "a/../../x"] {
            let dir = place();
            symlink(target, dir.path().join("link")).unwrap();
            let error = read_tree(dir.path()).unwrap_err();
            assert!(
                matches!(error, TreeError::Escape { .. }),
                "{target}: {error}"
            );
        }
    }

    #[test]
    fn nothing_and_empty_are_told_apart() {
        let dir = place();
        assert!(matches!(
            read_tree(dir.path()),
            Err(TreeError::Empty { .. })
        ));
        assert!(matches!(
            read_tree(&dir.path().join("x")),
            Err(TreeError::Missing { .. })
        ));
    }
}
