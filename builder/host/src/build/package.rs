//! One package: taken from the build before, made, or signed for another program.

use std::path::Path;

use rolesmith_formats::{
    assemble::assemble,
    deb::{Deb, SignedDeb},
};
use rolesmith_model::{lock::Locked, plan::Package};

use super::leaks::scan_deb;
use super::manifest::{Manifest, ManifestFile, ManifestPackage, manifest_file, sha256};
use super::{BuildError, BuildRequest, Built, io_error};

/// The package as the last build left it, where its inputs are the same and its file is whole.
pub(super) fn reusable(
    earlier: Option<&Manifest>,
    package: &Package,
    locked: &Locked,
    dir: &Path,
) -> Option<Built> {
    let entry = earlier?
        .packages
        .iter()
        .find(|p| p.name == package.name.as_str())?;
    // A lock from elsewhere may know the same version with another time in it.
    let same = entry.inputs == locked.inputs
        && entry.version == locked.version.to_string()
        && entry.epoch == locked.epoch;
    if !same {
        return None;
    }
    let path = dir.join(&entry.file);
    let bytes = std::fs::read(&path).ok()?;
    (sha256(&bytes) == entry.sha256).then(|| Built {
        manifest: entry.clone(),
        path,
        fresh: false,
        adopted: false,
    })
}

pub(super) fn make(
    request: &BuildRequest<'_>,
    package: &Package,
    locked: &Locked,
    dir: &Path,
) -> Result<(Built, SignedDeb), BuildError> {
    let name = package.name.to_string();
    let deb =
        assemble(&request.plan.fleet, package, locked, request.compression).map_err(|source| {
            BuildError::Assemble {
                package: name.clone(),
                source,
            }
        })?;
    let deb = deb
        .sign(request.signer)
        .map_err(|source| BuildError::Sign {
            package: name.clone(),
            source,
        })?;
    let built = Built {
        manifest: ManifestPackage {
            name,
            version: locked.version.to_string(),
            file: deb.file_name().to_owned(),
            size: deb.size(),
            sha256: sha256(deb.bytes()),
            inputs: locked.inputs.clone(),
            epoch: locked.epoch,
            files: package.files.iter().map(manifest_file).collect(),
        },
        path: dir.join(deb.file_name()),
        fresh: true,
        adopted: false,
    };
    Ok((built, deb))
}

/// Signs a package that another program built. Its version is its own; its inputs are its bytes.
pub(super) fn adopt(
    request: &BuildRequest<'_>,
    from: &Path,
    earlier: Option<&Manifest>,
    dir: &Path,
) -> Result<(Built, Option<SignedDeb>), BuildError> {
    let bytes = std::fs::read(from).map_err(io_error(from))?;
    scan_deb(request.scan, from, &bytes)?;
    let inputs = sha256(&bytes);
    if let Some(entry) = earlier.and_then(|m| m.packages.iter().find(|p| p.inputs == inputs)) {
        let path = dir.join(&entry.file);
        let unchanged = std::fs::read(&path).is_ok_and(|b| sha256(&b) == entry.sha256);
        if unchanged {
            return Ok((
                Built {
                    manifest: entry.clone(),
                    path,
                    fresh: false,
                    adopted: true,
                },
                None,
            ));
        }
    }
    let deb = Deb::from_bytes(bytes).map_err(|e| BuildError::Adopt {
        path: from.to_owned(),
        source: e,
    })?;
    let field = |name| deb.control().get(name).unwrap_or_default().to_owned();
    let (name, version) = (field("Package"), field("Version"));
    let files = deb
        .paths()
        .iter()
        .map(|path| ManifestFile {
            path: format!("/{path}"),
            mode: String::new(),
            sha256: None,
            target: None,
            conffile: false,
            origin: from
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default(),
        })
        .collect();
    let deb = deb
        .sign(request.signer)
        .map_err(|source| BuildError::Sign {
            package: name.clone(),
            source,
        })?;
    let built = Built {
        manifest: ManifestPackage {
            name,
            version,
            file: deb.file_name().to_owned(),
            size: deb.size(),
            sha256: sha256(deb.bytes()),
            inputs,
            epoch: 0,
            files,
        },
        path: dir.join(deb.file_name()),
        fresh: true,
        adopted: true,
    };
    Ok((built, Some(deb)))
}
