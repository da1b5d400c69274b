//! How the databases of a fleet decide who is their primary: a pure state machine without clock, disk, network or chance.
//!
//! The runtime feeds `Core` what happened and carries out the [`Step`] that comes back: first it makes
//! [`Step::persist`] durable, then it performs [`Step::effects`] in their order. Everything is decided again from what
//! is durable, observed and said by peers, so a crash between any two effects is made good by the next `Core::tick`.
//! `docs/ha.md` tells the protocol in prose, rule by rule.

mod action;
mod config;
mod durable;
mod ids;
mod message;
mod observed;
mod timing;

pub use action::{Action, ActionId, Effect, Failure, Lane, Outcome, Step};
pub use config::{ClusterFacts, Config, Declared, Stamp, SyncSetting};
pub use durable::{
    Accepted, Acceptor, Ballot, DURABLE_FORMAT, DataState, Durable, Founding, Promise,
};
pub use ids::{Epoch, EpochRow, Incarnation, Lsn, Position, SystemId, Timeline, TimelineStart};
pub use message::{
    Beat, Bid, Envelope, Granted, Refusal, Reply, Report, Request, RequestId, Response, RoleWord,
    StatusReport, Unreachable,
};
pub use observed::{Access, Data, Observed, Process, Receiver, StandbySeen};
pub use timing::Timing;
