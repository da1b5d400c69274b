//! `rolesmith-agent database`: one look at this node's PostgreSQL, or one step, by hand. Not shown in the help.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Subcommand;

use crate::cli::End;
use crate::cluster::Action;
use crate::postgres::{Postgres, Problem, settings};
use crate::program::{Call, Machine, Programs as _};

/// Look at this node's PostgreSQL as the agent does, or take one step of the agent's by hand (root)
///
/// For tests, and for those who know docs/ha.md by heart: a step is taken without anybody's vote. It is refused while
/// rolesmith-cluster.service runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Database {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What is seen, as JSON
    Observe,
    /// Looks every 250 ms and tells the processor time that it took
    Watch {
        /// For how long
        milliseconds: u64,
    },
    /// Takes a step, such as '"promote"' or '{"follow":{"node":"app-2"}}'
    Perform {
        /// The step as JSON
        action: String,
    },
}

impl Database {
    pub(crate) fn run(self) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(self.what.run()),
            Err(error) => return End::Error(format!("no event loop: {error}")),
        };
        match ended {
            Ok(text) => End::Good(text + "\n"),
            Err(error) => End::Error(error.to_string()),
        }
    }
}

impl What {
    async fn run(self) -> Result<String, Box<dyn std::error::Error>> {
        let settings = settings::Settings::load(Path::new(settings::SETTINGS_FILE))?
            .ok_or_else(|| Problem::Refused("this node has no database".into()))?;
        let database = Postgres::new(settings);
        match self {
            Self::Observe => Ok(serde_json::to_string_pretty(&database.observe().await)?),
            Self::Watch { milliseconds } => {
                let until = Instant::now() + Duration::from_millis(milliseconds);
                let mut looks = 0;
                while Instant::now() < until {
                    database.observe().await;
                    looks += 1;
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                let used = used.tv_sec * 1_000_000 + used.tv_nsec / 1_000;
                Ok(format!(
                    "{looks} looks, {used} microseconds of processor time"
                ))
            }
            Self::Perform { action } => {
                let action: Action = serde_json::from_str(&action)?;
                let service = [
                    "systemctl",
                    "--quiet",
                    "is-active",
                    "rolesmith-cluster.service",
                ];
                if Machine.run(&Call::new(service))?.code == Some(0) {
                    let why = "rolesmith-cluster.service runs, and would not know of this";
                    return Err(Problem::Refused(why.into()).into());
                }
                let began = Instant::now();
                let outcome = database.perform(action).await?;
                let outcome = serde_json::to_string(&outcome)?;
                Ok(format!("{outcome} in {} ms", began.elapsed().as_millis()))
            }
        }
    }
}
