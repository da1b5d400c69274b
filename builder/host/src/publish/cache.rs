//! What is known of package files that were looked at before, so that publishing one more package reads one file.
//!
//! A file is recognised by path, length, inode and both of its times to the nanosecond; the time of the last status
//! change cannot be set back, so replaced bytes are always noticed. The cache is a convenience: damaged or missing, it is
//! made anew.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rolesmith_formats::apt::DebDescription;

const HEADER: &str = "rolesmith index cache 1\n";

/// How a file on disk is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    path: String,
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileKey {
    /// `None` for a path that cannot stand in a line of the cache.
    pub(super) fn new(path: &Path, metadata: &Metadata) -> Option<Self> {
        let path = path
            .to_str()
            .filter(|path| !path.contains(['\t', '\n']))?
            .to_owned();
        Some(Self {
            path,
            size: metadata.size(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Descriptions by file.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    by_file: HashMap<FileKey, Arc<DebDescription>>,
}

impl IndexCache {
    /// Reads the cache at `path`; empty when there is none or it is damaged.
    pub(super) fn load(path: &Path) -> Self {
        fs::read_to_string(path)
            .ok()
            .and_then(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut cache = Self::default();
        let mut rest = text.strip_prefix(HEADER)?;
        // The last line tells a whole file from one that was cut off.
        while rest != "end\n" {
            let (line, body) = rest.split_once('\n')?;
            let words: Vec<&str> = line.split('\t').collect();
            let [path, size, inode, m, mn, c, cn, digest, control, files] = words[..] else {
                return None;
            };
            let (control, files): (usize, usize) = (control.parse().ok()?, files.parse().ok()?);
            let key = FileKey {
                path: path.to_owned(),
                size: size.parse().ok()?,
                inode: inode.parse().ok()?,
                modified: (m.parse().ok()?, mn.parse().ok()?),
                changed: (c.parse().ok()?, cn.parse().ok()?),
            };
            let described = DebDescription {
                control: body.get(..control)?.into(),
                files: body.get(control..control + files)?.into(),
                size: key.size,
                sha256: digest.parse().ok()?,
            };
            cache.insert(key, Arc::new(described));
            rest = body.get(control + files..)?;
        }
        Some(cache)
    }

    pub(super) fn insert(&mut self, key: FileKey, deb: Arc<DebDescription>) {
        self.by_file.insert(key, deb);
    }

    pub(super) fn of_file(&self, key: &FileKey) -> Option<&Arc<DebDescription>> {
        self.by_file.get(key)
    }

    /// Writes what is in it. Not brought to the disk: the last line tells whether it arrived.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        use std::fmt::Write as _;
        let mut text = String::from(HEADER);
        for (key, deb) in &self.by_file {
            let (m, c) = (key.modified, key.changed);
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
                key.path,
                key.size,
                key.inode,
                m.0,
                m.1,
                c.0,
                c.1,
                deb.sha256,
                deb.control.len(),
                deb.files.len()
            );
            text.push_str(&deb.control);
            text.push_str(&deb.files);
        }
        text.push_str("end\n");
        let temp = crate::atomic::temp_beside(path);
        fs::create_dir_all(crate::atomic::parent_of(path))?;
        fs::write(&temp, text)
            .and_then(|()| fs::rename(&temp, path))
            .inspect_err(|_| {
                let _ = fs::remove_file(&temp);
            })
    }
}
