//! `rolesmith build`: the plan becomes signed packages in dist/packages.
//!
//! Versions are decided first, then everything is made in memory, in parallel; only when all of it succeeded is a byte
//! written. The lock comes first and the manifest last: killed in between, the next build finishes the work.

mod lock;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rayon::prelude::*;
use rolesmith_formats::{
    assemble::{AssembleError, assemble},
    compress::Compression,
    deb::{Deb, ReadError, SignedDeb, read_deb, read_entries},
    facts::{self, NodeCertificate},
    keyring::{self, PublicKeyForms},
    openpgp::{OpenPgpError, PublicKey, Signer},
    tarball::EntryKind,
};
use rolesmith_model::{
    lock::{Lock, Locked},
    plan::{Content, Origin, Package, Plan},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    atomic,
    publish::PoolFile,
    scan::{Leak, SecretScan},
};

pub use lock::FleetLock;

/// Name of the lock file in a fleet's directory.
pub const LOCK_FILE: &str = "rolesmith.lock";
/// Directory of the packages, below a fleet's directory.
pub const PACKAGES_DIR: &str = "dist/packages";
/// The manifest, below a fleet's directory.
pub const MANIFEST_FILE: &str = "dist/manifest.json";
/// Format of the manifest.
const MANIFEST_FORMAT: u32 = 1;

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

/// dist/manifest.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Grows when the manifest's shape does.
    pub format: u32,
    /// The fleet.
    pub fleet: String,
    /// Its suite.
    pub suite: String,
    /// Fingerprint of the key that signed the packages.
    pub key: String,
    /// The packages by name.
    pub packages: Vec<ManifestPackage>,
}

/// A package in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its file below dist/packages.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Hash of what it is made of, as in rolesmith.lock.
    pub inputs: String,
    /// Seconds since 1970 of every time in it, as in rolesmith.lock; 0 for a package that another program built.
    pub epoch: u64,
    /// What it ships.
    pub files: Vec<ManifestFile>,
}

/// A shipped file in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Where it goes.
    pub path: String,
    /// Permissions in octal.
    pub mode: String,
    /// SHA-256 of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether dpkg keeps a person's changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conffile: bool,
    /// Where it came from.
    pub origin: String,
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

/// Reads the lock; an absent one is empty.
///
/// # Errors
/// It cannot be read or understood.
pub fn read_lock(dir: &Path) -> Result<Lock, BuildError> {
    let path = dir.join(LOCK_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::default()),
        Err(error) => return Err(io_error(&path)(error)),
    };
    let lock: Lock = toml::from_str(&text).map_err(|e| BuildError::Lock(e.to_string()))?;
    if lock.format != rolesmith_model::lock::LOCK_FORMAT {
        return Err(BuildError::Lock(format!(
            "format {} is not known to this rolesmith",
            lock.format
        )));
    }
    Ok(lock)
}

/// The public half of a signer in the forms that the keyring package ships.
///
/// # Errors
/// The signer cannot give it.
pub fn public_forms(armored: &str) -> Result<PublicKeyForms, OpenPgpError> {
    let key = PublicKey::from_armored(armored)?;
    Ok(PublicKeyForms {
        armored: armored.to_owned(),
        binary: key.to_bytes()?,
        fingerprint: key.fingerprint(),
    })
}

/// Decides all versions: every package of the fleet with the lock's entry for it.
///
/// # Errors
/// The signing key has no public half.
pub fn versions(
    request: &BuildRequest<'_>,
    lock: &mut Lock,
) -> Result<Vec<(Package, Locked)>, BuildError> {
    let plan = request.plan;
    // Another key or compression makes another file, and a repository never gives two files one name.
    let made_by = format!(
        "{} {}",
        request.signer.fingerprint(),
        request.compression.suffix()
    );
    // A signature cannot be older than its key.
    let now = request.now.max(request.signer.created());
    let mut keys = vec![
        public_forms(
            &request
                .signer
                .public_key_armored()
                .map_err(BuildError::Key)?,
        )
        .map_err(BuildError::Key)?,
    ];
    for armored in request.also_trusted {
        let key = public_forms(armored).map_err(BuildError::Key)?;
        // An announced key stays announced when it begins to sign.
        if keys
            .iter()
            .all(|known| known.fingerprint != key.fingerprint)
        {
            keys.push(key);
        }
    }
    let mut packages = vec![keyring::package(&plan.fleet, &keys)];
    packages.extend(plan.packages.iter().cloned());
    for package in &mut packages {
        if !package.lintian.contains(&facts::signature_override()) {
            package.lintian.push(facts::signature_override());
        }
    }
    let mut all: Vec<(Package, Locked)> = packages
        .into_iter()
        .map(|package| {
            let locked = lock.assign(&package, &made_by, now);
            (package, locked)
        })
        .collect();
    let numbers = all
        .iter()
        .map(|(p, l)| (p.name.to_string(), l.version.to_string()))
        .collect();
    // The facts hold their own version, so their hash is taken with a zero in its place.
    let make = |version| {
        facts::package(
            plan,
            request.ca_pem,
            request.certificates,
            &numbers,
            version,
        )
    };
    let locked = lock.assign(&make(0), &made_by, now);
    all.push((make(locked.version), locked));
    all.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    Ok(all)
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

/// The manifest of the last build, where it can be understood; without it everything is built again, to the same bytes.
fn read_manifest(dir: &Path) -> Option<Manifest> {
    let bytes = std::fs::read(dir.join(MANIFEST_FILE)).ok()?;
    serde_json::from_slice(&bytes)
        .ok()
        .filter(|m: &Manifest| m.format == MANIFEST_FORMAT)
}

fn reusable(
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
    (hex(&Sha256::digest(&bytes)) == entry.sha256).then(|| Built {
        manifest: entry.clone(),
        path,
        fresh: false,
        adopted: false,
    })
}

fn make(
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
            sha256: hex(&Sha256::digest(deb.bytes())),
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
fn adopt(
    request: &BuildRequest<'_>,
    from: &Path,
    earlier: Option<&Manifest>,
    dir: &Path,
) -> Result<(Built, Option<SignedDeb>), BuildError> {
    let bytes = std::fs::read(from).map_err(io_error(from))?;
    scan_deb(request.scan, from, &bytes)?;
    let inputs = hex(&Sha256::digest(&bytes));
    if let Some(entry) = earlier.and_then(|m| m.packages.iter().find(|p| p.inputs == inputs)) {
        let path = dir.join(&entry.file);
        let unchanged =
            std::fs::read(&path).is_ok_and(|b| hex(&Sha256::digest(&b)) == entry.sha256);
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
            sha256: hex(&Sha256::digest(deb.bytes())),
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

fn manifest_file(file: &rolesmith_model::plan::PackagedFile) -> ManifestFile {
    let (sha256, target) = match &file.content {
        Content::File(bytes) => (Some(hex(&Sha256::digest(bytes))), None),
        Content::Symlink(target) => (None, Some(target.clone())),
    };
    ManifestFile {
        path: file.path.clone(),
        mode: format!("{:04o}", file.mode),
        sha256,
        target,
        conffile: file.conffile,
        origin: match &file.origin {
            Origin::Source(path) => path.clone(),
            Origin::Template(path) => format!("{path} (rendered)"),
            Origin::Generated(from) => format!("generated from {from}"),
        },
    }
}

/// Every byte that is about to be shipped, before compression hides it.
fn scan(scan: &SecretScan, package: &Package) -> Result<(), Leak> {
    for file in &package.files {
        let what = format!("{} of the package {}", file.path, package.name);
        match &file.content {
            Content::File(bytes) => scan.check(bytes, &what)?,
            Content::Symlink(target) => scan.check(target.as_bytes(), &what)?,
        }
    }
    let scripts = &package.scripts;
    for (name, fragments) in [
        ("preinst", &scripts.preinst),
        ("postinst", &scripts.postinst),
        ("prerm", &scripts.prerm),
        ("postrm", &scripts.purge),
    ] {
        let what = format!("the {name} of the package {}", package.name);
        fragments
            .iter()
            .try_for_each(|text| scan.check(text.as_bytes(), &what))?;
    }
    let relations: Vec<&str> = package
        .relations
        .values()
        .flatten()
        .map(String::as_str)
        .collect();
    let fields = [&package.summary, &package.description, &relations.join(" ")]
        .map(String::as_str)
        .join(" ");
    scan.check(
        fields.as_bytes(),
        &format!("the control file of the package {}", package.name),
    )
}

/// As [`scan`], for a package that is compressed already: what it unpacks to.
fn scan_deb(scan: &SecretScan, path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let failed = |source| BuildError::Adopt {
        path: path.to_owned(),
        source,
    };
    let place = |what: &str| format!("{what} of {}", path.display());
    let contents = read_deb(bytes).map_err(failed)?;
    let mut control = String::new();
    contents.control.write_to(&mut control);
    scan.check(control.as_bytes(), &place("the control file"))?;
    let scripts = &contents.scripts;
    for (name, text) in [
        ("the preinst", &scripts.preinst),
        ("the postinst", &scripts.postinst),
        ("the prerm", &scripts.prerm),
        ("the postrm", &scripts.postrm),
    ] {
        if let Some(text) = text {
            scan.check(text.as_bytes(), &place(name))?;
        }
    }
    for entry in read_entries(bytes).map_err(failed)? {
        let what = place(&entry.path);
        match &entry.kind {
            EntryKind::File(content) => scan.check(content, &what)?,
            EntryKind::Symlink(target) => scan.check(target.as_bytes(), &what)?,
            EntryKind::Directory => {}
        }
    }
    Ok(())
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

/// The order of Debian's versions (deb-version(7)); what is none comes first.
#[must_use]
pub fn compare_versions(one: &str, other: &str) -> std::cmp::Ordering {
    let version = |text: &str| text.parse::<debversion::Version>().ok();
    version(one).cmp(&version(other))
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
