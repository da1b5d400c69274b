use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::cli::End;
use crate::liveness::{self, Asked};
use crate::notify::Notifier;

/// Become a service's program, and have systemd told as long as it answers (run by its unit)
#[derive(Debug, clap::Args)]
pub(crate) struct Service {
    /// Where the program is asked
    #[arg(long, value_name = "URL", required_unless_present = "watch")]
    alive: Option<Asked>,
    /// Only watch
    #[arg(long, value_name = "URL", hide = true, conflicts_with_all = ["alive", "program"])]
    watch: Option<Asked>,
    /// The program and its arguments
    #[arg(required_unless_present = "watch", last = true)]
    program: Vec<String>,
}

impl Service {
    pub(crate) fn run(self) -> End {
        match self.watch {
            Some(asked) => asked.watch(&Notifier::from_env(), |what| {
                // The journal.
                let _ = writeln!(io::stderr(), "{what}");
            }),
            None => become_program(self.alive.as_ref(), &self.program),
        }
    }
}

/// Comes back only where that fails.
pub(super) fn become_program(alive: Option<&Asked>, program: &[String]) -> End {
    let Some((program, arguments)) = program.split_first() else {
        return End::Error("there is no program".into());
    };
    // A program that nobody watches is better than none.
    if let Some(Err(error)) = alive.map(liveness::begin) {
        let _ = writeln!(io::stderr(), "nobody watches whether it answers: {error}");
    }
    let error = Command::new(program).args(arguments).exec();
    End::Error(format!("{program}: {error}"))
}
