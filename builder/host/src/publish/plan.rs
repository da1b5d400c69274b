//! Publishing as a list of steps: made first, without touching anything, and executed afterwards in its order.
//!
//! The order is what keeps readers whole. apt reads `InRelease` and then asks for indexes by their digest and for
//! packages by their path, so everything a signature speaks of stands before the signature does: pool, by-hash, plain
//! indexes, `Release` and `Release.gpg`, `InRelease` last. Nothing that an earlier generation speaks of is changed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use rolesmith_formats::apt::{Body, Sha256, SignedRepository};

use super::state::{Generation, IndexRecord};

/// One thing to do. Paths are relative to the repository's root and use `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Place a file with these bytes.
    Write {
        /// Where.
        path: String,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Place a copy of a file of the operator's machine, after its digest has been checked.
    Import {
        /// Where.
        path: String,
        /// The file.
        from: PathBuf,
        /// Digest of the file.
        sha256: Sha256,
    },
    /// Place a file that has the bytes of another one of this repository.
    Alias {
        /// Where.
        path: String,
        /// The other file; an earlier step or generation placed it.
        of: String,
    },
    /// Wait until all steps before are durable.
    Barrier,
    /// Delete a file that no kept generation speaks of.
    Remove {
        /// Where.
        path: String,
    },
}

impl Step {
    /// The path that the step places or removes.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Write { path, .. }
            | Self::Import { path, .. }
            | Self::Alias { path, .. }
            | Self::Remove { path } => Some(path),
            Self::Barrier => None,
        }
    }
}

/// Where a package's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolSource {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// On disk.
    File(PathBuf),
}

/// A package that the pool does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPoolFile {
    /// Path below the repository's root.
    pub path: String,
    /// Digest of the package.
    pub sha256: Sha256,
    /// Its bytes.
    pub source: PoolSource,
}

/// All steps of one publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishPlan {
    /// To be executed in this order.
    pub steps: Vec<Step>,
    /// The generation that the last step makes current.
    pub generation: Generation,
}

/// The path of an index below `dists/<codename>/` under one of its digests.
pub(super) fn by_hash(path: &str, algorithm: &str, digest: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/by-hash/{algorithm}/{digest}")
}

/// Makes the plan that publishes `signed` as generation `id`, with the packages that the pool lacks. `database` is the
/// one that its facts know, `versions` what the repository remembers of the highest versions.
pub fn plan(
    id: u64,
    signed: &SignedRepository,
    database: Option<String>,
    new_pool_files: Vec<NewPoolFile>,
    versions: &str,
) -> PublishPlan {
    let dist = format!("dists/{}", signed.fields.codename);
    let mut steps = Vec::new();
    for NewPoolFile {
        path,
        sha256,
        source,
    } in new_pool_files
    {
        steps.push(match source {
            PoolSource::Bytes(bytes) => Step::Write { path, bytes },
            PoolSource::File(from) => Step::Import { path, from, sha256 },
        });
    }

    let mut indexes = std::collections::BTreeMap::new();
    let mut plain = Vec::new();
    let mut placed = BTreeSet::new();
    for file in &signed.files {
        let strong = format!(
            "{dist}/{}",
            by_hash(&file.path, "SHA512", &file.sha512.to_string())
        );
        let weak = format!(
            "{dist}/{}",
            by_hash(&file.path, "SHA256", &file.sha256.to_string())
        );
        // Two indexes of one directory may be equal (both empty): one file serves both.
        if let Body::Bytes(bytes) = &file.body
            && placed.insert(strong.clone())
        {
            steps.push(Step::Write {
                path: strong.clone(),
                bytes: bytes.as_slice().into(),
            });
            steps.push(Step::Alias {
                path: weak,
                of: strong.clone(),
            });
        }
        let published = file.body != Body::ListedOnly;
        if published {
            plain.push(Step::Alias {
                path: format!("{dist}/{}", file.path),
                of: strong,
            });
        }
        let record = IndexRecord {
            size: file.size,
            sha256: file.sha256,
            sha512: file.sha512,
            published,
        };
        indexes.insert(file.path.clone(), record);
    }
    let generation = Generation {
        id,
        fields: signed.fields.clone(),
        in_release: Sha256::of(signed.in_release.as_bytes()),
        indexes,
        database,
    };
    let record = generation.record_path();
    let copy = generation.in_release_path();
    steps.push(Step::Write {
        path: copy.clone(),
        bytes: signed.in_release.as_bytes().into(),
    });
    steps.push(Step::Write {
        path: generation.versions_path(),
        bytes: versions.as_bytes().into(),
    });
    steps.push(Step::Write {
        path: record,
        bytes: generation.to_json().into(),
    });
    steps.push(Step::Barrier);
    steps.append(&mut plain);
    steps.push(Step::Write {
        path: format!("{dist}/Release"),
        bytes: signed.release.as_bytes().into(),
    });
    steps.push(Step::Write {
        path: format!("{dist}/Release.gpg"),
        bytes: signed.release_gpg.as_bytes().into(),
    });
    steps.push(Step::Barrier);
    steps.push(Step::Alias {
        path: format!("{dist}/InRelease"),
        of: copy,
    });
    steps.push(Step::Barrier);
    PublishPlan { steps, generation }
}
