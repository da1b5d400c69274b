//! Making the fleet's first cluster, and Debian's configuration around one that is there.

use std::path::Path;
use std::time::Duration;

use super::look::system_id;
use super::{ANSWER, Problem, Server, run};
use crate::cluster::{Access as Door, Data, SyncSetting, SystemId};
use crate::files::{self, Access};
use crate::program::Call;

/// How long initdb and the first statements may take on a slow disk.
const CREATED: Duration = Duration::from_secs(300);

/// Removes a directory tree; a missing one is fine. Durable when it returns.
pub(super) fn remove_tree(dir: &Path) -> Result<(), Problem> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => sync(dir.parent().unwrap_or(Path::new("/"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Problem::file(dir)(error)),
    }
}

/// Makes a directory's entries durable.
pub(super) fn sync(dir: &Path) -> Result<(), Problem> {
    std::fs::File::open(dir)
        .and_then(|file| file.sync_all())
        .map_err(Problem::file(dir))
}

/// Settings of which a standby needs at least as much as its primary, with PostgreSQL's defaults.
const LIMITS: [(&str, u64); 5] = [
    ("max_connections", 100),
    ("max_worker_processes", 8),
    ("max_wal_senders", 10),
    ("max_prepared_xacts", 0),
    ("max_locks_per_xact", 64),
];

/// Lines for those settings that pg_controldata(1) shows higher than the configuration has them.
#[must_use]
fn limits(control: &str, configured: &str) -> String {
    let mut text = String::from(
        "# Written by rolesmith-agent: what the server had before, where it was more.\n",
    );
    for (shown, default) in LIMITS {
        let name = match shown {
            "max_prepared_xacts" => "max_prepared_transactions",
            "max_locks_per_xact" => "max_locks_per_transaction",
            other => other,
        };
        let had = control.lines().find_map(|line| {
            let value = line.strip_prefix(shown)?.strip_prefix(" setting:")?;
            value.trim().parse::<u64>().ok()
        });
        let has = configured
            .lines()
            .filter_map(|line| {
                let (key, value) = line.split_once('=')?;
                (key.trim() == name).then(|| value.trim().parse().ok())?
            })
            .next_back()
            .unwrap_or(default);
        if let Some(had) = had
            && had > has
        {
            text += &format!("{name} = {had}\n");
        }
    }
    text
}

impl Server {
    /// Makes the cluster, or answers the identifier of the one that this made before.
    ///
    /// It never makes one in the place of another that is there or was there: an empty database that answers in the
    /// place of a full one is worse than none.
    pub(super) async fn create(&self) -> Result<SystemId, Problem> {
        let (data, etc) = (self.settings.data(), self.settings.etc());
        let made = self.marked("made");
        if !self.marked("making") {
            match self.data_state() {
                Data::Complete(id) if made => return Ok(id),
                Data::Absent if made => {
                    return Err(Problem::Refused(format!(
                        "the data directory {} of this node's cluster is gone",
                        data.display()
                    )));
                }
                Data::Absent if !etc.exists() => {}
                _ => {
                    return Err(Problem::Refused(format!(
                        "{} or {} exists and was not made by this program",
                        etc.display(),
                        data.display()
                    )));
                }
            }
        }
        self.refuse_foreign_cluster().await?;
        self.mark("making", "")?;
        // An attempt that was interrupted: nothing could be stored in it yet.
        remove_tree(&data)?;
        remove_tree(&etc)?;
        let (major, port) = (
            self.settings.major.to_string(),
            self.settings.port.to_string(),
        );
        let create = Call::new([
            "pg_createcluster",
            "--port",
            &port,
            "--start-conf",
            "disabled",
        ])
        .args(["--encoding", "UTF8", "--locale", "C.UTF-8"])
        .args([major.as_str(), self.settings.fleet.as_str(), "--"])
        .args([
            "--data-checksums",
            "--no-sync",
            "--auth-local=peer",
            "--auth-host=scram-sha-256",
        ])
        .limit(CREATED);
        run(create).await?;
        self.single_user("postgres", include_str!("genesis.sql"))
            .await?;
        self.single_user("repmgr", include_str!("genesis_repmgr.sql"))
            .await?;
        self.write_signal(&data)?;
        run(Call::new(["sync", "--file-system"])
            .args([data.display().to_string().as_str()])
            .limit(CREATED))
        .await?;
        let id = system_id(&data)
            .ok_or_else(|| Problem::Later("the new cluster has no identifier".into()))?;
        self.mark("made", "")?;
        self.unmark("making")?;
        Ok(id)
    }

    /// Another cluster that is configured for our port, running or not.
    async fn refuse_foreign_cluster(&self) -> Result<(), Problem> {
        let own = (self.settings.major.to_string(), &self.settings.fleet);
        let port = self.settings.port.to_string();
        let list = run(Call::new(["pg_lsclusters", "--no-header"])).await?;
        for line in list.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [major, name, its_port, ..] = fields[..]
                && its_port == port
                && (major, name) != (own.0.as_str(), own.1.as_str())
            {
                return Err(Problem::Refused(format!(
                    "port {port} belongs to the PostgreSQL cluster {major}/{name}, which is not the fleet's; set another \
                     port under [database] in fleet.toml, or move that cluster to another port"
                )));
            }
        }
        Ok(())
    }

    /// Runs statements where no server runs and nobody can connect. The first error ends it.
    async fn single_user(&self, database: &str, sql: &str) -> Result<(), Problem> {
        let postgres = self.settings.program("postgres");
        let data = self.settings.data().display().to_string();
        let config = format!(
            "config_file={}/postgresql.conf",
            self.settings.etc().display()
        );
        let call = self
            .as_postgres([&postgres, "--single", "-j", "-D", &data])
            .args(["-c", config.as_str(), "-c", "exit_on_error=on"])
            // What is recorded as the primary's is the least that a standby may have: less than any fleet's settings.
            .args(["-c", "max_connections=8", "-c", "max_wal_senders=2"])
            .args(["-c", "log_statement=none", database])
            .stdin(sql)
            .limit(CREATED);
        run(call).await?;
        Ok(())
    }

    /// Ties Debian's configuration of the cluster to the fleet's; makes it where a copy of another node's data has none.
    pub(super) async fn configure(&self) -> Result<(), Problem> {
        let etc = self.settings.etc();
        if !etc.join("postgresql.conf").exists() {
            remove_tree(&etc)?;
            self.give_samples()?;
            let (major, port) = (
                self.settings.major.to_string(),
                self.settings.port.to_string(),
            );
            let create = Call::new([
                "pg_createcluster",
                "--port",
                &port,
                "--start-conf",
                "disabled",
            ])
            .args([major.as_str(), self.settings.fleet.as_str()]);
            run(create).await?;
        }
        // Nobody but the agent starts it: not the boot, not an upgrade of Debian's packages, not pg_ctlcluster.
        let owner = Some(self.postgres()?);
        let access = Access { mode: 0o644, owner };
        let written = |path: &Path, text: &str| {
            if files::read(path).ok().flatten().as_deref() == Some(text.as_bytes()) {
                return Ok(());
            }
            files::write(path, text.as_bytes(), access).map_err(Problem::file(path))
        };
        written(&etc.join("start.conf"), "disabled\n")?;
        let include = format!(
            "# Written by rolesmith-agent.\n\
             # Without the fleet's settings, after a purge, the cluster is still one that pg_ctlcluster can start.\n\
             include_if_exists = '{}/postgresql.conf'\n",
            self.settings.conf.display()
        );
        written(&etc.join("conf.d/rolesmith.conf"), &include)?;
        if !self.settings.state("synchronous.conf").exists() {
            self.write_synchronous(&SyncSetting::default())?;
        }
        self.write_limits().await?;
        self.write_repmgr_conf()
    }

    /// pg_createcluster moves the configuration out of a data directory, and a copy of another node's has none.
    fn give_samples(&self) -> Result<(), Problem> {
        let access = Access {
            mode: 0o600,
            owner: Some(self.postgres()?),
        };
        for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            let from = format!(
                "/usr/share/postgresql/{}/{name}.sample",
                self.settings.major
            );
            let from = Path::new(&from);
            let bytes = std::fs::read(from).map_err(Problem::file(from))?;
            let to = self.settings.data().join(name);
            files::write(&to, &bytes, access).map_err(Problem::file(&to))?;
        }
        Ok(())
    }

    /// A standby refuses to start with less than its primary had, and every start is a standby's: what the settings lack
    /// is added, so that lower ones cannot keep the server down. They take effect when nobody needs more any more.
    async fn write_limits(&self) -> Result<(), Problem> {
        let program = self.settings.program("pg_controldata");
        let data = self.settings.data().display().to_string();
        let mut call = self.as_postgres([program.as_str(), data.as_str()]);
        call.env.push(("LC_ALL".into(), "C".into()));
        let control = run(call).await?;
        let path = self.settings.conf.join("postgresql.conf");
        let configured = std::fs::read_to_string(&path).map_err(Problem::file(&path))?;
        self.give(
            &self.settings.state("limits.conf"),
            &limits(&control, &configured),
        )
    }

    /// Applies the role's roles.sql where it changed since it was applied last: a comment on the pooler's role holds its
    /// digest. Its commits wait for nobody; the next ones carry them along.
    pub(super) async fn apply_roles(&self) -> Result<(), Problem> {
        let _turn = self.roles.lock().await;
        let path = self.settings.roles();
        let Some(bytes) = files::read(&path).map_err(Problem::file(&path))? else {
            return Ok(());
        };
        let digest = files::digest(&bytes);
        let sql = String::from_utf8_lossy(&bytes);
        let mut client = self.connect("postgres").await?;
        let known = client
            .query(
                "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'rolesmith_pooler'",
                ANSWER,
            )
            .await?;
        if known.value(0) == Some(digest.as_str()) {
            return Ok(());
        }
        let limit = Duration::from_secs(20);
        self.connect("template1").await?.query(&sql, limit).await?;
        client.query(&sql, limit).await?;
        client
            .query(
                &format!("COMMENT ON ROLE rolesmith_pooler IS '{digest}'"),
                ANSWER,
            )
            .await?;
        Ok(())
    }

    /// The same where this server lets applications in; on every other one it is done before it does.
    pub(super) async fn renew_roles(&self) -> Result<(), Problem> {
        if self.written_access() == Door::Closed {
            return Ok(());
        }
        let mut client = self.connect("postgres").await?;
        let reply = client.query("SELECT pg_is_in_recovery()", ANSWER).await?;
        match reply.value(0) {
            Some("f") => self.apply_roles().await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_limit_stays_as_high_as_it_was() {
        let control = "wal_level setting:                    replica\nmax_connections setting:              100\n\
                       max_wal_senders setting:              10\nmax_prepared_xacts setting:           5\n";
        let lines = |configured| {
            let text = limits(control, configured);
            text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            lines("max_connections = 40\nmax_wal_senders = 14\n"),
            ["max_connections = 100", "max_prepared_transactions = 5"]
        );
        assert_eq!(
            lines("max_connections = 40\nmax_connections = 200\nmax_prepared_transactions=5\n"),
            Vec::<String>::new()
        );
    }
}
