//! The reader, for archives of any writer that dpkg understands.

use std::io::{self, Read};

use tar::{Archive, EntryType};

use super::{Content, Entry, EntryKind};

/// What an archive has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListedKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link and its target.
    Symlink(String),
    /// Another name of the file at the absolute path.
    Hardlink(String),
    /// A device or fifo.
    Special,
}

/// The header of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Absolute path without trailing slash; the root directory is `/`. Bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    /// What stands there.
    pub kind: ListedKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's number.
    pub uid: u64,
    /// Group's number.
    pub gid: u64,
    /// Owner's name.
    pub user: String,
    /// Group's name.
    pub group: String,
    /// Modification time, Unix seconds.
    pub mtime: u64,
    /// Bytes of content.
    pub size: u64,
}

/// Lists an archive without keeping its files' contents.
///
/// # Errors
/// What the reader returns, and `InvalidData` for what is not a tar archive.
pub fn list(archive: impl Read) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in Archive::new(archive).entries()? {
        listed.push(header(&entry?)?);
    }
    Ok(listed)
}

/// Reads an archive of files, directories and symbolic links back into entries. The root directory is left out.
///
/// # Errors
/// As [`list`]; `Unsupported` for hard links and special files.
pub fn read_entries(archive: impl Read) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let Listed {
            path,
            kind,
            mode,
            size,
            ..
        } = header(&entry)?;
        if path == "/" {
            continue;
        }
        let kind = match kind {
            ListedKind::File => {
                // The size is the archive's claim: trust it for the allocation only as far as a small file.
                let mut content = Vec::with_capacity(size.min(1 << 20) as usize);
                entry.read_to_end(&mut content)?;
                EntryKind::File(Content::from(content))
            }
            ListedKind::Directory => EntryKind::Directory,
            ListedKind::Symlink(target) => EntryKind::Symlink(target),
            ListedKind::Hardlink(_) | ListedKind::Special => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("{path} is a hard link or special file"),
                ));
            }
        };
        entries.push(Entry { path, kind, mode });
    }
    Ok(entries)
}

fn header<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<Listed> {
    let header = entry.header();
    let target = || {
        entry
            .link_name_bytes()
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .unwrap_or_default()
    };
    let kind = match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => ListedKind::File,
        EntryType::Directory => ListedKind::Directory,
        EntryType::Symlink => ListedKind::Symlink(target()),
        EntryType::Link => ListedKind::Hardlink(absolute(&target())),
        EntryType::Char | EntryType::Block | EntryType::Fifo => ListedKind::Special,
        other => {
            let reason = format!("tar entry of unknown type {:?}", other.as_byte() as char);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
    };
    let name =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    Ok(Listed {
        path: absolute(&String::from_utf8_lossy(&entry.path_bytes())),
        kind,
        mode: header.mode()? & 0o7777,
        uid: number(&header.as_old().uid, header.uid())?,
        gid: number(&header.as_old().gid, header.gid())?,
        user: name(header.username_bytes()),
        group: name(header.groupname_bytes()),
        mtime: header.mtime()?,
        size: entry.size(),
    })
}

/// `./usr/bin/` and `usr/bin` both mean `/usr/bin`.
fn absolute(path: &str) -> String {
    let path = path
        .strip_prefix('.')
        .filter(|rest| rest.is_empty() || rest.starts_with('/'))
        .unwrap_or(path);
    format!("/{}", path.trim_matches('/'))
}

/// A numeric field; one that is all zero bytes means 0, as cargo-deb writes it and as tar(5) and dpkg read it.
fn number(field: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    if field.iter().all(|byte| *byte == 0) {
        Ok(0)
    } else {
        parsed
    }
}
