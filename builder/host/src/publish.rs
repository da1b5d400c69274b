//! Publishing a signed apt repository into a directory.
//!
//! [`publish`] reads the packages, makes and signs the indexes, decides all steps ([`plan::PublishPlan`]) and executes
//! them, so that a reader finds the old repository or the new one at any moment, also when the publisher is killed.
//! The last generations stay: a reader that has begun with one can finish with it, and [`rollback`] publishes one again.

mod cache;
mod collect;
mod error;
mod execute;
mod founded;
mod gather;
mod journal;
mod lock;
pub mod plan;
mod session;
mod state;
mod verify;
mod versions;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rolesmith_formats::apt::{
    Body, DebDescription, IndexFile, IndexText, ReleaseFields, Repository, index,
};
use rolesmith_formats::deb::SignedDeb;
use rolesmith_formats::openpgp::Signer;

pub use error::{LowerVersion, LowerVersions, OtherBytes, PublishError, PublishWarning};
pub use founded::{Founded, check as check_founded, published_database};
pub use lock::WhenBusy;
pub use state::{Generation, IndexRecord, STATE_DIRECTORY};
pub use verify::{Fault, Verified, verify};

pub(crate) use execute::digest as digest_of;
use execute::io_error;
use session::Session;
use state::Records;

/// Days before a key's expiry from which on each publication warns of it.
const KEY_WARNING_DAYS: u64 = 30;

/// A package to publish. What it is called is read from its control file, never from a file name.
#[derive(Clone, Debug)]
pub enum PoolFile {
    /// A .deb in memory, as the builder made it.
    Deb(Arc<SignedDeb>),
    /// As [`Deb`](Self::Deb), but another program built it and gave it its version. Where that version is published with
    /// other content, what is published stays, with [`PublishWarning::KeptPublished`].
    Adopted(Arc<SignedDeb>),
    /// A .deb on disk; it is copied.
    Path(PathBuf),
    /// A .deb that an index already describes, as a mirror's are; it is copied.
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
    /// Now, Unix seconds: the Date field and the signatures' time; see [`Target::exact_date`].
    pub epoch: u64,
    /// How long clients shall accept this publication, seconds.
    pub valid_for_seconds: u64,
    /// One, or several during a key rotation.
    pub signers: &'a [&'a dyn Signer],
    /// Fingerprints of keys that will sign later, for the Signed-By field; the signers' own are always in it.
    pub also_trusted: Vec<String>,
    /// What the facts among the packages know of the fleet's database.
    pub founded: Founded,
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
    /// Whether the Date is the input's epoch in any case. Otherwise it is never before that of the generation before,
    /// because clients would ignore it. It is not after that either: apt refuses a Date more than ten seconds ahead, which
    /// many publications in one second would reach.
    pub exact_date: bool,
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
            exact_date: false,
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
    check_keys(input.signers, input.epoch, input.valid_for_seconds)?;
    // Reading the packages is the slow part and touches nothing: it comes before the lock.
    let mut gathered = gather::gather(&target.index_cache, &input.components)?;

    let mut session = Session::begin(target, &input.codename)?;
    session.check_origin(&input.origin)?;
    session.check_signers(input.signers)?;
    session.check_founded(&input.founded)?;
    let (date, valid_until, mut warnings) =
        session.dates(input.epoch, input.valid_for_seconds, input.signers)?;
    let published = gather::published_packages(&target.root, session.records.current())?;
    let known = gather::KnownDigests::new(&target.root, &session.records);
    warnings.extend(gather::take_published(
        &target.root,
        &mut gathered,
        &published,
        &known,
    )?);
    for component in &gathered.components {
        if component.name == versions::FLEET_COMPONENT {
            session.versions.advance(&component.entries)?;
        }
    }
    let new_pool_files = gather::missing_from_pool(&target.root, &gathered, &published, &known)?;
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
        date,
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
    let new_packages = new_pool_files.len();
    let (generation, removed_files) = session.finish(
        Repository::new(fields, files),
        input.founded.recorded(),
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
/// [`PublishError::NoGeneration`] when it is not kept any more, [`PublishError::RollbackReopens`] when its facts know another
/// database than today's, and what [`publish`] returns.
pub fn rollback(
    target: &Target,
    codename: &str,
    id: u64,
    epoch: u64,
    valid_for_seconds: u64,
    signers: &[&dyn Signer],
) -> Result<Published, PublishError> {
    check_name("code name", codename)?;
    check_keys(signers, epoch, valid_for_seconds)?;
    let session = Session::begin(target, codename)?;
    session.check_signers(signers)?;
    let (date, valid_until, warnings) = session.dates(epoch, valid_for_seconds, signers)?;
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
    Founded::check_rollback(&old, session.records.current())?;
    // Keys that were announced since stay so.
    let announced = session
        .records
        .current()
        .map_or(&[][..], |current| &current.fields.signed_by);
    let fields = ReleaseFields {
        date,
        valid_until,
        signed_by: signed_by(signers, announced),
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
    // The versions that were published stay published: the next publication goes on from the highest, not from these.
    let (generation, removed_files) =
        session.finish(repository, old.database, signers, Vec::new())?;
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
    date: u64,
    valid_for_seconds: u64,
) -> Result<Vec<PublishWarning>, PublishError> {
    let valid_until = date.saturating_add(valid_for_seconds);
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
