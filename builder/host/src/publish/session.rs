//! The time between taking the lock and releasing it.

use rolesmith_formats::apt::Repository;
use rolesmith_formats::openpgp::Signer;

use super::execute::{execute, make_directory};
use super::founded::{self, Founded};
use super::journal::Journal;
use super::lock::Lock;
use super::plan::{self, Step};
use super::state::{Generation, Records, STATE_DIRECTORY, codenames};
use super::versions::HighestVersions;
use super::{PublishError, PublishWarning, Target, check_keys, collect};

/// Holds the lock; knows what was published before.
pub(super) struct Session<'a> {
    target: &'a Target,
    codename: &'a str,
    pub(super) records: Records,
    pub(super) versions: HighestVersions,
    _lock: Lock,
}

impl<'a> Session<'a> {
    /// Takes the lock and finishes what a killed run left.
    pub(super) fn begin(target: &'a Target, codename: &'a str) -> Result<Self, PublishError> {
        let root = &target.root;
        let state = root.join(STATE_DIRECTORY);
        // Without records nothing tells the files of others from those that are not needed any more.
        if !state.join("lock").exists()
            && ["pool", "dists"]
                .iter()
                .any(|name| root.join(name).exists())
        {
            return Err(PublishError::NotOurs { root: root.clone() });
        }
        make_directory(&state)?;
        let lock = Lock::take(&state.join("lock"), target.when_busy)?;
        collect::sweep_state(root)?;
        if let Some(journal) = Journal::left(root)? {
            collect::sweep(root, &journal)?;
            Journal::close(root)?;
        }
        let records = Records::load(root, codename)?;
        let versions = HighestVersions::load(root, &records)?;
        Ok(Self {
            target,
            codename,
            records,
            versions,
            _lock: lock,
        })
    }

    /// Refuses the repository of another fleet.
    pub(super) fn check_origin(&self, origin: &str) -> Result<(), PublishError> {
        let refuse = |generation: &Generation| {
            let published = &generation.fields.origin;
            if published == origin {
                return Ok(());
            }
            Err(PublishError::OtherOrigin {
                root: self.target.root.clone(),
                published: published.clone(),
                offered: origin.to_owned(),
            })
        };
        self.records.current().map_or(Ok(()), refuse)?;
        for other in codenames(&self.target.root)? {
            if other != self.codename
                && let Some(current) = Records::load(&self.target.root, &other)?.current()
            {
                refuse(current)?;
            }
        }
        Ok(())
    }

    /// Refuses keys of which clients know none: one that they know is enough for them.
    pub(super) fn check_signers(&self, signers: &[&dyn Signer]) -> Result<(), PublishError> {
        let Some(current) = self.records.current() else {
            return Ok(());
        };
        let trusted = &current.fields.signed_by;
        let known = |signer: &&dyn Signer| trusted.contains(&signer.fingerprint());
        match signers.first() {
            Some(first) if !trusted.is_empty() && !signers.iter().any(known) => {
                Err(PublishError::UnknownKey {
                    fingerprint: first.fingerprint(),
                    trusted: trusted.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Refuses facts that know another database than those that are published, or none any more.
    pub(super) fn check_founded(&self, founded: &Founded) -> Result<(), PublishError> {
        let published = founded::published(&self.target.root, self.codename, &self.records)?;
        founded.check(published.as_deref())
    }

    /// Date and Valid-Until, and what deserves attention about them and what else was found at the beginning.
    pub(super) fn dates(
        &self,
        now: u64,
        valid_for_seconds: u64,
        signers: &[&dyn Signer],
    ) -> Result<(u64, u64, Vec<PublishWarning>), PublishError> {
        let previous = self
            .records
            .current()
            .map_or(0, |current| current.fields.date);
        let exact = self.target.exact_date;
        let date = if exact { now } else { now.max(previous) };
        let mut warnings = check_keys(signers, date, valid_for_seconds)?;
        if now < previous {
            warnings.push(if exact {
                PublishWarning::DateWentBack { previous, now }
            } else {
                PublishWarning::ClockBehind { previous, now }
            });
        }
        let lost = self.records.unreadable.values();
        warnings.extend(lost.map(|path| PublishWarning::RecordLost { path: path.clone() }));
        Ok((date, date.saturating_add(valid_for_seconds), warnings))
    }

    /// Signs, makes the plan, executes it and deletes what is not needed any more.
    pub(super) fn finish(
        mut self,
        repository: Repository,
        database: Option<String>,
        signers: &[&dyn Signer],
        new_pool_files: Vec<plan::NewPoolFile>,
    ) -> Result<(Generation, usize), PublishError> {
        let root = &self.target.root;
        let date = repository.fields.date;
        let signed = repository.sign(signers, date)?;
        let plan = plan::plan(
            self.records.next_id(),
            &signed,
            database,
            new_pool_files,
            &self.versions.to_text(),
        );
        let journal = Journal::of(root, &plan.steps);
        journal.open(root)?;
        if let Err(error) = execute(root, &plan.steps) {
            // A full disk is freed at once. Where that fails too, the next run does it: the journal stays.
            let _ = collect::sweep(root, &journal).and_then(|()| Journal::close(root));
            return Err(error);
        }

        let expired = self.records.split_expired(
            self.target.keep_generations,
            self.target.grace_seconds,
            date,
        );
        self.records.published.push(plan.generation.clone());
        let mut steps = collect::removals(root, &expired, &self.records.published)?;
        let removed = steps.len();
        for path in self.records.unreadable.values() {
            for extension in ["InRelease", "versions", "json"] {
                let path = path.with_extension(extension);
                if let Some(path) = path.strip_prefix(root).ok().and_then(|path| path.to_str()) {
                    let path = path.to_owned();
                    steps.push(Step::Remove { path });
                }
            }
        }
        execute(root, &steps)?;
        Journal::close(root)?;
        Ok((plan.generation, removed))
    }
}
