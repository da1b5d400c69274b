//! The packages themselves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rolesmith_formats::apt::Sha256;

use super::apt::{AptRoot, HELPER, package_path, successful};
use super::error::io_error;
use super::{Archive, Closure, MirrorError, MirrorPackage, Sources};
use crate::atomic;

/// Packages that apt downloads in one go: enough for its pipelining, few enough for progress to be seen.
const BATCH: usize = 24;

/// How far [`fetch`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Packages that are there.
    pub packages: usize,
    /// Packages of the closure.
    pub of_packages: usize,
    /// Bytes that are there.
    pub bytes: u64,
    /// Bytes of the closure.
    pub of_bytes: u64,
}

/// Brings the packages of a closure into the cache; those that are there already are not asked for again. apt
/// downloads them, with the machine's proxies; length and digest are checked here once more.
///
/// # Errors
/// When a package cannot be downloaded or is not the one that the closure names; see [`MirrorError`].
pub fn fetch(
    closure: &Closure,
    sources: &Sources,
    cache_directory: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<(), MirrorError> {
    let directory = cache_directory.join("packages");
    fs::create_dir_all(&directory).map_err(io_error("make the directory", &directory))?;
    let (there, missing): (Vec<_>, Vec<_>) = closure
        .packages
        .iter()
        .partition(|package| is_there(cache_directory, package));
    let mut at = Progress {
        packages: there.len(),
        of_packages: closure.packages.len(),
        bytes: there.iter().map(|package| package.size).sum(),
        of_bytes: closure.size(),
    };
    progress(at);
    if missing.is_empty() {
        return Ok(());
    }
    let root = AptRoot::prepare_in(cache_directory.join("apt-download"), &closure.architecture)?;
    for batch in missing.chunks(BATCH) {
        let wanted: Vec<(&MirrorPackage, PathBuf)> = batch
            .iter()
            .map(|package| {
                (
                    *package,
                    atomic::temp_beside(&package_path(cache_directory, &package.sha256)),
                )
            })
            .collect();
        let result = download(&root, sources, cache_directory, &wanted);
        for (_, temp) in &wanted {
            // Renamed by now when all went well.
            let _ = fs::remove_file(temp);
        }
        result?;
        at.packages += batch.len();
        at.bytes += batch.iter().map(|package| package.size).sum::<u64>();
        progress(at);
    }
    atomic::sync_directory(&directory).map_err(io_error("bring to the disk", &directory))
}

fn download(
    root: &AptRoot,
    sources: &Sources,
    cache_directory: &Path,
    wanted: &[(&MirrorPackage, PathBuf)],
) -> Result<(), MirrorError> {
    let mut arguments = vec!["-q".to_owned(), "download-file".to_owned()];
    for (package, temp) in wanted {
        let archive = match package.archive {
            Archive::Main => &sources.archive,
            Archive::Security => &sources.security,
        };
        arguments.push(format!(
            "{}/{}",
            archive.trim_end_matches('/'),
            percent_encoded(&package.path)
        ));
        arguments.push(temp.to_string_lossy().into_owned());
        arguments.push(format!("SHA256:{}", package.sha256));
    }
    successful(root.run(HELPER, &arguments)?).map_err(MirrorError::Download)?;
    wanted
        .par_iter()
        .try_for_each(|(package, temp)| place(cache_directory, package, temp))
}

/// Checks what apt left at `temp` and gives it its name.
fn place(cache_directory: &Path, package: &MirrorPackage, temp: &Path) -> Result<(), MirrorError> {
    let failed = |source| io_error("read", temp)(source);
    if fs::symlink_metadata(temp).map_err(failed)?.is_symlink() {
        // From an archive on this machine (`file:`) apt makes a link; the cache needs the bytes.
        let origin = fs::canonicalize(temp).map_err(failed)?;
        fs::remove_file(temp)
            .and_then(|()| fs::copy(&origin, temp))
            .map_err(failed)?;
    }
    let mut file = File::open(temp).map_err(failed)?;
    let found = crate::publish::digest_of(&mut file).map_err(failed)?;
    if found != package.sha256 || file.metadata().map_err(failed)?.len() != package.size {
        return Err(MirrorError::WrongFile {
            package: format!("{} {}", package.name, package.version),
        });
    }
    file.sync_all().map_err(failed)?;
    let path = package_path(cache_directory, &package.sha256);
    fs::rename(temp, &path).map_err(io_error("place", &path))
}

/// Files get their names only after their digest was checked, so name and length are enough here; the publisher checks
/// the digest again.
fn is_there(cache_directory: &Path, package: &MirrorPackage) -> bool {
    let path = package_path(cache_directory, &package.sha256);
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == package.size)
}

/// Deletes cached packages that none of the closures has; gives the number of bytes freed.
///
/// # Errors
/// When the cache cannot be read or changed.
pub fn forget_others(closures: &[&Closure], cache_directory: &Path) -> Result<u64, MirrorError> {
    let kept: std::collections::BTreeSet<Sha256> = closures
        .iter()
        .flat_map(|closure| closure.packages.iter().map(|package| package.sha256))
        .collect();
    let directory = cache_directory.join("packages");
    let mut freed = 0;
    for entry in fs::read_dir(&directory).map_err(io_error("read", &directory))? {
        let path = entry.map_err(io_error("read", &directory))?.path();
        let digest = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .and_then(|stem| stem.parse::<Sha256>().ok());
        if digest.is_some_and(|digest| !kept.contains(&digest)) {
            freed += fs::metadata(&path)
                .map_err(io_error("look at", &path))?
                .len();
            fs::remove_file(&path).map_err(io_error("delete", &path))?;
        }
    }
    Ok(freed)
}

/// As apt encodes paths of packages: a `+` or `~` may mean something else to a web server.
fn percent_encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02x}"));
        }
    }
    text
}
