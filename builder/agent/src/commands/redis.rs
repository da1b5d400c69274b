use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::End;
use crate::files::Root;
use crate::redis::{run, watch};

/// Start this node's Redis and Sentinel as what the fleet says they are (run by their units)
#[derive(Debug, clap::Args)]
pub(crate) struct Redis {
    #[command(subcommand)]
    part: Part,
    /// The directory that stands for /
    #[arg(long, hide = true, global = true, default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Ask the Sentinels who is master, then become Redis
    ///
    /// Waits until a majority of them has answered. An instance without data never becomes master, except the first one
    /// of a new fleet.
    Server {
        /// The program and its first arguments
        #[arg(required = true, trailing_var_arg = true)]
        program: Vec<OsString>,
    },
    /// Find out what to watch, then become Sentinel
    Sentinel {
        /// The program and its first arguments
        #[arg(required = true, trailing_var_arg = true)]
        program: Vec<OsString>,
    },
    /// Tell Sentinel when this node's copy of the data may become the master
    Watch,
}

impl Redis {
    pub(crate) fn run(self) -> End {
        let root = Root::at(self.root);
        let ended = match &self.part {
            Part::Server { program } => run::start_server(&root, program),
            Part::Sentinel { program } => run::start_sentinel(&root, program),
            Part::Watch => watch::look_after(&root),
        };
        match ended {
            Ok(()) => End::Good(String::new()),
            Err(error) => End::Error(error.to_string()),
        }
    }
}
