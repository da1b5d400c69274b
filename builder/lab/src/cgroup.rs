//! Control groups: one per node, made before anything is started in it.
//!
//! The group is what makes clean-up certain. A process cannot leave it (systemd-nspawn gives the node a cgroup namespace), so
//! whoever is in it is the node's, recorded or not. cgroup v2, v1 with a v2 mount beside it (`hybrid`) and plain v1 are handled:
//! a group is the directory of one name in every hierarchy that matters.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{LabError, Result},
    process::Process,
};

/// How long killed processes may take to be gone. They may have to finish writing to a slow disk.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// How long processes may take to stop; one that waits for a disk is stopped when it returns.
const FREEZE_LIMIT: Duration = Duration::from_secs(20);

/// Where the hierarchies of this machine are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// The cgroup2 mount.
    unified: Option<PathBuf>,
    /// The v1 hierarchy that systemd uses to keep track of services.
    systemd: Option<PathBuf>,
    /// The v1 hierarchy with the memory controller.
    memory: Option<PathBuf>,
}

impl Hierarchies {
    /// Reads the mounts of this process.
    pub(crate) fn detect() -> Result<Hierarchies> {
        let path = Path::new("/proc/self/mountinfo");
        Ok(Self::parse(
            &fs::read_to_string(path).map_err(LabError::file("read", path))?,
        ))
    }

    fn parse(mountinfo: &str) -> Hierarchies {
        let mut found = Hierarchies {
            unified: None,
            systemd: None,
            memory: None,
        };
        for line in mountinfo.lines() {
            // proc_pid_mountinfo(5): six fields, optional ones, a hyphen, type, source, options of the file system.
            let Some((mount, system)) = line.split_once(" - ") else {
                continue;
            };
            let (Some(point), Some(kind)) = (mount.split(' ').nth(4), system.split(' ').next())
            else {
                continue;
            };
            let options = system.split(' ').nth(2).unwrap_or("");
            let has = |option| options.split(',').any(|o| o == option);
            let slot = match kind {
                "cgroup2" => &mut found.unified,
                "cgroup" if has("name=systemd") => &mut found.systemd,
                "cgroup" if has("memory") => &mut found.memory,
                _ => continue,
            };
            slot.get_or_insert_with(|| PathBuf::from(point));
        }
        found
    }

    /// True when there is what systemd-nspawn and the lab need: v2, or v1 with systemd's own hierarchy.
    pub(crate) fn usable(&self) -> bool {
        self.unified.is_some() || self.systemd.is_some()
    }

    /// Whether a memory limit can be set.
    pub(crate) fn can_limit_memory(&self) -> bool {
        self.memory.is_some()
            || self
                .unified
                .as_ref()
                .is_some_and(|root| offers(root, "memory"))
    }

    /// The directories in which groups are made.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Path> {
        [&self.unified, &self.systemd, &self.memory]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// The group of that relative name. Nothing is made yet.
    pub(crate) fn group(&self, name: &str) -> Group {
        let at = |root: &Option<PathBuf>| root.as_ref().map(|root| root.join(name));
        Group {
            unified: at(&self.unified),
            systemd: at(&self.systemd),
            memory: at(&self.memory),
        }
    }
}

/// Memory of a group and of those below it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// In use, page cache included.
    pub in_use: u64,
    /// The most that was in use; with a limit the page cache may fill what is free.
    pub peak: Option<u64>,
    /// The machine's size, where it was given one.
    pub limit: Option<u64>,
    /// What cannot be given back as page cache can: of processes alone, and shared between them.
    pub held: Option<u64>,
    /// Processes that were killed because there was no memory left.
    pub oom_kills: Option<u64>,
}

/// Where the figures of [`Memory`] stand.
struct MemoryFiles {
    in_use: &'static str,
    peak: &'static str,
    limit: &'static str,
    held: [&'static str; 2],
    events: &'static str,
}

const V1: MemoryFiles = MemoryFiles {
    in_use: "memory.usage_in_bytes",
    peak: "memory.max_usage_in_bytes",
    limit: "memory.limit_in_bytes",
    held: ["total_rss", "total_shmem"],
    events: "memory.oom_control",
};
const V2: MemoryFiles = MemoryFiles {
    in_use: "memory.current",
    peak: "memory.peak",
    limit: "memory.max",
    held: ["anon", "shmem"],
    events: "memory.events",
};

/// One group: its directory in every hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    unified: Option<PathBuf>,
    systemd: Option<PathBuf>,
    memory: Option<PathBuf>,
}

impl Group {
    /// Its directories; a process belongs to the group when it is written into `cgroup.procs` of each.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        [&self.unified, &self.systemd, &self.memory]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// Makes the group, and those above it.
    pub(crate) fn create(&self) -> Result<()> {
        for directory in self.directories() {
            fs::create_dir_all(directory)
                .map_err(LabError::file("make the control group", directory))?;
        }
        // In v2 a controller reaches a group only when every group above hands it down; a group that has processes of its own
        // cannot (cgroups(7), "no internal processes"), and then limits are what is lost, not the node.
        let above: Vec<&Path> = self
            .unified
            .iter()
            .flat_map(|d| d.ancestors().skip(1))
            .collect();
        for directory in above
            .into_iter()
            .rev()
            .filter(|d| d.join("cgroup.subtree_control").exists())
        {
            for controller in ["memory", "pids"]
                .into_iter()
                .filter(|c| offers(directory, c))
            {
                let _ = fs::write(
                    directory.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        Ok(())
    }

    /// Sets the size of the machine's memory, swap excluded.
    pub(crate) fn limit_memory(&self, bytes: u64) -> Result<()> {
        let file = match (&self.memory, &self.unified) {
            (Some(v1), _) => v1.join("memory.limit_in_bytes"),
            (None, Some(v2)) => v2.join("memory.max"),
            (None, None) => return Ok(()),
        };
        fs::write(&file, bytes.to_string()).map_err(LabError::file("set the memory limit in", file))
    }

    /// What of its memory is used, where the kernel accounts for it.
    pub(crate) fn memory(&self) -> Option<Memory> {
        let (directory, names) = match (&self.memory, &self.unified) {
            (Some(v1), _) => (v1, &V1),
            (None, Some(v2)) => (v2, &V2),
            (None, None) => return None,
        };
        let read = |name| fs::read_to_string(directory.join(name)).ok();
        let number = |name| read(name)?.trim().parse::<u64>().ok();
        let field = |file, field: &str| {
            read(file)?.lines().find_map(|line| {
                let (name, value) = line.split_once(' ')?;
                (name == field).then(|| value.parse::<u64>().ok())?
            })
        };
        Some(Memory {
            in_use: number(names.in_use)?,
            peak: number(names.peak),
            // v1 has a number beyond every memory where there is no limit, v2 a word.
            limit: number(names.limit).filter(|limit| *limit < 1 << 62),
            held: names
                .held
                .iter()
                .filter_map(|name| field("memory.stat", name))
                .reduce(|sum, part| sum + part),
            oom_kills: field(names.events, "oom_kill"),
        })
    }

    /// Every process in the group and the groups below it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for root in self.directories() {
            walk(root, &mut |directory| {
                let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
            });
        }
        found.sort_unstable();
        found.dedup();
        // 0 stands for a process of another pid namespace: nothing of ours.
        found.retain(|pid| *pid != 0);
        found
    }

    /// Stops every process of the group where it stands, or lets them go on, and waits until it is so (cgroup v2's freezer; a
    /// process in it can still be killed).
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        let Some(directory) = &self.unified else {
            return Err(LabError::Spec(
                "a node is frozen through cgroup v2, which is not mounted on this machine"
                    .to_owned(),
            ));
        };
        let file = directory.join("cgroup.freeze");
        let digit = if frozen { "1" } else { "0" };
        fs::write(&file, digit).map_err(LabError::file("write", file))?;
        let end = Instant::now() + FREEZE_LIMIT;
        let wanted = format!("frozen {digit}");
        // The file can be polled for changes, which come within milliseconds; looking again is as quick.
        while !fs::read_to_string(directory.join("cgroup.events"))
            .unwrap_or_default()
            .lines()
            .any(|line| line == wanted)
        {
            if Instant::now() > end {
                return Err(LabError::Timeout {
                    what: format!("{wanted:?} of {}", directory.display()),
                    limit: FREEZE_LIMIT,
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether the group is frozen, or about to be.
    pub(crate) fn is_frozen(&self) -> bool {
        self.unified.as_ref().is_some_and(|directory| {
            fs::read_to_string(directory.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
        })
    }

    /// Kills everything in the group, waits until it is gone and removes the group. A group that is not there is no error.
    pub(crate) fn destroy(&self) -> Result<()> {
        let end = Instant::now() + KILL_LIMIT;
        let mut pause = Duration::from_millis(2);
        let mut killed: Vec<Process> = Vec::new();
        loop {
            for process in self.processes().into_iter().filter_map(Process::of) {
                if !killed.contains(&process) {
                    killed.push(process);
                }
            }
            // One write that no fork can outrun, where the kernel has it (v2, Linux 5.14).
            if let Some(directory) = &self.unified {
                let _ = fs::write(directory.join("cgroup.kill"), "1");
            }
            killed.iter().for_each(|process| process.kill());
            // A process leaves its group before it has ended.
            let ended = |process: &Process| {
                process.wait_ended(end.saturating_duration_since(Instant::now()))
            };
            if self.remove()? && killed.iter().all(ended) {
                return Ok(());
            }
            if Instant::now() > end {
                killed.retain(|process| process.is_alive());
                return Err(LabError::Timeout {
                    what: format!(
                        "the end of processes {:?}",
                        killed.iter().map(|process| process.pid).collect::<Vec<_>>()
                    ),
                    limit: KILL_LIMIT,
                });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }

    /// Removes the directories; false when one is still in use.
    fn remove(&self) -> Result<bool> {
        let mut gone = true;
        for root in self.directories() {
            let mut directories = Vec::new();
            walk(root, &mut |directory| {
                directories.push(directory.to_owned())
            });
            for directory in directories.into_iter().rev() {
                match fs::remove_dir(&directory) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => gone = false,
                    Err(error) => {
                        return Err(LabError::file("remove the control group", directory)(error));
                    }
                }
            }
        }
        Ok(gone)
    }
}

fn offers(directory: &Path, controller: &str) -> bool {
    fs::read_to_string(directory.join("cgroup.controllers"))
        .is_ok_and(|list| list.split_whitespace().any(|c| c == controller))
}

/// Visits a directory and all below it, parents first. Groups vanish at any time, so what cannot be read is passed over.
fn walk(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    if !directory.is_dir() {
        return;
    }
    visit(directory);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TMPFS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n";

    #[test]
    fn hybrid_legacy_and_unified_machines_are_told_apart() {
        let v1 = "40 31 0:37 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                  41 31 0:38 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let v2 = "42 31 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let hybrid = Hierarchies::parse(&format!("{TMPFS}{v1}{v2}"));
        assert_eq!(
            hybrid.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert_eq!(
            hybrid.memory.as_deref(),
            Some(Path::new("/sys/fs/cgroup/memory"))
        );
        assert_eq!(hybrid.group("a/b").directories().count(), 3);
        let legacy = Hierarchies::parse(v1);
        assert!(legacy.unified.is_none() && legacy.usable() && legacy.can_limit_memory());
        let unified = Hierarchies::parse(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert!(unified.usable() && unified.systemd.is_none());
        assert!(!Hierarchies::parse(TMPFS).usable());
    }
}
