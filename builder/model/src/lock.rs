//! rolesmith.lock: package -> hash of its inputs -> version.
//!
//! A version changes only when the hash does, so an unchanged package is not renamed, reinstalled or restarted. The lock is
//! committed by its user: with it, the same sources give the same bytes on every machine and every day, because it holds
//! the time of each version too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::plan::{Content, Package};

/// Format of the file.
pub const LOCK_FORMAT: u32 = 1;

/// A package's line in the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Its version; a number that grows by one.
    pub version: u64,
    /// SHA-256 over everything that the package is made of but its version, in hexadecimal.
    pub inputs: String,
    /// When the version was made, in seconds since 1970; every time in the package is this one.
    pub epoch: u64,
}

/// The lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// [`LOCK_FORMAT`].
    pub format: u32,
    /// Packages by name.
    #[serde(default)]
    pub packages: BTreeMap<String, Locked>,
}

impl Default for Lock {
    fn default() -> Self {
        Self {
            format: LOCK_FORMAT,
            packages: BTreeMap::new(),
        }
    }
}

impl Lock {
    /// The version of a package with these inputs: the one it has, or the next one, made at `now`.
    ///
    /// `made_by` names the key that signs it and how it is compressed. Both are inputs too: they make another file, and a
    /// repository never gives two files the same name.
    pub fn assign(&mut self, package: &Package, made_by: &str, now: u64) -> Locked {
        let inputs = hash(package, made_by);
        let name = package.name.as_str();
        match self.packages.get(name) {
            Some(locked) if locked.inputs == inputs => locked.clone(),
            earlier => {
                let locked = Locked {
                    version: earlier.map_or(1, |l| l.version + 1),
                    inputs,
                    // A clock that went back must not make a newer version look older.
                    epoch: earlier.map_or(now, |l| now.max(l.epoch)),
                };
                self.packages.insert(name.to_owned(), locked.clone());
                locked
            }
        }
    }
}

/// Changes when the layout of packages does, so that a newer rolesmith gives new versions.
const PACKAGE_LAYOUT: &str = "rolesmith package 1";

/// SHA-256 over a package's content, in hexadecimal. Each part is preceded by its length, so that no two packages can be
/// spelled the same.
#[must_use]
pub fn hash(package: &Package, made_by: &str) -> String {
    let mut state = Sha256::new();
    let mut put = |bytes: &[u8]| {
        state.update((bytes.len() as u64).to_le_bytes());
        state.update(bytes);
    };
    put(PACKAGE_LAYOUT.as_bytes());
    put(made_by.as_bytes());
    put(package.name.as_str().as_bytes());
    put(package.section.as_bytes());
    put(package.summary.as_bytes());
    put(package.description.as_bytes());
    put(package.maintainer.as_bytes());
    for (field, values) in &package.relations {
        put(field.as_bytes());
        put(values.join(", ").as_bytes());
    }
    for file in &package.files {
        put(file.path.as_bytes());
        put(&file.mode.to_le_bytes());
        put(&[u8::from(file.conffile)]);
        match &file.content {
            Content::File(bytes) => {
                put(b"file");
                put(bytes);
            }
            Content::Symlink(target) => {
                put(b"link");
                put(target.as_bytes());
            }
        }
    }
    let scripts = &package.scripts;
    for unit in &scripts.units {
        put(unit.name.as_bytes());
        put(&[u8::from(unit.enable), u8::from(unit.start)]);
    }
    put(&[
        u8::from(scripts.sysusers),
        u8::from(scripts.tmpfiles),
        u8::from(scripts.sysctl),
    ]);
    put(scripts.role.as_ref().map_or("", |r| r.as_str()).as_bytes());
    for fragments in [
        &scripts.preinst,
        &scripts.postinst,
        &scripts.prerm,
        &scripts.purge,
    ] {
        put(fragments.concat().as_bytes());
    }
    for tag in &package.lintian {
        put(tag.tag.as_bytes());
        put(tag.context.as_deref().unwrap_or("").as_bytes());
        put(tag.reason.as_bytes());
    }
    state
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
