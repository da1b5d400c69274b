//! PostgreSQL, asked through its Unix socket as a role that may see statistics and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rolesmith_model::perf::{Answer, Postgres, Wal};

use super::count::{grown_if_known, two_places};
use super::read::micros;
use super::sample::milliseconds;
use crate::postgres::settings::SOCKET_DIR;
use crate::postgres::wire::{Client, WireError};

/// The PostgreSQL role (roles/db-primary-capable/templates/roles.sql).
const ROLE: &str = "rolesmith_monitor";
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same, as the server knows it: what nobody waits for any more is ended there.
const STATEMENT_TIMEOUT: &str = "2s";
/// How often databases are measured: the server looks at each of their files.
const MEASURE: Duration = Duration::from_secs(300);

const QUESTION: &str = include_str!("postgres.sql");
const SIZES: &str = "SELECT jsonb_object_agg(datname, pg_database_size(oid)) FROM pg_database \
                     WHERE datallowconn AND NOT datistemplate";

/// Asks the server, over a new connection each time: a process that waits there for a minute would take megabytes.
#[derive(Debug)]
pub struct Asker {
    socket: PathBuf,
    /// Bytes of each database, and when they were measured.
    sizes: Option<(Instant, BTreeMap<String, u64>)>,
}

impl Asker {
    /// The server that listens on this port.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self {
            socket: PathBuf::from(format!("{SOCKET_DIR}/.s.PGSQL.{port}")),
            sizes: None,
        }
    }

    /// What it tells. Counts are as they stand.
    pub async fn ask(&mut self) -> Answer<Postgres> {
        match self.try_ask().await {
            Ok(told) => Answer::Told(Box::new(told)),
            Err(error) => super::silent(&error),
        }
    }

    async fn try_ask(&mut self) -> Result<Postgres, WireError> {
        let begun = Instant::now();
        let parameters = [
            ("user", ROLE),
            ("database", "postgres"),
            ("application_name", "rolesmith-perf"),
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("default_transaction_read_only", "on"),
        ];
        let mut client = Client::connect(&self.socket, &parameters, PATIENCE).await?;
        let reply = client.query(QUESTION, PATIENCE).await?;
        let mut told = parse(reply.value(0).unwrap_or_default())?;
        told.took_ms = two_places(milliseconds(micros(begun.elapsed())));
        // One that was made since is measured at once.
        let known = |sizes: &BTreeMap<String, u64>| {
            let mut databases = told.databases.iter();
            databases.all(|database| sizes.contains_key(&database.name))
        };
        if self
            .sizes
            .as_ref()
            .is_none_or(|(at, sizes)| at.elapsed() >= MEASURE || !known(sizes))
        {
            // A database that is too large to be measured in time is asked for again next time.
            let reply = client.query(SIZES, PATIENCE).await?;
            let sizes = serde_json::from_str(reply.value(0).unwrap_or("{}"))
                .map_err(|error| WireError::Protocol(error.to_string()))?;
            self.sizes = Some((begun, sizes));
        }
        for database in &mut told.databases {
            let sizes = self.sizes.as_ref().map(|(_, sizes)| sizes);
            database.bytes = sizes.and_then(|sizes| sizes.get(&database.name).copied());
        }
        Ok(told)
    }
}

/// Reads what the question gives.
///
/// # Errors
/// It is something else.
pub fn parse(text: &str) -> Result<Postgres, WireError> {
    serde_json::from_str(text).map_err(|error| WireError::Protocol(error.to_string()))
}

/// What is now, and what happened since. Statistics that were reset begin anew.
#[must_use]
pub fn since(before: Option<&Postgres>, now: &Postgres) -> Postgres {
    let count =
        |member: fn(&Postgres) -> Option<u64>| grown_if_known(before.and_then(member), member(now));
    // A position that went back is that of another history of the same database; what was written is not known.
    let written = |wal: &Wal| {
        let then = before?.wal.as_ref()?.written_bytes?;
        wal.written_bytes?.checked_sub(then)
    };
    Postgres {
        commits: count(|server| server.commits),
        rollbacks: count(|server| server.rollbacks),
        blocks_hit: count(|server| server.blocks_hit),
        blocks_read: count(|server| server.blocks_read),
        rows_returned: count(|server| server.rows_returned),
        rows_fetched: count(|server| server.rows_fetched),
        rows_inserted: count(|server| server.rows_inserted),
        rows_updated: count(|server| server.rows_updated),
        rows_deleted: count(|server| server.rows_deleted),
        deadlocks: count(|server| server.deadlocks),
        conflicts: count(|server| server.conflicts),
        temp_files: count(|server| server.temp_files),
        temp_bytes: count(|server| server.temp_bytes),
        archive_failures: count(|server| server.archive_failures),
        wal: now.wal.as_ref().map(|wal| Wal {
            written_bytes: written(wal),
            ..wal.clone()
        }),
        ..now.clone()
    }
}
