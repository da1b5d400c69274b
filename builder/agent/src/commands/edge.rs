use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use clap::Subcommand;

use crate::cli::End;
use crate::edge::{self, LEAVING, SETTINGS_FILE, SOCKET, Settings};
use crate::files::{self, Access, Root, Seen};

/// What the edge says to the load balancer (run by units)
#[derive(Debug, clap::Args)]
pub(crate) struct Edge {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Answer the health check for this machine, behind nginx
    ///
    /// 200 while the machine is in service, its services work and nginx takes connections; 503 with the reasons otherwise.
    Answer,
    /// Say 503 from now on, and wait until the load balancer has noticed: nginx is about to be stopped
    Leave {
        /// How long it needs for that
        seconds: u64,
    },
}

impl Edge {
    pub(crate) fn run(self) -> End {
        let root = Root::machine();
        match self.what {
            What::Answer => answer(&root),
            What::Leave { seconds } => leave(&root, Duration::from_secs(seconds)),
        }
    }
}

fn answer(root: &Root) -> End {
    let settings: Settings = match files::read_json(&root.join(SETTINGS_FILE)) {
        Seen::Is(settings) => settings,
        Seen::Absent => return End::Error(format!("there is no {SETTINGS_FILE}")),
        Seen::Broken(why) => return End::Error(format!("{SETTINGS_FILE}: {why}")),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(edge::run(root, Path::new(SOCKET), settings)),
        Err(error) => return End::Error(format!("no event loop: {error}")),
    };
    match ended {
        Ok(()) => End::Good(String::new()),
        Err(error) => End::Error(format!("{SOCKET}: {error}")),
    }
}

fn leave(root: &Root, wait: Duration) -> End {
    if let Err(error) = files::write(&root.join(LEAVING), b"", Access::PUBLIC) {
        // Then nobody would notice, and waiting is in vain.
        return End::Error(format!("{LEAVING}: {error}"));
    }
    // The load balancer tells nobody what it has seen: its own time is all that there is to go by.
    sleep(wait);
    End::Good(String::new())
}
