//! /proc/meminfo, /proc/vmstat and a few numbers below /proc/sys (proc(5)).

use rolesmith_model::perf::{Conntrack, Files, Memory, Swap};

use super::count::grown_if_known;

/// The value of a line `Name:   1234 kB` in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let word = line.strip_prefix(':')?.split_ascii_whitespace().next()?;
    word.parse::<u64>().ok()?.checked_mul(1024)
}

/// The value of a line `name 1234`.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Reads /proc/meminfo and, where it is there, /proc/vmstat. What counts is since the boot.
#[must_use]
pub fn memory(meminfo: &str, vmstat: Option<&str>) -> Option<Memory> {
    let of = |name| kibibytes(meminfo, name);
    let count = |name| counter(vmstat?, name);
    Some(Memory {
        total: of("MemTotal")?,
        free: of("MemFree")?,
        available: of("MemAvailable"),
        anonymous: of("AnonPages"),
        cached: of("Cached"),
        buffers: of("Buffers"),
        shared: of("Shmem"),
        slab_reclaimable: of("SReclaimable"),
        slab_unreclaimable: of("SUnreclaim"),
        page_tables: of("PageTables"),
        dirty: of("Dirty"),
        writeback: of("Writeback"),
        committed: of("Committed_AS"),
        major_faults: count("pgmajfault"),
        oom_kills: count("oom_kill"),
    })
}

/// The same for swap; a page has so many bytes.
#[must_use]
pub fn swap(meminfo: &str, vmstat: Option<&str>, page: u64) -> Option<Swap> {
    let bytes = |name| counter(vmstat?, name)?.checked_mul(page);
    Some(Swap {
        total: kibibytes(meminfo, "SwapTotal")?,
        free: kibibytes(meminfo, "SwapFree")?,
        in_bytes: bytes("pswpin"),
        out_bytes: bytes("pswpout"),
    })
}

/// What is now, and what happened since.
#[must_use]
pub fn memory_since(before: &Memory, now: &Memory) -> Memory {
    Memory {
        major_faults: grown_if_known(before.major_faults, now.major_faults),
        oom_kills: grown_if_known(before.oom_kills, now.oom_kills),
        ..now.clone()
    }
}

/// The same for swap.
#[must_use]
pub fn swap_since(before: &Swap, now: &Swap) -> Swap {
    Swap {
        in_bytes: grown_if_known(before.in_bytes, now.in_bytes),
        out_bytes: grown_if_known(before.out_bytes, now.out_bytes),
        ..now.clone()
    }
}

/// Reads /proc/sys/fs/file-nr: open files, unused ones, and how many may be.
#[must_use]
pub fn files(text: &str) -> Option<Files> {
    let mut words = text.split_ascii_whitespace();
    let open = words.next()?.parse().ok()?;
    let max: u64 = words.nth(1)?.parse().ok()?;
    Some(Files {
        open,
        // The kernel's way to say that there is no limit.
        max: (max < i64::MAX.unsigned_abs()).then_some(max),
    })
}

/// Reads nf_conntrack_count and nf_conntrack_max of /proc/sys/net/netfilter.
#[must_use]
pub fn conntrack(count: &str, max: &str) -> Option<Conntrack> {
    Some(Conntrack {
        entries: count.trim().parse().ok()?,
        max: max.trim().parse().ok()?,
    })
}
