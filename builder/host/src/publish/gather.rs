//! From package files to index entries, and what of them the pool lacks.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rolesmith_formats::apt::{DebDescription, PackageEntry, Sha256};
use rolesmith_formats::ar;
use rolesmith_formats::compress::Compression;

use super::cache::{FileKey, IndexCache};
use super::execute::{digest, io_error};
use super::plan::{NewPoolFile, PoolSource};
use super::state::{Generation, Records};
use super::{Component, OtherBytes, PoolFile, PublishError, PublishWarning};

/// All packages, looked at.
pub(super) struct Gathered {
    pub(super) components: Vec<GatheredComponent>,
    /// For the next run.
    pub(super) cache: IndexCache,
}

pub(super) struct GatheredComponent {
    pub(super) name: String,
    /// No two with one file name.
    pub(super) entries: Vec<PackageEntry>,
    /// Where each entry's bytes are, in the same order.
    sources: Vec<Source>,
}

struct Source {
    bytes: PoolSource,
    /// Whether another program built it, see [`PoolFile::Adopted`].
    adopted: bool,
}

struct Looked {
    entry: PackageEntry,
    source: Source,
    key: Option<FileKey>,
    deb: Arc<DebDescription>,
}

/// Looks at every package, on all processors; those that the cache knows are not read.
pub(super) fn gather(
    cache_path: &Path,
    components: &[Component],
) -> Result<Gathered, PublishError> {
    let known = IndexCache::load(cache_path);
    let mut cache = IndexCache::default();
    let mut gathered = Vec::new();
    // One name, version and architecture is one file, in whichever component.
    let mut seen: HashMap<(String, String, String), Sha256> = HashMap::new();
    for component in components {
        let looked: Vec<Looked> = component
            .packages
            .par_iter()
            .map(|file| look(&known, &component.name, file))
            .collect::<Result<_, _>>()?;
        let mut entries = Vec::with_capacity(looked.len());
        let mut sources = Vec::with_capacity(looked.len());
        let mut filenames: HashMap<String, Sha256> = HashMap::new();
        for Looked {
            entry,
            source,
            key,
            deb,
        } in looked
        {
            if let Some(key) = key {
                cache.insert(key, deb);
            }
            let identity = (
                entry.name.clone(),
                entry.version.clone(),
                entry.architecture.clone(),
            );
            let before = *seen.entry(identity).or_insert(entry.sha256);
            // Versions that differ in their epoch alone share a file name.
            let other = filenames.insert(entry.filename.clone(), entry.sha256);
            if before != entry.sha256 || other.is_some_and(|other| other != entry.sha256) {
                return Err(other_bytes(
                    &entry,
                    other
                        .filter(|other| *other != entry.sha256)
                        .unwrap_or(before),
                ));
            }
            if other.is_none() {
                entries.push(entry);
                sources.push(source);
            }
        }
        gathered.push(GatheredComponent {
            name: component.name.clone(),
            entries,
            sources,
        });
    }
    Ok(Gathered {
        components: gathered,
        cache,
    })
}

fn look(known: &IndexCache, component: &str, file: &PoolFile) -> Result<Looked, PublishError> {
    let (name, source, key, deb) = match file {
        PoolFile::Deb(deb) | PoolFile::Adopted(deb) => {
            let description = Arc::new(DebDescription::from(deb.as_ref()));
            (
                deb.file_name().to_owned(),
                PoolSource::Bytes(deb.bytes().into()),
                None,
                description,
            )
        }
        PoolFile::Path(path) => {
            // Status before content: a change in between gives a key that never matches again.
            let metadata = fs::metadata(path).map_err(io_error("look at", path))?;
            let key = FileKey::new(path, &metadata);
            let name = path.display().to_string();
            let deb = match key.as_ref().and_then(|key| known.of_file(key)) {
                Some(deb) => Arc::clone(deb),
                None => Arc::new(inspected(
                    &name,
                    &fs::read(path).map_err(io_error("read", path))?,
                )?),
            };
            (name, PoolSource::File(path.clone()), key, deb)
        }
        PoolFile::Described { path, deb } => {
            let source = PoolSource::File(path.clone());
            (path.display().to_string(), source, None, Arc::clone(deb))
        }
    };
    let entry = PackageEntry::new(&deb, component).map_err(|source| PublishError::Entry {
        package: name,
        source,
    })?;
    let adopted = matches!(file, PoolFile::Adopted(_));
    Ok(Looked {
        entry,
        source: Source {
            bytes: source,
            adopted,
        },
        key,
        deb,
    })
}

fn inspected(name: &str, bytes: &[u8]) -> Result<DebDescription, PublishError> {
    DebDescription::read(bytes).map_err(|source| PublishError::Inspect {
        package: name.to_owned(),
        source,
    })
}

/// Digests by pool path of the packages that `generation` has. An index that is missing counts as empty.
pub(super) fn published_packages(
    root: &Path,
    generation: Option<&Generation>,
) -> Result<BTreeMap<String, Sha256>, PublishError> {
    let mut packages = BTreeMap::new();
    if let Some(generation) = generation {
        for (_, text) in published_texts(root, generation)? {
            packages_in(&text, &mut packages);
        }
    }
    Ok(packages)
}

/// The `Packages` files of `generation`, each with the path below the root where it stands packed. Missing ones are left
/// out.
pub(super) fn published_texts(
    root: &Path,
    generation: &Generation,
) -> Result<Vec<(String, String)>, PublishError> {
    let mut texts = Vec::new();
    for name in generation.packages_files() {
        let path = root.join(&name);
        let packed = match fs::read(&path) {
            Ok(packed) => packed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let text = Compression::Gzip
            .decompress(&packed)
            .map_err(io_error("unpack", &path))?;
        let text = String::from_utf8(text)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        texts.push((name, text));
    }
    Ok(texts)
}

/// Adds the digests by pool path of a `Packages` file that this program wrote; see [`PackageEntry::new`].
pub(super) fn packages_in(text: &str, packages: &mut BTreeMap<String, Sha256>) {
    let mut filename = None;
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("Filename: ") {
            filename = Some(value);
        } else if let Some(value) = line.strip_prefix("SHA256: ")
            && let (Some(filename), Ok(digest)) = (filename.take(), value.parse())
        {
            packages.insert(filename.to_owned(), digest);
        }
    }
}

/// The packages that have to be placed in the pool. `published` is what the current generation has.
pub(super) fn missing_from_pool(
    root: &Path,
    gathered: &Gathered,
    published: &BTreeMap<String, Sha256>,
    known: &KnownDigests<'_>,
) -> Result<Vec<NewPoolFile>, PublishError> {
    let mut missing = Vec::new();
    for component in &gathered.components {
        let looked: Vec<Option<NewPoolFile>> = component
            .entries
            .par_iter()
            .zip(&component.sources)
            .map(|(entry, source)| {
                let wanted = is_missing(root, entry, published, known)?;
                Ok(wanted.then(|| NewPoolFile {
                    path: entry.filename.clone(),
                    sha256: entry.sha256,
                    source: source.bytes.clone(),
                }))
            })
            .collect::<Result<_, PublishError>>()?;
        missing.extend(looked.into_iter().flatten());
    }
    Ok(missing)
}

/// Whether the pool lacks the package. A file that the current generation speaks of is known by its length; any other
/// one may have been left by a run that was killed, and is read.
fn is_missing(
    root: &Path,
    entry: &PackageEntry,
    published: &BTreeMap<String, Sha256>,
    known: &KnownDigests<'_>,
) -> Result<bool, PublishError> {
    let path = root.join(&entry.filename);
    if let Some(digest) = published.get(&entry.filename) {
        if *digest != entry.sha256 {
            return Err(other_bytes(entry, *digest));
        }
        let present = fs::metadata(&path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.size);
        return Ok(!present);
    }
    let Some(found) = digest_of(&path)? else {
        return Ok(true);
    };
    if found == entry.sha256 {
        return Ok(false);
    }
    // Another generation's, perhaps damaged, or somebody else's: what a killed run left was swept away before.
    match known.of(&entry.filename)? {
        Some(digest) if digest == entry.sha256 => Ok(true),
        Some(digest) => Err(other_bytes(entry, digest)),
        None => Err(PublishError::NotOurFile { path }),
    }
}

/// Digests of all pool files, each as the latest generation knows it that has it.
///
/// Read at the first question, and once: after a rollback or a lost pool, as many packages as there are ask it.
pub(super) struct KnownDigests<'a> {
    root: &'a Path,
    records: &'a Records,
    read: Mutex<Option<BTreeMap<String, Sha256>>>,
}

impl<'a> KnownDigests<'a> {
    pub(super) fn new(root: &'a Path, records: &'a Records) -> Self {
        Self {
            root,
            records,
            read: Mutex::new(None),
        }
    }

    fn of(&self, filename: &str) -> Result<Option<Sha256>, PublishError> {
        // Whoever panicked left it unread or whole.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match &mut *read {
            Some(known) => known,
            none => {
                let mut known = BTreeMap::new();
                for generation in &self.records.published {
                    known.append(&mut published_packages(self.root, Some(generation))?);
                }
                none.insert(known)
            }
        };
        Ok(known.get(filename).copied())
    }
}

/// Takes what is published already instead of a package that differs from it in its signature alone: a key that gpg holds
/// signs with the time of day, so the same package made again has other bytes. Of another program's packages the published
/// one stays in any case: their versions are not the fleet's to raise.
pub(super) fn take_published(
    root: &Path,
    gathered: &mut Gathered,
    published: &BTreeMap<String, Sha256>,
    known: &KnownDigests<'_>,
) -> Result<Vec<PublishWarning>, PublishError> {
    let mut warnings = Vec::new();
    for component in &mut gathered.components {
        for (entry, source) in component.entries.iter_mut().zip(&mut component.sources) {
            let path = root.join(&entry.filename);
            let digest = match published.get(&entry.filename) {
                Some(digest) => Some(*digest),
                None if path.exists() => known.of(&entry.filename)?,
                None => None,
            };
            let Some(digest) = digest.filter(|digest| *digest != entry.sha256) else {
                continue;
            };
            // A published file that is gone or damaged cannot stand for anything.
            let Ok(bytes) = fs::read(&path) else { continue };
            if Sha256::of(&bytes) != digest {
                continue;
            }
            let same = match &source.bytes {
                PoolSource::Bytes(offered) => same_but_signature(offered, &bytes),
                PoolSource::File(offered) => {
                    let offered = fs::read(offered).map_err(io_error("read", offered))?;
                    same_but_signature(&offered, &bytes)
                }
            };
            if !same && !source.adopted {
                continue;
            }
            if !same {
                warnings.push(PublishWarning::KeptPublished {
                    name: entry.name.clone(),
                    version: entry.version.clone(),
                });
            }
            let deb = inspected(&entry.filename, &bytes)?;
            *entry =
                PackageEntry::new(&deb, &component.name).map_err(|source| PublishError::Entry {
                    package: entry.filename.clone(),
                    source,
                })?;
            source.bytes = PoolSource::File(path);
        }
    }
    Ok(warnings)
}

/// Whether two packages have the same members, the origin's signature left out.
fn same_but_signature(one: &[u8], other: &[u8]) -> bool {
    let members = |bytes| -> Option<Vec<(String, Vec<u8>)>> {
        let all = ar::read(bytes).ok()?.into_iter();
        Some(
            all.filter(|member| member.name != "_gpgorigin")
                .map(|member| (member.name.to_owned(), member.data.to_vec()))
                .collect(),
        )
    };
    members(one).is_some_and(|members_of_one| Some(members_of_one) == members(other))
}

fn digest_of(path: &Path) -> Result<Option<Sha256>, PublishError> {
    match File::open(path) {
        Ok(mut file) => digest(&mut file).map(Some).map_err(io_error("read", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

pub(super) fn other_bytes(entry: &PackageEntry, published: Sha256) -> PublishError {
    PublishError::SameVersionOtherBytes(Box::new(OtherBytes {
        name: entry.name.clone(),
        version: entry.version.clone(),
        architecture: entry.architecture.clone(),
        published,
        offered: entry.sha256,
    }))
}
