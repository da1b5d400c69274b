//! Searching the aggregated log: what `rolesmith-agent logs grep` does on a log server.
//!
//! Each machine's log is a stream of its wanted lines ([`stream`]), across what logrotate(8) made of earlier days ([`files`]); the streams are
//! merged by time. Nothing is kept but one line of each stream and the stamps of the last ones, so the aggregate may be as large
//! as it likes. What is wanted is a pure question to a line ([`entry`], [`filter`], [`moment`]).

pub mod entry;
pub mod files;
pub mod filter;
pub mod follow;
pub mod moment;
pub mod show;
pub mod stream;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use files::Log;
use filter::Filter;
use stream::{Found, Stream};

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Lines that were found.
    pub found: u64,
    /// Lines of the files that are none of ours.
    pub strange: u64,
    /// Files that logrotate(8) took away before they were read.
    pub missed: Vec<String>,
}

/// Gives the wanted lines of all logs to `each`, by time.
///
/// # Errors
/// What reading gives, and what `each` gives.
pub fn search(
    logs: Vec<Log>,
    filter: &Filter,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Outcome> {
    let mut streams = Vec::new();
    for mut log in logs {
        log.narrow(filter.since, filter.until)?;
        streams.push(Stream::new(log, filter));
    }
    let mut outcome = Outcome {
        found: merge(&mut streams, &mut each)?,
        ..Outcome::default()
    };
    for stream in streams {
        outcome.strange += stream.strange;
        outcome.missed.extend(stream.missed);
    }
    Ok(outcome)
}

/// Gives what the streams have by now to `each`, by time; says how many lines that were.
fn merge(
    streams: &mut [Stream<'_>],
    each: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut next = BinaryHeap::new();
    for (number, stream) in streams.iter_mut().enumerate() {
        next.extend(stream.next_found()?.map(|found| in_turn(number, found)));
    }
    let mut count = 0;
    while let Some(Reverse((_, number, line))) = next.pop() {
        each(&line)?;
        count += 1;
        next.extend(
            streams[number]
                .next_found()?
                .map(|found| in_turn(number, found)),
        );
    }
    Ok(count)
}

/// The earliest first, and of equal ones in the order of the logs.
fn in_turn(number: usize, found: Found) -> Reverse<(i64, usize, Vec<u8>)> {
    Reverse((found.time, number, found.line))
}

#[cfg(test)]
mod tests;
