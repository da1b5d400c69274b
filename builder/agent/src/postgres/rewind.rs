//! Bringing a data directory that went another way back to the primary's (rule 12).
//!
//! pg_rewind(1) wants a directory that was shut down cleanly, and cannot bring about that itself where standby.signal
//! stands: so the server is started without upstream, replays what it has and is stopped. The mark `rewinding` stands
//! while files are replaced; with it the directory is not whole, and only a copy helps.

use std::time::Duration;

use rolesmith_model::ids::NodeName;

use super::conf::{self, slot};
use super::look::until;
use super::unit;
use super::wire::literal;
use super::{Problem, Server, run, run_until};

/// How long replaying the local log may take.
const REPLAYED: Duration = Duration::from_secs(3600);
/// How long the source may take for a checkpoint.
const CHECKPOINT: Duration = Duration::from_secs(600);
/// How long the rewind itself may take.
const REWINDS: Duration = Duration::from_secs(12 * 3600);

impl Server {
    /// Rewinds against that node, and leaves the server stopped.
    pub(super) async fn rewind(&self, from: &NodeName) -> Result<(), Problem> {
        let interrupt = self.interruptible()?;
        let address = self.address(from)?;
        if self.marked("rewinding") {
            return Err(Problem::Refused(
                "an interrupted rewind: only a copy helps".into(),
            ));
        }
        let data = self.settings.data();
        self.shut_down_cleanly().await?;
        let source = |name| {
            let more = [("dbname", "postgres"), ("application_name", name)];
            self.settings.conninfo(from, &address, &more)
        };
        // PostgreSQL 15 reads the source's timeline from its last checkpoint, which a fresh primary has yet to make. What is written
        // there during the rewind is kept for this node from then on, up to max_slot_wal_keep_size.
        let slot = literal(&slot(&self.settings.node));
        let drop = format!(
            "--command=SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE slot_name = {slot} AND NOT active"
        );
        let reserve = format!(
            "--command=SELECT pg_create_physical_replication_slot({slot}, true) \
             WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {slot})"
        );
        let psql = self.settings.program("psql");
        let prepare = self
            .as_postgres([
                psql.as_str(),
                "--no-psqlrc",
                "--quiet",
                "--output=/dev/null",
                "--command=CHECKPOINT",
                drop.as_str(),
                reserve.as_str(),
            ])
            .args([source("psql").as_str()])
            .limit(CHECKPOINT);
        run_until(prepare, interrupt.clone()).await?;

        self.mark("rewinding", from.as_str())?;
        let config = self
            .settings
            .etc()
            .join("postgresql.conf")
            .display()
            .to_string();
        let pg_rewind = self.settings.program("pg_rewind");
        let call = self
            .as_postgres([pg_rewind.as_str(), "--config-file", config.as_str()])
            .args(["--target-pgdata", data.display().to_string().as_str()])
            .args(["--source-server", source("pg_rewind").as_str()])
            .limit(REWINDS);
        if let Err(error) = run_until(call, interrupt).await {
            // Whether it had begun to replace files is not known.
            return Err(Problem::Refused(error.to_string()));
        }
        // The source's settings came along.
        self.clean_auto_conf(&data)?;
        self.write_signal(&data)?;
        // Files are of its source's present, the log still of its past: not before it has caught up is it a copy that counts.
        self.mark(conf::REWOUND, "")?;
        self.unmark("rewinding")
    }

    /// Stops the server with all its log replayed and a shutdown checkpoint as the last thing written.
    async fn shut_down_cleanly(&self) -> Result<(), Problem> {
        let data = self.settings.data();
        if unit::alive(&data).is_empty() {
            if self.is_shut_down().await? {
                return self.write_upstream(None);
            }
            self.start(None).await?;
        } else {
            self.sever().await?;
        }
        if !unit::alive(&data).is_empty() {
            until("the end of the replay", REPLAYED, async || {
                self.look_once().await.is_ok_and(|look| look.is_severed())
            })
            .await?;
        }
        self.stop(false).await?;
        if self.is_shut_down().await? {
            Ok(())
        } else {
            Err(Problem::Later(
                "the server did not shut down cleanly".into(),
            ))
        }
    }

    /// Whether pg_controldata(1) says that the last shutdown was a clean one.
    async fn is_shut_down(&self) -> Result<bool, Problem> {
        let program = self.settings.program("pg_controldata");
        let data = self.settings.data().display().to_string();
        let mut call = self.as_postgres([program.as_str(), data.as_str()]);
        call.env.push(("LC_ALL".into(), "C".into()));
        let text = run(call).await?;
        let state = text
            .lines()
            .find_map(|line| line.strip_prefix("Database cluster state:"));
        Ok(state.is_some_and(|state| state.trim().starts_with("shut down")))
    }
}
