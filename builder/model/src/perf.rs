//! A performance line: the complete assessment of a machine that `rolesmith-agent perf` writes to the log every minute.
//!
//! One line of JSON. What counts upwards in the kernel and in servers is told as the difference to the line before, so that the
//! lines of an hour add up to the hour and nothing between two lines is lost; what goes up and down is told as it was when the
//! line was made. What a machine cannot tell (another kernel, another role) is absent and never zero.
//!
//! Readers pass over what they do not know: a later version adds members under the same [`PERF_FORMAT`]. The number changes when one is
//! taken away or gets another meaning.

mod machine;
mod services;

pub use machine::{
    Conntrack, Cpu, Disk, Files, Interface, Memory, Mount, Pressure, Processes, Shares, Stall,
    Stalls, Swap, Tcp, Udp, Unit,
};
pub use services::{
    Answer, Bouncer, Connections, Database, Postgres, Receiver, Redis, Slots, Standby, Wal,
};

use std::collections::BTreeMap;

#[cfg(feature = "build")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Format of [`PerfLine`].
pub const PERF_FORMAT: u32 = 1;

/// SYSLOG_IDENTIFIER= of the lines: the program's name in the log.
pub const PERF_IDENTIFIER: &str = "rolesmith-perf";

/// A performance line of rolesmith.
///
/// Percentages are of the time since the line before; where a machine has several cores, 100 is one core. Other counts are
/// how many since the line before. What a machine cannot tell is absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
#[cfg_attr(feature = "build", schemars(title = "performance line"))]
pub struct PerfLine {
    /// Version of this schema: 1.
    pub format: u32,
    /// The fleet.
    pub fleet: String,
    /// The node.
    pub node: String,
    /// When it was taken: milliseconds since 1970.
    pub at_ms: u64,
    /// Milliseconds since the line before: what every count covers.
    pub interval_ms: u64,
    /// What it cost to make these lines.
    pub cost: Cost,
    /// The machine and its present boot.
    pub machine: Machine,
    /// What the agent says about the node's health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthState>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Processes that run or wait for the disk, averaged over 1, 5 and 15 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<[f64; 3]>,
    /// Processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<Processes>,
    /// Pressure stall information: time in which work waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    /// Open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
    /// File systems on disks of this machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Disks, without their partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Network interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// UDP over IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Udp>,
    /// The firewall's table of connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Conntrack>,
    /// Every systemd unit with processes, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
    /// PostgreSQL, on nodes that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<Answer<Postgres>>,
    /// pgbouncer, on nodes that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgbouncer: Option<Answer<Bouncer>>,
    /// Redis, on nodes that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Answer<Redis>>,
    /// How many entries of a list were left out to keep the line short, by the name of the list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
}

/// What making these lines costs.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Cost {
    /// Processor time that the program used since the line before, in milliseconds.
    pub cpu_ms: f64,
    /// How long it took to gather this one, waiting for servers included, in milliseconds.
    pub took_ms: f64,
}

/// The machine and its present boot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Machine {
    /// Release of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The boot's random id, as `journalctl --list-boots` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Seconds since it booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_s: Option<f64>,
}

/// The last look of `rolesmith-agent.service`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct HealthState {
    /// Whether every check found all well.
    pub healthy: bool,
    /// The checks that did not, as ROLE/NAME.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failing: Vec<String>,
}
