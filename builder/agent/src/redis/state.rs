//! What this module keeps on the disk: whether Redis's data are whole, where members were, what is told to people.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::conf::Places;
use super::decide::Data;
use crate::files::{self, Access, Root, Seen};

/// Redis's directory (StateDirectory= of its unit).
pub const SERVER_DIR: &str = "/var/lib/rolesmith-redis";
/// Sentinel's directory (StateDirectory= of its unit).
pub const SENTINEL_DIR: &str = "/var/lib/rolesmith-sentinel";
/// In Redis's directory, so that it is lost together with the data it speaks of.
const MARK: &str = "complete.json";
/// Written by Redis 7 and later when the log was begun (appenddirname and appendfilename of the role's redis.conf).
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";
/// In Sentinel's directory.
const PLACES: &str = "members.json";
/// What people are told, one file a unit (RuntimeDirectory= of the units).
pub const REPORT_DIR: &str = "/run/rolesmith-redis";

/// The data in Redis's directory were whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// The boot in which Redis last ran on them.
    boot: String,
}

/// This boot.
#[must_use]
pub fn boot(root: &Root) -> String {
    let path = root.join("/proc/sys/kernel/random/boot_id");
    std::fs::read_to_string(path).map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

fn server(root: &Root, name: &str) -> PathBuf {
    root.join(SERVER_DIR).join(name)
}

/// What Redis's directory holds.
#[must_use]
pub fn data(root: &Root, boot: &str) -> Data {
    let whole = server(root, MANIFEST).is_file();
    match files::read_json::<Mark>(&server(root, MARK)) {
        Seen::Is(mark) if whole => Data::Complete {
            same_boot: !boot.is_empty() && mark.boot == boot,
        },
        _ => Data::Empty,
    }
}

/// The data are whole, and Redis runs on them in this boot.
///
/// # Errors
/// What the system calls return.
pub fn mark(root: &Root, boot: &str) -> io::Result<()> {
    let mark = Mark {
        boot: boot.to_owned(),
    };
    files::write_json(&server(root, MARK), &mark, Access::PRIVATE)
}

/// What will stand there is a copy that is not complete yet.
///
/// # Errors
/// What the system calls return.
pub fn unmark(root: &Root) -> io::Result<()> {
    files::remove(&server(root, MARK))
}

/// Where members were when Sentinel's file was last prepared.
#[must_use]
pub fn places(root: &Root) -> Places {
    match files::read_json(&root.join(SENTINEL_DIR).join(PLACES)) {
        Seen::Is(places) => places,
        Seen::Absent | Seen::Broken(_) => Places::new(),
    }
}

/// Remembers where members are.
///
/// # Errors
/// What the system calls return.
pub fn remember(root: &Root, places: &Places) -> io::Result<()> {
    files::write_json(
        &root.join(SENTINEL_DIR).join(PLACES),
        places,
        Access::PRIVATE,
    )
}

/// What one of the units has to say to people and monitoring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Report {
    /// It waits.
    Waiting {
        /// For what.
        why: String,
    },
    /// It was started.
    Started {
        /// As what.
        how: String,
    },
    /// It runs, and this is how the cluster looks from here.
    Running {
        /// `master`, `replica`, `copying` or `down`.
        role: String,
        /// Name of the master, or its address.
        master: Option<String>,
        /// The epoch of its election.
        epoch: Option<u64>,
        /// Sentinels that answer with a master.
        sentinels: usize,
        /// Those whose majority elects.
        voters: usize,
        /// As master: replicas that answered within the last three seconds.
        replicas: Option<usize>,
        /// What somebody should look at.
        alarms: Vec<String>,
    },
}

/// Writes a report.
///
/// # Errors
/// What the system calls return.
pub fn report(root: &Root, unit: &str, report: &Report) -> io::Result<()> {
    let path = Path::new(REPORT_DIR).join(format!("{unit}.json"));
    files::write_json(&root.join(path), report, Access::PUBLIC)
}

/// Reads a report: `server`, `sentinel` or `watch`.
#[must_use]
pub fn read_report(root: &Root, unit: &str) -> Option<Report> {
    let path = Path::new(REPORT_DIR).join(format!("{unit}.json"));
    match files::read_json(&root.join(path)) {
        Seen::Is(report) => Some(report),
        Seen::Absent | Seen::Broken(_) => None,
    }
}

/// Redis on this node for `rolesmith-agent status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// One line.
    pub line: String,
    /// What somebody should look at.
    pub alarms: Vec<String>,
}

/// What the three units have said last; `None` where none of them has run since the machine booted.
#[must_use]
pub fn overview(root: &Root) -> Option<Overview> {
    summarise(["server", "sentinel", "watch"].map(|unit| read_report(root, unit)))
}

/// A wait is the first thing to know; else what the last look at the running cluster showed.
fn summarise([server, sentinel, watch]: [Option<Report>; 3]) -> Option<Overview> {
    let waits = [("Redis", &server), ("Sentinel", &sentinel)]
        .into_iter()
        .filter_map(|(what, report)| match report {
            Some(Report::Waiting { why }) => Some(format!("{what} waits: {why}")),
            _ => None,
        })
        .collect::<Vec<_>>();
    if !waits.is_empty() {
        return Some(Overview {
            line: waits.join("; "),
            alarms: Vec::new(),
        });
    }
    match watch.or(server)? {
        Report::Running {
            role,
            master,
            epoch,
            sentinels,
            voters,
            replicas,
            alarms,
        } => {
            let mut line = match master {
                Some(master) => format!("{role}, master {master}"),
                None => format!("{role}, master unknown"),
            };
            if let Some(epoch) = epoch {
                line.push_str(&format!(", epoch {epoch}"));
            }
            if let Some(replicas) = replicas {
                line.push_str(&format!(", {replicas} replicas"));
            }
            line.push_str(&format!(", {sentinels} of {voters} Sentinels"));
            Some(Overview { line, alarms })
        }
        Report::Started { how } => Some(Overview {
            line: format!("started as {how}"),
            alarms: Vec::new(),
        }),
        Report::Waiting { .. } => None,
    }
}

#[cfg(test)]
mod tests;
