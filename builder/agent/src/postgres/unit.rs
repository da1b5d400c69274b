//! The server's processes, seen through the unit's control group: no question to systemd and no process of our own.
//!
//! A server counts as stopped only when its control group is empty and no postmaster works in its data directory, so one
//! that somebody started by hand is seen as well.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::settings::UNIT;
use super::{Problem, Server, run};
use crate::program::Call;

/// How long a killed process may take to go: longer only in uninterruptible sleep.
const GONE: Duration = Duration::from_secs(5);

/// Where a unit's control group can be: cgroup v2, v1 with a v2 mount beside it, v1.
const HIERARCHIES: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
];

/// Processes of the unit, whichever hierarchy systemd uses.
#[must_use]
pub fn processes(unit: &str) -> Vec<Pid> {
    let mut found = Vec::new();
    for hierarchy in HIERARCHIES {
        let path = format!("{hierarchy}/system.slice/{unit}/cgroup.procs");
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        for pid in text
            .lines()
            .filter_map(|line| line.parse().ok().and_then(Pid::from_raw))
        {
            if !found.contains(&pid) {
                found.push(pid);
            }
        }
    }
    found
}

/// A postmaster that works in this data directory, by whomever it was started: postmaster.pid names a process of the unit, or one
/// whose working directory that is (which the kernel tells only to who may trace it).
#[must_use]
pub fn postmaster(data: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    // A server in single-user mode, such as that of initdb(1), writes the negative of its number.
    let pid = text.lines().next()?.trim().parse().ok();
    let pid = Pid::from_raw(pid.filter(|pid| *pid > 0)?)?;
    if processes(UNIT).contains(&pid) {
        return Some(pid);
    }
    let cwd: PathBuf = std::fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    (cwd == data).then_some(pid)
}

/// Everything that may still write to the data directory.
#[must_use]
pub fn alive(data: &Path) -> Vec<Pid> {
    let mut pids = processes(UNIT);
    pids.extend(postmaster(data).filter(|pid| !pids.contains(pid)));
    pids
}

/// Kills a process that is still what it was taken for when its handle is open.
fn kill(pid: Pid, data: &Path) {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if alive(data).contains(&pid) {
        let _ = pidfd_send_signal(&handle, Signal::KILL);
    }
}

/// Has the postmaster read its settings again. Says whether it was told.
#[must_use]
pub fn reload(data: &Path) -> bool {
    let Some(pid) = postmaster(data) else {
        return false;
    };
    pidfd_open(pid, PidfdFlags::empty()).is_ok_and(|handle| {
        postmaster(data) == Some(pid) && pidfd_send_signal(&handle, Signal::HUP).is_ok()
    })
}

/// Kills everything at once and comes back when nothing is left.
///
/// # Errors
/// Something is still there after [`GONE`].
pub async fn kill_all(data: &Path) -> Result<(), Problem> {
    let deadline = Instant::now() + GONE;
    loop {
        let pids = alive(data);
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Problem::Later(format!(
                "{} processes of PostgreSQL do not die",
                pids.len()
            )));
        }
        for pid in pids {
            kill(pid, data);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Server {
    /// Stops the server; nothing of it is left when this returns.
    ///
    /// # Errors
    /// Something does not die.
    pub(super) async fn stop(&self, immediate: bool) -> Result<(), Problem> {
        let data = self.settings.data();
        if !immediate {
            // What a checkpoint writes now need not be waited for while the server shuts down.
            if let Ok(mut client) = self.connect("postgres").await {
                let _ = client.query("CHECKPOINT", Duration::from_secs(30)).await;
            }
            let stop = Call::new(["systemctl", "stop", UNIT]).limit(Duration::from_secs(60));
            if let Err(error) = run(stop).await
                && processes(UNIT).is_empty()
            {
                return Err(error);
            }
            if let Some(pid) = postmaster(&data) {
                // Started by hand: a fast shutdown, as the unit's.
                let _ = rustix::process::kill_process(pid, Signal::INT);
                let deadline = Instant::now() + Duration::from_secs(60);
                while postmaster(&data).is_some() && Instant::now() < deadline {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        kill_all(&data).await?;
        if immediate {
            // A start that systemd has still to make would bring it back. The unit is dead, so this takes no time.
            let stop = Call::new(["systemctl", "stop", UNIT]).limit(Duration::from_secs(10));
            let _ = run(stop).await;
            kill_all(&data).await?;
        }
        Ok(())
    }
}
