use std::path::Path;

use crate::cli::End;
use crate::edge::{self, SETTINGS_FILE, SOCKET, Settings};
use crate::files::{self, Root, Seen};

/// Answer the load balancer's health check for this machine, behind nginx (run by rolesmith-edge.service)
///
/// 200 while the machine is in service, its services work and nginx takes connections; 503 with the reasons otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Edge {}

impl Edge {
    pub(crate) fn run(self) -> End {
        let root = Root::machine();
        let settings: Settings = match files::read_json(&root.join(SETTINGS_FILE)) {
            Seen::Is(settings) => settings,
            Seen::Absent => return End::Error(format!("there is no {SETTINGS_FILE}")),
            Seen::Broken(why) => return End::Error(format!("{SETTINGS_FILE}: {why}")),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(edge::run(&root, Path::new(SOCKET), settings)),
            Err(error) => return End::Error(format!("no event loop: {error}")),
        };
        match ended {
            Ok(()) => End::Good(String::new()),
            Err(error) => End::Error(format!("{SOCKET}: {error}")),
        }
    }
}
