//! Files that are either the old or the new ones, whatever happens in between.
//!
//! A file is written under a temporary name in the directory where it will stand, brought to the disk, and renamed. A
//! killed program leaves at most temporary files, which all begin with [`TEMP_PREFIX`].

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How temporary names begin. Readers of a directory skip such names; whoever holds the directory's lock may delete them.
pub const TEMP_PREFIX: &str = ".rolesmith-tmp-";

/// A fresh temporary name next to `path`.
pub fn temp_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{TEMP_PREFIX}{}-{number}", std::process::id()))
}

/// Whether a file name is one of [`temp_beside`]'s.
pub fn is_temp(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
}

/// Creates a new file that only its owner may write; `mode` is subject to the umask.
///
/// # Errors
/// `AlreadyExists`, and what open(2) returns.
pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
}

/// Replaces `path` by a file with these bytes and mode 0644; durable when it returns. Missing parent directories are made.
///
/// # Errors
/// What the system calls return; `path` is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o644)
}

/// As [`write()`], with another mode: 0600 for what is secret.
///
/// # Errors
/// As [`write()`].
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let parent = parent_of(path);
    fs::create_dir_all(parent)?;
    let temp = temp_beside(path);
    let written = create_new(&temp, mode).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    match written.and_then(|()| fs::rename(&temp, path)) {
        Ok(()) => sync_directory(parent),
        Err(error) => {
            // The first error is the one to report.
            let _ = fs::remove_file(&temp);
            Err(error)
        }
    }
}

/// Brings a directory's entries to the disk: without it a rename may be lost at a power failure.
///
/// # Errors
/// What open(2) and fsync(2) return.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory of a file, `.` for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}
