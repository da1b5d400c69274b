//! What servers tell about themselves.

#[cfg(feature = "build")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a server told, or why it did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
#[serde(untagged)]
pub enum Answer<T> {
    /// It did not answer.
    Silent {
        /// Why.
        error: String,
    },
    /// It did.
    Told(Box<T>),
}

impl<T> Answer<T> {
    /// What it told.
    #[must_use]
    pub fn told(&self) -> Option<&T> {
        match self {
            Self::Told(told) => Some(told),
            Self::Silent { .. } => None,
        }
    }
}

/// PostgreSQL. Counts are sums over all databases, since the line before; they are absent where it did not answer then.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Postgres {
    /// How long it took to connect and to be told, in milliseconds.
    pub took_ms: f64,
    /// server_version_num, such as 170005.
    pub version: u64,
    /// Seconds since it was started.
    pub uptime_s: f64,
    /// It is a standby.
    pub in_recovery: bool,
    /// Its connections.
    pub connections: Connections,
    /// Transactions that were committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<u64>,
    /// Transactions that were rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollbacks: Option<u64>,
    /// Blocks found in the shared buffers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks_hit: Option<u64>,
    /// Blocks read from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks_read: Option<u64>,
    /// Rows read by scans (tup_returned).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_returned: Option<u64>,
    /// Rows fetched by index scans (tup_fetched).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_fetched: Option<u64>,
    /// Rows inserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_inserted: Option<u64>,
    /// Rows updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_updated: Option<u64>,
    /// Rows deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_deleted: Option<u64>,
    /// Deadlocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadlocks: Option<u64>,
    /// Queries of a standby that were cancelled for the replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<u64>,
    /// Temporary files of queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_files: Option<u64>,
    /// Bytes written to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_bytes: Option<u64>,
    /// Files of the log that could not be archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_failures: Option<u64>,
    /// Age of the oldest transaction id that is not frozen in any database; at two thousand million it takes no more writes.
    pub oldest_xid_age: u64,
    /// Its databases that may be connected to, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<Database>,
    /// The write-ahead log of a primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<Wal>,
    /// Who receives it, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<Standby>,
    /// What a standby receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Receiver>,
    /// Replication slots.
    pub slots: Slots,
}

/// Connections of clients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Connections {
    /// max_connections.
    pub max: u64,
    /// All, the one that asks included.
    pub total: u64,
    /// Those that execute something.
    pub active: u64,
    /// Those that wait for their client, outside of a transaction.
    pub idle: u64,
    /// Those that wait for their client inside of one, after an error included.
    pub idle_in_transaction: u64,
    /// Those that wait for a lock.
    pub waiting_for_locks: u64,
    /// Seconds since the oldest open transaction began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_transaction_s: Option<f64>,
    /// Workers of autovacuum, which are not in `total`.
    pub autovacuum_workers: u64,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its connections.
    pub connections: u64,
    /// Its size on the disk, looked at every five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The write-ahead log of a primary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Wal {
    /// Where it ends: pg_current_wal_lsn().
    pub position: String,
    /// Count of bytes written to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

/// Somebody who receives the log (pg_stat_replication).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Standby {
    /// application_name: the node's name for members of the fleet.
    pub name: String,
    /// `streaming` where all is well.
    pub state: String,
    /// `quorum` where commits may wait for it, `async` where none does.
    pub sync: String,
    /// Bytes that it has not yet on its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unflushed_bytes: Option<u64>,
    /// Bytes that it has not yet replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<u64>,
    /// How long the last commits took until they could be seen there (replay_lag), in milliseconds; absent while nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_lag_ms: Option<f64>,
}

/// What a standby receives.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Receiver {
    /// `streaming` where all is well; absent where it receives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The end of what it has received: pg_last_wal_receive_lsn().
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received: Option<String>,
    /// The end of what it has replayed: pg_last_wal_replay_lsn().
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
    /// Bytes received and not yet replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_bytes: Option<u64>,
    /// Seconds since the last replayed transaction was committed on the primary: it grows too while nothing is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit_s: Option<f64>,
}

/// Replication slots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Slots {
    /// All.
    pub total: u64,
    /// Those that nobody reads from.
    pub inactive: u64,
    /// Those whose log is gone: who they are for has to be copied anew.
    pub lost: u64,
    /// Bytes of log that the slot furthest behind holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained_bytes: Option<u64>,
}

/// pgbouncer: sums over its pools. Counts are since the line before, and absent where it did not answer then.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Bouncer {
    /// How long it took to connect and to be told, in milliseconds.
    pub took_ms: f64,
    /// Clients that have a server or need none (cl_active).
    pub clients_active: u64,
    /// Clients that wait for a server (cl_waiting).
    pub clients_waiting: u64,
    /// Connections to servers that are lent to a client (sv_active).
    pub servers_active: u64,
    /// Connections to servers that are not (sv_idle, sv_used, sv_tested).
    pub servers_idle: u64,
    /// Connections to servers that are being made (sv_login).
    pub servers_login: u64,
    /// How long the client that waits longest has waited, in milliseconds.
    pub longest_wait_ms: f64,
    /// Transactions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactions: Option<u64>,
    /// Queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<u64>,
    /// Bytes from clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes to clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Time in transactions, added up, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_ms: Option<u64>,
    /// Time in queries, added up, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_ms: Option<u64>,
    /// Time that clients waited for a server, added up, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Redis. Counts are since the line before, and absent where it did not answer then.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(JsonSchema))]
pub struct Redis {
    /// How long it took to be told, in milliseconds; a connection is made once.
    pub took_ms: f64,
    /// Its version.
    pub version: String,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// `master` or `slave`.
    pub role: String,
    /// Connections of clients, the one that asks included.
    pub clients: u64,
    /// Clients that wait in a command.
    pub clients_blocked: u64,
    /// Bytes of memory in use.
    pub memory_used: u64,
    /// Bytes of memory that the process has.
    pub memory_rss: u64,
    /// Bytes beyond which writes are refused; 0: no limit.
    pub memory_max: u64,
    /// Keys of all databases.
    pub keys: u64,
    /// Commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<u64>,
    /// Look-ups of a key that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hits: Option<u64>,
    /// Look-ups of a key that was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<u64>,
    /// Keys whose time was over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired: Option<u64>,
    /// Keys thrown out for want of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evicted: Option<u64>,
    /// Connections refused because there were too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<u64>,
    /// Bytes received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// Replicas that follow it.
    pub replicas: u64,
    /// Bytes that the replica furthest behind has not confirmed; absent without replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_behind_bytes: Option<u64>,
    /// Whether a replica's connection to its master stands; absent on a master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_up: Option<bool>,
    /// Seconds since a replica heard from its master.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_silent_s: Option<u64>,
    /// It reads its data from the disk and serves nobody.
    pub loading: bool,
    /// Whether an append-only file is written.
    pub aof_enabled: bool,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aof_bytes: Option<u64>,
    /// Whether it is being written anew.
    pub aof_rewriting: bool,
    /// Whether the last write to it, and the last rewrite, went well.
    pub aof_ok: bool,
}
