//! The version of each package, decided before anything is made.

use std::{io, path::Path};

use rolesmith_formats::{
    facts,
    keyring::{self, PublicKeyForms},
    openpgp::{OpenPgpError, PublicKey},
};
use rolesmith_model::{
    lock::{Lock, Locked},
    plan::Package,
};

use super::{BuildError, BuildRequest, LOCK_FILE, io_error};

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
            request.clusters,
            &numbers,
            version,
        )
    };
    let locked = lock.assign(&make(0), &made_by, now);
    all.push((make(locked.version), locked));
    all.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    Ok(all)
}

/// The order of Debian's versions (deb-version(7)); what is none comes first.
#[must_use]
pub fn compare_versions(one: &str, other: &str) -> std::cmp::Ordering {
    let version = |text: &str| text.parse::<debversion::Version>().ok();
    version(one).cmp(&version(other))
}
