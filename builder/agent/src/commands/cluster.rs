use std::io::{self, Write as _};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::cli::{End, now};
use crate::cluster::{Core, Timing};
use crate::files::Root;
use crate::net::limits::Limits;
use crate::program::Machine;
use crate::runtime::{Database, MakeCore, RuntimeError, SECOND, Setup, run};

/// Take part in the fleet's clusters (root; run by rolesmith-cluster.service)
///
/// Speaks to the other members over mutual TLS, decides with them who is the primary of the database, and makes this
/// node's database follow. Waits while the machine is not enrolled.
#[derive(Debug, clap::Args)]
pub(crate) struct Cluster {}

impl Cluster {
    pub(crate) fn run(self) -> End {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8)
            .build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return End::Error(format!("no event loop: {error}")),
        };
        let ended = LocalSet::new().block_on(&runtime, serve());
        // A resolver that hangs must not keep the service from ending.
        runtime.shutdown_background();
        match ended {
            Ok(()) => End::Good(String::new()),
            Err(error) => End::Error(error.to_string()),
        }
    }
}

async fn serve() -> Result<(), RuntimeError> {
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|error| RuntimeError::System("SIGTERM", error))?;
    let setup = Setup {
        root: Root::machine(),
        programs: Machine,
        limits: Limits::default(),
        period: SECOND,
        clock: now,
        log,
    };
    let stop = async move {
        terminated.recv().await;
    };
    let make: MakeCore<Core> = Box::new(|me, facts, durable, now, seed| {
        Core::new(me, facts, Timing::default(), durable, now, seed)
    });
    run(setup, make, Database::of(&Root::machine()), stop).await
}

/// A line for the journal.
fn log(line: &str) {
    // Nobody is told where that fails.
    let _ = writeln!(io::stderr(), "{line}");
}
