//! What the core asks of the runtime.

use std::collections::BTreeMap;
use std::fmt;

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

use super::config::SyncSetting;
use super::durable::Durable;
use super::ids::{EpochRow, Incarnation, SystemId};
use super::message::{Envelope, Reply, RequestId};

/// Numbers the actions of one run of the agent.
pub type ActionId = u64;

/// Actions of one lane follow each other; lanes run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What changes the server's role, life or data.
    Database,
    /// Commits that may hang as long as no standby confirms.
    Commit,
    /// The local pgbouncer.
    Pooler,
    /// repmgr's tables and slots.
    Admin,
}

/// Something to do on this node. Each is safe to be cut off anywhere and to be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make a new database cluster (genesis), not started. Where one of genesis stands already, answer its identifier.
    /// Outcome: [`Outcome::Created`].
    CreateCluster,
    /// Start as standby (standby.signal), application access closed. Without an upstream no `primary_conninfo` stands
    /// anywhere before the process is made.
    Start {
        /// Whom to follow.
        upstream: Option<NodeName>,
    },
    /// Stop. Done only when no process is left.
    Stop {
        /// SIGQUIT, then SIGKILL; else a fast shutdown, which lets standbys receive everything.
        immediate: bool,
    },
    /// Remove `primary_conninfo` durably, reload, wait until the walreceiver process is gone; in doubt stop (rule 1).
    Sever,
    /// Write `primary_conninfo` towards that node, durably, and reload. A server that takes connections confirms under the node's
    /// own name from then on.
    Follow {
        /// Whom to follow.
        node: NodeName,
    },
    /// `pg_promote()`. Application access is closed and stays so.
    Promote,
    /// Insert the row and commit synchronously. A commit that returned with the "canceled wait" WARNING is a failure.
    CommitEpoch {
        /// The row.
        row: EpochRow,
    },
    /// Update the heartbeat row and commit synchronously; the same about the WARNING.
    Heartbeat,
    /// Let applications in.
    Open,
    /// Keep applications out and end their sessions.
    Close,
    /// Replace the data directory by a copy of that node's, the server being stopped. The copy is made beside the old
    /// directory, which is not touched, and is observed as what it is, until the copy is whole and synced; only then
    /// they change places by renames. The old one is kept until the copy streams (rule 4). It is left stopped. The
    /// copy's own log connection must not carry the node's name as `application_name`.
    Clone {
        /// The confirmed primary.
        from: NodeName,
    },
    /// `pg_rewind` against that node (rule 12). It is left stopped. Until the server is consistent again it must not confirm what
    /// it receives under the node's name: see [`Observed::nameless`](super::observed::Observed::nameless).
    Rewind {
        /// The confirmed primary.
        from: NodeName,
    },
    /// Write `synchronous_standby_names` and reload. Works on standbys too (rule 9).
    SetSync {
        /// The setting.
        sync: SyncSetting,
    },
    /// Make `repmgr.nodes` and the replication slots those of these data members (rule 14).
    Reconcile {
        /// Data members of the active configuration and learners that may clone, with their machines.
        members: BTreeMap<NodeName, Incarnation>,
        /// The primary: this node.
        primary: NodeName,
    },
    /// Let the local pgbouncer follow this node, or nobody (rule 13).
    Pooler {
        /// The primary, as confirmed by a majority, with its row.
        primary: Option<EpochRow>,
    },
}

impl Action {
    /// Beside what it may run.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        match self {
            Self::CommitEpoch { .. } | Self::Heartbeat => Lane::Commit,
            Self::Pooler { .. } => Lane::Pooler,
            Self::Reconcile { .. } => Lane::Admin,
            _ => Lane::Database,
        }
    }
}

/// As the journal tells it.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateCluster => f.write_str("made a new cluster"),
            Self::Start {
                upstream: Some(node),
            } => write!(f, "started as a standby of {node}"),
            Self::Start { upstream: None } => f.write_str("started as a standby of nobody"),
            Self::Stop { immediate: true } => f.write_str("stopped at once"),
            Self::Stop { immediate: false } => f.write_str("shut down"),
            Self::Sever => f.write_str("receives nothing any more"),
            Self::Follow { node } => write!(f, "follows {node}"),
            Self::Promote => f.write_str("promoted"),
            Self::CommitEpoch { row } => write!(f, "committed the row of epoch {}", row.epoch),
            Self::Heartbeat => f.write_str("committed a heartbeat"),
            Self::Open => f.write_str("lets applications in"),
            Self::Close => f.write_str("keeps applications out"),
            Self::Clone { from } => write!(f, "copied {from}"),
            Self::Rewind { from } => write!(f, "rewound to {from}"),
            Self::SetSync { sync } if sync.k == 0 => f.write_str("commits wait for nobody"),
            Self::SetSync { sync } => {
                write!(f, "commits wait for {} of", sync.k)?;
                sync.names.iter().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Reconcile { members, .. } => {
                f.write_str("repmgr knows")?;
                members.keys().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Pooler { primary: Some(row) } => write!(f, "pgbouncer follows {}", row.node),
            Self::Pooler { primary: None } => f.write_str("pgbouncer follows nobody"),
        }
    }
}

/// What an action gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done; what it changed is to be seen in the next observation.
    Done,
    /// [`Action::CreateCluster`] made this.
    Created(SystemId),
}

/// Why an action did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Trying again may help.
    #[error("{0}")]
    Later(String),
    /// This way is closed: a rewind that pg_rewind refuses, a clone that is no clone.
    #[error("{0}")]
    Refused(String),
}

/// Something to do after the state is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a peer. The answer, or that none came in time, goes to `Core::response`.
    Send {
        /// Whom.
        to: NodeName,
        /// Numbers the requests of one run of the agent.
        id: RequestId,
        /// What.
        envelope: Box<Envelope>,
        /// How long to wait for the answer (ms).
        timeout: u64,
    },
    /// Answer the request of this step; at most one a step.
    Reply(Box<Reply>),
    /// Act on the database. The outcome goes to `Core::done`.
    Act {
        /// Its number.
        id: ActionId,
        /// What to do.
        action: Action,
    },
    /// Let an action that copies or rewinds end soon, for its source is not the primary any more. Its outcome goes to `Core::done`
    /// as ever.
    Abandon {
        /// Its number.
        id: ActionId,
    },
    /// Tell a person: a line for the journal.
    Log(String),
}

/// What a step of the core asks for, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// To be made durable first: written, synced, renamed, directory synced. If that fails, no effect may happen and
    /// the agent has to end.
    pub persist: Option<Box<Durable>>,
    /// To be carried out afterwards, in order.
    pub effects: Vec<Effect>,
}
