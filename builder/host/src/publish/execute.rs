//! Carries out a plan in a directory.
//!
//! Between two barriers files are written under temporary names and brought to the disk together (one by one for a few,
//! with one syncfs(2) for many, because 2,000 calls of fsync(2) take two seconds), then renamed in the plan's order. A
//! rename is what makes a file visible, so a kill between any two leaves the files up to there, each whole.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rolesmith_formats::apt::Sha256;
use sha2::Digest as _;

use super::PublishError;
use super::plan::Step;
use crate::atomic;

/// From so many files on, one syncfs(2) takes the place of an fsync(2) for each.
const SYNC_TOGETHER: usize = 24;

/// Executes `steps` below `root`.
pub(super) fn execute(root: &Path, steps: &[Step]) -> Result<(), PublishError> {
    for batch in steps.split(|step| *step == Step::Barrier) {
        if !batch.is_empty() {
            execute_batch(root, batch)?;
        }
    }
    Ok(())
}

/// A file under its temporary name. Dropped before it is renamed, the temporary file goes.
struct Staged {
    temp: PathBuf,
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone after a rename, unless both names were links to one file: rename(2) then does nothing and leaves it.
        let _ = fs::remove_file(&self.temp);
    }
}

fn execute_batch(root: &Path, batch: &[Step]) -> Result<(), PublishError> {
    let placing = batch
        .iter()
        .any(|step| !matches!(step, Step::Remove { .. }));
    let together = placing && batch.len() >= SYNC_TOGETHER;
    let directories = if placing && !together {
        make_directories(root, batch)?
    } else {
        BTreeSet::new()
    };

    // Bytes first and in parallel; aliases may speak of files of the same batch, so they follow one by one.
    let mut staged: Vec<Option<Staged>> = batch
        .par_iter()
        .map(|step| {
            // A new directory takes as long as a new file: with many, each is made along with its files.
            if together && let Some(path) = step.path() {
                make_directory(&parent(root, path))?;
            }
            stage(root, step, !together)
        })
        .collect::<Result<_, PublishError>>()?;
    if together {
        sync_all(root)?;
    }
    for (step, staged) in batch.iter().zip(&mut staged) {
        match step {
            Step::Write { .. } | Step::Import { .. } => {
                if let Some(staged) = staged.take() {
                    fs::rename(&staged.temp, &staged.path)
                        .map_err(io_error("place", &staged.path))?;
                }
            }
            Step::Alias { path, of } => alias(&root.join(of), &root.join(path))?,
            Step::Remove { path } => remove(root, path)?,
            Step::Barrier => {}
        }
    }
    if together || directories.len() >= SYNC_TOGETHER {
        sync_all(root)?;
    } else {
        for directory in directories {
            atomic::sync_directory(&directory)
                .map_err(io_error("bring to the disk", &directory))?;
        }
    }
    Ok(())
}

/// Makes the directories of all steps; gives those whose entries have to be brought to the disk afterwards, which
/// includes the parents of new ones.
fn make_directories(root: &Path, batch: &[Step]) -> Result<BTreeSet<PathBuf>, PublishError> {
    let mut changed: BTreeSet<PathBuf> = BTreeSet::new();
    for path in batch.iter().filter_map(Step::path) {
        let directory = parent(root, path);
        let mut missing = directory.as_path();
        while !changed.contains(missing) && missing != root && !missing.is_dir() {
            missing = atomic::parent_of(missing);
            changed.insert(missing.to_owned());
        }
        make_directory(&directory)?;
        changed.insert(directory);
    }
    Ok(changed)
}

/// Makes a directory and its missing parents; all users may read what this program makes of a repository, whatever its
/// umask.
pub(super) fn make_directory(path: &Path) -> Result<(), PublishError> {
    fn one(path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)),
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }
    fn make(path: &Path) -> io::Result<()> {
        match one(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = atomic::parent_of(path);
                if parent == path {
                    return Err(error);
                }
                make(parent)?;
                one(path)
            }
            done => done,
        }
    }
    make(path).map_err(io_error("make the directory", path))
}

/// Brings everything on the repository's file system to the disk.
fn sync_all(root: &Path) -> Result<(), PublishError> {
    let handle = File::open(root).map_err(io_error("open", root))?;
    rustix::fs::syncfs(&handle).map_err(|error| io_error("bring to the disk", root)(error.into()))
}

fn stage(root: &Path, step: &Step, sync: bool) -> Result<Option<Staged>, PublishError> {
    let (Step::Write { path, .. } | Step::Import { path, .. }) = step else {
        return Ok(None);
    };
    let path = root.join(path);
    let staged = Staged {
        temp: atomic::temp_beside(&path),
        path,
    };
    let failed = |source| io_error("write", &staged.path)(source);
    let file = match step {
        Step::Write { bytes, .. } => {
            let mut file = atomic::create_new(&staged.temp, 0o644).map_err(failed)?;
            file.write_all(bytes).map_err(failed)?;
            file
        }
        Step::Import { from, sha256, .. } => import(from, *sha256, &staged.temp)?,
        Step::Alias { .. } | Step::Barrier | Step::Remove { .. } => return Ok(None),
    };
    // The web server reads it under another user, whatever the publisher's umask.
    file.set_permissions(Permissions::from_mode(0o644))
        .map_err(failed)?;
    if sync {
        file.sync_all().map_err(failed)?;
    }
    Ok(Some(staged))
}

/// Up to this length a file is read into memory: one pass instead of a copy and a second reading for its digest.
const SMALL: u64 = 4 << 20;

/// Copies `from` to `temp` and checks the digest of what arrived. Never a hard link: whoever changed the original in its
/// place would change what is published.
fn import(from: &Path, expected: Sha256, temp: &Path) -> Result<File, PublishError> {
    let changed = |found| PublishError::ChangedFile {
        path: from.to_owned(),
        expected,
        found,
    };
    let small = fs::metadata(from).map_err(io_error("look at", from))?.len() <= SMALL;
    if small {
        let bytes = fs::read(from).map_err(io_error("read", from))?;
        let found = Sha256::of(&bytes);
        if found != expected {
            return Err(changed(found));
        }
        let mut file = atomic::create_new(temp, 0o644).map_err(io_error("write", temp))?;
        file.write_all(&bytes).map_err(io_error("write", temp))?;
        return Ok(file);
    }
    // The copy shares its blocks with the original where the file system can (copy_file_range(2)).
    fs::copy(from, temp).map_err(io_error("copy", from))?;
    let mut file = File::open(temp).map_err(io_error("read", temp))?;
    match digest(&mut file).map_err(io_error("read", from))? {
        found if found == expected => Ok(file),
        found => Err(changed(found)),
    }
}

/// Digest of what is left of a file.
pub(crate) fn digest(file: &mut File) -> io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    // Most packages are small: no more is zeroed than will be used.
    let length = file.metadata()?.len().clamp(1, 256 << 10);
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(256 << 10)];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(Sha256::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&buffer[..length]);
    }
}

/// Gives the file `of` the second name `path`, replacing what had it.
fn alias(of: &Path, path: &Path) -> Result<(), PublishError> {
    let staged = Staged {
        temp: atomic::temp_beside(path),
        path: path.to_owned(),
    };
    if fs::hard_link(of, &staged.temp).is_err() {
        fs::copy(of, &staged.temp).map_err(io_error("copy", of))?;
        File::open(&staged.temp)
            .and_then(|file| file.sync_all())
            .map_err(io_error("bring to the disk", path))?;
    }
    fs::rename(&staged.temp, path).map_err(io_error("place", path))
}

/// Deletes a file and the directories that it leaves empty, up to the repository's root.
fn remove(root: &Path, path: &str) -> Result<(), PublishError> {
    let path = root.join(path);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("delete", &path)(error)),
    }
    let mut directory = path.parent();
    while let Some(empty) = directory.filter(|directory| *directory != root) {
        if fs::remove_dir(empty).is_err() {
            break;
        }
        directory = empty.parent();
    }
    Ok(())
}

fn parent(root: &Path, path: &str) -> PathBuf {
    let path = root.join(path);
    atomic::parent_of(&path).to_owned()
}

/// For `map_err`: an I/O error with what was being done to which file.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io {
        action,
        path,
        source,
    }
}
