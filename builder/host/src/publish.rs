//! Publishing a signed apt repository into a directory.
//!
//! [`publish`] reads the packages, makes and signs the indexes, decides all steps ([`plan::PublishPlan`]) and executes
//! them, so that a reader finds the old repository or the new one at any moment, also when the publisher is killed.
//! The last generations stay: a reader that has begun with one can finish with it, and [`rollback`] publishes one again.

mod cache;
mod collect;
mod error;
mod execute;
mod gather;
mod lock;
pub mod plan;
mod state;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rolesmith_formats::apt::{
    Body, DebDescription, IndexFile, IndexText, ReleaseFields, Repository, index,
};
use rolesmith_formats::deb::SignedDeb;
use rolesmith_formats::openpgp::Signer;

pub use error::{OtherBytes, PublishError, PublishWarning};
pub use lock::WhenBusy;
pub use state::{Generation, IndexRecord, STATE_DIRECTORY};
pub use verify::{Fault, Verified, verify};

pub(crate) use execute::digest as digest_of;
use execute::{execute, io_error};
use lock::Lock;
use state::Records;

/// Days before a key's expiry from which on each publication warns of it.
const KEY_WARNING_DAYS: u64 = 30;

/// A package to publish. What it is called is read from its control file, never from a file name.
#[derive(Clone, Debug)]
pub enum PoolFile {
    /// A .deb in memory, as the builder made it.
    Deb(Arc<SignedDeb>),
    /// A .deb on disk; it is copied.
    Path(PathBuf),
    /// A .deb that an index already describes, as a mirror's are. The file must never change: it may be hard-linked.
    Described {
        /// The file.
        path: PathBuf,
        /// What the index says of it; size and digest are checked when the file is taken over.
        deb: Arc<DebDescription>,
    },
}

/// A component of the suite.
#[derive(Clone, Debug)]
pub struct Component {
    /// `main`, for example.
    pub name: String,
    /// Everything that the component shall have afterwards.
    pub packages: Vec<PoolFile>,
}

/// What to publish: the whole content of one suite.
#[derive(Clone)]
pub struct PublishInput<'a> {
    /// Directory below `dists/`.
    pub codename: String,
    /// The Suite field; may equal the code name.
    pub suite: String,
    /// The Origin field.
    pub origin: String,
    /// The Label field.
    pub label: String,
    /// The Description field.
    pub description: String,
    /// Client architectures, without `all`.
    pub architectures: Vec<String>,
    /// Components in the order in which `Release` shows them.
    pub components: Vec<Component>,
    /// Now, Unix seconds: the Date field and the signatures' time.
    pub epoch: u64,
    /// How long clients shall accept this publication, seconds.
    pub valid_for_seconds: u64,
    /// One, or several during a key rotation.
    pub signers: &'a [&'a dyn Signer],
    /// Fingerprints of keys that will sign later, for the Signed-By field; the signers' own are always in it.
    pub also_trusted: Vec<String>,
}

/// Where to publish, and how to treat what is there.
#[derive(Clone, Debug)]
pub struct Target {
    /// The repository's root, which a web server shows.
    pub root: PathBuf,
    /// A file that remembers what packages were seen; it has local paths in it, so it stands outside of the root.
    pub index_cache: PathBuf,
    /// What to do when another publisher is at work.
    pub when_busy: WhenBusy,
    /// How many generations to keep, the new one counted.
    pub keep_generations: usize,
    /// Generations replaced less than so many seconds ago are kept as well: their readers may still be downloading.
    pub grace_seconds: u64,
}

impl Target {
    /// A target with the usual settings: wait for another publisher, keep three generations and those of the last ten minutes.
    pub fn new(root: impl Into<PathBuf>, index_cache: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            index_cache: index_cache.into(),
            when_busy: WhenBusy::Wait,
            keep_generations: 3,
            grace_seconds: 600,
        }
    }
}

/// What a publication did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The generation that is current now.
    pub generation: Generation,
    /// Packages that the pool did not have.
    pub new_packages: usize,
    /// Files deleted because no kept generation needs them.
    pub removed_files: usize,
    /// What deserves attention.
    pub warnings: Vec<PublishWarning>,
}

/// Publishes `input` as the next generation of its suite.
///
/// # Errors
/// See [`PublishError`]; clients then see what they saw before.
pub fn publish(target: &Target, input: &PublishInput<'_>) -> Result<Published, PublishError> {
    check_names(input)?;
    let valid_until = input.epoch.saturating_add(input.valid_for_seconds);
    let mut warnings = check_keys(input.signers, valid_until)?;
    // Reading the packages is the slow part and touches nothing: it comes before the lock.
    let gathered = gather::gather(&target.index_cache, &input.components)?;

    let session = Session::begin(target, &input.codename)?;
    let published = gather::published_packages(&target.root, session.records.current())?;
    let new_pool_files =
        gather::missing_from_pool(&target.root, &gathered, &published, &session.records)?;
    let architectures: Vec<&str> = input.architectures.iter().map(String::as_str).collect();
    let texts: Vec<IndexText> = gathered
        .components
        .iter()
        .flat_map(|component| index(&component.name, &architectures, &component.entries))
        .collect();
    let fields = ReleaseFields {
        origin: input.origin.clone(),
        label: input.label.clone(),
        suite: input.suite.clone(),
        codename: input.codename.clone(),
        date: input.epoch,
        valid_until,
        architectures: input.architectures.clone(),
        components: input
            .components
            .iter()
            .map(|component| component.name.clone())
            .collect(),
        description: input.description.clone(),
        signed_by: signed_by(input.signers, &input.also_trusted),
    };
    let files = compress(&target.root, session.records.current(), &texts);
    warnings.extend(session.date_warning(input.epoch));
    let new_packages = new_pool_files.len();
    let (generation, removed_files) = session.finish(
        Repository::new(fields, files),
        input.signers,
        new_pool_files,
    )?;
    // Only a convenience for the next run; this one is done.
    let _ = gathered.cache.store(&target.index_cache);
    Ok(Published {
        generation,
        new_packages,
        removed_files,
        warnings,
    })
}

/// Publishes the content of generation `id` again, as a new generation with a new date: clients refuse an older date.
///
/// # Errors
/// [`PublishError::NoGeneration`] when it is not kept any more, and what [`publish`] returns.
pub fn rollback(
    target: &Target,
    codename: &str,
    id: u64,
    epoch: u64,
    valid_for_seconds: u64,
    signers: &[&dyn Signer],
) -> Result<Published, PublishError> {
    check_name("code name", codename)?;
    let valid_until = epoch.saturating_add(valid_for_seconds);
    let mut warnings = check_keys(signers, valid_until)?;
    let session = Session::begin(target, codename)?;
    let old = session
        .records
        .published
        .iter()
        .find(|generation| generation.id == id);
    let old = old
        .ok_or_else(|| PublishError::NoGeneration {
            codename: codename.to_owned(),
            id,
        })?
        .clone();
    let fields = ReleaseFields {
        date: epoch,
        valid_until,
        signed_by: signed_by(signers, &[]),
        ..old.fields
    };
    let files = old.indexes.into_iter().map(|(path, record)| IndexFile {
        path,
        size: record.size,
        sha256: record.sha256,
        sha512: record.sha512,
        body: if record.published {
            Body::Published
        } else {
            Body::ListedOnly
        },
    });
    let repository = Repository::new(fields, files.collect());
    warnings.extend(session.date_warning(epoch));
    let (generation, removed_files) = session.finish(repository, signers, Vec::new())?;
    Ok(Published {
        generation,
        new_packages: 0,
        removed_files,
        warnings,
    })
}

/// The generations of a suite that are kept, oldest first; the last one is current.
///
/// # Errors
/// When the records cannot be read.
pub fn generations(root: &Path, codename: &str) -> Result<Vec<Generation>, PublishError> {
    Ok(Records::load(root, codename)?.published)
}

/// The time between taking the lock and releasing it.
struct Session<'a> {
    target: &'a Target,
    records: Records,
    /// There while a publisher is at work; found by the next one, it tells that this one did not get to its end.
    marker: PathBuf,
    _lock: Lock,
}

impl<'a> Session<'a> {
    fn begin(target: &'a Target, codename: &str) -> Result<Self, PublishError> {
        let state = target.root.join(STATE_DIRECTORY);
        fs::create_dir_all(&state).map_err(io_error("make the directory", &state))?;
        let lock = Lock::take(&state.join("lock"), target.when_busy)?;
        let marker = state.join("in-progress");
        if marker.exists() {
            collect::sweep(&target.root)?;
        } else {
            fs::write(&marker, b"").map_err(io_error("write", &marker))?;
        }
        let records = Records::load(&target.root, codename)?;
        Ok(Self {
            target,
            records,
            marker,
            _lock: lock,
        })
    }

    fn date_warning(&self, epoch: u64) -> Option<PublishWarning> {
        let previous = self.records.current()?.fields.date;
        (epoch < previous).then_some(PublishWarning::DateWentBack {
            previous,
            now: epoch,
        })
    }

    /// Signs, makes the plan, executes it and deletes what is not needed any more.
    fn finish(
        mut self,
        repository: Repository,
        signers: &[&dyn Signer],
        new_pool_files: Vec<plan::NewPoolFile>,
    ) -> Result<(Generation, usize), PublishError> {
        let date = repository.fields.date;
        let signed = repository.sign(signers, date)?;
        let plan = plan::plan(self.records.next_id(), &signed, new_pool_files);
        execute(&self.target.root, &plan.steps)?;

        let expired = self.records.split_expired(
            self.target.keep_generations,
            self.target.grace_seconds,
            date,
        );
        self.records.published.push(plan.generation.clone());
        let steps = collect::removals(&self.target.root, &expired, &self.records.published)?;
        execute(&self.target.root, &steps)?;
        fs::remove_file(&self.marker).map_err(io_error("delete", &self.marker))?;
        Ok((plan.generation, steps.len()))
    }
}

/// Compresses and hashes the indexes, those that the current generation has already excepted.
fn compress(root: &Path, current: Option<&Generation>, texts: &[IndexText]) -> Vec<IndexFile> {
    use rayon::prelude::*;
    let one = |text: &IndexText| {
        let plain = text.plain();
        let packed = format!("{}.gz", text.path);
        let known = current.and_then(|generation| {
            generation
                .indexes
                .get(&text.path)
                .filter(|record| record.sha512 == plain.sha512)?;
            let record = generation.indexes.get(&packed)?;
            generation
                .has_by_hash(root, record, &packed)
                .then_some(record)
        });
        let gzip = match known {
            Some(record) => IndexFile {
                path: packed,
                size: record.size,
                sha256: record.sha256,
                sha512: record.sha512,
                body: Body::Published,
            },
            None => text.gzip(),
        };
        [plain, gzip]
    };
    texts.par_iter().flat_map_iter(one).collect()
}

fn signed_by(signers: &[&dyn Signer], also: &[String]) -> Vec<String> {
    let mut all: Vec<String> = signers.iter().map(|signer| signer.fingerprint()).collect();
    for fingerprint in also {
        if !all.contains(fingerprint) {
            all.push(fingerprint.clone());
        }
    }
    all
}

fn check_keys(
    signers: &[&dyn Signer],
    valid_until: u64,
) -> Result<Vec<PublishWarning>, PublishError> {
    let mut warnings = Vec::new();
    for signer in signers {
        let Some(expires) = signer.expires() else {
            continue;
        };
        let fingerprint = signer.fingerprint();
        if expires < valid_until {
            return Err(PublishError::KeyExpires {
                fingerprint,
                expires,
                valid_until,
            });
        }
        if expires < valid_until.saturating_add(KEY_WARNING_DAYS * 86_400) {
            warnings.push(PublishWarning::KeyExpiresSoon {
                fingerprint,
                expires,
            });
        }
    }
    Ok(warnings)
}

fn check_names(input: &PublishInput<'_>) -> Result<(), PublishError> {
    check_name("code name", &input.codename)?;
    for component in &input.components {
        check_name("component", &component.name)?;
    }
    input
        .architectures
        .iter()
        .try_for_each(|architecture| check_name("architecture", architecture))
}

/// Names become directories: no `/`, nothing hidden, no blanks.
fn check_name(what: &'static str, name: &str) -> Result<(), PublishError> {
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
    if good {
        Ok(())
    } else {
        Err(PublishError::BadName {
            what,
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
