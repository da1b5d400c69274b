//! Image lints: what a finished tree must not hold, and what it must.
//!
//! Each lint has a name by which people find it in docs/image-lints.md, like lintian's tags. All of them look at one [`Tree`], which was
//! read once, and say what they found; an image is only written of a tree of which nothing is said.

mod access;
mod allowed;
mod boot;
mod leftovers;
mod packages;
mod services;
mod tree;
mod units;

#[cfg(test)]
mod tests;

use std::{fs::File, io::BufReader, path::Path};

use rolesmith_host::scan::SecretScan;
use rolesmith_model::{ids::Suite, image::Image, image_file::Firmware};

pub use tree::{Entry, Kind, Tree, TreeError};

use crate::{
    disk::Ids,
    error::{BakeError, Result},
};

/// What the image is to be: a tree is judged by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The fleet.
    pub fleet: String,
    /// Debian's release.
    pub suite: Suite,
    /// Roles, services and sites whose packages are in it; none for Debian alone.
    pub roles: Vec<String>,
    /// Units that the roles mask.
    pub masked: Vec<String>,
    /// The root file system's UUID.
    pub root: String,
    /// The EFI system partition's file system, as `/dev/disk/by-uuid` has it.
    pub esp: String,
    /// What may start it.
    pub firmware: Vec<Firmware>,
    /// Kernel consoles, the last one being /dev/console.
    pub consoles: Vec<String>,
    /// cloud-init's data sources, in the order in which they are asked.
    pub data_sources: Vec<String>,
    /// Whether it has Debian's sources beside the fleet's.
    pub debian_sources: bool,
    /// The time of the image, in seconds since 1970.
    pub epoch: u64,
}

impl Expected {
    /// What the recipe promises.
    #[must_use]
    pub fn of(image: &Image, fleet: &str, ids: Ids, debian_sources: bool, epoch: u64) -> Self {
        let prefix = format!("{fleet}-");
        let roles = image.fleet_packages.iter().map(|package| {
            let name = package.as_str();
            name.strip_prefix(&prefix).unwrap_or(name).to_owned()
        });
        Self {
            fleet: fleet.to_owned(),
            suite: image.suite,
            roles: roles.collect(),
            masked: image.masked_units.clone(),
            root: ids.root.to_string(),
            esp: format!("{:04X}-{:04X}", ids.esp >> 16, ids.esp & 0xffff),
            firmware: image.firmware.clone(),
            consoles: image.consoles.clone(),
            data_sources: image.data_sources.clone(),
            debian_sources,
            epoch,
        }
    }
}

/// A named check.
#[derive(Debug, Clone, Copy)]
pub struct Lint {
    /// Its name.
    pub name: &'static str,
    /// What a tree is like that passes, in one line.
    pub rule: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do where it fails.
    pub help: &'static str,
    check: fn(&mut Look<'_>),
}

/// Something that is wrong with a tree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The lint's name.
    pub lint: &'static str,
    /// Where: an absolute path within the tree.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
    /// What to do about it.
    pub help: &'static str,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.lint, self.path, self.reason)
    }
}

/// What a check has at hand.
struct Look<'a> {
    tree: &'a Tree,
    expected: &'a Expected,
    said: Vec<(String, String)>,
}

impl Look<'_> {
    /// Complains of a path.
    fn say(&mut self, path: &str, reason: impl Into<String>) {
        self.said.push((path.to_owned(), reason.into()));
    }

    /// Complains of each of these.
    fn say_all<'p>(&mut self, paths: impl IntoIterator<Item = &'p str>, reason: &str) {
        for path in paths {
            self.say(path, reason);
        }
    }
}

/// A lint says no more than so much: a thousand times the same is one mistake.
const SAID: usize = 10;

/// All lints, in the order in which they look.
#[must_use]
pub fn lints() -> Vec<Lint> {
    [
        leftovers::LINTS,
        access::LINTS,
        packages::LINTS,
        services::LINTS,
        boot::LINTS,
    ]
    .concat()
}

/// Has all lints look at a tree.
#[must_use]
pub fn look(tree: &Tree, expected: &Expected) -> Vec<Finding> {
    let mut findings = Vec::new();
    for lint in lints() {
        let mut look = Look {
            tree,
            expected,
            said: Vec::new(),
        };
        (lint.check)(&mut look);
        let more = look.said.len().saturating_sub(SAID);
        for (number, (path, mut reason)) in look.said.into_iter().take(SAID).enumerate() {
            if more > 0 && number + 1 == SAID {
                reason.push_str(&format!(" (and {more} more)"));
            }
            findings.push(Finding {
                lint: lint.name,
                path: format!("/{path}"),
                reason,
                help: lint.help,
            });
        }
    }
    findings
}

/// Judges the tree in a layer: reads it once, looks for secrets in all of its bytes, and has all lints look at it.
///
/// # Errors
/// [`BakeError::Tree`] where it is no archive of a tree, [`BakeError::Unclean`] with what the lints found, [`BakeError::File`].
pub fn judge(layer: &Path, expected: &Expected, secrets: &SecretScan) -> Result<()> {
    let file = File::open(layer).map_err(BakeError::file("read", layer))?;
    let tree = Tree::read(BufReader::with_capacity(1 << 20, file), secrets).map_err(|source| {
        BakeError::Tree {
            path: layer.to_owned(),
            source,
        }
    })?;
    let findings = look(&tree, expected);
    if findings.is_empty() {
        Ok(())
    } else {
        Err(BakeError::Unclean { findings })
    }
}
