//! How the databases of a fleet decide who is their primary: a pure state machine without clock, disk, network or chance.
//!
//! The runtime feeds [`Core`] what happened and carries out the [`Step`] that comes back: first it makes
//! [`Step::persist`] durable, then it performs [`Step::effects`] in their order. Everything is decided again from what
//! is durable, observed and said by peers, so a crash between any two effects is made good by the next [`Core::tick`].
//!
//! Each of the sixteen rules that this has to obey, and why, stands in `docs/ha.md`; the simulator in `tests/simulator/`
//! runs whole fleets of cores against them.
//!
//! - [`Core::request`], [`Core::response`]: the network. [`Core::observed`], [`Core::done`]: the database.
//! - `voter` answers, `candidate` asks, `primary` holds an epoch, `follower` moves the own server, `genesis` founds,
//!   `membership` changes who counts, `lineage` says whether two logs are one.

mod action;
mod candidate;
mod config;
mod core;
mod durable;
mod follower;
mod genesis;
mod ids;
mod lineage;
mod membership;
mod message;
mod mutation;
mod observed;
mod primary;
mod status;
mod timing;
mod voter;

pub use action::{Action, ActionId, Effect, Failure, Lane, Outcome, Step};
pub use config::{ClusterFacts, Config, Declared, Stamp, SyncSetting};
pub use core::Core;
pub use durable::{
    Accepted, Acceptor, Ballot, DURABLE_FORMAT, DataState, Durable, Founding, Promise,
};
pub use ids::{Epoch, EpochRow, Incarnation, Lsn, Position, SystemId, Timeline, TimelineStart};
pub use lineage::{Local, Relation, relation};
pub use message::{
    Beat, Bid, Envelope, GivenUp, Granted, Refusal, Reply, Report, Request, RequestId, Response,
    RoleWord, StatusReport, Unreachable,
};
#[doc(hidden)]
pub use mutation::Mutation;
pub use observed::{Access, Data, Observed, Process, Receiver, StandbySeen};
pub use timing::Timing;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
