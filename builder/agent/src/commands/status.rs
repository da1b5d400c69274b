use crate::cli::{End, json, now};
use crate::files::Root;
use crate::status::Status;

/// Show where this node stands
///
/// Enrolled or not, its facts, its roles with their units, their health, the firewall, and what somebody should look at.
/// Exits with 0 whatever it shows; `health` and `wait` are there for tests.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

impl StatusArgs {
    pub(crate) fn run(self) -> End {
        let status = Status::read(&Root::machine(), now());
        End::Good(if self.json {
            json(&status)
        } else {
            status.table(now())
        })
    }
}
