//! The manual pages, made for the Debian package.

use std::path::Path;

use clap::CommandFactory as _;

use crate::{args::Cli, report::Outcome};

/// Writes rolesmith.1 and one page a command.
pub fn run(dir: &Path) -> Outcome {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    Ok(())
}
