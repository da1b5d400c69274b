//! A root tree's archive, read once and never unpacked: an index of its entries, with the contents of those that lints read.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::BTreeMap,
    io::{self, Read},
    rc::Rc,
};

use rolesmith_host::scan::SecretScan;

/// More than any Debian tree has: a bound for damaged archives.
const MAX_ENTRIES: usize = 2_000_000;
/// Bytes that headers of one entry may have, extended ones and long names among them.
const MAX_HEADERS: u64 = 1 << 20;
/// Longest path that Linux takes (PATH_MAX of limits.h).
const MAX_PATH: usize = 4096;
/// Bytes of a file whose contents are kept; dpkg's status is the largest of them.
const MAX_CONTENT: u64 = 32 << 20;
/// Bytes that are scanned at once.
const CHUNK: usize = 1 << 20;
/// Symbolic links that are followed, as the kernel does (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// Two blocks of zeros end an archive (POSIX pax, "ustar Interchange Format").
const END: u64 = 1024;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It is no archive, or a damaged one.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// Reading failed.
    #[error(transparent)]
    Io(io::Error),
}

/// What kind of file an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to that.
    Symlink(String),
    /// A further name of that file.
    HardLink(String),
    /// A device, a pipe, or something newer.
    Special,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permissions, with setuid, setgid and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Whether it has file capabilities (capabilities(7)).
    pub capabilities: bool,
    content: Option<Vec<u8>>,
}

impl Entry {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether it is a regular file, under its first name or another.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::HardLink(_))
    }
}

/// A root tree. Paths have no slash at their begin.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
    /// Files that hold a secret, with what is said of it.
    leaks: Vec<(String, String)>,
}

/// Reads no more than it is allowed to at the moment.
struct Budget<R> {
    inner: R,
    left: Rc<Cell<u64>>,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("headers of an entry have more than {MAX_HEADERS} bytes"),
            ));
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - read as u64);
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

impl Tree {
    /// Reads an archive from its begin to its end.
    ///
    /// # Errors
    /// [`TreeError`]. Memory is bounded by what the archive has of names, and of files that lints read.
    pub fn read(archive: impl Read, secrets: &SecretScan) -> Result<Self, TreeError> {
        let (left, read) = (Rc::new(Cell::new(MAX_HEADERS)), Rc::new(Cell::new(0)));
        let mut archive = tar::Archive::new(Budget {
            inner: archive,
            left: left.clone(),
            read: read.clone(),
        });
        let mut tree = Self::default();
        let mut scan = Scan::new(secrets);
        let mut end = 0;
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            if tree.entries.len() == MAX_ENTRIES {
                return Err(TreeError::Damaged(format!(
                    "more than {MAX_ENTRIES} entries"
                )));
            }
            let (path, mut known) = describe(&mut entry)?;
            left.set(u64::MAX);
            let keep = is_read(&path) && known.size <= MAX_CONTENT;
            let leak = scan.file(&mut entry, &path, known.size, keep)?;
            known.content = leak.content;
            if let Some(found) = leak.found {
                tree.leaks.push((path.clone(), found));
            }
            end = read.get();
            // What fills up the entry's last block, and the next one's headers.
            left.set(MAX_HEADERS + 512);
            tree.entries.insert(path, known);
        }
        left.set(u64::MAX);
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(TreeError::Io)?;
        if tree.entries.is_empty() {
            return Err(TreeError::Damaged("it has no entries".into()));
        }
        if read.get() < end.next_multiple_of(512) + END {
            return Err(TreeError::Damaged("it ends too early".into()));
        }
        Ok(tree)
    }

    /// All entries, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Everything below a directory, that itself not.
    pub fn below<'t>(&'t self, directory: &str) -> impl Iterator<Item = (&'t str, &'t Entry)> {
        let prefix = format!("{directory}/");
        self.entries
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(|(path, entry)| (path.as_str(), entry))
    }

    /// Files of any kind below a directory, but directories.
    pub fn files_below<'t>(&'t self, directory: &str) -> impl Iterator<Item = &'t str> {
        self.below(directory)
            .filter(|(_, entry)| !entry.is_directory())
            .map(|(path, _)| path)
    }

    /// The entry with that path; links are not followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The path that is reached when all links are followed, and its entry.
    #[must_use]
    pub fn resolve(&self, path: &str) -> Option<(String, &Entry)> {
        let mut todo: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = if at.is_empty() {
                part
            } else {
                format!("{at}/{part}")
            };
            match self.entries.get(&next).map(|entry| &entry.kind) {
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(target.rsplit('/').map(str::to_owned));
                }
                Some(Kind::HardLink(target)) => at.clone_from(target),
                Some(_) => at = next,
                None => return None,
            }
        }
        let entry = self.entries.get(&at)?;
        Some((at, entry))
    }

    /// The text of a file that lints read; links are followed.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<Cow<'_, str>> {
        let (_, entry) = self.resolve(path)?;
        entry.content.as_deref().map(String::from_utf8_lossy)
    }

    /// Files that hold a secret, with what is said of it.
    #[must_use]
    pub fn leaks(&self) -> &[(String, String)] {
        &self.leaks
    }
}

/// Files whose contents are kept.
fn is_read(path: &str) -> bool {
    path.starts_with("etc/")
        || path.starts_with("usr/lib/systemd/system/")
        || path.starts_with("usr/lib/rolesmith/roles/")
        || path.starts_with("var/lib/redis/")
        || path.starts_with("var/lib/rolesmith")
        || path == "boot/grub/grub.cfg"
        || path == "var/lib/dpkg/status"
}

fn damaged(error: io::Error) -> TreeError {
    match error.kind() {
        // The tar crate's words for what it cannot read.
        io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            TreeError::Damaged(error.to_string())
        }
        _ => TreeError::Io(error),
    }
}

/// What an entry's headers say.
fn describe<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<(String, Entry), TreeError> {
    let path = normal(&entry.path_bytes())?;
    let target = |entry: &tar::Entry<'_, R>| {
        let name = entry.link_name_bytes().unwrap_or_default();
        String::from_utf8_lossy(&name).into_owned()
    };
    let kind = match entry.header().entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            Kind::File
        }
        tar::EntryType::Directory => Kind::Directory,
        tar::EntryType::Symlink => Kind::Symlink(target(entry)),
        tar::EntryType::Link => Kind::HardLink(normal(target(entry).as_bytes())?),
        _ => Kind::Special,
    };
    let mut capabilities = false;
    if let Some(records) = entry.pax_extensions().map_err(damaged)? {
        for record in records {
            let record = record.map_err(damaged)?;
            capabilities |= record.key_bytes() == b"SCHILY.xattr.security.capability";
        }
    }
    let header = entry.header();
    let known = Entry {
        kind,
        mode: header.mode().map_err(damaged)? & 0o7777,
        uid: header.uid().map_err(damaged)?,
        gid: header.gid().map_err(damaged)?,
        size: entry.size(),
        mtime: header.mtime().map_err(damaged)?,
        capabilities,
        content: None,
    };
    Ok((path, known))
}

/// The path without what leads to the root; none leads out of the tree.
fn normal(path: &[u8]) -> Result<String, TreeError> {
    let path = String::from_utf8_lossy(path);
    if path.len() > MAX_PATH {
        return Err(TreeError::Damaged(format!(
            "a path of {} bytes",
            path.len()
        )));
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(TreeError::Damaged(format!("{path} leads out of the tree")));
    }
    Ok(parts.join("/"))
}

/// Looks for secrets in files as they pass.
struct Scan<'s> {
    secrets: &'s SecretScan,
    buffer: Vec<u8>,
    /// Bytes that are looked at again with those that follow: a secret may lie across.
    overlap: usize,
}

struct Scanned {
    content: Option<Vec<u8>>,
    found: Option<String>,
}

impl<'s> Scan<'s> {
    fn new(secrets: &'s SecretScan) -> Self {
        let overlap = secrets.longest().saturating_sub(1);
        Self {
            secrets,
            buffer: vec![0; overlap + CHUNK],
            overlap,
        }
    }

    fn file(
        &mut self,
        file: &mut impl Read,
        path: &str,
        size: u64,
        keep: bool,
    ) -> Result<Scanned, TreeError> {
        let mut scanned = Scanned {
            content: keep.then(Vec::new),
            found: None,
        };
        let (mut kept, mut total) = (0, 0);
        loop {
            let mut filled = kept;
            while filled < self.buffer.len() {
                match file.read(&mut self.buffer[filled..]).map_err(damaged)? {
                    0 => break,
                    read => filled += read,
                }
            }
            if filled == kept {
                break;
            }
            total += (filled - kept) as u64;
            if let Some(content) = &mut scanned.content {
                content.extend_from_slice(&self.buffer[kept..filled]);
            }
            if scanned.found.is_none() {
                let leak = self.secrets.check(&self.buffer[..filled], path).err();
                scanned.found =
                    leak.map(|leak| format!("it holds the secret {} ({})", leak.name, leak.form));
            }
            let again = self.overlap.min(filled);
            self.buffer.copy_within(filled - again..filled, 0);
            kept = again;
        }
        if total == size {
            Ok(scanned)
        } else {
            Err(TreeError::Damaged(format!(
                "{path} has {total} of its {size} bytes"
            )))
        }
    }
}
