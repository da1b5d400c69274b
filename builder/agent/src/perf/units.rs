//! Processes by systemd unit: /proc/PID/stat, /proc/PID/cgroup and the files of cgroup v2 (proc_pid_stat(5), cgroups(7)).
//!
//! Which processes there are, and what they have in use, is always asked of /proc, so that the units are there on every machine. What
//! the kernel counts by control group (processor time with that of processes that ended, memory with copies of files, what was read and
//! written) comes on top where cgroup v2 has it.

use std::collections::BTreeMap;

use rolesmith_model::perf::Unit;

use super::count::{grown, grown_if_known, two_places};

/// The kernel's own threads.
pub const KERNEL: &str = "kernel";
/// Processes of no unit.
pub const NONE: &str = "-";
/// `PF_KTHREAD` of the kernel's sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// A line of /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PidStat {
    /// One of the kernel's own.
    pub kernel: bool,
    /// Processor time of its threads in ticks, those that ended included.
    pub ticks: u64,
    /// Its threads.
    pub threads: u64,
    /// When it was started, in ticks since the boot; tells two processes of one number apart.
    pub started: u64,
    /// Pages that it has in memory.
    pub pages: u64,
}

/// Reads /proc/PID/stat. The name of the program may hold anything, parentheses and newlines included.
#[must_use]
pub fn pid_stat(text: &str) -> Option<PidStat> {
    let after = &text[text.rfind(')')? + 1..];
    // The first of these is field 3 of proc_pid_stat(5).
    let words: Vec<&str> = after.split_ascii_whitespace().collect();
    let field = |number: usize| words.get(number - 3)?.parse::<u64>().ok();
    Some(PidStat {
        kernel: field(9)? & KERNEL_THREAD != 0,
        ticks: field(14)?.checked_add(field(15)?)?,
        threads: field(20)?,
        started: field(22)?,
        // Where a process is just ending it is negative.
        pages: field(24).unwrap_or(0),
    })
}

/// Where a process belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The unit.
    pub unit: &'a str,
    /// Its directory below the mount of cgroup v2, where systemd keeps it there too.
    pub group: Option<&'a str>,
}

/// Reads /proc/PID/cgroup: of cgroup v2, or of the hierarchy that systemd has beside cgroup v1. `None`: of no unit.
#[must_use]
pub fn place(text: &str) -> Option<Place<'_>> {
    let path = |prefix| text.lines().find_map(|line| line.strip_prefix(prefix));
    let unified = path("0::").and_then(unit);
    match unified {
        Some((unit, group)) => Some(Place {
            unit,
            group: Some(group),
        }),
        None => {
            let named = text
                .lines()
                .find_map(|line| line.split_once(":name=systemd:"))?;
            let (unit, _) = unit(named.1)?;
            Some(Place { unit, group: None })
        }
    }
}

/// The first unit of a path that is no slice: those below are of a user's own manager, or of the unit itself.
fn unit(path: &str) -> Option<(&str, &str)> {
    const KINDS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if KINDS.iter().any(|kind| part.ends_with(kind)) {
            return Some((part, &path[..end]));
        }
        end += 1;
    }
    None
}

/// What cgroup v2 counts for a unit, since the unit was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Group {
    /// Microseconds of processor time (cpu.stat).
    pub cpu_us: Option<u64>,
    /// memory.current.
    pub memory: Option<u64>,
    /// memory.swap.current.
    pub swap: Option<u64>,
    /// Bytes read (io.stat).
    pub read_bytes: Option<u64>,
    /// Bytes written (io.stat).
    pub write_bytes: Option<u64>,
    /// Killed for want of memory (memory.events).
    pub oom_kills: Option<u64>,
}

/// A value of a file that has a name and a number a line.
#[must_use]
pub fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The sums over all disks of io.stat: bytes read, bytes written. An empty file: nothing yet.
#[must_use]
pub fn io(text: &str) -> (u64, u64) {
    let sum = |name: &str| {
        text.split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix(name)?.parse().ok())
            .fold(0_u64, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// When it was started.
    pub started: u64,
    /// Processor time in ticks.
    pub ticks: u64,
}

/// A unit's processes, and what its control group counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitTotals {
    /// Its processes by their numbers.
    pub processes: BTreeMap<u32, Process>,
    /// Their threads.
    pub threads: u64,
    /// Pages that they have in memory.
    pub pages: u64,
    /// What the control group counts.
    pub group: Group,
}

impl UnitTotals {
    /// Takes a process in.
    pub fn add(&mut self, number: u32, stat: &PidStat) {
        self.threads = self.threads.saturating_add(stat.threads);
        self.pages = self.pages.saturating_add(stat.pages);
        let process = Process {
            started: stat.started,
            ticks: stat.ticks,
        };
        self.processes.insert(number, process);
    }

    /// Ticks that its processes used since then; what is new used all of its own.
    fn ticks_since(&self, before: Option<&Self>) -> u64 {
        let known = |number| before?.processes.get(number);
        self.processes
            .iter()
            .map(|(number, now)| match known(number) {
                Some(then) if then.started == now.started => now.ticks.saturating_sub(then.ticks),
                _ => now.ticks,
            })
            .fold(0, u64::saturating_add)
    }
}

/// Sizes that the kernel counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a page.
    pub page: u64,
    /// Ticks of a second (USER_HZ).
    pub ticks: u64,
}

/// A unit's part of the line. A unit that was not there before was started in between.
#[must_use]
pub fn unit_since(
    name: &str,
    before: Option<&UnitTotals>,
    now: &UnitTotals,
    interval_ms: u64,
    sizes: Sizes,
) -> Unit {
    let started = Group {
        cpu_us: Some(0),
        read_bytes: Some(0),
        write_bytes: Some(0),
        oom_kills: Some(0),
        ..Group::default()
    };
    let (then, group) = (before.map_or(started, |before| before.group), now.group);
    let used_us = match (then.cpu_us, group.cpu_us) {
        (Some(then), Some(now)) => grown(then, now),
        _ => now.ticks_since(before).saturating_mul(1_000_000) / sizes.ticks.max(1),
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of an interval are far below 2^52"
    )]
    let cpu = two_places(used_us as f64 / 10.0 / interval_ms.max(1) as f64);
    Unit {
        name: name.to_owned(),
        cpu,
        processes: now.processes.len() as u64,
        threads: now.threads,
        rss: now.pages.saturating_mul(sizes.page),
        memory: group.memory,
        swap: group.swap,
        read_bytes: grown_if_known(then.read_bytes, group.read_bytes),
        write_bytes: grown_if_known(then.write_bytes, group.write_bytes),
        oom_kills: grown_if_known(then.oom_kills, group.oom_kills),
    }
}
