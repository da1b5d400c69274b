use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::service::become_program;
use crate::cli::End;
use crate::liveness::Asked;
use crate::migrate::{Migration, Outcome, credential};
use crate::notify::Notifier;

/// Bring a service's database up to date, once for each release, and become the service (run by its unit)
///
/// Waits until it can be done, or until another node has done it. Reads the database's URL from the credential database-url.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    /// The service
    service: String,
    /// The release that the command belongs to
    release: String,
    /// The command that brings the database up to date, and each of its arguments
    #[arg(long = "command", value_name = "WORD", required = true)]
    command: Vec<String>,
    /// Where the program is asked whether it still answers
    #[arg(long, value_name = "URL")]
    alive: Option<Asked>,
    /// The service's program and its arguments
    #[arg(required = true, last = true)]
    program: Vec<String>,
}

impl Migrate {
    pub(crate) fn run(self) -> End {
        let Some(directory) = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) else {
            return End::Error(
                "there is no CREDENTIALS_DIRECTORY: this is run by a service's unit".into(),
            );
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return End::Error(format!("no event loop: {error}")),
        };
        let migration = Migration {
            node: env::var("ROLESMITH_NODE").unwrap_or_default(),
            url: credential(&directory),
            service: self.service,
            release: self.release,
            command: self.command,
        };
        let notifier = Notifier::from_env();
        let ended = runtime.block_on(migration.run(|what| {
            // The journal.
            let _ = writeln!(io::stderr(), "{what}");
            notifier.send(&format!("STATUS={what}"));
        }));
        match ended {
            Ok(Outcome::Ran) => {
                let _ = writeln!(
                    io::stderr(),
                    "the database is at release {}",
                    migration.release
                );
            }
            Ok(Outcome::Known) => {}
            Err(error) => return End::Error(error.to_string()),
        }
        drop(runtime);
        become_program(self.alive.as_ref(), &self.program)
    }
}
