//! Two looks at a machine make a line.

use std::collections::BTreeMap;

use rolesmith_model::perf::{
    Answer, Bouncer, Conntrack, Cost, Disk, Files, HealthState, Interface, Machine, Memory, Mount,
    PERF_FORMAT, PerfLine, Postgres, Pressure, Processes, Redis, Swap, Tcp, Udp,
};

use super::count::grown;
use super::cpu::{self, Stat};
use super::units::{self, Sizes, UnitTotals, unit_since};
use super::{bouncer, disk, memory, net, postgres, redis};

/// What was seen in one look. Whatever counts, counts since the boot, or since what counts was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Milliseconds of a clock that nobody sets.
    pub clock_ms: u64,
    /// Microseconds of processor time that this program has used.
    pub own_cpu_us: u64,
    /// How long the look took, in microseconds.
    pub took_us: u64,
    /// Sizes that the kernel counts in.
    pub sizes: Sizes,
    /// The machine and its boot.
    pub machine: Machine,
    /// What the agent says about its health.
    pub health: Option<HealthState>,
    /// /proc/stat
    pub stat: Option<Stat>,
    /// /proc/loadavg
    pub load: Option<[f64; 3]>,
    /// /proc/pressure
    pub pressure: Pressure,
    /// /proc/meminfo
    pub memory: Option<Memory>,
    /// The same for swap.
    pub swap: Option<Swap>,
    /// /proc/sys/fs/file-nr
    pub files: Option<Files>,
    /// File systems.
    pub mounts: Vec<Mount>,
    /// /proc/diskstats, by name.
    pub disks: BTreeMap<String, Disk>,
    /// /proc/net/dev, by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// /proc/net/snmp, netstat, sockstat
    pub tcp: Option<Tcp>,
    /// /proc/net/snmp
    pub udp: Option<Udp>,
    /// /proc/sys/net/netfilter
    pub conntrack: Option<Conntrack>,
    /// Processes by unit.
    pub units: BTreeMap<String, UnitTotals>,
    /// PostgreSQL, where the node has it.
    pub postgresql: Option<Answer<Postgres>>,
    /// pgbouncer, where the node has it.
    pub pgbouncer: Option<Answer<Bouncer>>,
    /// Redis, where the node has it.
    pub redis: Option<Answer<Redis>>,
}

/// Whose line it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The fleet.
    pub fleet: String,
    /// The node.
    pub node: String,
}

/// The line that two looks make.
#[must_use]
pub fn line(whose: &Whose, before: &Sample, now: &Sample) -> PerfLine {
    let interval_ms = now.clock_ms.saturating_sub(before.clock_ms);
    let stall = |part: fn(&Pressure) -> Option<_>| {
        Some(cpu::stalled(
            &part(&before.pressure)?,
            &part(&now.pressure)?,
        ))
    };
    let pressure = Pressure {
        cpu: stall(|pressure| pressure.cpu),
        memory: stall(|pressure| pressure.memory),
        io: stall(|pressure| pressure.io),
    };
    PerfLine {
        format: PERF_FORMAT,
        fleet: whose.fleet.clone(),
        node: whose.node.clone(),
        at_ms: now.at_ms,
        interval_ms,
        cost: Cost {
            cpu_ms: milliseconds(grown(before.own_cpu_us, now.own_cpu_us)),
            took_ms: milliseconds(now.took_us),
        },
        machine: now.machine.clone(),
        health: now.health.clone(),
        cpu: both(&before.stat, &now.stat).and_then(|(before, now)| cpu::cpu(before, now)),
        load: now.load,
        processes: both(&before.stat, &now.stat)
            .map(|(before, stat)| processes(before, stat, &now.units)),
        pressure: (pressure != Pressure::default()).then_some(pressure),
        memory: both(&before.memory, &now.memory).map(|(b, n)| memory::memory_since(b, n)),
        swap: both(&before.swap, &now.swap).map(|(b, n)| memory::swap_since(b, n)),
        files: now.files.clone(),
        mounts: now.mounts.clone(),
        disks: each(&before.disks, &now.disks, disk::disk_since),
        interfaces: each(&before.interfaces, &now.interfaces, net::interface_since),
        tcp: both(&before.tcp, &now.tcp).map(|(b, n)| net::tcp_since(b, n)),
        udp: both(&before.udp, &now.udp).map(|(b, n)| net::udp_since(b, n)),
        conntrack: now.conntrack.clone(),
        units: now
            .units
            .iter()
            .map(|(name, totals)| {
                unit_since(name, before.units.get(name), totals, interval_ms, now.sizes)
            })
            .collect(),
        postgresql: told(&before.postgresql, &now.postgresql, postgres::since),
        pgbouncer: told(&before.pgbouncer, &now.pgbouncer, bouncer::since),
        redis: told(&before.redis, &now.redis, redis::since),
        left_out: BTreeMap::new(),
    }
}

/// Microseconds as milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is told are the first few digits"
)]
#[must_use]
pub fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

fn both<'a, T>(before: &'a Option<T>, now: &'a Option<T>) -> Option<(&'a T, &'a T)> {
    Some((before.as_ref()?, now.as_ref()?))
}

fn each<T>(
    before: &BTreeMap<String, T>,
    now: &BTreeMap<String, T>,
    since: impl Fn(Option<&T>, &T) -> T,
) -> Vec<T> {
    now.iter()
        .map(|(name, now)| since(before.get(name), now))
        .collect()
}

/// What a server told, with counts where it had told some before.
fn told<T>(
    before: &Option<Answer<T>>,
    now: &Option<Answer<T>>,
    since: impl Fn(Option<&T>, &T) -> T,
) -> Option<Answer<T>> {
    match now.as_ref()? {
        Answer::Silent { error } => Some(Answer::Silent {
            error: error.clone(),
        }),
        Answer::Told(now) => {
            let before = before.as_ref().and_then(Answer::told);
            Some(Answer::Told(Box::new(since(before, now))))
        }
    }
}

fn processes(before: &Stat, now: &Stat, all: &BTreeMap<String, UnitTotals>) -> Processes {
    let programs = || {
        all.iter()
            .filter(|(name, _)| *name != units::KERNEL)
            .map(|(_, totals)| totals)
    };
    Processes {
        total: programs().map(|unit| unit.processes.len() as u64).sum(),
        threads: programs().map(|unit| unit.threads).sum(),
        running: now.running,
        blocked: now.blocked,
        forks: grown(before.forks, now.forks),
        context_switches: grown(before.context_switches, now.context_switches),
        interrupts: grown(before.interrupts, now.interrupts),
    }
}
