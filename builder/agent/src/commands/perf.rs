use std::path::PathBuf;
use std::time::Duration;

use crate::cli::End;
use crate::files::Root;
use crate::perf::run;

/// Write an assessment of this machine to the log every minute (run by rolesmith-perf.service)
///
/// Each is a line of JSON under the name rolesmith-perf: processors, memory, disks, network, units, PostgreSQL, pgbouncer and Redis. How
/// often is the setting perf_interval of the role base; `rolesmith schema perf` prints what is in it.
#[derive(Debug, clap::Args)]
pub(crate) struct Perf {
    /// Print one over so many seconds, and end
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    once: Option<u64>,
    /// The directory that stands for /
    #[arg(long, hide = true, default_value = "/")]
    root: PathBuf,
}

impl Perf {
    pub(crate) fn run(self) -> End {
        let root = Root::at(self.root);
        let said = match self.once {
            Some(seconds) => run::once(&root, Duration::from_secs(seconds)).map(|line| line + "\n"),
            None => run::run(&root).map(|()| String::new()),
        };
        match said {
            Ok(text) => End::Good(text),
            Err(error) => End::Error(error.to_string()),
        }
    }
}
