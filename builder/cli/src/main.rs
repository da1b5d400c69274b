//! rolesmith: role definitions become signed Debian packages, an apt repository and cloud-init user-data.

mod app;
mod applications;
mod args;
mod clusters;
mod commands;
mod edge;
mod execute;
mod keys;
mod progress;
mod project;
mod reach;
mod report;
mod upkeep;

use std::{io::Write as _, process::ExitCode};

use args::{Cli, Command};
use clap::Parser as _;
use report::{Failure, Outcome};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Findings) => ExitCode::FAILURE,
        Err(Failure::Status(status)) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(Failure::Unread) => ExitCode::SUCCESS,
        Err(Failure::Message { message, help }) => {
            let mut stderr = anstream::stderr();
            // The exit status says it too, where nobody can be told.
            let _ = writeln!(stderr, "error: {message}");
            if let Some(help) = help {
                let _ = writeln!(stderr, "  help: {help}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Outcome {
    let app = app::App::new(&cli.dir, cli.json)?;
    match &cli.command {
        Command::Init(args) => commands::init::run(&app, args),
        Command::Check(args) => commands::check::run(&app, args),
        Command::Plan(args) => commands::plan::run(&app, args),
        Command::Build(args) => commands::build::run(&app, args),
        Command::Publish(args) => commands::publish::run(&app, args),
        Command::Mirror(args) => commands::mirror::run(&app, args),
        Command::UserData(args) => commands::user_data::run(&app, args),
        Command::Enroll(args) => commands::enroll::run(&app, args),
        Command::Record(args) => commands::record::run(&app, args),
        Command::Status(args) => commands::status::run(&app, args),
        Command::Ca(args) => commands::ca::run(&app, args),
        Command::Recover(args) => commands::recover::run(&app, args),
        Command::Logs(args) => commands::logs::run(&app, args),
        Command::Bake(args) => commands::bake::run(&app, args),
        Command::Lab(args) => commands::lab::run(&app, args),
        Command::Schema(args) => commands::schema::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::ManPages { dir } => commands::man_pages::run(dir),
    }
}
