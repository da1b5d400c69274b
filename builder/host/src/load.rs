//! Reading a fleet's directory: every input of a build, before the first stage begins.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use include_dir::{Dir, include_dir};
use rolesmith_model::source::{ImageDir, RoleDir, SourceId, Sources};
use walkdir::WalkDir;

/// The roles that are shipped with rolesmith.
static BUILTIN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../roles");

/// The images that are shipped with rolesmith.
static IMAGES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../images");

/// Largest file that a role may hold; larger ones belong into a package of their own.
pub const FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// Why a fleet's directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No fleet.toml.
    #[error("{} has no fleet.toml", dir.display())]
    NoFleet {
        /// The directory.
        dir: PathBuf,
    },
    /// A role's directory without role.toml.
    #[error("{} has no role.toml", dir.display())]
    NoRole {
        /// The directory.
        dir: PathBuf,
    },
    /// An image's directory without image.toml.
    #[error("{} has no image.toml", dir.display())]
    NoImage {
        /// The directory.
        dir: PathBuf,
    },
    /// Something in a role's directory that is neither a file nor a directory.
    #[error("{} is neither a file nor a directory", path.display())]
    Special {
        /// What it is.
        path: PathBuf,
    },
    /// A symbolic link in a role's directory.
    #[error("{} is a symbolic link", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A file that is too large for a role.
    #[error("{} has {size} bytes; a role's file may have {FILE_LIMIT}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
    },
    /// A file name that is not UTF-8.
    #[error("{} has a name that is not UTF-8", path.display())]
    Name {
        /// The file.
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

impl LoadError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoFleet { .. } => {
                "go to a fleet's directory, name it with -C DIR, or make one with `rolesmith init DIR`"
            }
            Self::NoRole { .. } => {
                "write one (docs/roles.md says how), or move the directory out of roles/"
            }
            Self::NoImage { .. } => {
                "write one (docs/images.md says how), or move the directory out of images/"
            }
            Self::Special { .. } => "remove it; a role holds plain files",
            Self::Link { .. } => {
                "copy the file here: a link could lead out of the role's directory and would differ between machines"
            }
            Self::TooLarge { .. } => {
                "make a Debian package of it and name that under [dependencies]"
            }
            Self::Name { .. } => "rename it",
            Self::Io { .. } => "see whether it exists and may be read",
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LoadError + '_ {
    move |source| LoadError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads fleet.toml, the built-in roles and images and the fleet's own.
///
/// # Errors
/// [`LoadError`]; what the files say is checked later.
pub fn fleet(dir: &Path) -> Result<Sources, LoadError> {
    let mut sources = Sources::new();
    for role in BUILTIN.dirs() {
        builtin_role(&mut sources, role);
    }
    let path = dir.join("fleet.toml");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::NoFleet {
                dir: dir.to_owned(),
            });
        }
        Err(error) => return Err(io_error(&path)(error)),
    };
    sources.fleet = Some(sources.add("fleet.toml", bytes));
    own_roles(&mut sources, dir)?;
    images(&mut sources, dir)?;
    Ok(sources)
}

/// Reads the built-in images and the fleet's own.
fn images(sources: &mut Sources, dir: &Path) -> Result<(), LoadError> {
    for image in IMAGES.dirs() {
        let file = image.path().join("image.toml");
        if let Some(file) = IMAGES.get_file(&file) {
            let manifest = sources.add(
                format!("builtin:images/{}", file.path().display()),
                file.contents(),
            );
            sources.images.push(ImageDir {
                name: image.path().to_string_lossy().into_owned(),
                builtin: true,
                manifest,
            });
        }
    }
    for path in subdirectories(&dir.join("images"))? {
        let file = path.join("image.toml");
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::NoImage { dir: path });
            }
            Err(error) => return Err(io_error(&file)(error)),
        };
        let named = |p: &Path| p.to_str().map(str::to_owned);
        let (Some(shown), Some(name)) = (
            named(file.strip_prefix(dir).unwrap_or(&file)),
            path.file_name().and_then(|name| named(Path::new(name))),
        ) else {
            return Err(LoadError::Name { path: file });
        };
        let manifest = sources.add(shown, bytes);
        sources.images.push(ImageDir {
            name,
            builtin: false,
            manifest,
        });
    }
    Ok(())
}

fn builtin_role(sources: &mut Sources, dir: &'static Dir<'static>) {
    fn collect(
        sources: &mut Sources,
        root: &Path,
        dir: &'static Dir<'static>,
        files: &mut BTreeMap<String, SourceId>,
    ) {
        for file in dir.files() {
            let relative = file.path().strip_prefix(root).unwrap_or(file.path());
            let name = relative.to_string_lossy().into_owned();
            let id = sources.add(
                format!("builtin:{}", file.path().display()),
                file.contents(),
            );
            files.insert(name, id);
        }
        for sub in dir.dirs() {
            collect(sources, root, sub, files);
        }
    }
    let mut files = BTreeMap::new();
    collect(sources, dir.path(), dir, &mut files);
    if let Some(manifest) = files.remove("role.toml") {
        sources.roles.push(RoleDir {
            name: dir.path().to_string_lossy().into_owned(),
            builtin: true,
            manifest,
            files,
        });
    }
}

fn own_roles(sources: &mut Sources, dir: &Path) -> Result<(), LoadError> {
    for path in subdirectories(&dir.join("roles"))? {
        own_role(sources, dir, &path)?;
    }
    Ok(())
}

/// The directories in `parent`, sorted by name; none where it is not there.
fn subdirectories(parent: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let entries = match std::fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(parent)(error)),
    };
    let mut dirs: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error(parent))?.path();
        // Editors and version control leave hidden files beside the directories.
        let hidden = path
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
        if path.is_dir() && !hidden {
            dirs.push(path);
        }
    }
    dirs.sort();
    Ok(dirs)
}

fn own_role(sources: &mut Sources, fleet: &Path, dir: &Path) -> Result<(), LoadError> {
    let mut files = BTreeMap::new();
    for entry in WalkDir::new(dir).sort_by_file_name().follow_links(false) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(dir).to_owned();
            io_error(&path)(e.into())
        })?;
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_dir() {
            continue;
        }
        if kind.is_symlink() {
            return Err(LoadError::Link {
                path: path.to_owned(),
            });
        }
        if !kind.is_file() {
            return Err(LoadError::Special {
                path: path.to_owned(),
            });
        }
        let size = entry
            .metadata()
            .map_err(|e| io_error(path)(e.into()))?
            .len();
        if size > FILE_LIMIT {
            return Err(LoadError::TooLarge {
                path: path.to_owned(),
                size,
            });
        }
        let name = |p: &Path| {
            p.to_str()
                .map(str::to_owned)
                .ok_or_else(|| LoadError::Name {
                    path: path.to_owned(),
                })
        };
        let relative = name(path.strip_prefix(dir).unwrap_or(path))?;
        let shown = name(path.strip_prefix(fleet).unwrap_or(path))?;
        let bytes = std::fs::read(path).map_err(io_error(path))?;
        files.insert(relative, sources.add(shown, bytes));
    }
    let Some(manifest) = files.remove("role.toml") else {
        return Err(LoadError::NoRole {
            dir: dir.to_owned(),
        });
    };
    let name = dir
        .file_name()
        .and_then(|n| n.to_str())
        .ok_or_else(|| LoadError::Name {
            path: dir.to_owned(),
        })?;
    sources.roles.push(RoleDir {
        name: name.to_owned(),
        builtin: false,
        manifest,
        files,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a whole number stands for in a configuration file has limits; `check` is to say so before a machine does.
    #[test]
    fn every_whole_number_that_a_fleet_may_set_has_a_range() {
        let mut roles = 0;
        for dir in BUILTIN.dirs() {
            let Some(file) = dir.get_file(dir.path().join("role.toml")) else {
                continue;
            };
            roles += 1;
            let text = file.contents_utf8().expect("UTF-8");
            let role: toml::Table = text.parse().expect("TOML");
            let table = |name: &str| role.get(name).and_then(toml::Value::as_table);
            for (name, default) in table("settings").into_iter().flatten() {
                let range = table("setting_ranges").and_then(|ranges| ranges.get(name));
                assert!(
                    !default.is_integer() || range.is_some(),
                    "{}: {name}",
                    dir.path().display()
                );
            }
        }
        assert!(roles > 5);
    }
}
