//! What agents say to each other. The transport has authenticated the sender's name and certificate.

use std::collections::BTreeMap;

use rolesmith_model::ids::NodeName;
use serde::{Deserialize, Serialize};

use super::config::{Config, SyncSetting};
use super::durable::{Accepted, Ballot, DataState, Founding};
use super::ids::{Epoch, EpochRow, Incarnation, Lsn, Position, SystemId, TimelineStart};

/// Numbers the requests of one run of the agent.
pub type RequestId = u64;

/// A request with what every request says about its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Which machine speaks.
    pub incarnation: Incarnation,
    /// The facts it acts upon.
    pub facts: u64,
    /// The active configuration it knows. Who knows an older one adopts this one; who knows a newer one refuses.
    pub config: Config,
    /// What it asks.
    pub request: Request,
}

/// An answer with what every answer says about its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Which machine answers.
    pub incarnation: Incarnation,
    /// The facts it acts upon.
    pub facts: u64,
    /// Its configuration where that is newer than the request's.
    pub config: Option<Config>,
    /// The highest epoch it promised.
    pub promised: Epoch,
    /// The answer.
    pub response: Response,
}

/// A wish to hold an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bid {
    /// The epoch wished for.
    pub epoch: Epoch,
    /// How new the sender's data is as far as it knows; a hint in a pre-vote.
    pub row: Epoch,
    /// The same within that epoch.
    pub lsn: Lsn,
    /// The present holder asks for it: a planned switchover (its epoch).
    pub handed_over: Option<Epoch>,
}

/// A sign of life of an epoch's holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The epoch that it won.
    pub epoch: Epoch,
    /// It is a running primary; standbys may attach.
    pub attach: bool,
    /// Its row is committed synchronously: copies may be made from it and pgbouncers may follow it.
    pub confirmed: bool,
    /// The lineage as visible in its database, oldest first, the newest 32 rows.
    pub lineage: Vec<EpochRow>,
    /// The timelines of its log from that of the oldest of these rows on. A promotion that came to nothing leaves one
    /// without a row, so rows alone do not tell where a timeline ends.
    pub history: Vec<TimelineStart>,
    /// Where the log begins that it still keeps.
    #[serde(default)]
    pub kept_from: Lsn,
    /// Its `synchronous_standby_names`, to be set on data members beforehand (rule 9).
    pub sync: SyncSetting,
    /// When it sent this, by its own clock (ms); comes back in the answer.
    pub sent: u64,
}

/// What an agent asks of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// "I hold this epoch."
    Beat(Beat),
    /// "Would you grant me this epoch?" Changes nothing.
    PreVote(Bid),
    /// "Grant me this epoch." Idempotent: repeated until it is no longer [`Response::Pending`].
    Grant(Bid),
    /// "Take my place at once": the holder stopped its database cleanly at this place.
    HandOver {
        /// Its epoch.
        epoch: Epoch,
        /// Where its log ends.
        end: Option<Position>,
    },
    /// Genesis, phase 1.
    GenesisPrepare(Ballot),
    /// Genesis, phase 2.
    GenesisAccept(Accepted),
    /// The genesis decision, from somebody who knows that it was made.
    GenesisChosen(Founding),
    /// From the operator's side of this very node, never over the network: hand over to that node.
    Switchover {
        /// The next primary.
        to: NodeName,
    },
    /// From this very node, never over the network: an operator-signed way out of a lost majority, already verified.
    Recover {
        /// The survivor: this node.
        survivor: NodeName,
        /// The stamp of the configuration that it replaces; protects against an order that is used twice.
        replaces: super::config::Stamp,
    },
    /// "How are you?"
    Status,
}

/// How new a complete data member's log is, measured after it was cut off (rules 1 and 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Epoch of its newest row; 0 without any.
    pub row: Epoch,
    /// The end of its log.
    pub end: Position,
}

impl Report {
    /// What decides who is newer: the lineage first, then the place (rule 3).
    #[must_use]
    pub const fn newness(&self) -> (Epoch, Lsn) {
        (self.row, self.end.lsn)
    }
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The epoch granted.
    pub epoch: Epoch,
    /// The report of a complete data member; witnesses and incomplete members have none.
    pub report: Option<Report>,
    /// What an incomplete member can say instead.
    pub given_up: Option<GivenUp>,
}

/// A data member gave its own log up for a copy of the log of an epoch's holder. It confirmed nothing of that epoch
/// before; so whoever has that epoch's row has all it ever confirmed, unless it confirmed more since (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// That epoch.
    pub epoch: Epoch,
    /// The copy may have been attached to the holder, and have confirmed commits of that epoch.
    pub attached: bool,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The answer's configuration is newer than the request's.
    StaleConfig,
    /// The answer's `promised` is higher.
    StaleEpoch,
    /// This voter hears the primary well.
    PrimaryAlive {
        /// It.
        holder: NodeName,
    },
    /// This voter's own data is newer: it should be primary.
    Newer {
        /// Its newest row.
        row: Epoch,
        /// Its place.
        lsn: Lsn,
    },
    /// This machine is no voter (any more, or yet), or does not count the sender as one.
    NoVoter,
    /// Not in this state, or not from this sender.
    NotNow,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The beat is accepted.
    Followed {
        /// [`Beat::sent`] of it.
        sent: u64,
        /// This node's data.
        data: DataState,
        /// It streams from the sender.
        streaming: bool,
    },
    /// A pre-vote in favour.
    Favour,
    /// The promise is made durable; the log is not yet measured. Ask again.
    Pending,
    /// The epoch is granted.
    Granted(Granted),
    /// Done, or begun.
    Ok,
    /// Genesis, phase 1: lower ballots are refused from now on.
    GenesisPromise {
        /// What was accepted before.
        accepted: Option<Accepted>,
    },
    /// Genesis, phase 2: accepted under this ballot.
    GenesisAccepted(Ballot),
    /// Genesis: a higher ballot was promised.
    GenesisRefused(Option<Ballot>),
    /// A cluster exists; the answer's configuration tells it. The asker is a learner.
    Formed,
    /// No.
    Refused(Refusal),
    /// How this node is.
    Status(Box<StatusReport>),
}

/// What a node is in its cluster, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleWord {
    /// Knows no cluster yet.
    Waiting,
    /// Holds no data.
    Witness,
    /// Has no vote (yet).
    Learner,
    /// Follows, or should.
    Standby,
    /// Asks for an epoch.
    Candidate,
    /// Holds the epoch and is not open yet.
    Promoting,
    /// Holds the epoch, confirmed and open.
    Primary,
}

/// A node's view of itself and its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Its name.
    pub node: NodeName,
    /// What it is.
    pub role: RoleWord,
    /// The highest epoch it promised, and to whom.
    pub promised: Option<(Epoch, NodeName)>,
    /// The primary it knows of, with how long ago it was heard (ms).
    pub primary: Option<(NodeName, u64)>,
    /// Its newest row.
    pub row: Option<EpochRow>,
    /// Where its log ends, about.
    pub position: Option<Position>,
    /// System identifier of its data.
    pub system_id: Option<SystemId>,
    /// Its data directory.
    pub data: DataState,
    /// Standbys of a primary: streaming or not, flushed so far.
    pub standbys: BTreeMap<NodeName, (bool, Lsn)>,
    /// The active configuration.
    pub config: Config,
    /// The facts.
    pub facts: u64,
    /// What a person should look at.
    pub alarms: Vec<String>,
}

/// No answer came: refused, timed out, unreachable. The request may have arrived all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable;
