//! The command line: what can be asked, and what is printed.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands;

/// What a command came to.
pub(crate) enum End {
    /// It worked; this is what there is to say.
    Good(String),
    /// The answer is no, and this is what there is to say.
    Bad(String),
    /// It failed, and why.
    Error(String),
}

#[derive(Debug, Parser)]
#[command(
    name = "rolesmith-agent",
    version,
    about = "Makes this machine into the node that its fleet's facts describe",
    long_about = "rolesmith-agent makes a machine into what the facts of its fleet say it is. The facts come in a package \
                  of the fleet's signed apt repository; who the machine is stands in /etc/rolesmith/node.json and came with \
                  its user-data or by `rolesmith enroll`. systemd runs the agent; people mostly ask it for its status."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Alarms(commands::alarms::Alarms),
    Apply(commands::apply::Apply),
    Certificates(commands::certificates::Certificates),
    Cluster(commands::cluster::Cluster),
    #[command(hide = true)]
    Database(commands::database::Database),
    Run(commands::run::Run),
    Databases(commands::databases::Databases),
    Migrate(commands::migrate::Migrate),
    Service(commands::service::Service),
    Edge(commands::edge::Edge),
    Status(commands::status::StatusArgs),
    Health(commands::health::HealthArgs),
    Wait(commands::wait::Wait),
    Facts(commands::facts::FactsArgs),
    Discover(commands::discover::Discover),
    Fetch(commands::fetch::Fetch),
    Firewall(commands::firewall::FirewallArgs),
    Logs(commands::logs::Logs),
    Perf(commands::perf::Perf),
    Poke(commands::poke::Poke),
    Switchover(commands::switchover::Switchover),
    Drain(commands::drain::Drain),
    Undrain(commands::drain::Undrain),
    Recover(commands::recover::Recover),
    Redis(commands::redis::Redis),
}

/// The command line as a value, for the manual page and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Unix seconds. The clock is read here and handed down.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Runs the program. Exit status 0: it worked; 1: it failed, or the answer is no; 2: the call was wrong.
pub fn main() -> ExitCode {
    let end = match Cli::parse().command {
        Command::Alarms(args) => args.run(),
        Command::Apply(args) => args.run(),
        Command::Certificates(args) => args.run(),
        Command::Cluster(args) => args.run(),
        Command::Database(args) => args.run(),
        Command::Run(args) => args.run(),
        Command::Databases(args) => args.run(),
        Command::Migrate(args) => args.run(),
        Command::Service(args) => args.run(),
        Command::Edge(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Health(args) => args.run(),
        Command::Wait(args) => args.run(),
        Command::Facts(args) => args.run(),
        Command::Discover(args) => args.run(),
        Command::Fetch(args) => args.run(),
        Command::Firewall(args) => args.run(),
        Command::Logs(args) => args.run(),
        Command::Perf(args) => args.run(),
        Command::Poke(args) => args.run(),
        Command::Switchover(args) => args.run(),
        Command::Drain(args) => args.run(),
        Command::Undrain(args) => args.run(),
        Command::Recover(args) => args.run(),
        Command::Redis(args) => args.run(),
    };
    // A reader that went away (`| head`) is no failure of ours.
    match end {
        End::Good(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        End::Bad(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::FAILURE
        }
        End::Error(text) => {
            let _ = writeln!(io::stderr(), "rolesmith-agent: {text}");
            ExitCode::FAILURE
        }
    }
}

/// A value as indented JSON with a newline.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text + "\n",
        // Our values have string keys only, so this is out of reach; an empty object would be a lie.
        Err(error) => format!("{{\"error\":{:?}}}\n", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
