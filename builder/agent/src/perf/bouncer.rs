//! pgbouncer, asked on its console through its Unix socket as a user who may look and do nothing else (`stats_users`).

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rolesmith_model::perf::{Answer, Bouncer};

use super::count::{grown_if_known, two_places};
use super::read::micros;
use super::sample::milliseconds;
use crate::postgres::wire::{Client, Reply, WireError};

/// pgbouncer's own socket directory.
const DIR: &str = "/run/rolesmith-pgbouncer";
/// The console, which is also the name of the pool that stands for it.
const CONSOLE: &str = "pgbouncer";
/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks pgbouncer.
#[derive(Debug)]
pub struct Asker {
    socket: PathBuf,
    /// Its console believes what the kernel says about who asks.
    user: String,
}

impl Asker {
    /// The pgbouncer that listens on this port; the process runs as this user of the system.
    #[must_use]
    pub fn new(port: u16, user: &str) -> Self {
        Self {
            socket: PathBuf::from(format!("{DIR}/.s.PGSQL.{port}")),
            user: user.to_owned(),
        }
    }

    /// What it tells. Counts are as they stand.
    pub async fn ask(&self) -> Answer<Bouncer> {
        match self.try_ask().await {
            Ok(told) => Answer::Told(Box::new(told)),
            Err(error) => super::silent(&error),
        }
    }

    async fn try_ask(&self) -> Result<Bouncer, WireError> {
        let begun = Instant::now();
        let parameters = [("user", self.user.as_str()), ("database", CONSOLE)];
        let mut client = Client::connect(&self.socket, &parameters, PATIENCE).await?;
        let pools = client.query("SHOW POOLS", PATIENCE).await?;
        let totals = client.query("SHOW STATS_TOTALS", PATIENCE).await?;
        let took_ms = two_places(milliseconds(micros(begun.elapsed())));
        Ok(parse(&pools, &totals, took_ms))
    }
}

/// Adds up what `SHOW POOLS` and `SHOW STATS_TOTALS` give. Versions have different columns; one that is not there counts nothing.
#[must_use]
pub fn parse(pools: &Reply, totals: &Reply, took_ms: f64) -> Bouncer {
    let of_pools = |columns: &[&str]| {
        let values = columns.iter().flat_map(|column| numbers(pools, column));
        values.fold(0, u64::saturating_add)
    };
    let total = |column: &str| Some(numbers(totals, column).fold(0, u64::saturating_add));
    let milliseconds_of = |column: &str| Some(total(column)? / 1000);
    let waits = numbers(pools, "maxwait").zip(numbers(pools, "maxwait_us"));
    let longest_us = waits
        .map(|(seconds, more)| seconds.saturating_mul(1_000_000).saturating_add(more))
        .max();
    Bouncer {
        took_ms,
        clients_active: of_pools(&["cl_active"]),
        clients_waiting: of_pools(&["cl_waiting"]),
        servers_active: of_pools(&["sv_active"]),
        servers_idle: of_pools(&["sv_idle", "sv_used", "sv_tested"]),
        servers_login: of_pools(&["sv_login"]),
        longest_wait_ms: two_places(milliseconds(longest_us.unwrap_or(0))),
        transactions: total("xact_count"),
        queries: total("query_count"),
        received_bytes: total("bytes_received"),
        sent_bytes: total("bytes_sent"),
        transaction_ms: milliseconds_of("xact_time"),
        query_ms: milliseconds_of("query_time"),
        wait_ms: milliseconds_of("wait_time"),
    }
}

/// A column without the row of the console itself.
fn numbers<'a>(reply: &'a Reply, column: &'a str) -> impl Iterator<Item = u64> + 'a {
    reply
        .column("database")
        .zip(reply.column(column))
        .filter(|(database, _)| *database != CONSOLE)
        .map(|(_, value)| value.parse().unwrap_or(0))
}

/// What is now, and what happened since.
#[must_use]
pub fn since(before: Option<&Bouncer>, now: &Bouncer) -> Bouncer {
    let count =
        |member: fn(&Bouncer) -> Option<u64>| grown_if_known(before.and_then(member), member(now));
    Bouncer {
        transactions: count(|server| server.transactions),
        queries: count(|server| server.queries),
        received_bytes: count(|server| server.received_bytes),
        sent_bytes: count(|server| server.sent_bytes),
        transaction_ms: count(|server| server.transaction_ms),
        query_ms: count(|server| server.query_ms),
        wait_ms: count(|server| server.wait_ms),
        ..now.clone()
    }
}
