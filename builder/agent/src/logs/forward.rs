//! Brings this machine's lines to every log server of its fleet, itself included: what `rolesmith-logs.service` runs.
//!
//! own.log and its predecessors are the queue; each server has a reader of its own, and its position is the stamp of the last line that
//! it has confirmed. The position is noted after lines were confirmed, never before, so delivery is at least once, whoever is
//! killed when. What is rotated away before a server came back is lost to it: that is the queue's cap.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::line::{self, Stamp};
use super::send::{Server, Session};
use super::{OWN_LOG, source};
use crate::files::{self, Access, Root, Seen};

/// Where to send, rendered for the node.
pub const SERVERS_FILE: &str = "/var/lib/rolesmith/conf/base/logs.json";
/// Below it, the position of each server.
pub const POSITIONS_DIR: &str = "/var/lib/rolesmith/logs";
/// Lines that are under way together.
const TOGETHER: usize = 128;
/// How often an idle reader looks for new lines.
const LOOK: Duration = Duration::from_millis(200);
/// How often a position is noted: what may come twice after a kill.
const NOTE: Duration = Duration::from_secs(2);
/// The longest pause after a failure; the first is a sixteenth of it.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// [`SERVERS_FILE`].
#[derive(Debug, Deserialize)]
pub struct Servers {
    /// The log servers.
    servers: Vec<Entry>,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    address: SocketAddr,
    certificate_name: String,
}

/// The last line that a server has confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    confirmed: Option<Stamp>,
}

/// Sends for ever.
///
/// # Errors
/// Where [`SERVERS_FILE`] or a position cannot be read.
pub fn run(root: &Root) -> io::Result<()> {
    let servers: Servers = match files::read_json(&root.join(SERVERS_FILE)) {
        Seen::Is(servers) => servers,
        Seen::Absent => return Err(io::Error::other("this machine is not enrolled")),
        Seen::Broken(why) => return Err(io::Error::other(format!("{SERVERS_FILE}: {why}"))),
    };
    if servers.servers.is_empty() {
        // A fleet without log servers. The unit stays active: there is nothing wrong with it.
        loop {
            thread::park();
        }
    }
    let mut forwards = Vec::new();
    for entry in &servers.servers {
        let server = Server {
            address: entry.address,
            name: entry.certificate_name.clone(),
            ca: root.join(&servers.ca),
            certificate: root.join(&servers.certificate),
            key: root.join(&servers.key),
        };
        let noted = root
            .join(POSITIONS_DIR)
            .join(format!("sent-{}.json", entry.name));
        let confirmed = match files::read_json::<Position>(&noted) {
            Seen::Is(position) => position.confirmed,
            Seen::Absent => None,
            // From the beginning: twice is better than never.
            Seen::Broken(_) => None,
        };
        forwards.push(Forward {
            reader: Reader::new(root.join(OWN_LOG), confirmed),
            server,
            noted,
            confirmed,
        });
    }
    thread::scope(|scope| {
        let threads: Vec<_> = forwards
            .into_iter()
            .map(|forward| scope.spawn(move || forward.run()))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => return Err(io::Error::other("a sender ended")),
            }
        }
        Ok(())
    })
}

struct Forward {
    reader: Reader,
    server: Server,
    noted: PathBuf,
    confirmed: Option<Stamp>,
}

impl Forward {
    /// Until its position or the lines cannot be read or written; systemd starts it again.
    fn run(mut self) -> io::Result<()> {
        let mut session = None;
        let mut dirty = false;
        let mut noted = Instant::now();
        loop {
            let batch = self.reader.batch()?;
            if dirty && (batch.is_empty() || noted.elapsed() >= NOTE) {
                let position = Position {
                    confirmed: self.confirmed,
                };
                files::write_json(&self.noted, &position, Access::PRIVATE)?;
                dirty = false;
                noted = Instant::now();
            }
            if batch.is_empty() {
                thread::sleep(LOOK);
                continue;
            }
            self.deliver(&mut session, &batch);
            self.confirmed = self.reader.last.or(self.confirmed);
            dirty = true;
        }
    }

    /// Returns when the server has confirmed all.
    fn deliver(&self, session: &mut Option<Session>, batch: &[Vec<u8>]) {
        let mut pause = LONGEST_PAUSE / 16;
        // A session from earlier may have died unnoticed: that is no reason to wait.
        let mut patient = session.is_none();
        if session.as_ref().is_some_and(Session::is_old) {
            *session = None;
        }
        loop {
            let mut open = match session.take() {
                Some(open) => Ok(open),
                None => Session::open(&self.server),
            };
            match open.as_mut().map(|open| open.send(batch)) {
                Ok(Ok(())) => {
                    *session = open.ok();
                    return;
                }
                _ if !patient => patient = true,
                _ => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Reads own.log and its predecessors in order, across rotations.
struct Reader {
    path: PathBuf,
    /// Lines up to here were confirmed earlier.
    after: Option<Stamp>,
    /// The last stamp that was read.
    last: Option<Stamp>,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
}

impl Reader {
    fn new(path: PathBuf, after: Option<Stamp>) -> Self {
        Self {
            path,
            after,
            last: after,
            file: None,
            partial: Vec::new(),
        }
    }

    /// The next lines, without newlines; none where there are none yet.
    fn batch(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut batch = Vec::new();
        while batch.len() < TOGETHER {
            match self.line()? {
                Some(line) => batch.extend(self.wanted(line)),
                None if self.go_on()? => {}
                None => break,
            }
        }
        Ok(batch)
    }

    /// A line that is complete.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file.as_mut() else {
            return Ok(None);
        };
        file.read_until(b'\n', &mut self.partial)?;
        if self.partial.pop_if(|last| *last == b'\n').is_none() {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.partial)))
    }

    /// Skips what was confirmed. Stamps grow from line to line, so from the first that is new on everything is new.
    fn wanted(&mut self, line: Vec<u8>) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(&line);
        // What is no line, such as one that was cut off by a power failure, a log server would file under a strange name.
        let stamp = line::parse(&text)?.stamp;
        if let Some(after) = self.after {
            match stamp {
                Some(stamp) if stamp > after => self.after = None,
                _ => return None,
            }
        }
        self.last = stamp.or(self.last);
        Some(line)
    }

    /// At the end of a file: whether another one follows. It is entered when the current one has been read to its end after it was
    /// replaced.
    fn go_on(&mut self) -> io::Result<bool> {
        let files = oldest_first(&self.path)?;
        let next = match &self.file {
            None => self.begin(&files)?,
            Some(file) => {
                let inode = file.get_ref().metadata()?.ino();
                match files.iter().position(|(_, number)| *number == inode) {
                    Some(index) => files.get(index + 1),
                    // It was deleted before it was read to its end, or just after.
                    None => files.first(),
                }
            }
        };
        let Some((next, _)) = next else {
            return Ok(false);
        };
        // Written between the last read and the rotation.
        if self.file.is_some() && self.more()? {
            return Ok(true);
        }
        match File::open(next) {
            Ok(file) => self.file = Some(BufReader::new(file)),
            // Rotated in this moment; the next look finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        self.partial.clear();
        Ok(true)
    }

    fn more(&mut self) -> io::Result<bool> {
        Ok(match self.file.as_mut() {
            Some(file) => !file.fill_buf()?.is_empty(),
            None => false,
        })
    }

    /// The newest file that begins at or before the position.
    fn begin<'a>(&self, files: &'a [(PathBuf, u64)]) -> io::Result<Option<&'a (PathBuf, u64)>> {
        let Some(after) = self.after else {
            return Ok(files.first());
        };
        for entry in files.iter().rev() {
            let mut first = Vec::new();
            BufReader::new(File::open(&entry.0)?).read_until(b'\n', &mut first)?;
            let stamp = line::parse(String::from_utf8_lossy(&first).trim_end_matches('\n'))
                .and_then(|line| line.stamp);
            if stamp.is_some_and(|stamp| stamp <= after) {
                return Ok(Some(entry));
            }
        }
        Ok(files.first())
    }
}

/// The files with their inode numbers.
fn oldest_first(path: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files: Vec<_> = source::with_older(path)?
        .into_iter()
        .filter_map(|file| {
            let age: u32 = match file.extension()?.to_str()?.parse() {
                Ok(age) => age,
                Err(_) if file == path => 0,
                Err(_) => return None,
            };
            let inode = file.metadata().ok()?.ino();
            Some((age, file, inode))
        })
        .collect();
    files.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
    Ok(files
        .into_iter()
        .map(|(_, file, inode)| (file, inode))
        .collect())
}

#[cfg(test)]
mod tests;
