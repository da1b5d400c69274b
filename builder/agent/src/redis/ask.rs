//! Asks the members' Sentinels and Redis instances, all at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::ClientConfig;

use super::client::{Client, ClientError};
use super::resp::Value;
use super::settings::{Declared, Settings};
use super::views::{Heard, Instance, instance, view};

/// The user that the agent logs in as, at both.
pub const USER: &str = "agent";
/// How long one member may take to answer.
const LIMIT: Duration = Duration::from_millis(1_000);

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Heards {
    /// Sentinels, by member.
    pub sentinels: BTreeMap<String, Heard>,
    /// Instances of Redis that answered, by member.
    pub instances: BTreeMap<String, Instance>,
}

/// Asks every declared member whose address is known; takes as long as the slowest, two seconds at most.
#[must_use]
pub fn everybody(tls: &Arc<ClientConfig>, settings: &Settings, declared: &Declared) -> Heards {
    let mut heards = Heards::default();
    thread::scope(|scope| {
        let asked: Vec<_> = declared
            .peers
            .iter()
            .map(|peer| {
                let Some(address) = peer.address.as_deref() else {
                    return (peer, None);
                };
                let name = &peer.name;
                let sentinel = scope.spawn(move || sentinel(tls, settings, name, address));
                let redis = scope.spawn(move || redis(tls, settings, name, address));
                (peer, Some((sentinel, redis)))
            })
            .collect();
        for (peer, threads) in asked {
            let heard = match threads {
                None => Heard::Silent("its address is not known".to_owned()),
                Some((sentinel, redis)) => {
                    if let Ok(Ok(instance)) = redis.join() {
                        heards.instances.insert(peer.name.clone(), instance);
                    }
                    match sentinel.join() {
                        Ok(Ok(heard)) => heard,
                        Ok(Err(error)) => Heard::Silent(error.to_string()),
                        Err(_) => Heard::Silent("asking it failed".to_owned()),
                    }
                }
            };
            heards.sentinels.insert(peer.name.clone(), heard);
        }
    });
    heards
}

fn sentinel(
    tls: &Arc<ClientConfig>,
    settings: &Settings,
    name: &str,
    address: &str,
) -> Result<Heard, ClientError> {
    let login = (USER, settings.password.as_str());
    let port = settings.sentinel_port;
    let mut client = Client::connect(tls, name, address, port, login, LIMIT)?;
    let fleet = settings.fleet.as_str();
    let master = client.ask(&["SENTINEL", "MASTER", fleet])?;
    let sentinels = client.ask(&["SENTINEL", "SENTINELS", fleet])?;
    let replicas = client.ask(&["SENTINEL", "REPLICAS", fleet])?;
    Ok(view(&master, &sentinels, &replicas))
}

/// Opens a connection to an instance of Redis.
///
/// # Errors
/// [`ClientError`].
pub fn connect(
    tls: &Arc<ClientConfig>,
    settings: &Settings,
    name: &str,
    address: &str,
) -> Result<Client, ClientError> {
    let login = (USER, settings.password.as_str());
    Client::connect(tls, name, address, settings.port, login, LIMIT)
}

/// Asks an instance of Redis for its place in replication.
///
/// # Errors
/// [`ClientError`].
pub fn place(client: &mut Client) -> Result<Instance, ClientError> {
    client.extend(LIMIT);
    let mut text = String::new();
    // Redis 6.2 and older take one section only.
    for section in ["replication", "persistence"] {
        match client.ask(&["INFO", section])? {
            Value::Text(part) => text.push_str(&part),
            Value::Error(error) => return Err(ClientError::Refused(error)),
            _ => return Err(super::resp::RespError::Malformed.into()),
        }
    }
    instance(&text).ok_or_else(|| super::resp::RespError::Malformed.into())
}

fn redis(
    tls: &Arc<ClientConfig>,
    settings: &Settings,
    name: &str,
    address: &str,
) -> Result<Instance, ClientError> {
    place(&mut connect(tls, settings, name, address)?)
}
