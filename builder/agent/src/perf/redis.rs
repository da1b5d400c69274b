//! Redis, asked over TLS on the loopback interface as a user who may ask `INFO` and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rolesmith_model::perf::{Answer, Redis};
use serde::Deserialize;

use super::count::{grown_if_known, two_places};
use super::read::micros;
use super::sample::milliseconds;
use crate::files::Root;
use crate::net::credentials::{BadCredentials, credentials};
use crate::redis::client::{Client, ClientError};
use crate::redis::resp::{RespError, Value};

/// How long an answer may take, with a new connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the role redis renders for whoever watches it (roles/redis/templates/monitor.json).
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// This node, the name in the server's certificate.
    pub node: String,
    /// Where Redis is.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Who asks.
    pub user: String,
    /// And how that is proven.
    pub password: String,
    /// The certificate to show (PEM).
    pub cert: PathBuf,
    /// The fleet's authorities (PEM).
    pub ca: PathBuf,
}

impl std::fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Settings({} at {}:{})",
            self.user, self.address, self.port
        )
    }
}

/// Asks Redis, over one connection while that lasts: a handshake costs more than all the rest.
#[derive(Debug)]
pub struct Asker {
    settings: Settings,
    key: PathBuf,
    cert: PathBuf,
    ca: PathBuf,
    client: Option<Client>,
}

impl Asker {
    /// Whoever these settings name, with the key of their certificate.
    #[must_use]
    pub fn new(root: &Root, settings: Settings, key: &Path) -> Self {
        Self {
            cert: root.join(&settings.cert),
            ca: root.join(&settings.ca),
            key: key.to_owned(),
            settings,
            client: None,
        }
    }

    /// What it tells. Counts are as they stand.
    pub fn ask(&mut self) -> Answer<Redis> {
        let begun = Instant::now();
        let stood = self.client.is_some();
        let mut answer = self.info();
        // A connection from earlier may have died unnoticed, which says nothing about the server.
        if answer.is_err() && stood {
            answer = self.info();
        }
        match answer {
            Ok(info) => {
                let took_ms = two_places(milliseconds(micros(begun.elapsed())));
                Answer::Told(Box::new(parse(&info, took_ms)))
            }
            Err(error) => super::silent(&error),
        }
    }

    fn info(&mut self) -> Result<String, Problem> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.connect()?,
        };
        client.extend(PATIENCE);
        match client.ask(&["INFO"])? {
            Value::Text(text) => {
                self.client = Some(client);
                Ok(text)
            }
            Value::Error(error) => Err(ClientError::Refused(error).into()),
            _ => Err(ClientError::from(RespError::Malformed).into()),
        }
    }

    /// Certificates are read anew: they are renewed while this runs.
    fn connect(&self) -> Result<Client, Problem> {
        let tls = credentials(&self.key, &self.cert, &self.ca)?;
        let settings = &self.settings;
        Ok(Client::connect(
            &tls,
            &settings.node,
            &settings.address,
            settings.port,
            (&settings.user, &settings.password),
            PATIENCE,
        )?)
    }
}

/// Why Redis told nothing.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Credentials(#[from] BadCredentials),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Reads what `INFO` gives: a name and a value a line. What is not there counts nothing.
#[must_use]
pub fn parse(info: &str, took_ms: f64) -> Redis {
    let values: BTreeMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect();
    let text = |name: &str| values.get(name).copied().unwrap_or_default();
    let count = |name: &str| values.get(name)?.parse::<u64>().ok();
    let number = |name: &str| count(name).unwrap_or(0);
    let is = |name: &str| text(name) == "1";
    let went_well = |name: &str| matches!(text(name), "ok" | "");
    let replica = text("role") == "slave";
    Redis {
        took_ms,
        version: text("redis_version").to_owned(),
        uptime_s: number("uptime_in_seconds"),
        role: text("role").to_owned(),
        clients: number("connected_clients"),
        clients_blocked: number("blocked_clients"),
        memory_used: number("used_memory"),
        memory_rss: number("used_memory_rss"),
        memory_max: number("maxmemory"),
        keys: keys(&values),
        commands: count("total_commands_processed"),
        hits: count("keyspace_hits"),
        misses: count("keyspace_misses"),
        expired: count("expired_keys"),
        evicted: count("evicted_keys"),
        rejected: count("rejected_connections"),
        received_bytes: count("total_net_input_bytes"),
        sent_bytes: count("total_net_output_bytes"),
        replicas: number("connected_slaves"),
        replicas_behind_bytes: behind(&values),
        link_up: replica.then(|| text("master_link_status") == "up"),
        // -1 while it has never heard from it.
        link_silent_s: count("master_last_io_seconds_ago"),
        loading: is("loading"),
        aof_enabled: is("aof_enabled"),
        aof_bytes: count("aof_current_size"),
        aof_rewriting: is("aof_rewrite_in_progress"),
        aof_ok: went_well("aof_last_write_status") && went_well("aof_last_bgrewrite_status"),
    }
}

/// `db0:keys=12,expires=3,avg_ttl=0`
fn keys(values: &BTreeMap<&str, &str>) -> u64 {
    values
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix("db")
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        })
        .filter_map(|(_, value)| member(value, "keys"))
        .fold(0, u64::saturating_add)
}

/// `slave0:ip=10.0.0.2,port=6380,state=online,offset=700,lag=0`, on a master.
fn behind(values: &BTreeMap<&str, &str>) -> Option<u64> {
    let end: u64 = values.get("master_repl_offset")?.parse().ok()?;
    values
        .iter()
        .filter(|(name, _)| {
            name.strip_prefix("slave")
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        })
        .filter_map(|(_, value)| member(value, "offset"))
        .map(|offset| end.saturating_sub(offset))
        .max()
}

fn member(value: &str, name: &str) -> Option<u64> {
    let pair = value
        .split(',')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    pair?.parse().ok()
}

/// What is now, and what happened since.
#[must_use]
pub fn since(before: Option<&Redis>, now: &Redis) -> Redis {
    let count = |part: fn(&Redis) -> Option<u64>| grown_if_known(before.and_then(part), part(now));
    Redis {
        commands: count(|server| server.commands),
        hits: count(|server| server.hits),
        misses: count(|server| server.misses),
        expired: count(|server| server.expired),
        evicted: count(|server| server.evicted),
        rejected: count(|server| server.rejected),
        received_bytes: count(|server| server.received_bytes),
        sent_bytes: count(|server| server.sent_bytes),
        ..now.clone()
    }
}
