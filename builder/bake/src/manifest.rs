//! What an image consists of, for people and programs: `manifest.json` beside it.

use std::{fs::File, io::Read as _, path::Path};

use serde::{Deserialize, Serialize};

use crate::error::{BakeError, Result};

/// Where the tree says which packages it has.
const PACKAGES: &str = "usr/share/rolesmith/image-packages";
/// More than such a list ever has, in bytes.
const LIMIT: u64 = 4 << 20;

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this file.
    pub format: u32,
    /// The image.
    pub image: String,
    /// The fleet whose packages it has.
    pub fleet: String,
    /// Debian's release.
    pub suite: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Hash of everything that it was made from: the same inputs give the same image.
    pub inputs: String,
    /// SOURCE_DATE_EPOCH: the time of the newest package of the fleet in it.
    pub epoch: u64,
    /// The root file system's UUID.
    pub root_uuid: String,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Versions of the tools that wrote it.
    pub tools: Vec<(String, String)>,
    /// Packages, by name.
    pub packages: Vec<Package>,
    /// The image's files.
    pub files: Vec<ImageFile>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the .deb, as the signed archive that it came from has it.
    pub sha256: String,
}

/// A file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFile {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

/// Reads the list of packages out of a tree.
///
/// # Errors
/// [`BakeError::File`] where the tree has none, or one that is none.
pub fn packages(tree: &Path) -> Result<Vec<Package>> {
    let read = || -> std::io::Result<Vec<Package>> {
        let mut archive = tar::Archive::new(File::open(tree)?);
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            if entry.path()?.strip_prefix("./").unwrap_or(&entry.path()?) != Path::new(PACKAGES) {
                continue;
            }
            let mut text = String::new();
            entry.take(LIMIT).read_to_string(&mut text)?;
            return text.lines().map(line).collect();
        }
        Err(std::io::Error::other(format!("it has no /{PACKAGES}")))
    };
    read().map_err(BakeError::file("read", tree))
}

fn line(line: &str) -> std::io::Result<Package> {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, architecture, version, sha256] = words[..] else {
        return Err(std::io::Error::other(format!("{line:?} is no package")));
    };
    Ok(Package {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        version: version.to_owned(),
        sha256: sha256.to_owned(),
    })
}
