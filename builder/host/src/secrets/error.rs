//! What can be wrong with a secrets directory. Texts name files and never quote them.

use std::{io, path::PathBuf};

use rolesmith_formats::openpgp::OpenPgpError;
use rolesmith_model::ids::{FleetName, NodeName};

use crate::ca::{CaError, StepError};

/// Why the secrets could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Nothing there.
    #[error("{} does not exist: `rolesmith init` makes the secrets, and they are nowhere else", .0.display())]
    Missing(PathBuf),
    /// `init` where there are secrets already.
    #[error("{} holds a fleet's secrets already; they are never overwritten", .0.display())]
    Exists(PathBuf),
    /// Others may read or write it.
    #[error("{} is open to others (mode {mode:04o}): run `chmod {} {}`, and replace the secrets if others use this machine", .path.display(), if *.directory { "0700" } else { "0600" }, .path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whether it is a directory.
        directory: bool,
    },
    /// It belongs to another user, who could change it.
    #[error("{} belongs to user {owner}, not to you", .path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's numeric id.
        owner: u32,
    },
    /// The secrets are another fleet's.
    #[error("{} holds the secrets of the fleet {found}, not of {wanted}", .path.display())]
    OtherFleet {
        /// The directory.
        path: PathBuf,
        /// Whose they are.
        found: FleetName,
        /// Whose were wanted.
        wanted: FleetName,
    },
    /// Written by a later version of this program.
    #[error("{} says format {found}, which this version does not know", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it names.
        found: u32,
    },
    /// A node without an identity.
    #[error(
        "the node {0} has no identity yet; `rolesmith user-data {0}` or `rolesmith enroll {0}` makes it"
    )]
    NoIdentity(NodeName),
    /// A secret without a value.
    #[error("{} is empty; a secret needs a value", .0.display())]
    Empty(PathBuf),
    /// A value that some configuration file could not carry.
    #[error("the value in {} holds {found}: printable ASCII without spaces and without \" ' \\ ; # is what every configuration file carries", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it holds that it must not.
        found: &'static str,
    },
    /// Somebody else replaced the machine in between.
    #[error("the node {0} got another identity in the meantime")]
    Raced(NodeName),
    /// A step of a roll-over that is not the one that is due.
    #[error(transparent)]
    Step(StepError),
    /// A file that is not what it should be.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, without its content.
        message: String,
    },
    /// The repository's key cannot be read or made.
    #[error("{}: {source}", .path.display())]
    OpenPgp {
        /// The file.
        path: PathBuf,
        /// Why.
        source: OpenPgpError,
    },
    /// The CA or a node's certificate cannot be read or made.
    #[error("{}: {source}", .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: CaError,
    },
    /// The system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl SecretsError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(super) fn openpgp(path: impl Into<PathBuf>) -> impl FnOnce(OpenPgpError) -> Self {
        let path = path.into();
        move |source| Self::OpenPgp { path, source }
    }

    pub(super) fn ca(path: impl Into<PathBuf>) -> impl FnOnce(CaError) -> Self {
        let path = path.into();
        move |source| Self::Ca { path, source }
    }

    pub(super) fn malformed(path: impl Into<PathBuf>, message: impl ToString) -> Self {
        Self::Malformed {
            path: path.into(),
            message: message.to_string(),
        }
    }
}
