//! What the agent remembers: `/var/lib/rolesmith/state.json` (root's), and the part of it that everybody may see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::files::{self, Access, Root, Seen};

/// The whole state, readable by root: fingerprints tell something about secrets to who can guess.
pub const STATE_FILE: &str = "/var/lib/rolesmith/state.json";
/// The [`Report`] alone, readable by everybody; written anew at each boot.
pub const REPORT_FILE: &str = "/run/rolesmith/status.json";
/// Format of both.
pub const STATE_FORMAT: u32 = 1;

/// Where the machine as a whole stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Phase {
    /// Nobody told this machine who it is: nothing is done.
    #[default]
    NotEnrolled,
    /// Something that comes by itself is missing; it is tried again when it came, and every few minutes.
    Waiting {
        /// What is missing.
        why: String,
    },
    /// The machine is what the facts say.
    Converged,
    /// Somebody has to look.
    Failed {
        /// What went wrong.
        what: String,
    },
}

/// Where a role stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RolePhase {
    /// Its files are there, it has joined, its units were started.
    Ready,
    /// It is being worked on.
    Applying,
    /// Something that comes by itself is missing.
    Waiting {
        /// What is missing.
        why: String,
    },
    /// Somebody has to look.
    Failed {
        /// What went wrong.
        what: String,
    },
}

/// How a join ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum JoinResult {
    /// The node is a member.
    Done,
    /// The program asked to be run again later (EX_TEMPFAIL), or took too long.
    Later {
        /// The end of what it wrote.
        output: String,
    },
    /// It failed.
    Failed {
        /// The end of what it wrote.
        output: String,
    },
}

/// A role for people and monitoring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleReport {
    /// Its name.
    pub name: String,
    /// Version of its package that is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it stands.
    #[serde(flatten)]
    pub phase: RolePhase,
    /// How its join ended, where it has one and that was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinResult>,
    /// The kind of cluster that the agent will form for it; this version does nothing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The units that the agent looks after, in the order in which they start.
    pub units: Vec<String>,
}

/// What everybody may see of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Report {
    /// [`STATE_FORMAT`].
    pub format: u32,
    /// Where the machine as a whole stands.
    #[serde(flatten)]
    pub phase: Phase,
    /// The fleet it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Its name there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Version of the facts that were applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_version: Option<u64>,
    /// Its roles in the order in which they are applied.
    pub roles: Vec<RoleReport>,
    /// When `apply` last came to its end (Unix seconds).
    pub updated: u64,
    /// When something was last changed on the machine (Unix seconds).
    pub changed: u64,
}

/// A join that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinMemory {
    /// The role's fingerprint at that time.
    pub fingerprint: String,
    /// How it ended.
    #[serde(flatten)]
    pub result: JoinResult,
}

/// A unit that was started, restarted or reloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitMemory {
    /// The role's fingerprint at that time.
    pub fingerprint: String,
    /// The boot in which it was (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// The node's certificate and the CAs at that time; older agents did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
}

/// What was done for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RoleMemory {
    /// Fingerprint at which everything was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// Version of its package at that time; older agents did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinMemory>,
    /// Its units by name.
    #[serde(default)]
    pub units: BTreeMap<String, UnitMemory>,
}

/// What decisions are based on besides what is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Memory {
    /// The fleet whose facts were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// The highest version of its facts that was seen.
    #[serde(default)]
    pub facts_version: u64,
    /// What was done for each role.
    #[serde(default)]
    pub roles: BTreeMap<String, RoleMemory>,
}

/// [`STATE_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct State {
    /// For people and monitoring.
    #[serde(flatten)]
    pub report: Report,
    /// For the next decision.
    #[serde(default)]
    pub memory: Memory,
}

impl State {
    /// Reads the state; none yet is the empty one.
    ///
    /// # Errors
    /// A state that cannot be read, or is of a newer format. It is never replaced by an empty one: the version of the
    /// facts that it holds protects against older facts.
    pub fn load(root: &Root) -> Result<Self, StateError> {
        match files::read_json::<Self>(&root.join(STATE_FILE)) {
            Seen::Absent => Ok(Self::default()),
            Seen::Is(state) if state.report.format > STATE_FORMAT => {
                Err(StateError::Newer(state.report.format))
            }
            Seen::Is(state) => Ok(state),
            Seen::Broken(why) => Err(StateError::Broken(why)),
        }
    }

    /// Writes the state and its public part.
    ///
    /// # Errors
    /// What the system calls return.
    pub fn save(&mut self, root: &Root) -> std::io::Result<()> {
        self.report.format = STATE_FORMAT;
        files::write_json(&root.join(STATE_FILE), self, Access::PRIVATE)?;
        files::write_json(&root.join(REPORT_FILE), &self.report, Access::PUBLIC)
    }
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Damaged or unreadable.
    #[error(
        "{STATE_FILE} cannot be read: {0}; after checking which facts are installed, delete it to begin anew"
    )]
    Broken(String),
    /// Written by a newer agent.
    #[error(
        "{STATE_FILE} has format {0}, and this agent knows {STATE_FORMAT}: install the newer agent again"
    )]
    Newer(u32),
}
