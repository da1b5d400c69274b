//! What a decision is made from, and what it is made of.

use std::collections::BTreeMap;

use rolesmith_model::facts::{Facts, Identity, NodeFacts};
use rolesmith_model::manifest::RoleManifest;

use crate::files::Seen;
use crate::guard::{GUARDED_ROLE, Guard};
use crate::inputs::Missing;
use crate::state::Memory;

/// What a file is or has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// SHA-256 of its bytes.
    pub digest: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group by number.
    pub owner: (u32, u32),
}

/// A file that the facts list for a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Relative to the role's directory.
    pub path: String,
    /// What it has to be.
    pub wanted: Result<FileSpec, Missing>,
    /// What stands there.
    pub installed: Option<FileSpec>,
}

/// A unit as systemd sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitSeen {
    /// systemd knows it (LoadState is neither not-found nor masked).
    pub known: bool,
    /// An administrator forbids it (LoadState=masked).
    pub masked: bool,
    /// ActiveState is active, activating, reloading or refreshing.
    pub running: bool,
    /// It starts at boot by itself (UnitFileState).
    pub enabled: bool,
}

/// A role of this node, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSeen {
    /// Version of its package, once that is configured.
    pub configured: Option<String>,
    /// dpkg's word for its package while that is between two versions.
    pub unsettled: Option<String>,
    /// Its manifest.
    pub manifest: Seen<RoleManifest>,
    /// Its files.
    pub files: Vec<WantedFile>,
    /// Files in its directory that the facts do not list.
    pub strays: Vec<String>,
    /// Its units by name.
    pub units: BTreeMap<String, UnitSeen>,
}

/// What went wrong for a role in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later.
    Later(String),
    /// Somebody has to look.
    Failed(String),
}

/// The machine, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Who it is.
    pub identity: Seen<Identity>,
    /// The fleet's facts.
    pub facts: Seen<Facts>,
    /// dpkg's word for the facts package while that is between two states.
    pub facts_unsettled: Option<String>,
    /// What the facts say about this node.
    pub node: Seen<NodeFacts>,
    /// Its roles, and others that are configured.
    pub roles: BTreeMap<String, RoleSeen>,
    /// The key of the node's applications, where the facts hold a certificate for one; its path is the whole one.
    pub application_key: Option<WantedFile>,
    /// The certificates of the node and of its applications, and the CAs that are trusted, as one value.
    pub certificates: String,
    /// The guard of what can lock people out.
    pub guard: Guard,
    /// The guarded files as they have to be leave the way in as the confirmed ones have it.
    pub keeps_way_in: bool,
    /// What was done before.
    pub memory: Memory,
    /// This boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// What went wrong in this run, by role.
    pub failures: BTreeMap<String, Failure>,
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// systemctl start, after reset-failed.
    Start,
    /// systemctl restart.
    Restart,
    /// systemctl reload-or-restart.
    Reload,
    /// Nothing, but it counts as up to date.
    Note,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Remember that these facts were seen; older ones are refused from now on.
    Accept {
        /// The fleet.
        fleet: String,
        /// The version.
        version: u64,
    },
    /// Forget a role whose package is gone.
    Forget {
        /// The role.
        role: String,
    },
    /// Put the guarded files in force.
    Guard {
        /// Fingerprint of the set.
        set: String,
        /// For good, or until it is confirmed.
        confirmed: bool,
    },
    /// Write the key of the node's applications.
    ApplicationKey {
        /// What it becomes.
        spec: FileSpec,
    },
    /// Write a file of the role.
    Install {
        /// The role.
        role: String,
        /// The file.
        path: String,
        /// What it becomes.
        spec: FileSpec,
    },
    /// Delete a file that the facts do not list.
    Remove {
        /// The role.
        role: String,
        /// The file.
        path: String,
    },
    /// Run the role's join program.
    Join {
        /// The role.
        role: String,
        /// The program.
        program: String,
        /// The role's fingerprint.
        fingerprint: String,
    },
    /// Start, restart or reload a unit.
    Unit {
        /// The role.
        role: String,
        /// The unit.
        unit: String,
        /// What is done.
        verb: Verb,
        /// The role ships it, so it has to run; a unit of another package may have reasons of its own not to.
        own: bool,
        /// The role's fingerprint.
        fingerprint: String,
        /// [`Observed::certificates`].
        certificates: String,
    },
}

impl Action {
    /// The role on whose account it happens.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::Accept { .. } => None,
            // Every node has it, and all others are applied after it.
            Self::Guard { .. } | Self::ApplicationKey { .. } => Some(GUARDED_ROLE),
            Self::Forget { role }
            | Self::Install { role, .. }
            | Self::Remove { role, .. }
            | Self::Join { role, .. }
            | Self::Unit { role, .. } => Some(role),
        }
    }
}
