//! Changing what the server is: started, severed, following, primary, open or closed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rolesmith_model::ids::NodeName;

use super::conf::{REWOUND, slot, synchronous};
use super::look::{begin_of_file, timeline_of_file, until};
use super::settings::{DATABASES_UNIT, KEY_DIR, UNIT};
use super::unit;
use super::wire::{Client, literal};
use super::{ANSWER, Problem, Server, run};
use crate::cluster::{Access as Door, Data, SyncSetting};
use crate::files;
use crate::program::{Call, ProgramError};

/// How long a started server is waited for before the core is told to look for itself.
const UP: Duration = Duration::from_secs(10);
/// How long a walreceiver may take to go before the server is stopped instead.
const SEVERED: Duration = Duration::from_millis(1_500);
/// How long the walreceiver has to have been gone: the startup process may just have been asking for one with the
/// settings that it knew.
const STAYS_GONE: Duration = Duration::from_millis(60);
/// How long a reload may take.
const RELOADED: Duration = Duration::from_secs(2);
/// How long a promotion may take: everything is replayed by then.
const PROMOTED: Duration = Duration::from_secs(20);

impl Server {
    /// Starts the server as standby, closed.
    pub(super) async fn start(&self, upstream: Option<&NodeName>) -> Result<(), Problem> {
        let data = self.settings.data();
        if !unit::alive(&data).is_empty() {
            // Whoever started it decided what it follows; only a start from nothing is known to be right.
            return Err(Problem::Later("the server runs already".into()));
        }
        let Data::Complete(_) = self.data_state() else {
            return Err(Problem::Later("there is no whole data directory".into()));
        };
        self.configure().await?;
        self.clean_auto_conf(&data)?;
        self.write_upstream(upstream)?;
        if upstream.is_none() {
            for path in self.stray_timelines() {
                files::remove(&path).map_err(Problem::file(&path))?;
            }
        }
        if !self.settings.state("synchronous.conf").exists() {
            self.write_synchronous(&SyncSetting::default())?;
        }
        self.write_access(Door::Closed)?;
        self.drop_slots_offline()?;
        self.write_signal(&data)?;
        // The unit refuses every start without this.
        let permit = Path::new(KEY_DIR).join("start");
        std::fs::write(&permit, "").map_err(Problem::file(&permit))?;
        // It comes back when the server takes connections. One that takes longer, because it has much to replay, goes on by
        // itself.
        match run(Call::new(["systemctl", "start", UNIT]).limit(UP)).await {
            Ok(_) | Err(Problem::Program(ProgramError::TooLong { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Slots of a former primary hold back the log that a standby keeps. They are nobody's on a standby, and PostgreSQL
    /// knows each by its directory alone.
    fn drop_slots_offline(&self) -> Result<(), Problem> {
        let dir = self.settings.data().join("pg_replslot");
        let Ok(entries) = std::fs::read_dir(&dir) else {
            return Ok(());
        };
        for entry in entries.flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("rolesmith_")
            {
                std::fs::remove_dir_all(entry.path()).map_err(Problem::file(&entry.path()))?;
            }
        }
        Ok(())
    }

    /// Makes sure that nothing is received any more (rule 1). What cannot be verified in time is stopped.
    pub(super) async fn sever(&self) -> Result<(), Problem> {
        self.write_upstream(None)?;
        let data = self.settings.data();
        if unit::alive(&data).is_empty() {
            return Ok(());
        }
        // A running server that has fetched the list of a timeline is bound to that timeline, though nothing of it ever came.
        if self.sever_running().await.is_err() || !self.stray_timelines().is_empty() {
            self.stop(true).await?;
        }
        Ok(())
    }

    /// Lists of timelines of which there is no log here: their primary died before it sent any. Whoever has such a list follows no
    /// other primary for long, and starts no more.
    fn stray_timelines(&self) -> Vec<PathBuf> {
        let dir = self.settings.data().join("pg_wal");
        let names: Vec<String> = std::fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let newest = names
            .iter()
            .filter(|name| begin_of_file(name).is_some())
            .filter_map(|name| timeline_of_file(name))
            .max();
        let Some(newest) = newest else {
            return Vec::new();
        };
        let stray = |name: &&String| {
            name.strip_suffix(".history")
                .and_then(timeline_of_file)
                .is_some_and(|timeline| timeline > newest)
        };
        names
            .iter()
            .filter(stray)
            .map(|name| dir.join(name))
            .collect()
    }

    async fn sever_running(&self) -> Result<(), Problem> {
        let mut client = self.connect("postgres").await?;
        let settled = client
            .query("ALTER SYSTEM RESET primary_conninfo", ANSWER)
            .await;
        settled?;
        client.query("SELECT pg_reload_conf()", ANSWER).await?;
        let mut gone_since = None;
        until("the end of the walreceiver", SEVERED, async || {
            let gone = client
                .query(
                    "SELECT current_setting('primary_conninfo') = '' AND NOT EXISTS \
                     (SELECT FROM pg_stat_activity WHERE backend_type = 'walreceiver')",
                    ANSWER,
                )
                .await
                .is_ok_and(|reply| reply.value(0) == Some("t"));
            if !gone {
                gone_since = None;
                return false;
            }
            let since = *gone_since.get_or_insert_with(std::time::Instant::now);
            since.elapsed() >= STAYS_GONE
        })
        .await
    }

    /// Follows a node from now on.
    pub(super) async fn follow(&self, node: &NodeName) -> Result<(), Problem> {
        if self.marked(REWOUND) && self.look_once().await.is_ok() {
            // It takes connections, so it is consistent, and confirms in its own name from now on.
            self.unmark(REWOUND)?;
        }
        self.write_upstream(Some(node))?;
        // Not by SQL: a server that takes no connections yet has to hear it too.
        if unit::reload(&self.settings.data()) {
            Ok(())
        } else {
            Err(Problem::Later("no postmaster is there to be told".into()))
        }
    }

    /// Promotes, and makes sure that the next start is a standby's again.
    pub(super) async fn promote(&self) -> Result<(), Problem> {
        let data = self.settings.data();
        let mut client = self.connect("postgres").await?;
        let primary = async |client: &mut Client| {
            let reply = client.query("SELECT pg_is_in_recovery()", ANSWER).await;
            reply.is_ok_and(|reply| reply.value(0) == Some("f"))
        };
        if !primary(&mut client).await {
            if self.written_access() != Door::Closed {
                return Err(Problem::Later("applications are not kept out".into()));
            }
            // Those that will follow find their slots: nobody has to wait for one.
            let (names, _) = self.peers();
            for name in &names {
                make_slot(&mut client, name).await?;
            }
            client.query("SELECT pg_promote(false)", ANSWER).await?;
            until("the promotion", PROMOTED, async || {
                primary(&mut client).await
            })
            .await?;
        }
        self.write_signal(&data)
    }

    /// Names of the other members, sorted, and all names.
    pub(super) fn peers(&self) -> (Vec<NodeName>, Vec<NodeName>) {
        let mut all: Vec<NodeName> = self
            .settings
            .members
            .iter()
            .map(|p| p.name.clone())
            .collect();
        all.sort();
        let others = all
            .iter()
            .filter(|n| **n != self.settings.node)
            .cloned()
            .collect();
        (others, all)
    }

    /// Lets applications in.
    pub(super) async fn open(&self) -> Result<(), Problem> {
        let mut client = self.connect("postgres").await?;
        let reply = client.query("SELECT pg_is_in_recovery()", ANSWER).await?;
        if reply.value(0) != Some("f") {
            return Err(Problem::Later("it is no primary".into()));
        }
        self.write_access(Door::Open)?;
        self.reload_access(&mut client).await?;
        self.write_signal(&self.settings.data())?;
        // Applications are in; what changed about the pooler's role follows, and then the databases of the fleet's services that
        // this primary does not know yet. Nothing waits for those.
        self.apply_roles().await?;
        run(Call::new([
            "systemctl",
            "restart",
            "--no-block",
            DATABASES_UNIT,
        ]))
        .await?;
        Ok(())
    }

    /// Keeps applications out and ends their sessions.
    pub(super) async fn close(&self) -> Result<(), Problem> {
        self.write_access(Door::Closed)?;
        if unit::alive(&self.settings.data()).is_empty() {
            return Ok(());
        }
        let mut client = self.connect("postgres").await?;
        self.reload_access(&mut client).await?;
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE backend_type = 'client backend' AND usename NOT IN ('postgres', {})",
            literal(super::settings::PEER_ROLE)
        );
        client.query(&end, ANSWER).await?;
        Ok(())
    }

    /// Reloads and verifies that the postmaster has loaded `pg_hba.conf`. It does so after its settings, in one go
    /// between two forks: a process forked later than that carries a later load time.
    async fn reload_access(&self, client: &mut Client) -> Result<(), Problem> {
        let wrong = client
            .query(
                "SELECT string_agg(format('line %s: %s', line_number, error), '; ') \
                 FROM pg_hba_file_rules WHERE error IS NOT NULL",
                ANSWER,
            )
            .await?;
        if let Some(errors) = wrong.value(0) {
            return Err(Problem::Refused(format!("pg_hba.conf: {errors}")));
        }
        // Taken before the signal is sent, in a statement of its own.
        let before = client
            .query("SELECT clock_timestamp()::text", ANSWER)
            .await?;
        let before = literal(before.value(0).unwrap_or_default());
        client.query("SELECT pg_reload_conf()", ANSWER).await?;
        let question = format!("SELECT pg_conf_load_time() >= {before}::timestamptz");
        until("the reload of pg_hba.conf", RELOADED, async || {
            let Ok(mut fresh) = self.connect("postgres").await else {
                return false;
            };
            let loaded = fresh.query(&question, ANSWER).await;
            loaded.is_ok_and(|reply| reply.value(0) == Some("t"))
        })
        .await
    }

    /// Sets `synchronous_standby_names`; on a running server it is in force for every session when this returns.
    pub(super) async fn set_sync(&self, sync: &SyncSetting) -> Result<(), Problem> {
        self.write_synchronous(sync)?;
        if unit::alive(&self.settings.data()).is_empty() {
            return Ok(());
        }
        let mut client = self.connect("postgres").await?;
        client
            .query("ALTER SYSTEM RESET synchronous_standby_names", ANSWER)
            .await?;
        client.query("SELECT pg_reload_conf()", ANSWER).await?;
        let named = synchronous(sync);
        // New sessions have it when the postmaster has it. A walsender shows whether it counts, once it has it.
        let question = format!(
            "SELECT current_setting('synchronous_standby_names') = {} AND NOT EXISTS (SELECT FROM pg_stat_replication \
             WHERE state = 'streaming' AND (sync_state = 'async') <> (NOT application_name = ANY ({}::text[])))",
            literal(&named),
            literal(&if named.is_empty() {
                "{}".to_owned()
            } else {
                let names: Vec<&str> = sync.names.iter().map(NodeName::as_str).collect();
                format!("{{{}}}", names.join(","))
            }),
        );
        until("synchronous_standby_names", RELOADED, async || {
            let Ok(mut fresh) = self.connect("postgres").await else {
                return false;
            };
            let set = fresh.query(&question, ANSWER).await;
            set.is_ok_and(|reply| reply.value(0) == Some("t"))
        })
        .await
    }
}

/// Makes a member's slot where it is missing. It keeps log from now on: whoever is being copied comes for what was written
/// meanwhile. `max_slot_wal_keep_size` bounds what is kept for one that never comes.
pub(super) async fn make_slot(client: &mut Client, node: &NodeName) -> Result<(), Problem> {
    let slot = literal(&slot(node));
    client
        .query(
            &format!(
                "SELECT pg_create_physical_replication_slot({slot}, true) \
                 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {slot})"
            ),
            ANSWER,
        )
        .await?;
    Ok(())
}
