//! Who was refused: counted, kept for `status`, and logged at a bounded rate.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::identity::Refusal;
use super::limits::{Bucket, Rate};

/// Pairs of who and why that are kept; what comes on top is counted together.
const KEPT: usize = 64;
/// Milliseconds between two lines about the same.
const REPEAT: u64 = 60_000;
/// Lines in all.
const LINES: Rate = Rate {
    each_second: 1,
    burst: 20,
};

/// Somebody who was refused, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedPeer {
    /// The address, with the member's name where it claimed one.
    pub from: String,
    /// A word that stays the same from release to release.
    pub reason: String,
    /// The same for people.
    pub why: String,
    /// How often.
    pub count: u64,
    /// When first (Unix seconds).
    pub first: u64,
    /// When last (Unix seconds).
    pub last: u64,
}

#[derive(Debug)]
struct Entry {
    peer: RefusedPeer,
    /// The member that it said to be, where newer facts than those of then would have known it.
    early: Option<String>,
    /// What was told to the log, and when (ms).
    logged: u64,
    logged_at: Option<u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Refusals {
    entries: BTreeMap<(String, &'static str), Entry>,
    lines: Option<Bucket>,
}

impl Refusals {
    /// Counts one. `now` is milliseconds of any clock that does not go back, `unix` seconds for people.
    pub fn add(&mut self, from: &str, refusal: &Refusal, now: u64, unix: u64) {
        let mut key = (from.to_owned(), refusal.word());
        if !self.entries.contains_key(&key) && self.entries.len() >= KEPT {
            // The one that has been quiet for longest makes room, unless it was heard within the hour.
            let oldest = self
                .entries
                .iter()
                .min_by_key(|(_, entry)| entry.peer.last)
                .map(|(key, entry)| (key.clone(), entry.peer.last));
            match oldest {
                Some((old, last)) if unix.saturating_sub(last) > 3600 => {
                    self.entries.remove(&old);
                }
                _ => key = ("others".to_owned(), refusal.word()),
            }
        }
        let entry = self
            .entries
            .entry(key)
            .or_insert_with_key(|(from, word)| Entry {
                peer: RefusedPeer {
                    from: from.clone(),
                    reason: (*word).to_owned(),
                    why: String::new(),
                    count: 0,
                    first: unix,
                    last: unix,
                },
                early: None,
                logged: 0,
                logged_at: None,
            });
        entry.early = match refusal {
            Refusal::Undeclared(name) | Refusal::NewIncarnation { name, .. } => Some(name.clone()),
            _ => None,
        };
        entry.peer.why = refusal.to_string();
        entry.peer.count += 1;
        entry.peer.last = unix;
        self.lines.get_or_insert_with(|| Bucket::new(LINES, now));
    }

    /// A member is let in. That it came before the facts that declare it is nothing for anybody to look at any more.
    pub fn welcome(&mut self, name: &str) {
        self.entries
            .retain(|_, entry| entry.early.as_deref() != Some(name));
    }

    /// Lines for the log that are due.
    pub fn log(&mut self, now: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let Some(bucket) = &mut self.lines else {
            return lines;
        };
        for entry in self.entries.values_mut() {
            let due = entry
                .logged_at
                .is_none_or(|at| now.saturating_sub(at) >= REPEAT);
            if entry.peer.count > entry.logged && due {
                if bucket.take(now).is_err() {
                    break;
                }
                let more = match entry.peer.count - entry.logged {
                    1 => String::new(),
                    count => format!(" ({count} times)"),
                };
                lines.push(format!(
                    "refused {}: {}{more}",
                    entry.peer.from, entry.peer.why
                ));
                entry.logged = entry.peer.count;
                entry.logged_at = Some(now);
            }
        }
        lines
    }

    /// For people.
    #[must_use]
    pub fn list(&self) -> Vec<RefusedPeer> {
        self.entries
            .values()
            .map(|entry| entry.peer.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_logged_once_a_minute_with_its_count() {
        let mut refusals = Refusals::default();
        assert!(refusals.log(0).is_empty());
        refusals.add("10.0.0.9", &Refusal::Expired, 0, 1000);
        assert_eq!(
            refusals.log(0),
            ["refused 10.0.0.9: its certificate has expired"]
        );
        for second in 1..60 {
            refusals.add("10.0.0.9", &Refusal::Expired, second * 1000, 1000 + second);
            assert!(refusals.log(second * 1000).is_empty());
        }
        assert_eq!(
            refusals.log(60_000),
            ["refused 10.0.0.9: its certificate has expired (59 times)"]
        );
        let list = refusals.list();
        assert_eq!(
            (list[0].count, list[0].first, list[0].last),
            (60, 1000, 1059)
        );
    }

    #[test]
    fn a_member_that_came_before_its_facts_is_forgiven() {
        let mut refusals = Refusals::default();
        let early = [
            Refusal::Undeclared("n4".into()),
            Refusal::NewIncarnation {
                name: "n4".into(),
                has: 2,
                wanted: 1,
            },
        ];
        for refusal in &early {
            refusals.add("10.0.0.4", refusal, 0, 1000);
        }
        refusals.add("10.0.0.4", &Refusal::SecondMachine("n4".into()), 0, 1000);
        refusals.welcome("n3");
        assert_eq!(refusals.list().len(), 3);
        refusals.welcome("n4");
        let left = refusals.list();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].reason, "second-machine");
    }

    #[test]
    fn neither_memory_nor_log_is_filled_by_strangers() {
        let mut refusals = Refusals::default();
        for number in 0..10_000 {
            refusals.add(&format!("peer {number}"), &Refusal::Expired, 0, 1000);
        }
        assert_eq!(refusals.entries.len(), KEPT + 1);
        assert_eq!(refusals.log(0).len(), 20);
        assert_eq!(
            refusals.list().iter().map(|peer| peer.count).sum::<u64>(),
            10_000
        );
        refusals.add("new", &Refusal::Expired, 0, 9000);
        assert!(refusals.list().iter().any(|peer| peer.from == "new"));
    }
}
