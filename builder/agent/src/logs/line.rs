//! A line as rsyslog writes it on machines and log servers (roles/base/templates/rsyslog.conf, `rolesmith-line`; RFC 5424):
//!
//! ```text
//! <30>1 2026-03-01T12:00:00.123456+00:00 app-3 nginx 812 - [rolesmith@0 inc="1" ses="7" seq="4711"] text
//! ```

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

/// Which line of a machine: the order is that in which they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Incarnation of the machine; counts the machines that had the name.
    pub incarnation: u64,
    /// Start of rsyslogd.
    pub session: u64,
    /// Line in that session; 1 is the first.
    pub sequence: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.incarnation, self.session, self.sequence)
    }
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The machine it is from.
    pub host: &'a str,
    /// Its stamp; none where the machine could not count its session.
    pub stamp: Option<Stamp>,
    /// A digest of everything but the stamp. It is not the same in another version of this program.
    pub digest: u64,
}

/// Reads a line, without its newline; `None` is no line of ours, such as one that was cut off by a crash.
#[must_use]
pub fn parse(line: &str) -> Option<Line<'_>> {
    // Priority and version, time, host, program, process, kind of message: none of them holds a blank (RFC 5424, 6).
    let (at, _) = line.match_indices(' ').nth(5)?;
    let (head, rest) = (&line[..at], &line[at + 1..]);
    let host = head.split(' ').nth(2).filter(|host| !host.is_empty())?;
    if !head.starts_with('<') {
        return None;
    }
    let (stamp, text) = if let Some(text) = rest.strip_prefix("- ") {
        (None, text)
    } else {
        let end = rest.find(']')?;
        let element = rest[..end].strip_prefix("[rolesmith@")?;
        (Some(stamp(element)?), rest[end + 1..].strip_prefix(' ')?)
    };
    let mut hasher = DefaultHasher::new();
    (head, text).hash(&mut hasher);
    Some(Line {
        host,
        stamp,
        digest: hasher.finish(),
    })
}

/// The stamp in structured data such as `[rolesmith@0 inc="1" ses="7" seq="4711"]`, or in a part of it.
#[must_use]
pub fn stamp(element: &str) -> Option<Stamp> {
    let value = |name: &str| -> Option<u64> {
        let start = element.find(&format!(" {name}=\""))? + name.len() + 3;
        let end = element[start..].find('"')?;
        element[start..start + end].parse().ok()
    };
    Some(Stamp {
        incarnation: value("inc")?,
        session: value("ses")?,
        sequence: value("seq").filter(|sequence| *sequence > 0)?,
    })
}
