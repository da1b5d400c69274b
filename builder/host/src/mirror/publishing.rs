//! A fetched closure as components of the fleet's repository.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use rolesmith_formats::apt::{DebDescription, Sha256};
use rolesmith_formats::ar;
use rolesmith_formats::compress::Compression;
use rolesmith_formats::control::Paragraph;
use rolesmith_formats::deb::ReadError;
use rolesmith_formats::tarball::{self, EntryKind};

use super::apt::package_path;
use super::error::io_error;
use super::{Archive, Closure, MirrorError, MirrorPackage};
use crate::publish::{Component, PoolFile};

/// Component of the packages from Debian's main archive.
pub const DEBIAN: &str = "debian";
/// Component of the packages from Debian's security archive; unattended-upgrades can tell them by it.
pub const DEBIAN_SECURITY: &str = "debian-security";

/// The components `debian` and `debian-security` for [`PublishInput`](crate::publish::PublishInput).
///
/// The paragraphs come from the packages' own control files, not from Debian's index: `mirror.lock` and the packages
/// that it names then determine every byte, also on a machine that has never seen that state of the index, and the
/// descriptions are complete without `Translation` files. There is no `Contents` for them.
///
/// # Errors
/// [`MirrorError::NotFetched`], and when a package cannot be read.
pub fn components(
    closure: &Closure,
    cache_directory: &Path,
) -> Result<Vec<Component>, MirrorError> {
    [
        (DEBIAN, Archive::Main),
        (DEBIAN_SECURITY, Archive::Security),
    ]
    .into_iter()
    .map(|(name, archive)| {
        let of_archive: Vec<&MirrorPackage> = closure
            .packages
            .iter()
            .filter(|package| package.archive == archive)
            .collect();
        let packages = of_archive
            .par_iter()
            .map(|package| described(package, cache_directory))
            .collect::<Result<_, _>>()?;
        Ok(Component {
            name: name.to_owned(),
            packages,
        })
    })
    .collect()
}

fn described(package: &MirrorPackage, cache_directory: &Path) -> Result<PoolFile, MirrorError> {
    let path = package_path(cache_directory, &package.sha256);
    if !path.is_file() {
        return Err(not_fetched(package));
    }
    let kept = path.with_extension("control");
    let control = match fs::read_to_string(&kept).ok().and_then(unsealed) {
        Some(control) => control,
        None => {
            let control = control_of(package, &path)?;
            // A copy for the next run, which may as well be missing.
            let _ = crate::atomic::write(&kept, sealed(&control).as_bytes());
            control
        }
    };
    let deb = DebDescription {
        control: control.into(),
        files: "".into(),
        size: package.size,
        sha256: package.sha256,
    };
    Ok(PoolFile::Described {
        path,
        deb: Arc::new(deb),
    })
}

fn not_fetched(package: &MirrorPackage) -> MirrorError {
    MirrorError::NotFetched {
        package: format!("{} {}", package.name, package.version),
    }
}

/// A control paragraph as it is kept beside its package: after its own digest, because a disk may lie and an index that
/// names other dependencies than the package has is found by nobody.
fn sealed(control: &str) -> String {
    format!("{}\n{control}", Sha256::of(control.as_bytes()))
}

fn unsealed(kept: String) -> Option<String> {
    let (digest, control) = kept.split_once('\n')?;
    (digest.parse() == Ok(Sha256::of(control.as_bytes()))).then(|| control.to_owned())
}

/// The control paragraph of a cached package, whose digest is checked; its files are not unpacked, which for a kernel would take a second.
fn control_of(package: &MirrorPackage, path: &Path) -> Result<String, MirrorError> {
    let failed = |source| MirrorError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    if Sha256::of(&bytes) != package.sha256 {
        // It was whole when it was fetched; without it the next run fetches it again.
        fs::remove_file(path).map_err(io_error("delete", path))?;
        return Err(not_fetched(package));
    }
    let members = ar::read(&bytes).map_err(|error| failed(error.into()))?;
    let member = members
        .iter()
        .find(|member| member.name.starts_with("control.tar"));
    let member = member.ok_or_else(|| failed(ReadError::Layout("no control member")))?;
    let unpacked = match Compression::of_name(member.name) {
        Some(compression) => compression.decompress(member.data),
        None => Ok(member.data.to_vec()),
    };
    let tar = |source| {
        failed(ReadError::Tar {
            member: "control.tar",
            source,
        })
    };
    let entries = tarball::read_entries(unpacked.map_err(tar)?.as_slice()).map_err(tar)?;
    let control = entries.into_iter().find_map(|entry| match entry.kind {
        EntryKind::File(content) if entry.path == "/control" => {
            String::from_utf8(content.to_vec()).ok()
        }
        _ => None,
    });
    let control = control.ok_or_else(|| failed(ReadError::Layout("no control file")))?;
    let paragraph = Paragraph::parse(&control).map_err(|error| failed(error.into()))?;
    let mut text = String::with_capacity(control.len());
    paragraph.write_to(&mut text);
    Ok(text)
}
