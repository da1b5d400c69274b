//! Our repository, through the library's own entry.

use std::fs;
use std::path::{Path, PathBuf};

use rolesmith_formats::openpgp::{SecretKey, Signer};
use rolesmith_host::publish::{Component, Founded, PoolFile, PublishInput, Target, publish};

use crate::Outcome;
use crate::debs::EPOCH;

/// A repository and its publisher.
pub(crate) struct Ours<'a> {
    target: Target,
    key: &'a SecretKey,
    codename: String,
    /// Each publication is a day younger than the one before, so that old generations go, as they do in use.
    epoch: u64,
}

impl<'a> Ours<'a> {
    pub(crate) fn new(directory: &Path, key: &'a SecretKey) -> Self {
        Self {
            target: Target::new(directory.join("repo"), directory.join("index-cache")),
            key,
            codename: "fleet".to_owned(),
            epoch: EPOCH,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.target.root
    }

    /// Publishes another suite from here on, without what was known of the packages: only the pool is as it was.
    pub(crate) fn begin_suite(&mut self, codename: String) -> Outcome<()> {
        self.codename = codename;
        Ok(fs::remove_file(&self.target.index_cache)?)
    }

    /// Publishes these files; `added` is how many of them the pool must have lacked, so that no run does less than it says.
    pub(crate) fn publish(&mut self, files: Vec<PathBuf>, added: usize) -> Outcome<()> {
        self.epoch += 86_400;
        let signers: [&dyn Signer; 1] = [self.key];
        let input = PublishInput {
            codename: self.codename.clone(),
            suite: self.codename.clone(),
            origin: "acme".to_owned(),
            label: "acme".to_owned(),
            description: "Packages of a benchmark".to_owned(),
            architectures: vec!["amd64".to_owned()],
            components: vec![Component {
                name: "main".to_owned(),
                packages: files.into_iter().map(PoolFile::Path).collect(),
            }],
            epoch: self.epoch,
            valid_for_seconds: 864_000,
            signers: &signers,
            also_trusted: Vec::new(),
            founded: Founded::Nothing,
        };
        let published = publish(&self.target, &input)?;
        if published.new_packages != added {
            return Err(
                format!("{} packages were new, not {added}", published.new_packages).into(),
            );
        }
        Ok(())
    }
}
