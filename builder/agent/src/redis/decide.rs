//! What starts as what. Pure and total.

use std::collections::BTreeMap;

use super::conf::{SentinelState, sentinel_id};
use super::opinion::{Opinion, Undecided, opinion};
use super::settings::Declared;
use super::views::{Heard, Instance};

/// A copy of the data that is complete waits this long for the master that the Sentinels name, before it starts as its
/// replica without it (milliseconds). After a blackout of the whole fleet the machine with the newest data may be the last
/// to boot; as long as the others have not started, Sentinel has nobody to promote over its head.
pub const MASTER_GRACE: u64 = 30_000;
/// A master whose machine crashed may have lost the last second of its log, and replicas that still run have it. It lets
/// Sentinel promote one of them, but not for longer than this (milliseconds).
pub const FAILOVER_WAIT: u64 = 15_000;
/// Sentinel calls whoever does not answer for that long down (milliseconds); the role's sentinel.conf says the same.
pub const DOWN_AFTER: u64 = 3_000;

/// What this node's data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing, or a copy that was never completed.
    Empty,
    /// A data set that was whole.
    Complete {
        /// Redis last ran since the machine booted, so the kernel still held all that it had written.
        same_boot: bool,
    },
}

/// What a starting Redis looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSeen<'a> {
    /// The fleet.
    pub fleet: &'a str,
    /// This node.
    pub me: &'a str,
    /// What facts say.
    pub declared: &'a Declared,
    /// The founder, once chosen.
    pub founder: Option<&'a str>,
    /// Its data.
    pub data: Data,
    /// What Sentinels answered, this node's among them, by member.
    pub heard: &'a BTreeMap<String, Heard>,
    /// What instances of Redis answered, by member; who did not answer is missing.
    pub instances: &'a BTreeMap<String, Instance>,
    /// How long it has waited (milliseconds).
    pub waited: u64,
}

/// Why something is not started yet. The texts complete "waiting: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Too few Sentinels.
    #[error("{0}")]
    Undecided(#[from] Undecided),
    /// No founder yet.
    #[error("the fleet has not chosen its founder yet")]
    Founder,
    /// The fleet was formed, and nobody who answers knows its master.
    #[error(
        "the fleet was formed before, but no Sentinel that answers knows its master ({answering} of {declared} answer)"
    )]
    Forgotten {
        /// Sentinels that answer.
        answering: usize,
        /// Members that facts declare.
        declared: usize,
    },
    /// Facts know no address of somebody who is needed.
    #[error("the facts hold no address of {0}")]
    Address(String),
    /// The master is no member.
    #[error("the Sentinels name {0} as master, which is no address of a member")]
    Stranger(String),
    /// This node is named, and has nothing.
    #[error(
        "this node is named as master and has no data: it does not start, so that the Sentinels promote a replica"
    )]
    Lost,
    /// This node is named, and others may have newer data.
    #[error(
        "this node is named as master, but its machine has crashed: a replica that still runs is to be promoted"
    )]
    Newer,
    /// The master does not answer.
    #[error("{0} is named as master and does not answer as one yet")]
    Master(String),
    /// Facts do not give the role to this node.
    #[error("the facts do not give this node the role")]
    Undeclared,
}

/// What a starting Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerStart {
    /// The master.
    Master,
    /// A replica of the master at this address.
    Replica(String),
    /// Nothing yet.
    Wait(Why),
}

/// The first master: the founder, or, where that has no Redis, the first of the members that have.
///
/// The second case needs no vote of its own: who agrees on the founder and on the facts agrees on it, and facts that
/// differ lead to Sentinels of epoch 0 that disagree, which [`opinion`] refuses.
#[must_use]
pub fn first_master<'a>(founder: Option<&'a str>, declared: &'a Declared) -> Option<&'a str> {
    let founder = founder?;
    let own = declared.peers.iter().find(|peer| peer.name == founder);
    own.or(declared.peers.first())
        .map(|peer| peer.name.as_str())
}

/// What a starting Redis is.
#[must_use]
pub fn server(seen: &ServerSeen<'_>) -> ServerStart {
    let Some(own) = seen.declared.address(seen.me) else {
        return ServerStart::Wait(Why::Undeclared);
    };
    if seen.declared.peers.len() == 1 {
        return ServerStart::Master;
    }
    let opinion = match opinion(seen.fleet, seen.heard, seen.declared.peers.len()) {
        Ok(opinion) => opinion,
        Err(why) => return ServerStart::Wait(why.into()),
    };
    if opinion.master != own {
        return replica(seen, &opinion);
    }
    match seen.data {
        Data::Complete { same_boot: true } => ServerStart::Master,
        // Until Sentinel had the time to see who is there, it takes everybody to be alive.
        Data::Complete { same_boot: false } => {
            let hopeful = seen.waited < 2 * DOWN_AFTER || !opinion.alive.is_empty();
            if opinion.had_replicas && hopeful && seen.waited < FAILOVER_WAIT {
                ServerStart::Wait(Why::Newer)
            } else {
                ServerStart::Master
            }
        }
        Data::Empty if may_found(seen, &opinion) => ServerStart::Master,
        Data::Empty => ServerStart::Wait(Why::Lost),
    }
}

/// Only once in the life of a fleet an empty instance starts as master: its Sentinels have just been told to watch it,
/// there was no election, and nobody has ever copied anything from it or holds anything else.
fn may_found(seen: &ServerSeen<'_>, opinion: &Opinion) -> bool {
    seen.declared.open
        && first_master(seen.founder, seen.declared) == Some(seen.me)
        && opinion.epoch == 0
        && !opinion.had_replicas
        && seen.instances.is_empty()
}

fn replica(seen: &ServerSeen<'_>, opinion: &Opinion) -> ServerStart {
    let Some(peer) = seen.declared.at(&opinion.master) else {
        return ServerStart::Wait(Why::Stranger(opinion.master.clone()));
    };
    let leads = seen
        .instances
        .get(&peer.name)
        .is_some_and(|instance| instance.master);
    let complete = seen.data != Data::Empty;
    if leads || (complete && seen.waited >= MASTER_GRACE) {
        ServerStart::Replica(opinion.master.clone())
    } else {
        ServerStart::Wait(Why::Master(peer.name.clone()))
    }
}

/// What a starting Sentinel looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelSeen<'a> {
    /// The fleet.
    pub fleet: &'a str,
    /// This node.
    pub me: &'a str,
    /// What facts say.
    pub declared: &'a Declared,
    /// The founder, once chosen.
    pub founder: Option<&'a str>,
    /// What its own file says, addresses of members that moved replaced by those of today.
    pub own: Option<&'a SentinelState>,
    /// What other members' Sentinels answered.
    pub heard: &'a BTreeMap<String, Heard>,
}

/// What a starting Sentinel watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentinelStart {
    /// What it watched before.
    Resume,
    /// What the others watch.
    Join {
        /// Address of the master.
        master: String,
        /// The epoch of its election.
        epoch: u64,
        /// The other Sentinels: identifier to address.
        others: BTreeMap<String, String>,
    },
    /// The first master, whom all declared members will watch.
    Found {
        /// Address of the master.
        master: String,
        /// The other Sentinels: identifier to address.
        others: BTreeMap<String, String>,
    },
    /// Nothing yet.
    Wait(Why),
}

/// What a starting Sentinel watches.
#[must_use]
pub fn sentinel(seen: &SentinelSeen<'_>) -> SentinelStart {
    let Some(own) = seen.declared.address(seen.me) else {
        return SentinelStart::Wait(Why::Undeclared);
    };
    let total = seen.declared.peers.len();
    if let Some(state) = seen.own
        && (total > 1 || state.master == own)
    {
        return SentinelStart::Resume;
    }
    if total == 1 {
        return SentinelStart::Found {
            master: own.to_owned(),
            others: BTreeMap::new(),
        };
    }
    match opinion(seen.fleet, seen.heard, total) {
        Ok(opinion) => join(seen, opinion),
        Err(Undecided::Nobody { answering, .. }) if !seen.declared.open => {
            SentinelStart::Wait(Why::Forgotten {
                answering,
                declared: total,
            })
        }
        // Those that were first have begun to watch the founder, and are too few without this one.
        Err(Undecided::Nobody { .. } | Undecided::Majority { .. })
            if seen.declared.open && begins(seen) =>
        {
            found(seen)
        }
        Err(why) => SentinelStart::Wait(why.into()),
    }
}

/// Whoever knows a master knows the first one, before any election and before anybody has copied anything from it.
fn begins(seen: &SentinelSeen<'_>) -> bool {
    let first =
        first_master(seen.founder, seen.declared).and_then(|first| seen.declared.address(first));
    seen.heard.values().filter_map(Heard::view).all(|view| {
        view.epoch == 0 && view.replicas.is_empty() && Some(view.master.as_str()) == first
    })
}

fn join(seen: &SentinelSeen<'_>, opinion: Opinion) -> SentinelStart {
    let mut others = opinion.voters;
    for peer in &seen.declared.peers {
        let id = sentinel_id(seen.fleet, &peer.name);
        if let (Some(address), Some(known)) = (&peer.address, others.get_mut(&id)) {
            known.clone_from(address);
        }
    }
    others.remove(&sentinel_id(seen.fleet, seen.me));
    others.retain(|_, address| !address.is_empty());
    SentinelStart::Join {
        master: opinion.master,
        epoch: opinion.epoch,
        others,
    }
}

fn found(seen: &SentinelSeen<'_>) -> SentinelStart {
    let Some(first) = first_master(seen.founder, seen.declared) else {
        return SentinelStart::Wait(Why::Founder);
    };
    let mut others = BTreeMap::new();
    for peer in &seen.declared.peers {
        // Every voter is known from the beginning, so that no minority takes itself for the whole.
        let Some(address) = &peer.address else {
            return SentinelStart::Wait(Why::Address(peer.name.clone()));
        };
        if peer.name != seen.me {
            others.insert(sentinel_id(seen.fleet, &peer.name), address.clone());
        }
    }
    match seen.declared.address(first) {
        Some(master) => SentinelStart::Found {
            master: master.to_owned(),
            others,
        },
        None => SentinelStart::Wait(Why::Address(first.to_owned())),
    }
}

/// What is to be done about a running Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchAction {
    /// Remember that its copy is complete.
    Complete,
    /// Set the priority that it tells Sentinel.
    Priority(u32),
}

/// Redis's own default: eligible as any other.
pub const ELIGIBLE: u32 = 100;

/// What is to be done about this node's running Redis.
///
/// A copy counts once the link to the master is up and nothing of the first transfer is outstanding. While a later one is
/// under way, the old data may be gone already, so it is no candidate either. Without a master it keeps what it was: then
/// is when it is needed.
#[must_use]
pub fn watch(complete: bool, instance: &Instance) -> Vec<WatchAction> {
    let mut actions = Vec::new();
    let whole = instance.master || (instance.linked && !instance.copying);
    if whole && !complete {
        actions.push(WatchAction::Complete);
    }
    let wanted = if (complete || whole) && !instance.copying {
        ELIGIBLE
    } else {
        0
    };
    if instance.priority.is_some_and(|priority| priority != wanted) {
        actions.push(WatchAction::Priority(wanted));
    }
    actions
}

/// The master that replaced this node's instance, which believes to be it still.
///
/// Sentinel tells such an instance to follow, but within `MULTI`, and a Redis that is full refuses every command in there: it
/// would stay what it believes to be until somebody came. Nobody follows it any more, a majority of the Sentinels name
/// another one, and that one says itself that it is the master.
#[must_use]
pub fn successor<'a>(
    me: &str,
    declared: &Declared,
    found: &'a Opinion,
    instances: &BTreeMap<String, Instance>,
) -> Option<&'a str> {
    let alone = |own: &Instance| own.master && own.replicas.is_empty();
    let other = declared.at(&found.master)?;
    let leads = |name: &str| instances.get(name).is_some_and(|one| one.master);
    (other.name != me && leads(&other.name) && instances.get(me).is_some_and(alone))
        .then_some(found.master.as_str())
}

#[cfg(test)]
mod tests;
