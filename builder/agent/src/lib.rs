//! The node's side of rolesmith: it makes a machine into what the fleet's facts say it is.
//!
//! Three steps, again and again until nothing is left to do: [`observe`] reads the machine into a value, [`decide`]
//! (total and pure) turns that value into a list of actions, [`act`] carries them out and remembers each one. A crash
//! between any two steps is made good by the next run, because nothing is remembered before it was done.
//!
//! Clusters have a service of their own: [`runtime`] drives [`cluster`] (the decisions, pure), [`net`] (the other members)
//! and [`postgres`] (the database). [`lookout`] notices that the repository has changed, and [`fetch`] takes new facts.
//! [`discovery`] asks where members might be. [`perf`] and [`logs`] are services of their own too, and [`alarms`] decides what people
//! are told by mail.

pub mod act;
pub mod alarms;
pub mod application;
pub mod apply;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod decide;
pub mod discovery;
pub mod drain;
pub mod edge;
pub mod fetch;
pub mod files;
pub mod firewall;
pub mod guard;
pub mod health;
pub mod inputs;
pub mod joined;
pub mod liveness;
pub mod logs;
pub mod lookout;
pub mod migrate;
pub mod net;
pub mod notify;
pub mod observe;
pub mod perf;
pub mod postgres;
pub mod probe;
pub mod program;
pub mod recovery;
pub mod redis;
pub mod runtime;
pub mod state;
pub mod status;
pub mod upgrade;

mod commands;
