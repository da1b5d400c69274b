//! The serial console of a machine: read as it comes, kept in part, and waited for.
//!
//! A thread reads for as long as the machine runs, whether anybody waits or not: a console that nobody reads would hold the
//! machine up. What is kept is bounded, lines and their number both.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

mod text;

use text::{Sign, plain};

/// Lines that are kept for whoever wants to see how it went.
const KEPT: usize = 400;

/// Bytes of a line that are kept; the rest of it is passed over.
const LONGEST: usize = 1000;

/// Something that a console says of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// The kernel has begun: once in each boot.
    Kernel,
    /// cloud-init has come to its end, well or not.
    CloudInit,
    /// The agent says that the machine has joined its fleet.
    Joined,
}

/// A mark, and when it was read.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Seen {
    /// What.
    pub mark: Mark,
    /// In which boot: 1 for the first.
    pub boot: u32,
    /// Since the machine was switched on.
    pub after: Duration,
}

/// Why a mark was waited for in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Vain {
    /// The time was up.
    Late,
    /// The machine has ended.
    Ended,
    /// The console says that it will never come: the line.
    Hopeless(String),
}

/// What is known of a console.
#[derive(Debug, Default)]
struct Known {
    lines: VecDeque<String>,
    /// The line that has no end yet.
    part: Vec<u8>,
    seen: Vec<Seen>,
    boot: u32,
    hopeless: Option<String>,
    ended: bool,
}

impl Known {
    fn take(&mut self, bytes: &[u8], after: Duration) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = plain(&std::mem::take(&mut self.part));
                self.end_line(line, after);
            } else if self.part.len() < LONGEST {
                self.part.push(*byte);
            }
        }
        // A shell that waits for somebody ends its line with no newline.
        if let Some(Sign::Hopeless) = Sign::of(&plain(&self.part)) {
            let line = plain(&self.part);
            self.hopeless.get_or_insert(line);
        }
    }

    fn end_line(&mut self, line: String, after: Duration) {
        match Sign::of(&line) {
            Some(Sign::Mark(mark)) => {
                if mark == Mark::Kernel {
                    self.boot += 1;
                }
                self.seen.push(Seen {
                    mark,
                    boot: self.boot,
                    after,
                });
            }
            Some(Sign::Hopeless) => {
                self.hopeless.get_or_insert_with(|| line.clone());
            }
            None => {}
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

/// A console that is being read.
#[derive(Debug)]
pub(super) struct Console {
    shared: Arc<(Mutex<Known>, Condvar)>,
}

impl Console {
    /// Reads from here, on a thread of its own, until the end. `begun` is when the machine was switched on.
    pub(super) fn read(mut source: impl Read + Send + 'static, begun: Instant) -> Console {
        let shared: Arc<(Mutex<Known>, Condvar)> = Arc::default();
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let (known, news) = &*theirs;
            let mut buffer = [0; 4096];
            loop {
                let got = match source.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(got) => got,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                lock(known).take(&buffer[..got], begun.elapsed());
                news.notify_all();
            }
            lock(known).ended = true;
            news.notify_all();
        });
        Console { shared }
    }

    /// Waits until this mark of this boot, or of a later one, was read.
    pub(super) fn wait(&self, mark: Mark, boot: u32, until: Instant) -> Result<Seen, Vain> {
        let (known, news) = &*self.shared;
        let mut known = lock(known);
        loop {
            let wanted = |seen: &&Seen| seen.mark == mark && seen.boot >= boot;
            if let Some(seen) = known.seen.iter().find(wanted) {
                return Ok(*seen);
            }
            if let Some(line) = &known.hopeless {
                return Err(Vain::Hopeless(line.clone()));
            }
            if known.ended {
                return Err(Vain::Ended);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Vain::Late);
            }
            known = news
                .wait_timeout(known, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Everything that was seen so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.0).seen.clone()
    }

    /// The last lines, the one without an end among them.
    pub(super) fn tail(&self, lines: usize) -> String {
        let known = lock(&self.shared.0);
        let part = plain(&known.part);
        let mut tail: Vec<&str> = known.lines.iter().map(String::as_str).collect();
        if !part.is_empty() {
            tail.push(&part);
        }
        let tail: Vec<&str> = tail.into_iter().filter(|line| !line.is_empty()).collect();
        tail[tail.len().saturating_sub(lines)..].join("\n")
    }
}

/// What is known stays true when a thread that held it is gone.
fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
