use std::{io, path::PathBuf, time::Duration};

use super::machine::Firmware;

/// Why a boot was no success.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// This machine lacks programs or files.
    #[error("to boot images this machine lacks {}", .0.join(", "))]
    Missing(Vec<String>),
    /// A file of the test's own.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was to be done: a verb.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program that helps failed.
    #[error("{program} failed ({status}): {said}")]
    Tool {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// The machine ended, stopped for good, or did not get so far in time.
    #[error("{node} ({firmware}) {what}\n{}", tail(console))]
    Boot {
        /// Which node.
        node: String,
        /// What it started with.
        firmware: Firmware,
        /// What became of it.
        what: String,
        /// The end of its console.
        console: String,
    },
    /// The machine came up, and is not what it should be.
    #[error("{node} came up, but {}{}", .complaints.join("; "), indented(why))]
    Wrong {
        /// Which node.
        node: String,
        /// What is wrong.
        complaints: Vec<String>,
        /// What the machine's journal says of units that failed.
        why: String,
    },
    /// The guest could not be asked.
    #[error("{node} cannot be asked over ssh: {said}\n{}", tail(console))]
    Ssh {
        /// Which node.
        node: String,
        /// What ssh said.
        said: String,
        /// The end of its console.
        console: String,
    },
    /// The whole took too long.
    #[error("{what} was not there after {} s", limit.as_secs())]
    Limit {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// The seed is more than a disk can have.
    #[error("the seed of {node}: {source}")]
    Seed {
        /// Whose.
        node: String,
        /// Why.
        source: rolesmith_formats::iso9660::IsoError,
    },
}

impl BootError {
    pub(super) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> BootError {
        let path = path.into();
        move |source| BootError::File { what, path, source }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            BootError::Missing(_) => "`builder/setup image` installs them, and so does apt",
            BootError::File { .. } | BootError::Tool { .. } => {
                "see whether the disk is full, and who may write there"
            }
            BootError::Boot { .. } | BootError::Ssh { .. } => {
                "the console's last lines say how far it came; --timeout SECONDS gives it longer"
            }
            BootError::Wrong { .. } => "mend the image or the roles, and bake it again",
            BootError::Limit { .. } => "--timeout SECONDS gives it longer",
            BootError::Seed { .. } => "make its secrets and keys fewer",
        }
    }
}

fn tail(console: &str) -> String {
    if console.is_empty() {
        return "its console said nothing".to_owned();
    }
    format!("the end of its console:{}", indented(console))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\n    {line}")).collect()
}
