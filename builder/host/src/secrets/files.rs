//! Files that only their owner may read: checked when read, exclusive or atomic when written.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use super::SecretsError;
use crate::atomic;

/// Makes a directory with mode 0700, or checks the one that is there.
pub(super) fn make_directory(path: &Path) -> Result<(), SecretsError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => atomic::sync_directory(atomic::parent_of(path)).map_err(SecretsError::io(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_directory(path),
        Err(error) => Err(SecretsError::io(path)(error)),
    }
}

/// Refuses a directory that others may look into.
pub(super) fn check_directory(path: &Path) -> Result<(), SecretsError> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => {
            Err(SecretsError::malformed(path, "it is not a directory"))
        }
        Ok(metadata) => check(path, &metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(SecretsError::Missing(path.to_owned()))
        }
        Err(error) => Err(SecretsError::io(path)(error)),
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), SecretsError> {
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretsError::Exposed {
            path: path.to_owned(),
            mode,
            directory: metadata.is_dir(),
        });
    }
    let (user, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    // Root may use a person's secrets, as under sudo.
    if owner != user && user != 0 {
        return Err(SecretsError::Owner {
            path: path.to_owned(),
            owner,
        });
    }
    Ok(())
}

/// Reads a file that has to be there.
pub(super) fn read(path: &Path) -> Result<String, SecretsError> {
    read_optional(path)?.ok_or_else(|| SecretsError::Missing(path.to_owned()))
}

/// Reads a file if it is there. Its mode is checked on the opened file, so that nothing changes in between.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>, SecretsError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SecretsError::io(path)(error)),
    };
    check(path, &file.metadata().map_err(SecretsError::io(path))?)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(SecretsError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|_| SecretsError::malformed(path, "not UTF-8"))?;
    Ok(Some(text))
}

/// Puts a file where none is, complete or not at all. link(2) refuses what rename(2) would overwrite. A file that is
/// there with the same bytes is what an interrupted call left.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), SecretsError> {
    let temp = atomic::temp_beside(path);
    let linked = atomic::create_new(&temp, 0o600).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::hard_link(&temp, path)
    });
    // Gone in any case; the first error is the one to report.
    let _ = fs::remove_file(&temp);
    match linked {
        Ok(()) => atomic::sync_directory(atomic::parent_of(path)).map_err(SecretsError::io(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if read(path)?.as_bytes() == bytes {
                return Ok(());
            }
            Err(SecretsError::Exists(path.to_owned()))
        }
        Err(error) => Err(SecretsError::io(path)(error)),
    }
}

/// Puts a file in the place of another.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), SecretsError> {
    atomic::write_with_mode(path, bytes, 0o600).map_err(SecretsError::io(path))
}

/// Waits until no other command changes the directory; the lock ends with the value.
pub(super) fn lock(directory: &Path) -> Result<File, SecretsError> {
    let file = File::open(directory).map_err(SecretsError::io(directory))?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| SecretsError::io(directory)(error.into()))?;
    Ok(file)
}

/// The names of a directory's files, sorted; temporary and hidden ones left out.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, SecretsError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(SecretsError::io(directory))? {
        let entry = entry.map_err(SecretsError::io(directory))?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| SecretsError::malformed(entry.path(), "its name is not UTF-8"))?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What killed commands left, for whoever holds the lock.
pub(super) fn temporary(directory: &Path) -> Result<Vec<String>, SecretsError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(SecretsError::io(directory))? {
        let name = entry.map_err(SecretsError::io(directory))?.file_name();
        if atomic::is_temp(&name)
            && let Ok(name) = name.into_string()
        {
            found.push(name);
        }
    }
    Ok(found)
}
