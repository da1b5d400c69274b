//! rolesmith completions

use clap::CommandFactory as _;

use crate::{
    args::{Cli, Completions},
    report::Outcome,
};

/// Prints a shell's completion script.
pub fn run(args: &Completions) -> Outcome {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "rolesmith",
        &mut std::io::stdout(),
    );
    Ok(())
}
