//! The files of a log server: each log with what logrotate(8) made of its earlier days, oldest first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::bufread::MultiGzDecoder;

use super::entry::Entry;

/// How far the clocks of machines may be apart before a file is not found by its time, in microseconds.
const APART: i64 = 600 * 1_000_000;
/// Bytes that are read at once.
const AT_ONCE: usize = 128 * 1024;

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    path: PathBuf,
    inode: u64,
    /// When it was written last, in microseconds since 1970.
    written: i64,
}

/// A log with its earlier days, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The name of its file without `.log`: the machine's, for the files of a log server.
    pub name: String,
    /// Its files.
    pub parts: Vec<Part>,
    /// Its lines are in the order of their times: they are of one machine.
    pub in_order: bool,
}

/// The logs of a directory.
///
/// # Errors
/// What readdir(3) and stat(2) give, with the name.
pub fn of_directory(directory: &Path, in_order: bool) -> io::Result<Vec<Log>> {
    let about = |error| named(directory, error);
    let mut found = BTreeMap::<String, Vec<(Age, Part)>>::new();
    for entry in fs::read_dir(directory).map_err(about)? {
        let entry = entry.map_err(about)?;
        let name = entry.file_name();
        let Some((log, age)) = name.to_str().and_then(split) else {
            continue;
        };
        match part(&entry.path()) {
            Ok(part) => found.entry(log.to_owned()).or_default().push((age, part)),
            // Rotated away in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let logs = found.into_iter().map(|(name, mut parts)| {
        parts.sort_by(|(one, _), (other, _)| one.cmp(other));
        // Both are there while logrotate compresses; the one that was there before is whole.
        parts.dedup_by(|later, earlier| later.0.same_day(&earlier.0));
        Log {
            name,
            parts: parts.into_iter().map(|(_, part)| part).collect(),
            in_order,
        }
    });
    Ok(logs.collect())
}

/// One file, whatever its name.
///
/// # Errors
/// What stat(2) gives, with the name.
pub fn of_file(path: &Path) -> io::Result<Log> {
    Ok(Log {
        name: path.display().to_string(),
        parts: vec![part(path)?],
        in_order: false,
    })
}

fn part(path: &Path) -> io::Result<Part> {
    let seen = fs::metadata(path).map_err(|error| named(path, error))?;
    let written = seen.modified().ok();
    let written = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    Ok(Part {
        path: path.to_owned(),
        inode: seen.ino(),
        written: written.map_or(0, |at| i64::try_from(at.as_micros()).unwrap_or(i64::MAX)),
    })
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// How old a file of a log is; the order is that of their lines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    /// `dateext` of logrotate: the later, the younger. Then whether it is compressed.
    Dated(String, bool),
    /// A number: the larger, the older.
    Numbered(std::cmp::Reverse<u32>, bool),
    /// The one that is written.
    Present,
}

impl Age {
    fn same_day(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dated(one, _), Self::Dated(other, _)) => one == other,
            (Self::Numbered(one, _), Self::Numbered(other, _)) => one == other,
            _ => false,
        }
    }
}

/// `app-1.log`, `app-1.log.2.gz`, `app-1.log-20260301.gz`: the log and the age.
fn split(name: &str) -> Option<(&str, Age)> {
    let (log, rest) = name.split_once(".log")?;
    let packed = rest.ends_with(".gz");
    let rest = rest.strip_suffix(".gz").unwrap_or(rest);
    let age = match rest.split_at_checked(1) {
        None if !packed => Age::Present,
        Some((".", number)) => Age::Numbered(std::cmp::Reverse(number.parse().ok()?), packed),
        Some(("-", date)) if date.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            Age::Dated(date.to_owned(), packed)
        }
        _ => return None,
    };
    (!log.is_empty()).then_some((log, age))
}

impl Log {
    /// Leaves out files that cannot hold a line of that time. A line is in a file that was written after it; and the files of one
    /// machine follow each other as its lines do, late ones included.
    ///
    /// # Errors
    /// What reading the first line of a file gives.
    pub fn narrow(&mut self, since: Option<i64>, until: Option<i64>) -> io::Result<()> {
        if let Some(since) = since {
            let since = since.saturating_sub(APART);
            self.parts.retain(|part| part.written >= since);
        }
        if let Some(until) = until.filter(|_| self.in_order) {
            let until = until.saturating_add(APART);
            let mut kept = Vec::new();
            for part in self.parts.drain(..) {
                if first_time(&part)?.is_none_or(|first| first <= until) {
                    kept.push(part);
                }
            }
            self.parts = kept;
        }
        Ok(())
    }
}

fn first_time(part: &Part) -> io::Result<Option<i64>> {
    let Some(mut input) = part.open()? else {
        return Ok(None);
    };
    let mut line = Vec::new();
    input
        .read_until(b'\n', &mut line)
        .map_err(|error| named(&part.path, error))?;
    Ok(Entry::parse(line.trim_ascii_end()).and_then(|entry| entry.time()))
}

impl Part {
    /// Opens it, unpacked. `None`: it is another file by now.
    ///
    /// # Errors
    /// What open(2) gives, with the name.
    pub fn open(&self) -> io::Result<Option<Box<dyn BufRead>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&self.path, error)),
        };
        if file.metadata().map_err(|e| named(&self.path, e))?.ino() != self.inode {
            return Ok(None);
        }
        let input = BufReader::with_capacity(AT_ONCE, file);
        if self.path.extension().is_some_and(|end| end == "gz") {
            let unpacked = MultiGzDecoder::new(input);
            return Ok(Some(Box::new(BufReader::with_capacity(AT_ONCE, unpacked))));
        }
        Ok(Some(Box::new(input)))
    }

    /// The same file under the name that it has by now. `None`: it is gone, such as when it has been compressed.
    ///
    /// # Errors
    /// What readdir(3) gives, with the name.
    pub fn renamed(&self) -> io::Result<Option<Self>> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        for entry in fs::read_dir(directory).map_err(|e| named(directory, e))? {
            let path = entry.map_err(|e| named(directory, e))?.path();
            if let Ok(part) = part(&path)
                && part.inode == self.inode
            {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// The file that has its name by now, where that is another one.
    ///
    /// # Errors
    /// What stat(2) gives, with the name.
    pub fn successor(&self) -> io::Result<Option<Self>> {
        match part(&self.path) {
            Ok(part) => Ok((part.inode != self.inode).then_some(part)),
            // Renamed, and the next one is not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        let bytes = if name.ends_with(".gz") {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
            packed.finish().unwrap()
        } else {
            text.as_bytes().to_vec()
        };
        fs::write(dir.join(name), bytes).unwrap();
    }

    fn names(log: &Log) -> Vec<String> {
        let name = |part: &Part| {
            part.path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        };
        log.parts.iter().map(name).collect()
    }

    #[test]
    fn the_days_of_a_log_are_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "app-1.log",
            "app-1.log.1",
            "app-1.log.2.gz",
            "app-1.log.10.gz",
            // logrotate is compressing it.
            "app-1.log.2",
            "app-2.log",
            "app-2.log-20260302.gz",
            "app-2.log-20260301.gz",
            "app-1.log.old",
            "app-1.log.1.xz",
            "README",
            ".log",
        ] {
            write(dir.path(), name, "x\n");
        }
        let logs = of_directory(dir.path(), true).unwrap();
        assert_eq!(
            names(&logs[0]),
            ["app-1.log.10.gz", "app-1.log.2", "app-1.log.1", "app-1.log"]
        );
        assert_eq!(
            names(&logs[1]),
            [
                "app-2.log-20260301.gz",
                "app-2.log-20260302.gz",
                "app-2.log"
            ]
        );
        assert_eq!(logs.len(), 2);
    }

    #[test]
    fn files_of_another_time_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let at = |hour: u32| format!("<13>1 2026-03-01T{hour:02}:00:00Z n s - - - x\n");
        let hour = |hour| {
            super::super::entry::Entry::parse(at(hour).trim().as_bytes())
                .unwrap()
                .time()
        };
        for (name, first) in [("n.log.2.gz", 1), ("n.log.1", 8), ("n.log", 16)] {
            write(dir.path(), name, &at(first));
            let written = UNIX_EPOCH
                + std::time::Duration::from_micros(
                    u64::try_from(hour(first + 7).unwrap()).unwrap(),
                );
            let file = File::options()
                .write(true)
                .open(dir.path().join(name))
                .unwrap();
            file.set_modified(written).unwrap();
        }
        let narrowed = |since, until| {
            let mut log = of_directory(dir.path(), true).unwrap().remove(0);
            log.narrow(since, until).unwrap();
            names(&log)
        };
        assert_eq!(narrowed(None, None), ["n.log.2.gz", "n.log.1", "n.log"]);
        assert_eq!(narrowed(hour(9), None), ["n.log.1", "n.log"]);
        assert_eq!(narrowed(None, hour(9)), ["n.log.2.gz", "n.log.1"]);
        assert_eq!(narrowed(hour(9), hour(10)), ["n.log.1"]);
        // Clocks need not agree.
        let minutes = |hour: Option<i64>| Some(hour? + 300 * 1_000_000);
        assert_eq!(
            narrowed(minutes(hour(8)), None),
            ["n.log.2.gz", "n.log.1", "n.log"]
        );
    }

    #[test]
    fn a_file_that_was_rotated_meanwhile_is_not_taken_for_another() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "n.log", "old\n");
        let log = of_directory(dir.path(), true).unwrap().remove(0);
        fs::rename(dir.path().join("n.log"), dir.path().join("n.log.1")).unwrap();
        assert!(log.parts[0].open().unwrap().is_none());
        write(dir.path(), "n.log", "new\n");
        assert!(log.parts[0].open().unwrap().is_none());
        let renamed = log.parts[0].renamed().unwrap().unwrap();
        assert_eq!(renamed.path(), dir.path().join("n.log.1"));
        fs::remove_file(dir.path().join("n.log.1")).unwrap();
        assert_eq!(log.parts[0].renamed().unwrap(), None);
    }
}
