//! `rolesmith enroll`: does to an existing Debian machine what a seed does to a fresh one, over the system's ssh.
//!
//! In order: look at the machine by one program that changes nothing ([`look`]); name everything that the node would
//! collide with ([`conflicts`]); make the changes one by one, each said before it is made ([`apply`]); install; and, once
//! the node's firewall is on trial, confirm it over a new connection ([`confirm`]).

pub mod change;
mod confirm;
pub mod conflict;
pub mod probe;
pub mod ssh;

pub use change::{Change, changes, installation, secret_changes};
pub use confirm::{Confirmation, confirm};
pub use conflict::{Conflict, Expectations, UnknownCode, Weight, conflicts, stopping};
pub use probe::{Probe, ProbeError};
pub use ssh::{Remote, RemoteError, Ssh, Target};

use confirm::TRIAL;

/// Why a machine was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It cannot be talked to, or a program on it failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What it says about itself is unusable.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// A change was not made; those before it were, and making them again does no harm.
    #[error("could not go on where it {sentence}: {source}")]
    Change {
        /// What was to be done.
        sentence: String,
        /// Why it was not.
        source: RemoteError,
    },
    /// The agent's answer is none.
    #[error("`rolesmith-agent status` on the machine says nothing usable: {0}")]
    Status(String),
    /// The agent has not put the firewall on trial.
    #[error(
        "the node's firewall is not on trial after {TRIAL} s: `rolesmith-agent status` on the machine says why"
    )]
    NoTrial,
    /// Its trial is over.
    #[error(
        "the node's firewall was taken back: nobody confirmed it in time; `rolesmith-agent firewall load` on the machine tries it again"
    )]
    TakenBack,
    /// The firewall would lock this computer out.
    #[error(
        "the machine cannot be reached by a new connection: {0}; its firewall and ssh settings are taken back within two minutes"
    )]
    LockedOut(#[source] RemoteError),
}

/// Looks at a machine and changes nothing.
///
/// # Errors
/// [`EnrollError::Remote`], [`EnrollError::Probe`].
pub fn look(machine: &impl Remote) -> Result<Probe, EnrollError> {
    Ok(Probe::parse(&machine.run(probe::SCRIPT)?)?)
}

/// What a change came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is about to be made.
    Begins,
    /// It was made.
    Changed,
    /// The machine was like that already.
    Unchanged,
}

/// Makes changes in their order, and says of each that it begins and what it came to. Stops at the first that fails.
///
/// # Errors
/// [`EnrollError::Change`].
pub fn apply(
    machine: &impl Remote,
    changes: &[Change],
    mut say: impl FnMut(&Change, Progress),
) -> Result<(), EnrollError> {
    for change in changes {
        say(change, Progress::Begins);
        let output = machine
            .run(&change.script())
            .map_err(|source| EnrollError::Change {
                sentence: change.sentence().to_owned(),
                source,
            })?;
        let unchanged = output.lines().next_back() == Some("unchanged");
        say(
            change,
            if unchanged {
                Progress::Unchanged
            } else {
                Progress::Changed
            },
        );
    }
    Ok(())
}
