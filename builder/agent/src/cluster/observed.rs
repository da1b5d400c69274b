//! What the runtime sees of PostgreSQL on this node.

use std::collections::BTreeMap;

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

use super::config::SyncSetting;
use super::ids::{EpochRow, Lsn, Position, SystemId, Timeline, TimelineStart};

/// The postmaster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    /// No process of the cluster is left (verified, rule 10).
    #[default]
    Stopped,
    /// It runs but does not answer yet (replaying, or shutting down).
    Starting,
    /// It answers queries.
    Running,
}

/// The data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// None.
    #[default]
    Absent,
    /// Something that is no whole cluster (an interrupted copy).
    Incomplete,
    /// A cluster.
    Complete(SystemId),
}

/// Whether application roles can connect (`pg_hba.conf` variant in force).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Only postgres by peer, replication and repmgr.
    #[default]
    Closed,
    /// Applications too.
    Open,
}

/// The walreceiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// The node that it is connected to, where known.
    pub upstream: Option<NodeName>,
    /// The timeline that it receives.
    pub timeline: Timeline,
    /// `pg_stat_wal_receiver.status = 'streaming'`.
    pub streaming: bool,
}

/// A standby that is connected to this node (`pg_stat_replication`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbySeen {
    /// `state = 'streaming'`.
    pub streaming: bool,
    /// `flush_lsn`; 0 where NULL.
    pub flush: Lsn,
}

/// The database on this node, as seen at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// The postmaster.
    pub process: Process,
    /// The data directory.
    pub data: Data,
    /// `pg_is_in_recovery()`; meaningful while running.
    pub in_recovery: bool,
    /// The node in `primary_conninfo` as it stands on disk, or in force; the former wins where they differ.
    pub conninfo: Option<NodeName>,
    /// The walreceiver process, if there is one (also one that is only starting or waiting).
    pub receiver: Option<Receiver>,
    /// Where the log ends as far as can be said now: received or replayed, whichever is further; on a primary the
    /// flush position. Used for display and for choosing who tries first, never for a grant.
    pub position: Option<Position>,
    /// Its replay was halted: by a person, or because a setting of its primary is higher than its own. By itself it goes on never,
    /// tells no end of its log and could not be elected; what it receives is confirmed all the same.
    #[serde(default)]
    pub halted: bool,
    /// It was rewound and is consistent by now, but still confirms what it receives under a name that counts for no commit.
    /// [`Action::Follow`] gives it its own name back.
    ///
    /// [`Action::Follow`]: super::action::Action::Follow
    #[serde(default)]
    pub nameless: bool,
    /// The exact end of the log: only with no `primary_conninfo` in force, no walreceiver and all local log replayed
    /// (rule 3); on a primary the flush position.
    pub end_of_wal: Option<Position>,
    /// The timelines of the local log, oldest first, the present one last (from the `.history` file of the timeline of
    /// `position`).
    pub history: Vec<TimelineStart>,
    /// On a primary: where the log begins that it still keeps. Whose log ends before that cannot follow it.
    pub kept_from: Lsn,
    /// On a primary: the slot of a member has lost the log that it was to keep (`max_slot_wal_keep_size`).
    pub slot_lost: bool,
    /// Visible epoch rows, oldest first; at least the newest 32.
    pub rows: Vec<EpochRow>,
    /// Connected standbys by `application_name`.
    pub standbys: BTreeMap<NodeName, StandbySeen>,
    /// Application access.
    pub access: Access,
    /// `synchronous_standby_names` in force (shown by the server, not only written).
    pub sync: SyncSetting,
    /// Whom the local pgbouncer follows; None where it follows nobody or there is none.
    pub pooler: Option<NodeName>,
}

impl Observed {
    /// The newest visible epoch row.
    #[must_use]
    pub fn row(&self) -> Option<&EpochRow> {
        self.rows.last()
    }

    /// It runs and is not in recovery.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.process == Process::Running && !self.in_recovery
    }
}
