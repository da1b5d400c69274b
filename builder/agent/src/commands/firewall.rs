use clap::Subcommand;

use super::poke::poke;
use crate::apply::apply;
use crate::cli::{End, now};
use crate::files::Root;
use crate::firewall::{Firewall, FirewallError};
use crate::guard::Guard;
use crate::program::Machine;
use crate::state::Phase;
use crate::status::{Status, firewall};

/// Load, confirm or take back firewall rules and ssh settings
///
/// On a machine that was enrolled, the first rules and ssh settings, and later ones that may close the way in, are taken
/// back after 120 seconds, and at a reboot, unless somebody confirms that the machine can still be reached.
#[derive(Debug, clap::Args)]
pub(crate) struct FirewallArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try rules again that were taken back, or load the confirmed ones again after they were flushed (root)
    Load,
    /// Keep the pending rules and ssh settings: the machine can still be reached (root)
    Confirm,
    /// Return at once to what was in force before the pending rules and ssh settings (root)
    Rollback,
    /// Show whether rules are active, pending or taken back
    Status,
    /// Load the confirmed rules before the network comes up (run by rolesmith-firewall.service)
    #[command(hide = true)]
    Boot,
    /// Take the pending rules back when their time is over (run by rolesmith-firewall-rollback.service)
    #[command(hide = true)]
    TimeOut,
}

impl FirewallArgs {
    pub(crate) fn run(self) -> End {
        let (root, programs) = (Root::machine(), Machine);
        let machine = Firewall {
            root: &root,
            programs: &programs,
            now: now(),
        };
        let result = match self.command {
            Command::Load => load(&root, &machine),
            Command::Confirm => machine
                .confirm()
                .map(|was| after(&root, was, "confirmed\n", "nothing is pending\n")),
            Command::Rollback => machine
                .rollback("an administrator took them back")
                .map(|was| after(&root, was, "taken back\n", "nothing is pending\n")),
            Command::TimeOut => machine
                .rollback("nobody confirmed them in time")
                .map(|was| after(&root, was, "taken back\n", "")),
            Command::Boot => machine.boot().map(|()| End::Good(String::new())),
            Command::Status => Ok(status(&root)),
        };
        result.unwrap_or_else(|error| End::Error(error.to_string()))
    }
}

fn load(root: &Root, machine: &Firewall<'_, Machine>) -> Result<End, FirewallError> {
    if machine.reload()? && !machine.forgive()? {
        return Ok(End::Good("the confirmed rules were loaded\n".to_owned()));
    }
    machine.forgive()?;
    Ok(match apply(root, &Machine, &now) {
        Ok(state) => match state.report.phase {
            Phase::Failed { what } => End::Error(what),
            _ => status(root),
        },
        Err(error) => End::Error(error.to_string()),
    })
}

fn status(root: &Root) -> End {
    let status = Status::read(root, now());
    match Guard::load(root) {
        Ok(guard) => End::Good(firewall(status.firewall, &guard, now()) + "\n"),
        Err(why) => End::Error(why),
    }
}

/// The node's state has to tell about it, so it is worked out anew.
fn after(root: &Root, was: bool, yes: &str, no: &str) -> End {
    if !was {
        return End::Good(no.to_owned());
    }
    match poke(root) {
        End::Good(_) => End::Good(yes.to_owned()),
        other => other,
    }
}
