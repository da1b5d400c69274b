use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::cli::End;
use crate::migrate::{Migration, Outcome, credential};
use crate::notify::Notifier;

/// Bring a service's database up to date, once for each release (run by the service's unit)
///
/// Waits until it can be done, or until another node has done it. Reads the database's URL from the credential database-url.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    /// The service
    service: String,
    /// The release that the command belongs to
    release: String,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<String>,
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
            Ok(Outcome::Ran) => End::Good(format!(
                "the database is at release {}\n",
                migration.release
            )),
            Ok(Outcome::Known) => End::Good(String::new()),
            Err(error) => End::Error(error.to_string()),
        }
    }
}
