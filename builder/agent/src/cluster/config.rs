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
    /// Who made the database; Redis begins there too (rule 15). Nothing else depends on it, and it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founder: Option<NodeName>,
}

/// `synchronous_standby_names`: `ANY k (names)`; empty names mean no standby is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SyncSetting {
    /// How many.
    pub k: usize,
    /// Out of whom, by `application_name` = node name.
    pub names: BTreeSet<NodeName>,
}

impl Config {
    /// Whether a cluster was ever formed, as far as this configuration tells.
    #[must_use]
    pub fn formed(&self) -> bool {
        self.stamp.version > 0
    }

    /// Whether that machine votes.
    #[must_use]
    pub fn votes(&self, name: &NodeName, incarnation: Incarnation) -> bool {
        self.voters.get(name) == Some(&incarnation)
    }

    /// How many voters are a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// How many of these count as voters.
    #[must_use]
    pub fn count<'a>(&self, names: impl IntoIterator<Item = &'a NodeName>) -> usize {
        names
            .into_iter()
            .filter(|name| self.voters.contains_key(*name))
            .count()
    }

    /// Whether the logs of these members together hold every acknowledged commit (rule 2): an acknowledged commit is on
    /// W = 1 + k of N data members, so R > N - W of them include one that has it. A member that goes on alone has all.
    #[must_use]
    pub fn reads<'a>(&self, names: impl IntoIterator<Item = &'a NodeName>) -> bool {
        let mut counted = 0;
        for name in names {
            if self.alone.as_ref() == Some(name) {
                return true;
            }
            counted += usize::from(self.data.contains(name));
        }
        self.alone.is_none() && counted + self.k + 1 > self.data.len()
    }

    /// `synchronous_standby_names` of `primary` under this configuration.
    #[must_use]
    pub fn sync_of(&self, primary: &NodeName) -> SyncSetting {
        let others = self.data.iter().filter(|name| *name != primary).cloned();
        match &self.alone {
            Some(alone) if alone == primary => SyncSetting::default(),
            Some(alone) => SyncSetting {
                k: 1,
                names: BTreeSet::from([alone.clone()]),
            },
            None if self.k == 0 => SyncSetting::default(),
            None => SyncSetting {
                k: self.k,
                names: others.collect(),
            },
        }
    }

    /// Whether what `primary` acknowledges under that setting can be read back under this configuration. `confirmed`: a
    /// commit returned that began after the setting was in force, so all earlier ones are covered by it too.
    #[must_use]
    pub fn covers(&self, primary: &NodeName, sync: &SyncSetting, confirmed: bool) -> bool {
        if !self.data.contains(primary) {
            return false;
        }
        match &self.alone {
            // The primary has all that it acknowledged, or its predecessors did.
            Some(alone) if alone == primary => true,
            Some(alone) => confirmed && sync.k >= 1 && sync.names.iter().all(|name| name == alone),
            None if self.k == 0 => true,
            None => {
                confirmed
                    && sync.k >= self.k
                    && sync.names.iter().all(|name| self.data.contains(name))
            }
        }
    }

    /// The setting that is good under this configuration and under `next`, if one exists.
    #[must_use]
    pub fn bridge(&self, next: &Self, primary: &NodeName) -> Option<SyncSetting> {
        let (from, to) = (self.sync_of(primary), next.sync_of(primary));
        let k = from.k.max(to.k);
        if k == 0 {
            return Some(SyncSetting::default());
        }
        let names: BTreeSet<_> = match (from.k, to.k) {
            (0, _) => to.names,
            (_, 0) => from.names,
            _ => from.names.intersection(&to.names).cloned().collect(),
        };
        (names.len() >= k).then_some(SyncSetting { k, names })
    }
}
