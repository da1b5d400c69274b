//! The highest version of each of the fleet's packages that was ever published.
//!
//! apt never installs a lower version by itself, so a publisher that has lost its lock file would publish for nobody; and
//! a node that refuses facts older than its own would be right. The versions are kept with each generation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use debversion::Version;
use rolesmith_formats::apt::{PackageEntry, Sha256};

use super::error::{LowerVersion, LowerVersions};
use super::gather::{other_bytes, published_texts};
use super::state::Records;
use super::{PublishError, io_error};

/// Component of the fleet's own packages. Those of a mirror may go back with Debian's.
pub(super) const FLEET_COMPONENT: &str = "main";

/// Highest versions and their digests by name and architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HighestVersions {
    by_package: BTreeMap<(String, String), (String, Sha256)>,
}

impl HighestVersions {
    /// What was published up to the current generation.
    pub(super) fn load(root: &Path, records: &Records) -> Result<Self, PublishError> {
        let Some(current) = records.current() else {
            return Ok(Self::default());
        };
        let path = root.join(current.versions_path());
        match fs::read_to_string(&path) {
            Ok(text) => {
                if let Some(versions) = Self::parse(&text) {
                    return Ok(versions);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &path)(error)),
        }
        // Lost: the generations that are kept say what they had.
        let mut versions = Self::default();
        for generation in &records.published {
            for (path, text) in published_texts(root, generation)? {
                if path.contains(&format!("/{FLEET_COMPONENT}/")) {
                    versions.add_index(&text);
                }
            }
        }
        Ok(versions)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut versions = Self::default();
        let mut rest = text;
        // The last line tells a whole file from one that was cut off.
        while rest != "end\n" {
            let (line, after) = rest.split_once('\n')?;
            let words: Vec<&str> = line.split(' ').collect();
            let [name, architecture, version, digest] = words[..] else {
                return None;
            };
            versions.raise(name, architecture, version, digest.parse().ok()?);
            rest = after;
        }
        Some(versions)
    }

    /// The file's bytes.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for ((name, architecture), (version, digest)) in &self.by_package {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name} {architecture} {version} {digest}");
        }
        text.push_str("end\n");
        text
    }

    fn add_index(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let field = |name: &str| {
                let mut lines = paragraph.lines();
                lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            };
            if let (Some(name), Some(architecture), Some(version), Some(Ok(digest))) = (
                field("Package"),
                field("Architecture"),
                field("Version"),
                field("SHA256").map(str::parse),
            ) {
                self.raise(name, architecture, version, digest);
            }
        }
    }

    fn raise(&mut self, name: &str, architecture: &str, version: &str, digest: Sha256) {
        let key = (name.to_owned(), architecture.to_owned());
        let lower = self
            .by_package
            .get(&key)
            .is_some_and(|(highest, _)| !higher(version, highest));
        if !lower {
            self.by_package.insert(key, (version.to_owned(), digest));
        }
    }

    /// Refuses packages of the fleet that are lower than what was published, or the same version with other bytes; raises
    /// the versions to theirs.
    pub(super) fn advance(&mut self, entries: &[PackageEntry]) -> Result<(), PublishError> {
        let mut offered: BTreeMap<&str, &str> = BTreeMap::new();
        for entry in entries {
            let highest = offered.entry(&entry.name).or_insert(&entry.version);
            if higher(&entry.version, highest) {
                *highest = &entry.version;
            }
        }
        let mut lower = Vec::new();
        for ((name, _), (published, _)) in &self.by_package {
            if let Some(version) = offered.get(name.as_str())
                && higher(published, version)
                && lower
                    .last()
                    .is_none_or(|last: &LowerVersion| last.name != *name)
            {
                lower.push(LowerVersion {
                    name: name.clone(),
                    offered: (*version).to_owned(),
                    published: published.clone(),
                });
            }
        }
        if !lower.is_empty() {
            return Err(PublishError::LowerVersions(LowerVersions(lower)));
        }
        for entry in entries {
            let key = (entry.name.clone(), entry.architecture.clone());
            match self.by_package.get(&key) {
                Some((version, digest)) if *version == entry.version => {
                    if *digest != entry.sha256 {
                        return Err(other_bytes(entry, *digest));
                    }
                }
                _ => self.raise(
                    &entry.name,
                    &entry.architecture,
                    &entry.version,
                    entry.sha256,
                ),
            }
        }
        Ok(())
    }
}

/// Whether `one` is higher than `other` (deb-version(7)); what is no version is not.
fn higher(one: &str, other: &str) -> bool {
    if one == other {
        return false;
    }
    // The fleet's own versions are numbers.
    if let (Ok(one), Ok(other)) = (one.parse::<u64>(), other.parse::<u64>()) {
        return one > other;
    }
    match (one.parse::<Version>(), other.parse::<Version>()) {
        (Ok(one), Ok(other)) => one > other,
        _ => false,
    }
}
