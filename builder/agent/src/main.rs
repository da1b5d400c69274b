//! `rolesmith-agent`: the node's side of rolesmith.

use std::process::ExitCode;

fn main() -> ExitCode {
    rolesmith_agent::cli::main()
}
