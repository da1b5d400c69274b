use crate::cli::{End, json, now};
use crate::files::Root;
use crate::runtime::control;
use crate::status::Status;

/// Show where this node stands
///
/// Enrolled or not, its facts, its roles with their units, their health, the firewall, and what somebody should look at.
/// Exits with 0 whatever it shows; `health` and `wait` are there for tests. With --fleet this node asks all others how they
/// are (root; it takes two seconds at most).
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// For programs
    #[arg(long)]
    json: bool,
    /// All members of the fleet in one table
    #[arg(long)]
    fleet: bool,
}

impl StatusArgs {
    pub(crate) fn run(self) -> End {
        if self.fleet {
            return match control::fleet(&Root::machine()) {
                Ok(status) if self.json => End::Good(json(&status)),
                Ok(status) => End::Good(status.table()),
                Err(error) => End::Error(control::silent(&error)),
            };
        }
        let status = Status::read(&Root::machine(), now());
        End::Good(if self.json {
            json(&status)
        } else {
            status.table(now())
        })
    }
}
