//! What people are told of by mail: which alarms are new and which have ended since the last mail. Pure.
//!
//! An alarm is told once when it has stood for a while, and its end once when it has been gone for a while; one that comes and goes is one
//! alarm. What comes shortly after a mail waits for the next one, so that a bad day is a handful of mails.

pub mod current;
pub mod message;
pub mod queue;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where it is remembered what was told (StateDirectory= of rolesmith-alarms.service).
pub const MEMORY_FILE: &str = "/var/lib/rolesmith/alarms/told.json";

/// Seconds for which an alarm stands before it is told: restarts and boots are shorter.
pub const STANDS: u64 = 120;
/// Seconds for which it is gone before it has ended.
pub const GONE: u64 = 300;
/// Seconds between two mails.
pub const PAUSE: u64 = 300;
/// So many mails in a day, and those after them come an hour apart.
pub const MANY: usize = 12;
/// Seconds between two mails then.
pub const LONG_PAUSE: u64 = 3600;
/// Seconds for which a mail counts.
const DAY: u64 = 24 * 60 * 60;
/// Alarms that are remembered at a time; what is above that is among those that stand, and is told when there is room.
const MOST: usize = 200;

/// An alarm that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What it said last.
    pub text: String,
    /// When it was seen first (Unix seconds).
    pub since: u64,
    /// When it was seen last.
    pub seen: u64,
    /// Whether people know of it.
    pub told: bool,
}

/// What was seen and told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Alarms by what makes them the same when their words change.
    pub alarms: BTreeMap<String, Known>,
    /// When mails of the last day were sent (Unix seconds).
    pub sent: Vec<u64>,
}

/// What is worth a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Alarms that nobody was told of.
    pub new: BTreeMap<String, Known>,
    /// Alarms that are no more.
    pub ended: BTreeMap<String, Known>,
    /// Alarms that were told before and still stand.
    pub standing: BTreeMap<String, Known>,
}

impl Memory {
    /// Takes in what is the matter now: texts by what makes an alarm the same.
    pub fn observe(&mut self, alarms: &BTreeMap<String, String>, now: u64) {
        // A clock that was set back must not keep anything for years.
        for known in self.alarms.values_mut() {
            known.since = known.since.min(now);
            known.seen = known.seen.min(now);
        }
        self.sent.retain(|sent| *sent <= now && now - *sent < DAY);
        for (key, text) in alarms {
            if let Some(known) = self.alarms.get_mut(key) {
                known.text.clone_from(text);
                known.seen = now;
            } else if self.alarms.len() < MOST {
                let known = Known {
                    text: text.clone(),
                    since: now,
                    seen: now,
                    told: false,
                };
                self.alarms.insert(key.clone(), known);
            }
        }
        // What nobody was told of needs no end.
        self.alarms
            .retain(|_, known| known.told || now - known.seen < GONE);
    }

    /// What is to be told now, if anything is and a mail may be sent.
    #[must_use]
    pub fn news(&self, now: u64) -> Option<News> {
        let pause = if self.sent.len() < MANY {
            PAUSE
        } else {
            LONG_PAUSE
        };
        let last = self.sent.iter().max();
        if last.is_some_and(|last| now.saturating_sub(*last) < pause) {
            return None;
        }
        let pick = |wanted: &dyn Fn(&Known) -> bool| -> BTreeMap<String, Known> {
            let alarms = self.alarms.iter().filter(|(_, known)| wanted(known));
            alarms
                .map(|(k, known)| (k.clone(), known.clone()))
                .collect()
        };
        let gone = |known: &Known| now.saturating_sub(known.seen) >= GONE;
        let stands = |known: &Known| known.seen == now && now.saturating_sub(known.since) >= STANDS;
        let news = News {
            new: pick(&|known| !known.told && stands(known)),
            ended: pick(&|known| known.told && gone(known)),
            standing: pick(&|known| known.told && !gone(known)),
        };
        (!news.new.is_empty() || !news.ended.is_empty()).then_some(news)
    }

    /// A mail with that was handed over.
    pub fn tell(&mut self, news: &News, now: u64) {
        for (key, known) in &mut self.alarms {
            known.told |= news.new.contains_key(key);
        }
        self.alarms.retain(|key, _| !news.ended.contains_key(key));
        self.sent.push(now);
    }
}

#[cfg(test)]
mod tests;
