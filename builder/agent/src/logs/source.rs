//! The files that lines are read from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::line;
use super::verify::Holding;
use crate::files;

/// Which files of a directory are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What a machine sent: own.log and its predecessors.
    Own,
    /// What a log server holds: one file a machine. all.log has the same lines once more.
    Server,
}

/// What was found: the lines by machine, and how many could not be read as lines.
#[derive(Debug, Default)]
pub struct Found {
    /// By host name.
    pub hosts: BTreeMap<String, Holding>,
    /// Lines that are none of ours.
    pub strange: u64,
}

/// Reads a file, a directory with such files, or standard input (`-`). Files of logrotate that end in .gz are unpacked by gzip(1).
///
/// # Errors
/// What open(2) and read(2) give, with the file's name.
pub fn read(path: &Path, kind: Kind, found: &mut Found) -> io::Result<()> {
    if path == Path::new("-") {
        return lines(io::stdin().lock(), found);
    }
    let about = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let files = if path.is_dir() {
        files::list(path)
            .map_err(|error| about(path, error))?
            .into_iter()
            .filter(|name| is_meant(name, kind))
            .map(|name| path.join(name))
            .collect()
    } else {
        vec![path.to_owned()]
    };
    for file in files {
        one(&file, found).map_err(|error| about(&file, error))?;
    }
    Ok(())
}

/// own.log.1 and the like next to the file, which is what a machine still has.
///
/// # Errors
/// What readdir(3) gives.
pub fn with_older(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Ok(vec![path.to_owned()]);
    };
    Ok(files::list(dir)?
        .into_iter()
        .filter(|found| {
            found
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
        .map(|found| dir.join(found))
        .collect())
}

fn is_meant(path: &str, kind: Kind) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_own = name == "own.log" || name.starts_with("own.log.");
    match kind {
        Kind::Own => is_own,
        Kind::Server => {
            !is_own
                && !name.starts_with("all.log")
                && (name.ends_with(".log") || name.contains(".log."))
        }
    }
}

fn one(path: &Path, found: &mut Found) -> io::Result<()> {
    let file = File::open(path)?;
    if path.extension().is_some_and(|end| end == "gz") {
        let mut gzip = Unpacker(
            Command::new("gzip")
                .args(["-dc"])
                .stdin(file)
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let output = gzip.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        lines(output, found)?;
        if !gzip.0.wait()?.success() {
            return Err(io::Error::other("gzip cannot unpack it"));
        }
        return Ok(());
    }
    lines(file, found)
}

/// gzip(1); it ends with the value.
struct Unpacker(Child);

impl Drop for Unpacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(input: impl Read, found: &mut Found) -> io::Result<()> {
    let mut input = BufReader::new(input);
    let mut bytes = Vec::new();
    while input.read_until(b'\n', &mut bytes)? > 0 {
        // A line without an end is being written.
        if bytes.pop_if(|last| *last == b'\n').is_some() {
            let text = String::from_utf8_lossy(&bytes);
            match line::parse(&text) {
                Some(line) => match found.hosts.get_mut(line.host) {
                    Some(holding) => holding.add(&line),
                    None => found
                        .hosts
                        .entry(line.host.to_owned())
                        .or_default()
                        .add(&line),
                },
                None => found.strange += 1,
            }
        }
        bytes.clear();
    }
    Ok(())
}
