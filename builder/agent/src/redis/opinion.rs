//! What a majority of the Sentinels say. Pure.

use std::collections::BTreeMap;

use super::conf::sentinel_id;
use super::views::{Heard, View};

/// The master that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opinion {
    /// Its address.
    pub master: String,
    /// The epoch of its election.
    pub epoch: u64,
    /// The Sentinels that count in elections: identifier to address.
    pub voters: BTreeMap<String, String>,
    /// Replicas that any of those who agree sees alive.
    pub alive: Vec<String>,
    /// Any of those who agree has ever seen a replica.
    pub had_replicas: bool,
}

/// Why nothing counts yet. The texts complete "waiting: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// Nobody knows a master.
    #[error("no Sentinel that answers knows a master ({answering} of {declared} answer)")]
    Nobody {
        /// Sentinels that answer.
        answering: usize,
        /// Members that facts declare.
        declared: usize,
    },
    /// Too few answered.
    #[error("{heard} of {voters} Sentinels answer with a master; {needed} are needed")]
    Majority {
        /// Voters that answered.
        heard: usize,
        /// Those that count.
        voters: usize,
        /// Those that have to answer.
        needed: usize,
    },
    /// Two masters of one epoch.
    #[error("Sentinels of epoch {epoch} disagree: {masters}")]
    Disagree {
        /// The epoch.
        epoch: u64,
        /// The masters.
        masters: String,
    },
}

/// Reads the Sentinels' answers.
///
/// Voters are those that Sentinels of the highest epoch count themselves, because these are the ones whose majority elects
/// the next master; members that facts declare and no Sentinel knows yet have no vote. A majority of them has to have
/// answered with a master, any master: who was elected in the highest epoch among them was elected by a majority, and any
/// later election would have left its mark on one of them. This is a quorum read, as in Paxos; to ask for a majority that
/// *names* the same master would never end after a blackout that came before the news of the last election had spread,
/// because the news spreads through running instances of Redis only.
///
/// # Errors
/// [`Undecided`].
pub fn opinion(
    fleet: &str,
    heard: &BTreeMap<String, Heard>,
    declared: usize,
) -> Result<Opinion, Undecided> {
    let views: Vec<(&str, &View)> = heard
        .iter()
        .filter_map(|(name, heard)| Some((name.as_str(), heard.view()?)))
        .collect();
    let Some(epoch) = views.iter().map(|(_, view)| view.epoch).max() else {
        let silent = |heard: &&Heard| matches!(heard, Heard::Silent(_));
        return Err(Undecided::Nobody {
            answering: heard.len() - heard.values().filter(silent).count(),
            declared,
        });
    };
    let newest: Vec<&(&str, &View)> = views
        .iter()
        .filter(|(_, view)| view.epoch == epoch)
        .collect();
    let mut masters: Vec<&str> = newest
        .iter()
        .map(|(_, view)| view.master.as_str())
        .collect();
    masters.sort_unstable();
    masters.dedup();
    let mut voters = BTreeMap::new();
    for (name, view) in &newest {
        voters.extend(view.others.clone());
        // Its own address is not part of its answer; who needs it knows it from the facts.
        voters.entry(sentinel_id(fleet, name)).or_default();
    }
    let answered = views
        .iter()
        .filter(|(name, _)| voters.contains_key(&sentinel_id(fleet, name)))
        .count();
    let needed = voters.len() / 2 + 1;
    if answered < needed {
        return Err(Undecided::Majority {
            heard: answered,
            voters: voters.len(),
            needed,
        });
    }
    let [master] = masters[..] else {
        return Err(Undecided::Disagree {
            epoch,
            masters: masters.join(", "),
        });
    };
    let mut alive: Vec<String> = newest
        .iter()
        .flat_map(|(_, view)| view.alive.iter().cloned())
        .filter(|address| address != master)
        .collect();
    alive.sort_unstable();
    alive.dedup();
    Ok(Opinion {
        master: master.to_owned(),
        epoch,
        voters,
        alive,
        had_replicas: newest.iter().any(|(_, view)| !view.replicas.is_empty()),
    })
}
