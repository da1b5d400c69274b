//! The wanted lines of one log, one after the other.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, BufRead};
use std::vec;

use super::entry::Entry;
use super::files::{Log, Part};
use super::filter::Filter;
use crate::logs::line::{Stamp, stamp};

/// Longest line that is looked at. rsyslog cuts them at a sixteenth of that.
const LONGEST: usize = 1 << 20;
/// How many wanted lines back a line is known again. What sends repeats two seconds at most (docs/logs.md).
const REMEMBERED: usize = 1 << 14;

/// A wanted line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// When: microseconds since 1970; that of the line before where it cannot be read.
    pub time: i64,
    /// The line without its newline.
    pub line: Vec<u8>,
}

/// Reads a log.
pub struct Stream<'a> {
    filter: &'a Filter,
    parts: vec::IntoIter<Part>,
    /// The file that is read, and where it is. The last one stays open: it may grow.
    input: Option<(Part, Box<dyn BufRead>)>,
    /// The beginning of a line that goes on in what is read next.
    begun: Vec<u8>,
    known: Known,
    time: i64,
    /// Lines that are none of ours.
    pub strange: u64,
    /// Files that were gone when their turn came.
    pub missed: Vec<String>,
}

impl<'a> Stream<'a> {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(log: Log, filter: &'a Filter) -> Self {
        Self {
            filter,
            parts: log.parts.into_iter(),
            input: None,
            begun: Vec::new(),
            known: Known::default(),
            time: i64::MIN,
            strange: 0,
            missed: Vec::new(),
        }
    }

    /// The next wanted line; `None`: there are no more, by now.
    ///
    /// # Errors
    /// What reading gives.
    pub fn next_found(&mut self) -> io::Result<Option<Found>> {
        loop {
            if let Some((part, mut input)) = self.input.take() {
                let found = self.search(&mut *input)?;
                self.input = Some((part, input));
                if found.is_some() {
                    return Ok(found);
                }
            }
            let Some(part) = self.parts.next() else {
                return Ok(None);
            };
            // A line without an end was cut off.
            self.begun.clear();
            self.input = match open(&part)? {
                Some(input) => Some((part, input)),
                None => {
                    self.missed.push(part.path().display().to_string());
                    None
                }
            };
        }
    }

    /// Takes in what logrotate(8) has done since: whether another file is written by now. To be asked when there are no more lines.
    ///
    /// # Errors
    /// What stat(2) gives.
    pub fn go_on(&mut self) -> io::Result<bool> {
        let Some((part, _)) = &self.input else {
            return Ok(false);
        };
        let Some(next) = part.successor()? else {
            return Ok(false);
        };
        self.parts = vec![next].into_iter();
        Ok(true)
    }

    /// The next wanted line of this file.
    fn search(&mut self, input: &mut dyn BufRead) -> io::Result<Option<Found>> {
        loop {
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let (read, found) = self.lines(bytes);
            input.consume(read);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Goes through what was read, up to a wanted line. Gives how much of it is done with.
    fn lines(&mut self, bytes: &[u8]) -> (usize, Option<Found>) {
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &bytes[start..]) {
            let rest = &bytes[start..start + length];
            start += length + 1;
            let found = if self.begun.is_empty() {
                self.judge(rest)
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(rest);
                let found = self.judge(&whole);
                whole.clear();
                self.begun = whole;
                found
            };
            if found.is_some() {
                return (start, found);
            }
        }
        if self.begun.len() + bytes.len() - start <= LONGEST {
            self.begun.extend_from_slice(&bytes[start..]);
        }
        (bytes.len(), None)
    }

    fn judge(&mut self, line: &[u8]) -> Option<Found> {
        let Some(entry) = Entry::parse(line) else {
            self.strange += 1;
            return None;
        };
        if !self.filter.wants(&entry) || self.known.again(&entry) {
            return None;
        }
        self.time = entry.time().unwrap_or(self.time);
        Some(Found {
            time: self.time,
            line: line.to_vec(),
        })
    }
}

/// Opens a file, under another name where logrotate(8) renamed it since.
fn open(part: &Part) -> io::Result<Option<Box<dyn BufRead>>> {
    match part.open()? {
        Some(input) => Ok(Some(input)),
        None => part.renamed()?.map_or(Ok(None), |part| part.open()),
    }
}

/// The last wanted lines, to tell those that came again under the same stamp.
#[derive(Default)]
struct Known {
    nodes: Vec<Vec<u8>>,
    stamps: BTreeSet<(usize, Stamp)>,
    order: VecDeque<(usize, Stamp)>,
}

impl Known {
    /// Whether this line was there before; it is from now on.
    fn again(&mut self, entry: &Entry<'_>) -> bool {
        let Some(stamp) = std::str::from_utf8(entry.data()).ok().and_then(stamp) else {
            return false;
        };
        let node = match self.nodes.iter().position(|node| node == entry.node()) {
            Some(node) => node,
            None => {
                self.nodes.push(entry.node().to_vec());
                self.nodes.len() - 1
            }
        };
        let key = (node, stamp);
        if !self.stamps.insert(key) {
            return true;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.stamps.remove(&oldest);
        }
        false
    }
}
