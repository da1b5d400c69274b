//! Layers: files kept under the hash of their inputs.
//!
//! A layer is written under another name, synced and renamed, and beside it stands the SHA-256 of its bytes. What a killed program
//! leaves has another name and is removed by the next run, which holds the lock.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};

use rolesmith_host::{atomic, lock::DirectoryLock};

use crate::{
    error::{BakeError, Result},
    tree::remove_tree,
};

/// Layers that nobody asked for in so long are removed.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// So many layers of a kind are kept, those that were asked for last: each change of a role makes another one, of some hundred MB.
const KEPT_OF_KIND: usize = 6;

/// Makes a key from all that something depends on.
#[derive(Debug, Default)]
pub struct Key(Sha256);

impl Key {
    /// Begins with what it is, and with a number that is raised when the making of it changes.
    #[must_use]
    pub fn new(what: &str, recipe: u32) -> Self {
        let mut key = Self::default();
        key.add(what);
        key.add(recipe.to_string());
        key
    }

    /// Adds an input. Each is closed, so that no two lists of inputs run into each other.
    pub fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.0.finalize()[..16])
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file.
///
/// # Errors
/// What reading it returns.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// The directory with the layers, held by this program alone.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    _lock: DirectoryLock,
}

/// A layer that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its file.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Whether this run made it.
    pub made: bool,
}

impl Cache {
    /// Takes the directory, made where it does not exist; waits for another program that has it, after `waiting`.
    ///
    /// # Errors
    /// [`BakeError::File`].
    pub fn open(root: &Path, waiting: impl FnOnce()) -> Result<Self> {
        fs::create_dir_all(root).map_err(BakeError::file("make", root))?;
        let lock = DirectoryLock::take(root, waiting);
        let cache = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        cache.clear(SystemTime::now())?;
        Ok(cache)
    }

    /// A directory of it that is no layer.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The layer under this key, made if there is none: `make` writes the file that it is given.
    ///
    /// # Errors
    /// What `make` returns; [`BakeError::Corrupt`] where a layer is another size than when it was made, [`BakeError::File`].
    pub fn layer(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Layer> {
        if let Some(known) = self.known(kind, key)? {
            return Ok(known);
        }
        let path = self.file(kind, key);
        let half = atomic::temp_beside(&path);
        let made = make(&half).and_then(|()| {
            let note = note(&half)?;
            let file = File::open(&half).and_then(|file| file.sync_all());
            file.map_err(BakeError::file("write", &half))?;
            fs::rename(&half, &path).map_err(BakeError::file("rename", &half))?;
            // Last: a layer without its note is made anew.
            atomic::write(&beside(&path), note.as_bytes())
                .map_err(BakeError::file("write", beside(&path)))?;
            Ok(note)
        });
        let note = made.inspect_err(|_| {
            let _ = fs::remove_file(&half);
        })?;
        Ok(Layer {
            path,
            sha256: note.split(' ').next().unwrap_or_default().to_owned(),
            made: true,
        })
    }

    fn file(&self, kind: &str, key: &str) -> PathBuf {
        self.root.join(format!("{kind}-{key}.tar"))
    }

    /// The layer under this key, if there is one. Its size is compared here, its bytes by [`verify`], when something is made of it.
    ///
    /// # Errors
    /// [`BakeError::Corrupt`], [`BakeError::File`].
    pub fn known(&self, kind: &str, key: &str) -> Result<Option<Layer>> {
        let path = &self.file(kind, key);
        let note = match fs::read_to_string(beside(path)) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BakeError::file("read", beside(path))(error)),
        };
        let mut words = note.split_whitespace();
        let (Some(sum), Some(size)) = (words.next(), words.next()) else {
            return Ok(None);
        };
        let length = match fs::metadata(path) {
            Ok(data) => data.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BakeError::file("read", path)(error)),
        };
        if length.to_string() != size {
            return Err(BakeError::Corrupt {
                path: path.to_owned(),
            });
        }
        // Its note's time is that of its last use.
        let touch = File::options()
            .append(true)
            .open(beside(path))
            .and_then(|file| file.set_modified(SystemTime::now()));
        touch.map_err(BakeError::file("write", beside(path)))?;
        Ok(Some(Layer {
            path: path.to_owned(),
            sha256: sum.to_owned(),
            made: false,
        }))
    }

    /// Removes what killed runs left, and layers that nobody will miss.
    fn clear(&self, now: SystemTime) -> Result<()> {
        let mut layers: BTreeMap<String, Vec<(SystemTime, PathBuf)>> = BTreeMap::new();
        let entries = fs::read_dir(&self.root).map_err(BakeError::file("read", &self.root))?;
        for entry in entries {
            let path = entry.map_err(BakeError::file("read", &self.root))?.path();
            if path.file_name().is_some_and(atomic::is_temp) {
                remove_tree(&path)?;
            } else if path.extension() == Some(OsStr::new("sum")) {
                let used = fs::metadata(&path).and_then(|data| data.modified());
                let used = used.map_err(BakeError::file("read", &path))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let kind = name.split('-').next().unwrap_or_default().to_owned();
                layers.entry(kind).or_default().push((used, path));
            }
        }
        for mut of_kind in layers.into_values() {
            of_kind.sort();
            for (place, (used, note)) in of_kind.iter().rev().enumerate() {
                if place >= KEPT_OF_KIND || now.duration_since(*used).unwrap_or_default() > KEPT {
                    // The note first: half a layer has none.
                    remove(note)?;
                    remove(&note.with_extension(""))?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a layer again and compares it with what was noted.
///
/// # Errors
/// [`BakeError::Corrupt`].
pub fn verify(layer: &Layer) -> Result<()> {
    let sum = sha256(&layer.path).map_err(BakeError::file("read", &layer.path))?;
    if sum == layer.sha256 {
        Ok(())
    } else {
        Err(BakeError::Corrupt {
            path: layer.path.clone(),
        })
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sum");
    name.into()
}

fn note(path: &Path) -> Result<String> {
    let sum = sha256(path).map_err(BakeError::file("read", path))?;
    let size = fs::metadata(path)
        .map_err(BakeError::file("read", path))?
        .len();
    Ok(format!("{sum} {size}\n"))
}

/// Removes a file, or a directory with all that is in it. It need not be there.
///
/// # Errors
/// [`BakeError::File`].
pub fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BakeError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(cache: &Cache, key: &str) -> Layer {
        let made = cache.layer("roles", key, |to| {
            fs::write(to, key).map_err(BakeError::file("write", to))
        });
        made.unwrap()
    }

    #[test]
    fn a_layer_is_made_once_and_one_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), || panic!("nobody has it")).unwrap();
        assert!(make(&cache, "a").made);
        assert!(!make(&cache, "a").made);
        let failed = cache.layer("roles", "b", |to| {
            fs::write(to, "half").unwrap();
            Err(BakeError::Sign("no".into()))
        });
        assert!(failed.is_err());
        assert_eq!(cache.known("roles", "b").unwrap(), None);
        assert!(make(&cache, "b").made);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn damage_is_found_and_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), || ()).unwrap();
        let layer = make(&cache, "a");
        verify(&layer).unwrap();
        fs::write(&layer.path, "b").unwrap();
        let error = verify(&layer).unwrap_err();
        assert!(matches!(&error, BakeError::Corrupt { path } if *path == layer.path));
        fs::write(&layer.path, "longer").unwrap();
        assert!(cache.known("roles", "a").is_err());
    }

    #[test]
    fn what_is_half_made_or_replaced_goes() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let cache = Cache::open(dir.path(), || ()).unwrap();
        for n in 0..8u64 {
            let layer = make(&cache, &format!("key{n}"));
            let note = File::options()
                .append(true)
                .open(beside(&layer.path))
                .unwrap();
            note.set_modified(now - Duration::from_secs(100 - n))
                .unwrap();
        }
        fs::create_dir(atomic::temp_beside(&dir.path().join("x"))).unwrap();
        cache.clear(now).unwrap();
        let left = |n: u64| cache.file("roles", &format!("key{n}")).exists();
        assert_eq!(
            (0..8).map(left).collect::<Vec<_>>(),
            [false, false, true, true, true, true, true, true]
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 12);
        cache.clear(now + KEPT + Duration::from_secs(200)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
