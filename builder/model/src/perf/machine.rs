//! What the kernel tells, from proc(5), sysfs and cgroups(7).

#[cfg(feature = "build")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where processor time went, in percent of one core. Guests are in `user`, as the kernel counts them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Shares {
    /// Programs, niced ones included.
    pub user: f64,
    /// The kernel for programs.
    pub system: f64,
    /// Interrupts, soft ones included.
    pub interrupts: f64,
    /// Idle while a disk was waited for.
    pub iowait: f64,
    /// Taken by the hypervisor for other machines.
    pub steal: f64,
    /// Idle.
    pub idle: f64,
}

/// Processors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Cpu {
    /// All together: with two cores its members add up to 200.
    pub all: Shares,
    /// Each.
    pub cores: Vec<Shares>,
}

/// Processes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Processes {
    /// Processes that there are, without the kernel's.
    pub total: u64,
    /// Their threads.
    pub threads: u64,
    /// Threads that ran or wanted to.
    pub running: u64,
    /// Threads that waited for a disk.
    pub blocked: u64,
    /// Processes and threads that were started.
    pub forks: u64,
    /// Switches from one thread to another.
    pub context_switches: u64,
    /// Interrupts.
    pub interrupts: u64,
}

/// A share of time in which work was stalled (Documentation/accounting/psi.rst of the kernel).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Stall {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Microseconds since the line before.
    pub total_us: u64,
}

/// A resource that work may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Stalls {
    /// Some of the threads waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub some: Option<Stall>,
    /// All threads that were not idle waited: nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Stall>,
}

/// Pressure stall information.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Pressure {
    /// Waiting for a processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Stalls>,
    /// Waiting for memory: reclaim, swap, pages that had been thrown out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Stalls>,
    /// Waiting for disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<Stalls>,
}

/// Memory in bytes, from /proc/meminfo, and what happened to it, from /proc/vmstat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Memory {
    /// All that the kernel has (MemTotal).
    pub total: u64,
    /// Unused (MemFree).
    pub free: u64,
    /// What programs could get without swapping (MemAvailable).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// Of programs, backed by no file (AnonPages).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<u64>,
    /// Copies of files (Cached), shared memory included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<u64>,
    /// Copies of blocks of disks (Buffers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffers: Option<u64>,
    /// Shared memory and tmpfs (Shmem).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// The kernel's own, which it can give back (SReclaimable).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab_reclaimable: Option<u64>,
    /// The kernel's own, which it cannot give back (SUnreclaim).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slab_unreclaimable: Option<u64>,
    /// Tables of page addresses (PageTables).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_tables: Option<u64>,
    /// Waiting to be written to a disk (Dirty).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<u64>,
    /// Being written to a disk (Writeback).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writeback: Option<u64>,
    /// Promised to programs (Committed_AS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
    /// Count of pages that had to be read from a disk (pgmajfault).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major_faults: Option<u64>,
    /// Count of processes that the kernel killed for want of memory (oom_kill).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
}

/// Swap in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Swap {
    /// All; 0 where there is none.
    pub total: u64,
    /// Unused.
    pub free: u64,
    /// Count of bytes read from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_bytes: Option<u64>,
    /// Count of bytes written to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_bytes: Option<u64>,
}

/// Open files of all processes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Files {
    /// How many are open.
    pub open: u64,
    /// How many may be; absent where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Mount {
    /// Where it is mounted.
    pub path: String,
    /// Its type, such as ext4.
    pub kind: String,
    /// What it is on.
    pub device: String,
    /// Its size in bytes.
    pub total: u64,
    /// Unused bytes, with those that only root may use.
    pub free: u64,
    /// Bytes that everybody may use.
    pub available: u64,
    /// Inodes; 0 where it has no fixed number.
    pub inodes: u64,
    /// Unused inodes.
    pub inodes_free: u64,
    /// It cannot be written, by its own word: after an error, for instance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What was done to a disk; every member but `in_flight` is a count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Disk {
    /// Its name below /sys/block.
    pub name: String,
    /// Requests that read.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Milliseconds that these requests took, added up.
    pub read_ms: u64,
    /// Requests that wrote.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Milliseconds that these requests took, added up.
    pub write_ms: u64,
    /// Milliseconds in which it had something to do.
    pub busy_ms: u64,
    /// Requests that it had when the line was made.
    pub in_flight: u64,
}

/// What went through a network interface; every member is a count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets that arrived damaged.
    pub rx_errors: u64,
    /// Packets that were dropped on their way in.
    pub rx_drops: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped on their way out.
    pub tx_drops: u64,
}

/// TCP of IPv4 and IPv6 together. `established`, `time_wait`, `orphans` and `memory` are as they were; the rest are counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Tcp {
    /// Open connections (CurrEstab).
    pub established: u64,
    /// Connections that are over and kept for late packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_wait: Option<u64>,
    /// Connections that no process has any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orphans: Option<u64>,
    /// Bytes of memory that their buffers take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Connections that programs of this machine began (ActiveOpens).
    pub opened: u64,
    /// Connections that were accepted (PassiveOpens).
    pub accepted: u64,
    /// Attempts that failed (AttemptFails).
    pub failed: u64,
    /// Open connections that were reset (EstabResets).
    pub reset: u64,
    /// Segments received (InSegs).
    pub segments_in: u64,
    /// Segments sent (OutSegs).
    pub segments_out: u64,
    /// Segments sent again (RetransSegs).
    pub retransmitted: u64,
    /// Damaged segments (InErrs).
    pub in_errors: u64,
    /// Resets sent (OutRsts).
    pub resets_sent: u64,
    /// Connections that were lost because a program did not accept them in time (ListenOverflows).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_overflows: Option<u64>,
    /// Connections that were lost on their way to a listening program, for all reasons (ListenDrops).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_drops: Option<u64>,
    /// Times that an acknowledgement did not come in time (TCPTimeouts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<u64>,
}

/// UDP over IPv4; every member is a count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Udp {
    /// Datagrams received (InDatagrams).
    pub received: u64,
    /// Datagrams sent (OutDatagrams).
    pub sent: u64,
    /// Datagrams for a port that nobody listens on (NoPorts).
    pub no_port: u64,
    /// Datagrams that could not be delivered, for other reasons (InErrors).
    pub in_errors: u64,
}

/// The table of connections of the kernel's firewall.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Conntrack {
    /// How many are in it.
    pub entries: u64,
    /// How many may be; beyond that packets are dropped.
    pub max: u64,
}

/// The processes of a systemd unit.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Unit {
    /// Its name; `kernel` are the kernel's own threads, `-` are processes of no unit.
    pub name: String,
    /// Processor time in percent of one core. By the control group, or, where the kernel counts none, by its processes: those
    /// that ended since the line before are missing then.
    pub cpu: f64,
    /// Its processes.
    pub processes: u64,
    /// Their threads.
    pub threads: u64,
    /// Memory in bytes that its processes have in use, added up: what several share counts for each of them.
    pub rss: u64,
    /// Memory in bytes that is charged to the unit: copies of files that it read included (memory.current of cgroup v2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Bytes of it in swap (memory.swap.current).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// Count of bytes read from disks (io.stat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Count of bytes written to disks (io.stat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<u64>,
    /// Count of its processes that were killed for want of memory (memory.events).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
}
