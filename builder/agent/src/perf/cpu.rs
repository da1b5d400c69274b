//! /proc/stat, /proc/loadavg and /proc/pressure (proc(5); Documentation/accounting/psi.rst of the kernel).

use rolesmith_model::perf::{Cpu, Shares, Stall, Stalls};

use super::count::{grown, two_places};

/// Time of a core since the boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticks {
    user: u64,
    system: u64,
    interrupts: u64,
    iowait: u64,
    steal: u64,
    idle: u64,
}

/// What /proc/stat tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stat {
    /// Each core by its number.
    pub cores: Vec<(u32, Ticks)>,
    /// Switches from one thread to another since the boot.
    pub context_switches: u64,
    /// Interrupts since the boot.
    pub interrupts: u64,
    /// Threads and processes that were started since the boot.
    pub forks: u64,
    /// Threads that run or want to.
    pub running: u64,
    /// Threads that wait for a disk.
    pub blocked: u64,
}

/// Reads /proc/stat.
#[must_use]
pub fn stat(text: &str) -> Option<Stat> {
    let mut stat = Stat::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        // The line of interrupts has thousands of numbers, of which the first is their sum.
        let first = words.clone().next().and_then(|word| word.parse().ok());
        match (name, first) {
            ("ctxt", Some(value)) => stat.context_switches = value,
            ("intr", Some(value)) => stat.interrupts = value,
            ("processes", Some(value)) => stat.forks = value,
            ("procs_running", Some(value)) => stat.running = value,
            ("procs_blocked", Some(value)) => stat.blocked = value,
            _ => {
                if let Some(number) = name.strip_prefix("cpu").and_then(|n| n.parse().ok()) {
                    stat.cores.push((number, ticks(words)));
                }
            }
        }
    }
    (!stat.cores.is_empty()).then_some(stat)
}

/// Of `user nice system idle iowait irq softirq steal guest guest_nice`. Guests are in the first two already.
fn ticks<'a>(words: impl Iterator<Item = &'a str>) -> Ticks {
    let mut values = [0_u64; 8];
    for (value, word) in values.iter_mut().zip(words) {
        *value = word.parse().unwrap_or(0);
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = values;
    Ticks {
        user: user.saturating_add(nice),
        system,
        interrupts: irq.saturating_add(softirq),
        iowait,
        steal,
        idle,
    }
}

impl Ticks {
    /// The kernel lets some of them go back by a few ticks (proc(5) on iowait): that is none.
    fn since(self, before: Self) -> [u64; 6] {
        [
            self.user.saturating_sub(before.user),
            self.system.saturating_sub(before.system),
            self.interrupts.saturating_sub(before.interrupts),
            self.iowait.saturating_sub(before.iowait),
            self.steal.saturating_sub(before.steal),
            self.idle.saturating_sub(before.idle),
        ]
    }
}

/// Of the ticks of one core, or of several together.
fn shares(ticks: [u64; 6], cores: usize) -> Shares {
    let all: u64 = ticks.iter().fold(0, |sum, part| sum.saturating_add(*part));
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks of an interval are far below 2^52"
    )]
    let [user, system, interrupts, iowait, steal, idle] = ticks.map(|part| {
        if all == 0 {
            0.0
        } else {
            two_places(part as f64 * 100.0 * cores as f64 / all as f64)
        }
    });
    Shares {
        user,
        system,
        interrupts,
        iowait,
        steal,
        idle,
    }
}

/// Where the time went between two looks. A core that was not there before is left out until the next one.
#[must_use]
pub fn cpu(before: &Stat, now: &Stat) -> Option<Cpu> {
    let parts: Vec<[u64; 6]> = now
        .cores
        .iter()
        .filter_map(|(number, ticks)| {
            let (_, then) = before.cores.iter().find(|(known, _)| known == number)?;
            Some(ticks.since(*then))
        })
        .collect();
    let mut all = [0_u64; 6];
    for part in &parts {
        for (sum, value) in all.iter_mut().zip(part) {
            *sum = sum.saturating_add(*value);
        }
    }
    (!parts.is_empty()).then(|| Cpu {
        all: shares(all, parts.len()),
        cores: parts.iter().map(|part| shares(*part, 1)).collect(),
    })
}

/// Reads /proc/loadavg.
#[must_use]
pub fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next()?.parse::<f64>().ok().filter(|n| n.is_finite());
    Some([next()?, next()?, next()?])
}

/// Reads a file of /proc/pressure; `total_us` are microseconds since the boot.
#[must_use]
pub fn pressure(text: &str) -> Option<Stalls> {
    let mut stalls = Stalls::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next()?;
        let (mut avg10, mut total_us) = (None, None);
        for word in words {
            match word.split_once('=') {
                Some(("avg10", value)) => avg10 = value.parse::<f64>().ok(),
                Some(("total", value)) => total_us = value.parse().ok(),
                _ => {}
            }
        }
        let stall = Stall {
            avg10: avg10.filter(|value| value.is_finite())?,
            total_us: total_us?,
        };
        match kind {
            "some" => stalls.some = Some(stall),
            "full" => stalls.full = Some(stall),
            _ => {}
        }
    }
    (stalls.some.is_some() || stalls.full.is_some()).then_some(stalls)
}

/// What was waited between two looks.
#[must_use]
pub fn stalled(before: &Stalls, now: &Stalls) -> Stalls {
    let one = |before: Option<Stall>, now: Option<Stall>| {
        Some(Stall {
            total_us: grown(before?.total_us, now?.total_us),
            ..now?
        })
    };
    Stalls {
        some: one(before.some, now.some),
        full: one(before.full, now.full),
    }
}
