//! What the repository remembers of its generations, in `.rolesmith/generations/<codename>/`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rolesmith_formats::apt::{ReleaseFields, Sha256, Sha512};
use serde::{Deserialize, Serialize};

use super::PublishError;

/// The directory of the program's own files below the repository's root. Nothing in it is secret.
pub const STATE_DIRECTORY: &str = ".rolesmith";

/// One index of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Length in bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: Sha256,
    /// Digest of the file.
    pub sha512: Sha512,
    /// Whether the file stands in the repository, or is only listed in `Release`.
    pub published: bool,
}

/// One publication of a suite: enough to know which files it needs and to publish it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Counts up from 1 for each code name.
    pub id: u64,
    /// What its `Release` says.
    pub fields: ReleaseFields,
    /// Digest of its `InRelease`: the generation whose digest the published file has is the current one.
    pub in_release: Sha256,
    /// Its indexes by path below `dists/<codename>/`.
    pub indexes: BTreeMap<String, IndexRecord>,
    /// System identifier of the database that its facts know; none while genesis is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
}

impl Generation {
    /// Where the record stands, below the repository's root.
    pub(super) fn record_path(&self) -> String {
        format!("{}/{:08}.json", directory(&self.fields.codename), self.id)
    }

    /// Where the copy of `InRelease` stands, below the repository's root.
    pub(super) fn in_release_path(&self) -> String {
        format!(
            "{}/{:08}.InRelease",
            directory(&self.fields.codename),
            self.id
        )
    }

    /// Where the highest versions stand that were published up to this generation, below the repository's root.
    pub(super) fn versions_path(&self) -> String {
        format!(
            "{}/{:08}.versions",
            directory(&self.fields.codename),
            self.id
        )
    }

    /// The program's own files for this generation, the record last: without it the others are not found again.
    pub(super) fn own_files(&self) -> [String; 3] {
        [
            self.in_release_path(),
            self.versions_path(),
            self.record_path(),
        ]
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self)
            .expect("a record of strings and numbers is always JSON");
        json.push(b'\n');
        json
    }

    /// Paths below the repository's root of the `Packages.gz` files under their SHA-512: the lists of the pool files needed.
    pub(super) fn packages_files(&self) -> impl Iterator<Item = String> {
        let packages = self
            .indexes
            .iter()
            .filter(|(path, _)| path.ends_with("/Packages.gz"));
        packages.map(|(path, record)| self.by_strong_hash(path, record))
    }

    /// Whether an index stands in the repository under its strongest digest, in full length.
    pub(super) fn has_by_hash(&self, root: &Path, record: &IndexRecord, path: &str) -> bool {
        let file = root.join(self.by_strong_hash(path, record));
        fs::metadata(file).is_ok_and(|metadata| metadata.len() == record.size)
    }

    fn by_strong_hash(&self, path: &str, record: &IndexRecord) -> String {
        let hashed = super::plan::by_hash(path, "SHA512", &record.sha512.to_string());
        format!("dists/{}/{hashed}", self.fields.codename)
    }

    /// Paths below the repository's root of the indexes under their plain names.
    pub(super) fn plain_files(&self) -> impl Iterator<Item = String> {
        let published = self.indexes.iter().filter(|(_, record)| record.published);
        published.map(|(path, _)| format!("dists/{}/{path}", self.fields.codename))
    }

    /// Paths below the repository's root of everything under by-hash.
    pub(super) fn by_hash_files(&self) -> impl Iterator<Item = String> {
        let dist = format!("dists/{}", self.fields.codename);
        self.indexes
            .iter()
            .filter(|(_, record)| record.published)
            .flat_map(move |(path, record)| {
                [
                    format!(
                        "{dist}/{}",
                        super::plan::by_hash(path, "SHA512", &record.sha512.to_string())
                    ),
                    format!(
                        "{dist}/{}",
                        super::plan::by_hash(path, "SHA256", &record.sha256.to_string())
                    ),
                ]
            })
    }
}

fn directory(codename: &str) -> String {
    format!("{STATE_DIRECTORY}/generations/{codename}")
}

/// The records of one code name, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// Generations that were once current, the last one being so now.
    pub(super) published: Vec<Generation>,
    /// Prepared by a run that was killed before its last step; nobody has ever seen them.
    pub(super) aborted: Vec<Generation>,
    /// Records of earlier generations that cannot be read, by generation. What they needed is not known any more.
    pub(super) unreadable: BTreeMap<u64, PathBuf>,
}

impl Records {
    /// Reads the records of `codename` below `root`.
    pub(super) fn load(root: &Path, codename: &str) -> Result<Self, PublishError> {
        let directory = root.join(directory(codename));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PublishError::Io {
                action: "read",
                path,
                source,
            }
        };
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(&directory)(error)),
        };
        let mut all: Vec<Generation> = Vec::new();
        let mut damaged = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed(&directory))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let json = fs::read(&path).map_err(failed(&path))?;
            match serde_json::from_slice(&json) {
                Ok(generation) => all.push(generation),
                Err(source) => damaged.push((path, source)),
            }
        }
        all.sort_by_key(|generation| generation.id);

        let current = root.join("dists").join(codename).join("InRelease");
        let current = match fs::read(&current) {
            Ok(bytes) => Some(Sha256::of(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&current)(error)),
        };
        let seen = current.and_then(|digest| {
            all.iter()
                .rposition(|generation| generation.in_release == digest)
        });
        let mut unreadable = BTreeMap::new();
        for (path, source) in damaged {
            // An earlier generation is only kept for slow readers; without the current one nothing is known.
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            match id {
                Some(id) if seen.is_some() || current.is_none() => unreadable.insert(id, path),
                _ => return Err(PublishError::Record { path, source }),
            };
        }
        let aborted = match (current, seen) {
            (_, Some(position)) => all.split_off(position + 1),
            (None, None) => std::mem::take(&mut all),
            // Somebody has changed InRelease: nothing says that any of these was never seen.
            (Some(_), None) => Vec::new(),
        };
        Ok(Self {
            published: all,
            aborted,
            unreadable,
        })
    }

    /// The generation that clients see.
    pub(super) fn current(&self) -> Option<&Generation> {
        self.published.last()
    }

    /// The number of the next generation; never one that was used, not even by an aborted run.
    pub(super) fn next_id(&self) -> u64 {
        self.published
            .iter()
            .chain(&self.aborted)
            .map(|generation| generation.id)
            .chain(self.unreadable.keys().copied())
            .max()
            .unwrap_or(0)
            + 1
    }

    /// Takes out the generations that need not be kept once one with `new_date` follows: all but the last `keep` and
    /// those replaced less than `grace` seconds ago, whose readers may still be at work. `keep` counts the new one.
    pub(super) fn split_expired(
        &mut self,
        keep: usize,
        grace: u64,
        new_date: u64,
    ) -> Vec<Generation> {
        let count = self.published.len();
        let replaced_at = |index: usize| {
            self.published
                .get(index + 1)
                .map_or(new_date, |next| next.fields.date)
        };
        let old = (0..count)
            .take_while(|index| {
                count - index >= keep.max(1)
                    && replaced_at(*index).saturating_add(grace) <= new_date
            })
            .count();
        self.published.drain(..old).collect()
    }
}

/// Code names that have records below `root`.
pub(super) fn codenames(root: &Path) -> Result<Vec<String>, PublishError> {
    let directory = root.join(STATE_DIRECTORY).join("generations");
    let failed = |source| PublishError::Io {
        action: "read",
        path: directory.clone(),
        source,
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
