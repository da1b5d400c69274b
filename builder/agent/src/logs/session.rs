//! What happens before rsyslogd starts, and after it ended.
//!
//! A session's number is durable before rsyslogd stamps a line with it, so no two lines ever have the same stamp, wherever
//! the power is cut. When rsyslogd did not end in good order, the position from which it reads the journal is moved back by
//! [`AGAIN`] lines. They come under new stamps, most of them a second time.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::OWN_LOG;
use crate::files::{self, Access, Root, Seen};
use crate::observe;

/// The counter.
pub const COUNTER_FILE: &str = "/var/lib/rolesmith/logs/session.json";
/// What rsyslogd includes to know its session.
pub const STAMP_FILE: &str = "/run/rolesmith/logs/session.conf";
/// Where imjournal keeps its position: a cursor of journald and nothing else.
pub const POSITION_FILE: &str = "/var/spool/rsyslog/imjournal.state";
/// Lines that are read again when rsyslogd did not end in good order. After a SIGKILL none would be needed, since a line is in own.log before
/// imjournal notes its position; after a power failure own.log may lack what the kernel had not yet written.
pub const AGAIN: usize = 2000;

/// The counter's content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The last session that was begun.
    pub session: u64,
    /// Whether it is going on, or ended without saying so.
    pub open: bool,
}

/// What a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The counter from now on.
    pub counter: Counter,
    /// Whether the journal's last lines are read again.
    pub again: bool,
}

/// Decides on a start; pure.
#[must_use]
pub fn begin(before: Counter) -> Begin {
    Begin {
        counter: Counter {
            session: before.session + 1,
            open: true,
        },
        again: before.open,
    }
}

/// What rsyslogd includes.
#[must_use]
pub fn stamp(incarnation: u64, session: u64) -> String {
    format!("set $.incarnation = \"{incarnation}\";\nset $.session = \"{session}\";\n")
}

/// Begins a session: what `rolesmith-agent logs session` does. A machine that is not enrolled has none.
///
/// # Errors
/// What reading and writing files gives; rsyslogd is not started then, and its lines stay in the journal.
pub fn start(root: &Root) -> io::Result<Option<u64>> {
    // Whatever fails from here on: no number is used twice.
    files::remove(&root.join(STAMP_FILE)).or_else(not_there)?;
    let identity = match observe::identity(root) {
        Seen::Is(identity) => identity,
        Seen::Absent => return Ok(None),
        Seen::Broken(why) => return Err(io::Error::other(why)),
    };
    let begin = begin(counter(root)?);
    end_line(&root.join(OWN_LOG))?;
    files::write_json(&root.join(COUNTER_FILE), &begin.counter, Access::PRIVATE)?;
    if begin.again {
        go_back(root)?;
    }
    let session = begin.counter.session;
    let text = stamp(identity.incarnation, session);
    files::write(&root.join(STAMP_FILE), text.as_bytes(), Access::PUBLIC)?;
    Ok(Some(session))
}

/// Closes the session: rsyslogd ended by itself, its queues are on the disk.
///
/// # Errors
/// What reading and writing files gives; the next session then reads lines again, which does no harm.
pub fn end(root: &Root) -> io::Result<()> {
    let counter = counter(root)?;
    if counter.open {
        let closed = Counter {
            open: false,
            ..counter
        };
        files::write_json(&root.join(COUNTER_FILE), &closed, Access::PRIVATE)?;
    }
    Ok(())
}

fn counter(root: &Root) -> io::Result<Counter> {
    let path = root.join(COUNTER_FILE);
    match files::read_json(&path) {
        Seen::Is(counter) => Ok(counter),
        Seen::Absent => Ok(Counter::default()),
        // To begin again at 1 would give two lines one stamp.
        Seen::Broken(why) => Err(io::Error::other(format!("{}: {why}", path.display()))),
    }
}

/// A power failure may have cut the last line off; the next one is not to be appended to it.
fn end_line(path: &Path) -> io::Result<()> {
    let mut file = match File::options().read(true).append(true).open(path) {
        Ok(file) => file,
        Err(error) => return not_there(error),
    };
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(())
}

fn not_there(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// Moves imjournal's position back. Where that is not possible, it stays.
fn go_back(root: &Root) -> io::Result<()> {
    let path = root.join(POSITION_FILE);
    let Some(position) = files::read(&path)? else {
        // rsyslogd begins at the beginning.
        return Ok(());
    };
    let position = String::from_utf8_lossy(&position);
    let output = Command::new("journalctl")
        .args([
            "--quiet",
            "--reverse",
            "--output=json",
            "--output-fields=_PID",
        ])
        .arg(format!("--lines={AGAIN}"))
        .arg(format!("--cursor={}", position.trim_end()))
        .stdin(Stdio::null())
        .output()?;
    let lines = String::from_utf8_lossy(&output.stdout);
    if let Some(cursor) = lines.lines().last().and_then(cursor) {
        files::write(&path, cursor.as_bytes(), Access::PRIVATE)?;
    }
    Ok(())
}

/// The cursor of an entry as journalctl prints it.
fn cursor(entry: &str) -> Option<String> {
    let entry: serde_json::Value = serde_json::from_str(entry).ok()?;
    entry.get("__CURSOR")?.as_str().map(str::to_owned)
}
