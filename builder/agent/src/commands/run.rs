use std::thread::{self, sleep};
use std::time::Duration;

use crate::cli::{End, now};
use crate::files::{self, Access, Root};
use crate::health::{HEALTH_FILE, INTERVAL, look};
use crate::lookout;
use crate::notify::{Notifier, watchdog};
use crate::program::Machine;
use crate::runtime::store;

/// Look after the health of this node's roles (run by rolesmith-agent.service)
///
/// Every 10 seconds runs the health checks of the node's roles and writes what it saw to /run/rolesmith-agent/health.json.
/// About every minute asks whether the fleet's repository has changed. Needs no privileges.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {}

impl Run {
    pub(crate) fn run(self) -> End {
        let (root, notifier) = (Root::machine(), Notifier::from_env());
        let watched = watchdog().is_some();
        // At once: a maintainer script that starts this unit must not wait for health checks.
        notifier.send("READY=1");
        // Beside it, since a server may take its time.
        let seed = store::random().unwrap_or_default();
        thread::spawn(move || lookout::watch(&Root::machine(), seed, now));
        loop {
            let health = look(&root, &Machine, now());
            if let Err(error) = files::write_json(&root.join(HEALTH_FILE), &health, Access::PUBLIC)
            {
                return End::Error(format!("{HEALTH_FILE}: {error}"));
            }
            let problems = health.problems();
            let word = if problems.is_empty() {
                "healthy".to_owned()
            } else {
                problems.join("; ")
            };
            let mut message = format!("STATUS={}", word.replace('\n', " "));
            if watched {
                message.push_str("\nWATCHDOG=1");
            }
            notifier.send(&message);
            sleep(Duration::from_secs(INTERVAL));
        }
    }
}
