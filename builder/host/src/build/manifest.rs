//! dist/manifest.json: what the last build made, and what it can take over from it.

use std::path::Path;

use rolesmith_model::plan::{Content, Origin, PackagedFile};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::MANIFEST_FILE;

/// Format of the manifest.
pub(super) const MANIFEST_FORMAT: u32 = 1;

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

/// The manifest of the last build, where it can be understood; without it everything is built again, to the same bytes.
pub(super) fn read_manifest(dir: &Path) -> Option<Manifest> {
    let bytes = std::fs::read(dir.join(MANIFEST_FILE)).ok()?;
    serde_json::from_slice(&bytes)
        .ok()
        .filter(|m: &Manifest| m.format == MANIFEST_FORMAT)
}

pub(super) fn manifest_file(file: &PackagedFile) -> ManifestFile {
    let (sha256, target) = match &file.content {
        Content::File(bytes) => (Some(sha256(bytes)), None),
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

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
