use crate::apply::apply;
use crate::cli::{End, now};
use crate::files::Root;
use crate::program::Machine;
use crate::state::Phase;

/// Make this machine what the facts say (root; run by rolesmith-apply.service)
///
/// Installs the node's files, loads firewall rules, runs the roles' join programs, starts, restarts and reloads units.
/// What is up to date is left alone, so it may be run at any time and be interrupted at any time. It never runs apt and
/// acts only on roles whose packages are configured. A machine that is not enrolled, or waits for something, is no failure.
#[derive(Debug, clap::Args)]
pub(crate) struct Apply {}

impl Apply {
    pub(crate) fn run(self) -> End {
        match apply(&Root::machine(), &Machine, &now) {
            Ok(state) => match state.report.phase {
                Phase::NotEnrolled => End::Good("not enrolled\n".to_owned()),
                Phase::Waiting { why } => End::Good(format!("waiting: {why}\n")),
                Phase::Converged => End::Good("converged\n".to_owned()),
                Phase::Failed { what } => End::Error(what),
            },
            Err(error) => End::Error(error.to_string()),
        }
    }
}
