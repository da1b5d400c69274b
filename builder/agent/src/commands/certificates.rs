use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::Subcommand;

use crate::certificates::Settings;
use crate::certificates::install::install;
use crate::certificates::report::Report;
use crate::certificates::run::{Setup, run};
use crate::cli::{End, json, now};
use crate::files::Root;
use crate::program::Machine;

/// Certificates of the sites that the edge serves
#[derive(Debug, clap::Args)]
pub(crate) struct Certificates {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show which sites have a certificate, and until when
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether somebody has to look; exit status 1 if so
    Check,
    /// Get certificates, renew them and share them with the other edges (run by rolesmith-certificates.service)
    #[command(hide = true)]
    Serve,
    /// Give nginx what is new (root; run by rolesmith-certificates-install.service)
    #[command(hide = true)]
    Install,
}

impl Certificates {
    pub(crate) fn run(self) -> End {
        let root = Root::machine();
        match self.what {
            What::Status { json: as_json } => match Report::load(&root) {
                Ok(report) if as_json => End::Good(json(&report)),
                Ok(report) => End::Good(report.lines()),
                Err(why) => End::Error(why),
            },
            What::Check => check(&root),
            What::Serve => serve(root),
            What::Install => {
                let settings = match Settings::load(&root) {
                    Ok(settings) => settings,
                    Err(why) => return End::Error(why),
                };
                match install(&root, &Machine, &settings, now()) {
                    Ok(given) => {
                        End::Good(given.iter().map(|site| format!("{site}: new\n")).collect())
                    }
                    Err(why) => End::Error(why),
                }
            }
        }
    }
}

fn check(root: &Root) -> End {
    let seen = Settings::load(root).and_then(|settings| {
        let report = Report::load(root)?;
        Ok(report.problems(&settings, now()))
    });
    match seen {
        Ok(problems) if problems.is_empty() => End::Good(String::new()),
        Ok(problems) => End::Bad(problems.join("\n") + "\n"),
        Err(why) => End::Bad(why + "\n"),
    }
}

fn serve(root: Root) -> End {
    let Some(credentials) = env::var_os("CREDENTIALS_DIRECTORY") else {
        return End::Error("there is no $CREDENTIALS_DIRECTORY: its unit starts it".into());
    };
    let setup = Setup {
        root,
        key: PathBuf::from(credentials).join("node.key"),
        clock: now,
        log,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build();
    match runtime {
        Ok(runtime) => match runtime.block_on(run(setup)) {
            Ok(()) => End::Good(String::new()),
            Err(error) => End::Error(error.to_string()),
        },
        Err(error) => End::Error(format!("no event loop: {error}")),
    }
}

/// A line for the journal.
fn log(line: &str) {
    // Nobody is told where that fails.
    let _ = writeln!(io::stderr(), "{line}");
}
