//! journald's own protocol (Native Journal Protocol of systemd): a datagram of fields, one a line.
//!
//! Standard output would do for short lines; journald breaks those of more than 48 KiB into several (LineMax=).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rolesmith_model::perf::PERF_IDENTIFIER;

/// Where journald takes entries; systemd keeps the socket while journald restarts.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// How long a full socket is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Severity `info` and facility `daemon` (RFC 5424, 6.2.1).
const HEAD: &str = "PRIORITY=6\nSYSLOG_FACILITY=3\n";

/// The way to journald.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    to: PathBuf,
}

impl Journal {
    /// Sends nothing yet.
    ///
    /// # Errors
    /// What socket(2) gives.
    pub fn new(to: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            to: to.to_owned(),
        })
    }

    /// Hands a line over.
    ///
    /// # Errors
    /// What sendto(2) gives; the line is nowhere then.
    pub fn write(&self, line: &str) -> io::Result<()> {
        self.socket.send_to(&entry(line), &self.to).map(|_| ())
    }
}

/// An entry as journald reads it. A line that holds a newline would begin another field.
fn entry(line: &str) -> Vec<u8> {
    let line = line.replace('\n', " ");
    format!("{HEAD}SYSLOG_IDENTIFIER={PERF_IDENTIFIER}\nMESSAGE={line}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_one_field_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::new(&path).unwrap();
        journal.write("{\"a\":\n1}").unwrap();
        let mut bytes = [0; 1024];
        let length = journald.recv(&mut bytes).unwrap();
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        let fields: Vec<_> = text.lines().collect();
        assert_eq!(
            fields,
            [
                "PRIORITY=6",
                "SYSLOG_FACILITY=3",
                "SYSLOG_IDENTIFIER=rolesmith-perf",
                "MESSAGE={\"a\": 1}"
            ]
        );
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_line_of_the_greatest_length_is_one_datagram() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let line = "x".repeat(super::super::text::LONGEST);
        Journal::new(&path).unwrap().write(&line).unwrap();
        let mut bytes = vec![0; 128 * 1024];
        let length = journald.recv(&mut bytes).unwrap();
        assert!(length > line.len());
        assert!(bytes[..length].ends_with(b"x\n"));
    }
}
