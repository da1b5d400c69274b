//! A complete assessment of the machine, as one line of JSON in the log every minute ([`rolesmith_model::perf`]).
//!
//! Two looks make a line: what counts in the kernel and in servers is told as the difference. Texts of files and answers of servers become
//! values in pure functions ([`cpu`], [`memory`], [`disk`], [`net`], [`units`], [`postgres::parse`], [`bouncer::parse`],
//! [`redis::parse`]), and values become a line in [`sample::line`]. [`read`] opens the files, [`run`] waits and writes.
//!
//! It runs on machines of 1 GB that have other things to do: no program is started for it, and files are read once.

pub mod bouncer;
pub mod count;
pub mod cpu;
pub mod disk;
pub mod journal;
pub mod memory;
pub mod net;
pub mod postgres;
pub mod read;
pub mod redis;
pub mod run;
pub mod sample;
pub mod text;
pub mod units;

use rolesmith_model::perf::Answer;

/// Most characters of what a server is said to have said.
const LONGEST_ERROR: usize = 200;

/// A server that told nothing, and why.
fn silent<T>(error: &impl std::fmt::Display) -> Answer<T> {
    let error = error.to_string().chars().take(LONGEST_ERROR).collect();
    Answer::Silent { error }
}

#[cfg(test)]
mod tests;
