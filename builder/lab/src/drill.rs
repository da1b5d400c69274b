//! Drills: what clients saw of a fault, and what that says about the fleet.
//!
//! Writers ([`write()`]) insert unique numbers and put every attempt into a ledger ([`Entry`]). Whoever runs the drill writes down
//! when he did what ([`Event`]). After the heal [`judge`] reads ledgers, events and the rows that are there: it is pure, and knows
//! nothing of how the fleet works. [`web`] has the clients that come through the load balancer.

mod ledger;
mod verdict;
pub mod web;
mod writer;

pub use ledger::{
    Entry, Event, EventKind, LedgerError, Moment, Outcome, Via, parse_entries, parse_events,
    parse_rows,
};
pub use verdict::{CONTROL_GAP, Case, Gap, Overlap, Question, Rows, Verdict, judge};
pub use writer::{WriterPlan, WriterSpec, now, write};
