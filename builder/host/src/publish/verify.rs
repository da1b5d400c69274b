//! Whether a published suite is whole: every digest that its signed text speaks of, checked against the files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rayon::prelude::*;
use rolesmith_formats::apt::{Sha256, Sha512, parse_release};
use rolesmith_formats::compress::Compression;

use super::PublishError;
use super::execute::{digest, io_error};
use super::gather::packages_in;
use super::plan::by_hash;

/// A file that is not what the repository says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `InRelease` cannot be read as this program writes it.
    BadRelease(String),
    /// A file is missing.
    Missing(String),
    /// A file has other bytes.
    WrongDigest(String),
}

/// What [`verify`] looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Published index files, by-hash names not counted.
    pub indexes: usize,
    /// Packages of the pool.
    pub packages: usize,
    /// Everything that is wrong; empty when the suite is whole.
    pub faults: Vec<Fault>,
}

/// Reads the suite `codename` below `root` as a client would, by-hash and pool, and checks every digest. Signatures are
/// apt's business; see [`rolesmith_formats::openpgp::PublicKey::verify_clearsigned`].
///
/// # Errors
/// When a file cannot be read for another reason than being missing.
pub fn verify(root: &Path, codename: &str) -> Result<Verified, PublishError> {
    let dist = format!("dists/{codename}");
    let mut verified = Verified::default();
    let in_release = format!("{dist}/InRelease");
    let Some(text) = read(root, &in_release)? else {
        verified.faults.push(Fault::Missing(in_release));
        return Ok(verified);
    };
    let release = match parse_release(&String::from_utf8_lossy(&text)) {
        Ok(release) => release,
        Err(error) => {
            verified.faults.push(Fault::BadRelease(error.to_string()));
            return Ok(verified);
        }
    };

    let mut packages: BTreeMap<String, Sha256> = BTreeMap::new();
    for (path, listed) in &release.files {
        // The others are listed for what comes out of the compressed ones.
        let Some(unpacked_path) = path.strip_suffix(".gz") else {
            continue;
        };
        verified.indexes += 1;
        let strong = format!(
            "{dist}/{}",
            by_hash(path, "SHA512", &listed.sha512.to_string())
        );
        let weak = format!(
            "{dist}/{}",
            by_hash(path, "SHA256", &listed.sha256.to_string())
        );
        for name in [strong, weak] {
            let Some(bytes) = read(root, &name)? else {
                verified.faults.push(Fault::Missing(name));
                continue;
            };
            let unpacked = Compression::Gzip.decompress(&bytes).unwrap_or_default();
            let whole = Sha512::of(&bytes) == listed.sha512
                && Sha256::of(&bytes) == listed.sha256
                && release
                    .files
                    .get(unpacked_path)
                    .is_some_and(|plain| Sha512::of(&unpacked) == plain.sha512);
            if !whole {
                verified.faults.push(Fault::WrongDigest(name));
            } else if path.ends_with("/Packages.gz") {
                packages_in(&String::from_utf8_lossy(&unpacked), &mut packages);
            }
        }
    }
    verified.packages = packages.len();
    let faults: Vec<Option<Fault>> = packages
        .into_par_iter()
        .map(|(path, expected)| {
            let full = root.join(&path);
            match File::open(&full) {
                Ok(mut file) => {
                    let found = digest(&mut file).map_err(io_error("read", &full))?;
                    Ok((found != expected).then_some(Fault::WrongDigest(path)))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Ok(Some(Fault::Missing(path)))
                }
                Err(error) => Err(io_error("read", &full)(error)),
            }
        })
        .collect::<Result<_, PublishError>>()?;
    verified.faults.extend(faults.into_iter().flatten());
    Ok(verified)
}

fn read(root: &Path, path: &str) -> Result<Option<Vec<u8>>, PublishError> {
    let path = root.join(path);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &path)(error)),
    }
}
