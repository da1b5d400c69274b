//! Whether a log server holds every line that a machine sent.
//!
//! Of each session that the machine still has lines of, the server has to hold 1 to the last, which is the highest number that either
//! of them knows: numbers are given without gaps, so whoever has seen one has proven that all below it were given.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use serde::Serialize;

use super::line::{Line, Stamp};

/// The lines of one machine, from one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    lines: BTreeMap<Stamp, u64>,
    /// Lines that came again: delivery is at least once.
    pub duplicates: u64,
    /// Lines without a stamp.
    pub unstamped: u64,
    /// Stamps that two different lines have.
    pub conflicts: Vec<Stamp>,
}

impl Holding {
    /// Takes one more line.
    pub fn add(&mut self, line: &Line<'_>) {
        let Some(stamp) = line.stamp else {
            self.unstamped += 1;
            return;
        };
        match self.lines.insert(stamp, line.digest) {
            None => {}
            Some(digest) if digest == line.digest => self.duplicates += 1,
            Some(digest) => {
                self.lines.insert(stamp, digest);
                if !self.conflicts.contains(&stamp) {
                    self.conflicts.push(stamp);
                }
            }
        }
    }

    /// How many different stamps it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<Stamp> {
        self.lines.keys().next().copied()
    }

    /// First and last number of a session, where it has any.
    fn ends(&self, incarnation: u64, session: u64) -> Option<(u64, u64)> {
        let mut range = self.lines.range(span(incarnation, session, 1, u64::MAX));
        let first = range.next()?.0.sequence;
        Some((
            first,
            range.next_back().map_or(first, |(last, _)| last.sequence),
        ))
    }
}

fn span(incarnation: u64, session: u64, from: u64, to: u64) -> RangeInclusive<Stamp> {
    let at = |sequence| Stamp {
        incarnation,
        session,
        sequence,
    };
    at(from)..=at(to)
}

/// From when on a server has to hold what the machine sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// From the first line that the machine still has.
    Always,
    /// From the first line that the server has: it joined the fleet later.
    ItsFirst,
}

/// One session, as a server holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Incarnation of the machine.
    pub incarnation: u64,
    /// The session.
    pub session: u64,
    /// The first number that it has to hold.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// How many of them it holds.
    pub held: u64,
    /// How many came under a later stamp instead, after rsyslogd of the machine was killed.
    pub again: u64,
    /// What it does not hold, as first and last number.
    pub missing: Vec<(u64, u64)>,
    /// What it does not hold and the machine no longer has, before the first line that the machine has. Not judged.
    pub unproven: u64,
}

/// One machine's lines on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// By session.
    pub sessions: Vec<Session>,
    /// Lines that the server holds more than once.
    pub duplicates: u64,
    /// Lines that the server holds under a stamp of an earlier session too: read again after rsyslogd of the machine was killed.
    pub read_again: u64,
    /// Lines that the server holds without a stamp.
    pub unstamped: u64,
    /// Stamps under which the server holds two lines, or another one than the machine.
    pub conflicts: Vec<Stamp>,
}

impl Verdict {
    /// How many lines are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.sessions
            .iter()
            .flat_map(|session| &session.missing)
            .map(|(from, to)| to - from + 1)
            .sum()
    }

    /// Nothing is missing and nothing is contradicted.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing() == 0 && self.conflicts.is_empty()
    }
}

/// Compares what a machine kept (`own`) with what a server holds.
#[must_use]
pub fn verify(own: &Holding, server: &Holding, since: Since) -> Verdict {
    let mut conflicts = server.conflicts.clone();
    conflicts.extend(own.lines.iter().filter_map(|(stamp, digest)| {
        let held = server.lines.get(stamp)?;
        (held != digest && !server.conflicts.contains(stamp)).then_some(*stamp)
    }));
    let mut copies = Copies::of(server);
    let read_again = copies.of_earlier();
    let sessions = sessions(own, server)
        .into_iter()
        .filter_map(|(incarnation, session)| {
            one(own, server, since, &mut copies, incarnation, session)
        })
        .collect();
    Verdict {
        sessions,
        duplicates: server.duplicates,
        read_again,
        unstamped: server.unstamped,
        conflicts,
    }
}

/// Those that the machine has lines of, and those of the server that are not older.
fn sessions(own: &Holding, server: &Holding) -> Vec<(u64, u64)> {
    let Some(oldest) = own.first() else {
        return Vec::new();
    };
    let of = |holding: &Holding| {
        holding
            .lines
            .range(
                Stamp {
                    sequence: 0,
                    ..oldest
                }..,
            )
            .map(|(stamp, _)| (stamp.incarnation, stamp.session))
            .collect::<Vec<_>>()
    };
    let mut all = of(own);
    all.extend(of(server));
    all.sort_unstable();
    all.dedup();
    all
}

fn one(
    own: &Holding,
    server: &Holding,
    since: Since,
    copies: &mut Copies,
    incarnation: u64,
    session: u64,
) -> Option<Session> {
    let kept = own.ends(incarnation, session);
    let held_ends = server.ends(incarnation, session);
    let to = kept
        .into_iter()
        .chain(held_ends)
        .map(|(_, last)| last)
        .max()?;
    let oldest = own.first()?;
    // Where the machine's own record begins within a session, its beginning was rotated away.
    let proven = if (oldest.incarnation, oldest.session) == (incarnation, session) {
        oldest.sequence
    } else {
        1
    };
    let from = match since {
        Since::Always => 1,
        Since::ItsFirst => {
            let first = server.first()?;
            if first
                > (Stamp {
                    incarnation,
                    session,
                    sequence: to,
                })
            {
                return None;
            }
            if (first.incarnation, first.session) == (incarnation, session) {
                first.sequence
            } else {
                1
            }
        }
    };
    let mut result = Session {
        incarnation,
        session,
        from,
        to,
        held: 0,
        again: 0,
        missing: Vec::new(),
        unproven: 0,
    };
    let mut expected = from;
    let held = server.lines.range(span(incarnation, session, from, to));
    for sequence in held.map(|(stamp, _)| stamp.sequence) {
        result.gap(own, copies, expected..sequence, proven);
        result.held += 1;
        expected = sequence + 1;
    }
    result.gap(own, copies, expected..to + 1, proven);
    Some(result)
}

impl Session {
    /// Takes note of numbers that the server does not hold. Below `proven` the machine no longer knows what they were.
    fn gap(&mut self, own: &Holding, copies: &mut Copies, numbers: Range<u64>, proven: u64) {
        for sequence in numbers {
            let stamp = Stamp {
                incarnation: self.incarnation,
                session: self.session,
                sequence,
            };
            match own.lines.get(&stamp) {
                Some(digest) if copies.take(*digest, stamp) => self.again += 1,
                None if sequence < proven => self.unproven += 1,
                _ => match self.missing.last_mut() {
                    Some((_, last)) if *last + 1 == sequence => *last = sequence,
                    _ => self.missing.push((sequence, sequence)),
                },
            }
        }
    }
}

/// Lines by their digest: what a session did not deliver may have come with a later one.
struct Copies(BTreeMap<u64, Vec<Stamp>>);

impl Copies {
    fn of(server: &Holding) -> Self {
        let mut copies = BTreeMap::<u64, Vec<Stamp>>::new();
        for (stamp, digest) in &server.lines {
            copies.entry(*digest).or_default().push(*stamp);
        }
        Self(copies)
    }

    /// How many lines an earlier session has too.
    fn of_earlier(&self) -> u64 {
        let session = |stamp: &Stamp| (stamp.incarnation, stamp.session);
        self.0
            .values()
            .map(|stamps| {
                let first = stamps.first().map(session);
                stamps
                    .iter()
                    .filter(|stamp| Some(session(stamp)) > first)
                    .count() as u64
            })
            .sum()
    }

    /// Whether there is a copy of a later session; each stands in for one line only.
    fn take(&mut self, digest: u64, of: Stamp) -> bool {
        let Some(stamps) = self.0.get_mut(&digest) else {
            return false;
        };
        let later =
            |stamp: &Stamp| (stamp.incarnation, stamp.session) > (of.incarnation, of.session);
        match stamps.iter().position(later) {
            Some(index) => {
                stamps.remove(index);
                true
            }
            None => false,
        }
    }
}
