//! Who counts: what facts propose and what the cluster made active.

use std::collections::{BTreeMap, BTreeSet};

use rolesmith_model::facts::Genesis;
use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

use super::ids::{Epoch, Incarnation, SystemId};

/// A member as facts declare it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Which incarnation's identity is valid.
    pub incarnation: u64,
    /// It holds data; if not, it is a witness.
    pub data: bool,
}

/// What facts propose for the database cluster. Nothing of it is in force before the cluster activates it (rule 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Grows with every publication.
    pub version: u64,
    /// Whether a cluster may be made from nothing.
    pub genesis: Genesis,
    /// The system identifier, once facts record it: data of another one is refused.
    pub system_id: Option<SystemId>,
    /// Database nodes and witnesses.
    pub members: BTreeMap<NodeName, Declared>,
    /// How many standbys should confirm a commit where enough data members stand (`ANY k`).
    pub synchronous: usize,
}

/// Orders configurations: one made in a later epoch replaces any of an earlier one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// The epoch in which it was written.
    pub epoch: Epoch,
    /// Counts the changes since genesis.
    pub version: u64,
}

/// The active configuration: a register that each voter keeps durably and the holder of a confirmed epoch moves one
/// member at a time (rule 6).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Config {
    /// Its place in the order; the default is "none yet".
    pub stamp: Stamp,
    /// Whose promises count, by name and machine.
    pub voters: BTreeMap<NodeName, Incarnation>,
    /// Those voters that hold data.
    pub data: BTreeSet<NodeName>,
    /// How many standbys confirm a commit.
    pub k: usize,
    /// With two data members and a witness: the one that goes on without the other (rule 11).
    pub alone: Option<NodeName>,
    /// The one system identifier.
    pub system_id: SystemId,
}

/// `synchronous_standby_names`: `ANY k (names)`; empty names mean no standby is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncSetting {
    /// How many.
    pub k: usize,
    /// Out of whom, by `application_name` = node name.
    pub names: BTreeSet<NodeName>,
}
