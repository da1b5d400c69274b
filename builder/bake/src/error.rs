//! Why an image could not be baked.

use std::{
    io,
    path::{Path, PathBuf},
};

use rolesmith_formats::gpt::{BootError, GptError};

use crate::lint::{Finding, TreeError};

/// Why an image could not be baked. Nothing stands under a final name that is not whole.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// A file or directory.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program that is not installed.
    #[error("{program} is not installed: {purpose}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// The user has no range of subordinate user ids.
    #[error("{user} has no subordinate ids in {file}")]
    NoSubordinateIds {
        /// The user.
        user: String,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
    },
    /// A program failed.
    #[error("{program} failed ({status}){}", said(output))]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// A tool that is too old, or does less than its package promises.
    #[error("{program} of the tools tree is unfit: {reason}")]
    Unfit {
        /// The program.
        program: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What was kept is not what was written.
    #[error("{} is damaged: its SHA-256 is not the one that was noted when it was made", path.display())]
    Corrupt {
        /// The layer.
        path: PathBuf,
    },
    /// The tree does not fit into the disk.
    #[error(
        "the files of the image need {needed} MiB, and its root file system has {available} MiB"
    )]
    TooSmall {
        /// MiB that the files have.
        needed: u64,
        /// MiB of the file system.
        available: u64,
    },
    /// The archive of a tree cannot be read.
    #[error("{}: {source}", path.display())]
    Tree {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: TreeError,
    },
    /// The finished tree must not become an image.
    #[error(
        "the tree must not become an image; its lints found{}",
        listed(findings)
    )]
    Unclean {
        /// What the lints found, at least one.
        findings: Vec<Finding>,
    },
    /// The partition table.
    #[error(transparent)]
    Table(#[from] GptError),
    /// GRUB's blocks.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The signature.
    #[error("the checksums could not be signed: {0}")]
    Sign(String),
}

/// Each finding with its way out.
fn listed(findings: &[Finding]) -> String {
    let lines = findings
        .iter()
        .map(|finding| format!("\n  {finding}\n    help: {}", finding.help));
    lines.collect()
}

fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(":\n{output}")
    }
}

impl BakeError {
    /// Makes the error of a file.
    pub fn file(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "make room, and bake again: what was finished is kept".into()
            }
            Self::File { .. } => {
                "see whether it exists, may be read and written, and the disk has room".into()
            }
            Self::Missing { package, .. } => format!("install it: apt-get install {package}"),
            Self::NoSubordinateIds { user, .. } => format!(
                "give the user a range: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}; or bake as root"
            ),
            Self::Failed { output, .. } if output.contains("No space left on device") => {
                "make room (the cache, the temporary directory and dist/images need a few GB), and bake again: what was finished is kept"
                    .into()
            }
            Self::Failed { .. } => {
                "see what it said; what was finished before is kept, so the next run goes on there".into()
            }
            Self::Unfit { .. } => "remove the tools tree named above, so that it is made anew".into(),
            Self::Corrupt { path } => format!("remove {} and bake again", path.display()),
            Self::Tree { path, .. } => format!("remove {} and bake again", path.display()),
            Self::Unclean { .. } => {
                "mend the role or the image.toml that brings it; docs/image-lints.md says what each lint looks for".into()
            }
            Self::TooSmall { .. } => "raise `size` under [disk] in image.toml".into(),
            Self::Table(_) | Self::Boot(_) => "this is an error of rolesmith: please report it".into(),
            Self::Sign(_) => "see whether the fleet's signing key is at hand".into(),
        }
    }
}

/// What comes of the crate's functions.
pub type Result<T> = std::result::Result<T, BakeError>;
