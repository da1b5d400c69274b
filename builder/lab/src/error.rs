//! What can go wrong in the lab.

use std::{io, path::PathBuf, time::Duration};

use crate::preflight::Missing;

/// An error of the lab. The text says what was attempted, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine lacks something that the lab needs.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The specification contradicts itself or the lab's rules.
    #[error("the lab cannot be built as specified: {0}")]
    Spec(String),
    /// A file or directory could not be read, written, made or removed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted, as a verb: `read`, `write`, ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{command} failed ({status}){}{}", if output.is_empty() { "" } else { ":\n" }, output)]
    Failed {
        /// The program with its arguments.
        command: String,
        /// How it ended, in words.
        status: String,
        /// The end of what it wrote, standard error first.
        output: String,
    },
    /// A node ended while it was booting.
    #[error("node {node} stopped while booting ({status}); its console said:\n{console}")]
    Boot {
        /// The node.
        node: String,
        /// How systemd-nspawn ended.
        status: String,
        /// The end of the console's log.
        console: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s", limit.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// There is no node of that name in this lab.
    #[error("the lab has no node called {0}")]
    NoNode(String),
    /// The node exists but is not running.
    #[error("node {0} is not running")]
    NotRunning(String),
    /// The node is frozen, and cannot be asked anything.
    #[error("node {0} is frozen")]
    Frozen(String),
    /// There is no lab in this directory.
    #[error("no lab is up (nothing recorded in {})", .0.display())]
    NoLab(PathBuf),
    /// Another program works on the same lab or the same root tree at this moment.
    #[error("another process holds {}; wait for it to end", .0.display())]
    Busy(PathBuf),
    /// The state file is not one this version wrote.
    #[error("{} cannot be understood: {reason}", path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Two or more nodes failed to come up; each with its own error.
    #[error("{} nodes failed:\n{}", .0.len(), .0.iter().map(|(_, e)| e.to_string()).collect::<Vec<_>>().join("\n"))]
    Nodes(Vec<(String, LabError)>),
}

impl LabError {
    /// For `map_err`: an I/O error with what was attempted, and on what.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> LabError {
        let path = path.into();
        move |source| LabError::File {
            action,
            path,
            source,
        }
    }
}

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, LabError>;
