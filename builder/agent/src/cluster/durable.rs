//! What a node must never forget: `/var/lib/rolesmith/cluster/state.json`.

use std::collections::BTreeMap;

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::ids::{Epoch, EpochRow, Incarnation, SystemId};
use super::message::GivenUp;

/// Format of [`Durable`]; an agent refuses a newer one.
pub const DURABLE_FORMAT: u32 = 1;

/// A promise to one holder: nobody else gets this epoch, nobody at all an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The epoch.
    pub epoch: Epoch,
    /// To whom.
    pub holder: NodeName,
}

/// What the node's own data directory is, as far as the agent changed it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataState {
    /// Nothing was put there.
    #[default]
    Empty,
    /// A copy was begun from the holder of this epoch, or of a later one. Interrupted, it begins anew.
    Cloning(Epoch),
    /// The same, by `pg_rewind`; interrupted, a copy takes its place.
    Rewinding(Epoch),
    /// The copy is there; it counts as complete once that epoch's row is visible in it.
    Copied(Epoch),
    /// Made by genesis on this node; nothing of it may serve before the decision is known.
    Founding,
    /// Whole: its report counts.
    Complete,
}

/// A ballot of the genesis decision; the name breaks ties.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// The round.
    pub round: u64,
    /// Who asks.
    pub node: NodeName,
}

/// What genesis decides: once, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// Who made the database.
    pub founder: NodeName,
    /// Its system identifier.
    pub system_id: SystemId,
    /// The first voters: those that had answered.
    pub config: Config,
}

/// A value that this node accepted under a ballot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The ballot.
    pub ballot: Ballot,
    /// The value.
    pub founding: Founding,
}

/// This node as acceptor of the genesis decision (single-decree Paxos).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Acceptor {
    /// Lower ballots are refused.
    pub promised: Option<Ballot>,
    /// The last accepted value.
    pub accepted: Option<Accepted>,
    /// The system identifier of the cluster that this node made while it tried to found one.
    pub made: Option<SystemId>,
}

/// All durable state of a node's core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    /// [`DURABLE_FORMAT`].
    pub format: u32,
    /// Which machine this is.
    pub incarnation: Incarnation,
    /// The newest promise.
    pub promise: Option<Promise>,
    /// The epoch whose holder's log this node's data last followed (or wrote): its log is a prefix of, or is, that
    /// holder's.
    pub followed: Option<Epoch>,
    /// Rows of the lineage that this node learnt, by epoch.
    pub lineage: BTreeMap<Epoch, EpochRow>,
    /// The active configuration, as far as known.
    pub config: Config,
    /// The genesis decision.
    pub genesis: Acceptor,
    /// The own data directory.
    pub data: DataState,
    /// The highest version of the facts ever acted upon.
    pub facts: u64,
}

impl DataState {
    /// What a member whose log does not count can say of it.
    #[must_use]
    pub const fn given_up(&self) -> Option<GivenUp> {
        let (epoch, attached) = match self {
            Self::Cloning(epoch) | Self::Rewinding(epoch) => (*epoch, false),
            Self::Copied(epoch) => (*epoch, true),
            Self::Empty | Self::Founding | Self::Complete => return None,
        };
        Some(GivenUp { epoch, attached })
    }

    /// The state while a copy is made from the holder of that epoch, whose row is confirmed or not.
    #[must_use]
    pub fn copying(&self, from: Epoch, confirmed: bool) -> Self {
        match self {
            // What is whole counts until the copy has taken its place.
            Self::Complete => Self::Complete,
            // Nothing was confirmed since.
            Self::Cloning(first) | Self::Rewinding(first) => Self::Cloning(*first),
            // It may have confirmed commits of that very epoch: it counts with the log of that epoch's holder alone, still.
            Self::Copied(epoch) if *epoch >= from => Self::Copied(*epoch),
            _ if confirmed => Self::Cloning(from),
            // An earlier holder may have won a later epoch, and this member confirmed for it without having heard of it.
            _ => Self::Empty,
        }
    }
}

impl Durable {
    /// The state of a machine that starts for the first time. `incarnation.id` has to be random.
    #[must_use]
    pub fn fresh(incarnation: Incarnation) -> Self {
        Self {
            format: DURABLE_FORMAT,
            incarnation,
            promise: None,
            followed: None,
            lineage: BTreeMap::new(),
            config: Config::default(),
            genesis: Acceptor::default(),
            data: DataState::Empty,
            facts: 0,
        }
    }

    /// The epoch promised last; 0 before any.
    #[must_use]
    pub fn promised(&self) -> Epoch {
        self.promise
            .as_ref()
            .map_or(Epoch::default(), |promise| promise.epoch)
    }
}
