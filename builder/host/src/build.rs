//! `rolesmith build`: the plan becomes signed packages in dist/packages.
//!
//! Versions are decided first, then everything is made in memory, in parallel; only when all of it succeeded is a byte
//! written. The lock comes first and the manifest last: killed in between, the next build finishes the work.

mod leaks;
mod manifest;
mod package;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rayon::prelude::*;
use rolesmith_formats::{
    assemble::AssembleError,
    compress::Compression,
    deb::{ReadError, SignedDeb},
    facts::NodeCertificate,
    openpgp::{OpenPgpError, Signer},
};
use rolesmith_model::{cluster_lock::ClusterLock, plan::Plan};

use crate::{
    atomic,
    publish::PoolFile,
    scan::{Leak, SecretScan},
};

use leaks::scan;
use manifest::{MANIFEST_FORMAT, read_manifest};
use package::{adopt, make, reusable};

pub use manifest::{Manifest, ManifestFile, ManifestPackage};
pub use versions::{compare_versions, public_forms, read_lock, versions};

/// Name of the lock file in a fleet's directory.
pub const LOCK_FILE: &str = "rolesmith.lock";
/// Directory of the packages, below a fleet's directory.
pub const PACKAGES_DIR: &str = "dist/packages";
/// The manifest, below a fleet's directory.
pub const MANIFEST_FILE: &str = "dist/manifest.json";

const LOCK_HEAD: &str = "# Made by rolesmith; commit it. It gives each package its version: one that grows when, and only\n\
# when, what the package is made of changes.\n\n";

/// Why a build failed. Nothing was written to dist/ then.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// rolesmith.lock cannot be understood.
    #[error("{LOCK_FILE}: {0}")]
    Lock(String),
    /// A package cannot be assembled.
    #[error("package {package}: {source}")]
    Assemble {
        /// Which.
        package: String,
        /// Why.
        source: AssembleError,
    },
    /// A package cannot be signed.
    #[error("package {package} cannot be signed: {source}")]
    Sign {
        /// Which.
        package: String,
        /// Why.
        source: OpenPgpError,
    },
    /// A package of another program cannot be taken over.
    #[error("{} cannot be signed: {source}", path.display())]
    Adopt {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// The key has no usable public half.
    #[error("the signing key: {0}")]
    Key(OpenPgpError),
    /// A secret stands in what would be shipped.
    #[error(transparent)]
    Leak(#[from] Leak),
    /// The operating system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BuildError + '_ {
    move |source| BuildError::Io {
        path: path.to_owned(),
        source,
    }
}

/// What a build starts from.
pub struct BuildRequest<'a> {
    /// The fleet's directory.
    pub dir: &'a Path,
    /// The plan.
    pub plan: &'a Plan,
    /// Certificate of the fleet's CA (PEM).
    pub ca_pem: &'a str,
    /// Public half of each node's identity.
    pub certificates: &'a BTreeMap<String, NodeCertificate>,
    /// The clusters that were formed.
    pub clusters: &'a ClusterLock,
    /// What signs.
    pub signer: &'a dyn Signer,
    /// Armored public keys that clients shall trust beside the signer's own.
    pub also_trusted: &'a [String],
    /// What must not be shipped.
    pub scan: &'a SecretScan,
    /// Seconds since 1970, for new versions.
    pub now: u64,
    /// How data is compressed.
    pub compression: Compression,
    /// Packages that another program built, which the fleet's key shall sign: the agent's.
    pub adopted: &'a [PathBuf],
}

/// A package after the build.
#[derive(Debug, Clone)]
pub struct Built {
    /// Its entry in the manifest.
    pub manifest: ManifestPackage,
    /// Its file.
    pub path: PathBuf,
    /// Whether this build made it; otherwise it was there already.
    pub fresh: bool,
    /// Whether another program built it, and this one only signed it.
    pub adopted: bool,
}

/// What a build did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All packages, by name.
    pub packages: Vec<Built>,
    /// The manifest as it was written.
    pub manifest: Manifest,
}

/// Builds what changed.
///
/// # Errors
/// [`BuildError`]; dist/ is as it was.
pub fn build(request: &BuildRequest<'_>) -> Result<Outcome, BuildError> {
    let old_lock = read_lock(request.dir)?;
    let mut lock = old_lock.clone();
    let packages = versions(request, &mut lock)?;
    let dir = request.dir.join(PACKAGES_DIR);
    let earlier = read_manifest(request.dir).filter(|m| m.key == request.signer.fingerprint());
    let mut made: Vec<(Built, Option<SignedDeb>)> = packages
        .par_iter()
        .map(|(package, locked)| {
            // Of packages made before, too: a secret may have become known since.
            scan(request.scan, package)?;
            match reusable(earlier.as_ref(), package, locked, &dir) {
                Some(built) => Ok((built, None)),
                None => make(request, package, locked, &dir).map(|(built, deb)| (built, Some(deb))),
            }
        })
        .collect::<Result<_, BuildError>>()?;
    for path in request.adopted {
        made.push(adopt(request, path, earlier.as_ref(), &dir)?);
    }
    if lock != old_lock {
        let path = request.dir.join(LOCK_FILE);
        let text = toml::to_string(&lock).map_err(|e| BuildError::Lock(e.to_string()))?;
        atomic::write(&path, format!("{LOCK_HEAD}{text}").as_bytes()).map_err(io_error(&path))?;
    }
    for (built, deb) in &made {
        if let Some(deb) = deb {
            atomic::write(&built.path, deb.bytes()).map_err(io_error(&built.path))?;
        }
    }
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        fleet: request.plan.fleet.name.to_string(),
        suite: request.plan.fleet.suite.codename().into(),
        key: request.signer.fingerprint(),
        packages: made.iter().map(|(b, _)| b.manifest.clone()).collect(),
    };
    if earlier.as_ref() != Some(&manifest) {
        let path = request.dir.join(MANIFEST_FILE);
        let mut json = serde_json::to_vec_pretty(&manifest).expect("a manifest has a JSON form");
        json.push(b'\n');
        atomic::write(&path, &json).map_err(io_error(&path))?;
        sweep(&dir, &manifest)?;
    }
    Ok(Outcome {
        packages: made.into_iter().map(|(b, _)| b).collect(),
        manifest,
    })
}

/// Removes packages of earlier builds from dist/packages; published ones live on in the repository's pool.
fn sweep(dir: &Path, manifest: &Manifest) -> Result<(), BuildError> {
    let current: BTreeSet<&str> = manifest.packages.iter().map(|p| p.file.as_str()).collect();
    for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
        let entry = entry.map_err(io_error(dir))?;
        let name = entry.file_name();
        let stale = name
            .to_str()
            .is_some_and(|n| n.ends_with(".deb") && !current.contains(n));
        if stale || atomic::is_temp(&name) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(io_error(&path))?;
        }
    }
    Ok(())
}

/// Reads the built packages for publishing.
///
/// # Errors
/// A file is gone or no package.
pub fn read_packages(outcome: &Outcome) -> Result<Vec<PoolFile>, BuildError> {
    outcome
        .packages
        .par_iter()
        .map(|built| {
            let bytes = std::fs::read(&built.path).map_err(io_error(&built.path))?;
            let deb = SignedDeb::from_bytes(bytes).map_err(|e| BuildError::Io {
                path: built.path.clone(),
                source: io::Error::new(io::ErrorKind::InvalidData, e),
            })?;
            Ok(if built.adopted {
                PoolFile::Adopted(Arc::new(deb))
            } else {
                PoolFile::Deb(Arc::new(deb))
            })
        })
        .collect()
}
