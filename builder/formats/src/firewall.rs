//! Who may reach what: the nodes' packet filters, and the matrix that shows them.
//!
//! [`Policy`] says it once, as values. [`NodePolicy::v4`], [`NodePolicy::v6`] and [`NodePolicy::ipset`] are what the kernel gets,
//! [`Matrix`] is what people see; both are made from nothing else.

mod groups;
mod matrix;
mod policy;
mod rules;
mod svg;
mod table;

pub use matrix::{Access, Matrix, Sender, Source, Target};
pub use policy::{Admits, Family, NodePolicy, Policy, Side, Way};
pub use rules::{BAN4_SET, BAN6_SET, FLEET_SET};
