//! `Packages` and `Contents` of one component.

use crate::compress::Compression;

use super::digest::{Sha256, Sha512};
use super::entry::PackageEntry;

/// An index before compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexText {
    /// Path below `dists/<codename>/`, without a compression's suffix.
    pub path: String,
    /// The whole text.
    pub text: String,
}

/// Where an index file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// To be published.
    Bytes(Vec<u8>),
    /// Published by an earlier generation and unchanged.
    Published,
    /// Listed in `Release` only: apt checks what it unpacks against the digest of the uncompressed text.
    ListedOnly,
}

/// One line of `Release` and the file it speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// Path below `dists/<codename>/`.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Digest of the file, which apt prefers.
    pub sha512: Sha512,
    /// The file itself.
    pub body: Body,
}

impl IndexFile {
    /// A file to be published.
    pub fn new(path: String, bytes: Vec<u8>) -> Self {
        let listed = Self::listed(path, &bytes);
        Self {
            body: Body::Bytes(bytes),
            ..listed
        }
    }

    /// A file that only `Release` speaks of.
    pub fn listed(path: String, bytes: &[u8]) -> Self {
        Self {
            path,
            size: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            sha512: Sha512::of(bytes),
            body: Body::ListedOnly,
        }
    }
}

impl IndexText {
    /// The uncompressed index, which is listed and not published, as in Debian's archive: apt 3 prefers it to by-hash when
    /// it finds it on a disk (`file:`), and so would see the next generation's index too early.
    pub fn plain(&self) -> IndexFile {
        IndexFile::listed(self.path.clone(), self.text.as_bytes())
    }

    /// The index compressed with gzip, which every apt reads by itself. xz was measured: 5 % smaller at three times the
    /// time, and a fleet's index is a few tens of kilobytes.
    pub fn gzip(&self) -> IndexFile {
        let packed = Compression::Gzip
            .compress(self.text.as_bytes())
            .expect("gzip into memory does not fail");
        IndexFile::new(format!("{}.gz", self.path), packed)
    }
}

/// The indexes of one component, uncompressed.
///
/// `architectures` are the clients' architectures, without `all`. A package for `all` stands in each of their
/// `Packages` files (`No-Support-for-Architecture-all: Packages` says so to apt), but only in `Contents-all`, as in
/// Debian's archive. The order of `entries` does not matter.
pub fn index(component: &str, architectures: &[&str], entries: &[PackageEntry]) -> Vec<IndexText> {
    let mut sorted: Vec<&PackageEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| {
        (&a.name, &a.version, &a.architecture).cmp(&(&b.name, &b.version, &b.architecture))
    });

    let mut indexes = Vec::new();
    for architecture in architectures {
        indexes.push(IndexText {
            path: format!("{component}/binary-{architecture}/Packages"),
            text: packages(
                sorted
                    .iter()
                    .copied()
                    .filter(|e| e.architecture == *architecture || e.architecture == "all"),
            ),
        });
    }
    for architecture in architectures.iter().chain(&["all"]) {
        indexes.push(IndexText {
            path: format!("{component}/Contents-{architecture}"),
            text: contents(
                sorted
                    .iter()
                    .copied()
                    .filter(|e| e.architecture == *architecture),
            ),
        });
    }
    indexes
}

fn packages<'a>(entries: impl Iterator<Item = &'a PackageEntry>) -> String {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&entry.stanza);
        text.push('\n');
    }
    text
}

/// `path<blanks>section/package[,section/package…]`, sorted by path.
fn contents<'a>(entries: impl Iterator<Item = &'a PackageEntry>) -> String {
    let mut lines: Vec<(&str, &str)> = Vec::new();
    for entry in entries {
        lines.extend(
            entry
                .files
                .lines()
                .map(|path| (path, entry.location.as_str())),
        );
    }
    lines.sort_unstable();
    lines.dedup();
    let mut text = String::with_capacity(lines.len() * 80);
    for (number, (path, location)) in lines.iter().enumerate() {
        if number > 0 && lines[number - 1].0 == *path {
            text.push(',');
        } else {
            if number > 0 {
                text.push('\n');
            }
            text.push_str(path);
            for _ in path.len()..59 {
                text.push(' ');
            }
            text.push(' ');
        }
        text.push_str(location);
    }
    if !lines.is_empty() {
        text.push('\n');
    }
    text
}
