//! Processes, identified so that a recycled number is never mistaken for the process it once was.

use std::{fs, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open},
};
use serde::{Deserialize, Serialize};

/// A process: its number together with the time it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The process id in this program's pid namespace.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since the machine booted: field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub(crate) started: u64,
}

impl Process {
    /// The process that has this number now, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        // A zombie has ended; only its parent has not asked yet.
        (state != 'Z' && state != 'X').then_some(Process { pid, started })
    }

    /// True while this very process exists and has not ended.
    pub(crate) fn is_alive(self) -> bool {
        Process::of(self.pid) == Some(self)
    }

    fn id(self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }

    /// Waits until this very process has ended, which a process that was killed may take some time for: its control group is empty
    /// before. Gives false when it has not ended within `limit`.
    pub(crate) fn wait_ended(self, limit: Duration) -> bool {
        let handle = self
            .id()
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // The handle is of this process only if that is still there afterwards.
        let (Some(handle), true) = (handle, self.is_alive()) else {
            return true;
        };
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut ended = [PollFd::new(&handle, PollFlags::IN)];
        while poll(&mut ended, Some(&limit)) == Err(rustix::io::Errno::INTR) {}
        !self.is_alive()
    }

    /// Sends SIGKILL if this very process still exists.
    pub(crate) fn kill(self) {
        if let (true, Some(pid)) = (self.is_alive(), self.id()) {
            // The only error possible for root is that it has just ended by itself.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// State letter and start time out of a line of proc_pid_stat(5). The name stands in brackets and may hold anything, brackets
/// included, so the line is read from the last closing one.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let rest = stat.get(stat.rfind(')')? + 1..)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // `state` is field 3, so field 22 is the nineteenth after it.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) R (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("42 (x"), None);
    }

    #[test]
    fn the_end_of_a_process_is_awaited() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep runs");
        let process = Process::of(child.id()).expect("it exists");
        assert!(!process.wait_ended(Duration::from_millis(10)));
        process.kill();
        assert!(process.wait_ended(Duration::from_secs(30)));
        child.wait().expect("it has ended");
        assert!(process.wait_ended(Duration::ZERO));
    }

    #[test]
    fn this_process_is_alive_and_an_earlier_owner_of_its_number_is_not() {
        let me = Process::of(std::process::id()).expect("this process exists");
        assert!(me.is_alive());
        assert!(
            !Process {
                started: me.started - 1,
                ..me
            }
            .is_alive()
        );
    }
}
