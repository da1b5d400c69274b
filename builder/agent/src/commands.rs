//! One module a command: its arguments, and short glue.

pub(crate) mod alarms;
pub(crate) mod apply;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod databases;
pub(crate) mod discover;
pub(crate) mod drain;
pub(crate) mod edge;
pub(crate) mod facts;
pub(crate) mod fetch;
pub(crate) mod firewall;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod migrate;
pub(crate) mod perf;
pub(crate) mod poke;
pub(crate) mod recover;
pub(crate) mod redis;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod switchover;
pub(crate) mod wait;
