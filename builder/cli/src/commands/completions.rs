//! rolesmith completions

use clap::CommandFactory as _;

use crate::{
    app::out,
    args::{Cli, Completions},
    report::Outcome,
};

/// Prints a shell's completion script.
pub fn run(args: &Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rolesmith", &mut script);
    out(String::from_utf8_lossy(&script))
}
