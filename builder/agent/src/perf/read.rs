//! Looking at the machine: the files that the others read.
//!
//! Whatever cannot be read is not told. No program is started; the costliest part are two files of each process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rolesmith_model::perf::{HealthState, Machine, Mount, Pressure};
use rustix::time::{ClockId, clock_gettime};

use super::disk::{self, MountInfo};
use super::sample::Sample;
use super::units::{self, Group, Sizes, UnitTotals};
use super::{cpu, memory, net};
use crate::files::Root;
use crate::health::{HEALTH_FILE, Health};

/// Whole microseconds of a duration.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Reads a machine again and again.
#[derive(Debug)]
pub struct Reader {
    root: Root,
    sizes: Sizes,
    begun: Instant,
    /// What was read last, to be written over.
    buffer: Vec<u8>,
}

impl Reader {
    /// For the machine below this directory.
    #[must_use]
    pub fn new(root: Root) -> Self {
        let sizes = Sizes {
            page: rustix::param::page_size() as u64,
            ticks: rustix::param::clock_ticks_per_second(),
        };
        Self {
            root,
            sizes,
            begun: Instant::now(),
            buffer: Vec::new(),
        }
    }

    /// What the machine tells; servers are asked by others.
    pub fn look(&mut self) -> Sample {
        let begun = Instant::now();
        let own_cpu_us = own_cpu_us();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let clock_ms = micros(begun.duration_since(self.begun)) / 1000;
        let page = self.sizes.page;
        let (meminfo, vmstat) = (self.text("/proc/meminfo"), self.text("/proc/vmstat"));
        let meminfo = meminfo.as_deref();
        let snmp = self.text("/proc/net/snmp");
        let snmp = snmp.as_deref();
        let netstat = self.text("/proc/net/netstat");
        let sockstat = self.text("/proc/net/sockstat");
        let mountinfo = self.text("/proc/self/mountinfo").unwrap_or_default();
        let mounts = disk::mountinfo(&mountinfo);
        let mut sample = Sample {
            at_ms: micros(now) / 1000,
            clock_ms,
            own_cpu_us,
            took_us: 0,
            sizes: self.sizes,
            machine: Machine {
                kernel: self.word("/proc/sys/kernel/osrelease"),
                boot_id: self.word("/proc/sys/kernel/random/boot_id"),
                uptime_s: self
                    .word("/proc/uptime")
                    .and_then(|text| text.split(' ').next()?.parse().ok()),
            },
            health: self.health(now.as_secs()),
            stat: self.text("/proc/stat").and_then(|text| cpu::stat(&text)),
            load: self.text("/proc/loadavg").and_then(|text| cpu::load(&text)),
            pressure: self.pressure(),
            memory: meminfo.and_then(|text| memory::memory(text, vmstat.as_deref())),
            swap: meminfo.and_then(|text| memory::swap(text, vmstat.as_deref(), page)),
            files: self
                .text("/proc/sys/fs/file-nr")
                .and_then(|text| memory::files(&text)),
            mounts: self.mounts(&mounts),
            disks: self.disks(),
            interfaces: self
                .text("/proc/net/dev")
                .map(|text| net::interfaces(&text))
                .unwrap_or_default(),
            tcp: snmp
                .and_then(|text| net::tcp(text, netstat.as_deref(), sockstat.as_deref(), page)),
            udp: snmp.and_then(net::udp),
            conntrack: self.conntrack(),
            units: self.units(&mounts),
            postgresql: None,
            pgbouncer: None,
            redis: None,
        };
        sample.took_us = micros(begun.elapsed());
        sample
    }

    /// A file's text; `None` where it cannot be read.
    fn text(&mut self, path: impl AsRef<Path>) -> Option<String> {
        let mut file = fs::File::open(self.root.join(path)).ok()?;
        self.buffer.clear();
        file.read_to_end(&mut self.buffer).ok()?;
        Some(String::from_utf8_lossy(&self.buffer).into_owned())
    }

    /// A file of one line.
    fn word(&mut self, path: &str) -> Option<String> {
        Some(self.text(path)?.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn number(&mut self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    fn health(&self, now: u64) -> Option<HealthState> {
        self.root.join(HEALTH_FILE).exists().then_some(())?;
        let health = Health::read(&self.root, now);
        let failing = health.checks.iter().filter(|check| check.problem.is_some());
        let failing = failing.map(|check| format!("{}/{}", check.role, check.name));
        Some(HealthState {
            healthy: health.healthy,
            failing: health.problem.iter().cloned().chain(failing).collect(),
        })
    }

    fn pressure(&mut self) -> Pressure {
        let mut of = |path| self.text(path).and_then(|text| cpu::pressure(&text));
        Pressure {
            cpu: of("/proc/pressure/cpu"),
            memory: of("/proc/pressure/memory"),
            io: of("/proc/pressure/io"),
        }
    }

    fn conntrack(&mut self) -> Option<rolesmith_model::perf::Conntrack> {
        let count = self.text("/proc/sys/net/netfilter/nf_conntrack_count")?;
        let max = self.text("/proc/sys/net/netfilter/nf_conntrack_max")?;
        memory::conntrack(&count, &max)
    }

    fn mounts(&self, mounts: &[MountInfo]) -> Vec<Mount> {
        let measured = disk::real(mounts).into_iter().filter_map(|mount| {
            let path = self.root.join(&mount.path);
            // A container has single files of its host.
            if !path.is_dir() {
                return None;
            }
            let seen = rustix::fs::statvfs(path).ok()?;
            let bytes = |blocks: u64| blocks.saturating_mul(seen.f_frsize);
            Some(Mount {
                path: mount.path.clone(),
                kind: mount.kind.clone(),
                device: mount.source.clone(),
                total: bytes(seen.f_blocks),
                free: bytes(seen.f_bfree),
                available: bytes(seen.f_bavail),
                inodes: seen.f_files,
                inodes_free: seen.f_ffree,
                read_only: mount.read_only,
            })
        });
        measured.collect()
    }

    fn disks(&mut self) -> BTreeMap<String, rolesmith_model::perf::Disk> {
        // Partitions have no directory there; loop devices are files of a file system that is counted already.
        let known: BTreeSet<String> = names(&self.root.join("/sys/block"))
            .filter(|name| !name.starts_with("loop") && !name.starts_with("ram"))
            .collect();
        let text = self.text("/proc/diskstats").unwrap_or_default();
        disk::disks(&text, |name| known.contains(name))
    }

    fn units(&mut self, mounts: &[MountInfo]) -> BTreeMap<String, UnitTotals> {
        let unified = mounts
            .iter()
            .find(|mount| mount.kind == "cgroup2")
            .map(|mount| mount.path.clone());
        let mut found = BTreeMap::<String, UnitTotals>::new();
        let mut groups = BTreeMap::<String, Option<PathBuf>>::new();
        for number in names(&self.root.join("/proc")).filter_map(|name| name.parse().ok()) {
            // Processes come and go meanwhile.
            let stat = self.text(format!("/proc/{number}/stat"));
            let Some(stat) = stat.and_then(|text| units::pid_stat(&text)) else {
                continue;
            };
            if stat.kernel {
                let kernel = found.entry(units::KERNEL.to_owned()).or_default();
                kernel.add(number, &stat);
                continue;
            }
            let cgroup = self.text(format!("/proc/{number}/cgroup"));
            let cgroup = cgroup.unwrap_or_default();
            let place = units::place(&cgroup);
            let name = place.map_or(units::NONE, |place| place.unit);
            let group = match (place.and_then(|place| place.group), &unified) {
                (Some(group), Some(mount)) => Some(PathBuf::from(format!("{mount}{group}"))),
                _ => None,
            };
            match groups.get_mut(name) {
                // Containers have units of the same names: together they have no group of their own.
                Some(known) if *known != group => *known = None,
                Some(_) => {}
                None => {
                    groups.insert(name.to_owned(), group);
                }
            }
            let unit = found.entry(name.to_owned()).or_default();
            unit.add(number, &stat);
        }
        for (name, directory) in groups {
            if let (Some(totals), Some(directory)) = (found.get_mut(&name), directory) {
                totals.group = self.group(&directory);
            }
        }
        found
    }

    /// What cgroup v2 counts. Which files there are depends on the controllers that it has.
    fn group(&mut self, directory: &Path) -> Group {
        let mut text = |name: &str| self.text(directory.join(name));
        let cpu_us = text("cpu.stat").and_then(|text| units::keyed(&text, "usage_usec"));
        let oom_kills = text("memory.events").and_then(|text| units::keyed(&text, "oom_kill"));
        let io = text("io.stat").map(|text| units::io(&text));
        Group {
            cpu_us,
            memory: self.number(directory.join("memory.current")),
            swap: self.number(directory.join("memory.swap.current")),
            read_bytes: io.map(|(read, _)| read),
            write_bytes: io.map(|(_, written)| written),
            oom_kills,
        }
    }
}

/// Names in a directory; none where it cannot be read.
fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Processor time of this program, all threads together.
fn own_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let more = u64::try_from(time.tv_nsec).unwrap_or(0) / 1000;
    seconds.saturating_mul(1_000_000).saturating_add(more)
}
