//! What Sentinels and Redis answer, as values. Pure: from replies to views.

use std::collections::{BTreeMap, BTreeSet};

use super::resp::Value;

/// How one Sentinel sees the fleet's master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Address of the master.
    pub master: String,
    /// The epoch of the election that made it master; 0 is the first master.
    pub epoch: u64,
    /// Other Sentinels that it counts: identifier to address.
    pub others: BTreeMap<String, String>,
    /// Addresses of replicas that it knows.
    pub replicas: BTreeSet<String>,
    /// Those of them that answer it.
    pub alive: BTreeSet<String>,
    /// The master answers it.
    pub master_alive: bool,
}

/// What came of asking one Sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// No answer, or none that can be used; why.
    Silent(String),
    /// It runs, and watches no master of this fleet.
    Blank,
    /// Its view.
    Names(View),
}

impl Heard {
    /// Its view, if it has one.
    #[must_use]
    pub fn view(&self) -> Option<&View> {
        match self {
            Self::Names(view) => Some(view),
            Self::Silent(_) | Self::Blank => None,
        }
    }
}

/// The flat list of keys and values that Sentinel's commands answer with.
fn pairs(value: &Value) -> Option<BTreeMap<&str, &str>> {
    let Value::Array(items) = value else {
        return None;
    };
    items
        .chunks(2)
        .map(|pair| match pair {
            [key, value] => Some((key.text()?, value.text()?)),
            _ => None,
        })
        .collect()
}

/// A list of those.
fn records(value: &Value) -> Option<Vec<BTreeMap<&str, &str>>> {
    let Value::Array(items) = value else {
        return None;
    };
    items.iter().map(pairs).collect()
}

fn answers(record: &BTreeMap<&str, &str>) -> bool {
    let flags = record.get("flags").copied().unwrap_or_default();
    !flags
        .split(',')
        .any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected"))
}

/// A view from the replies to `SENTINEL MASTER`, `SENTINEL SENTINELS` and `SENTINEL REPLICAS`.
///
/// [`Heard::Blank`] where the first is an error: the master's name is unknown to it.
#[must_use]
pub fn view(master: &Value, sentinels: &Value, replicas: &Value) -> Heard {
    if let Value::Error(error) = master {
        // Only this error says that it knows no such master; others, such as NOPERM, say nothing about what it knows.
        return if error.contains("No such master") {
            Heard::Blank
        } else {
            Heard::Silent(error.clone())
        };
    }
    let read = || {
        let master = pairs(master)?;
        let sentinels = records(sentinels)?;
        let replicas = records(replicas)?;
        let addresses = |record: &BTreeMap<&str, &str>| record.get("ip").map(|&ip| ip.to_owned());
        Some(View {
            master: (*master.get("ip")?).to_owned(),
            epoch: master.get("config-epoch")?.parse().ok()?,
            others: sentinels
                .iter()
                .map(|record| {
                    let id = *record.get("runid")?;
                    Some((id.to_owned(), addresses(record)?))
                })
                .collect::<Option<_>>()?,
            replicas: replicas.iter().filter_map(addresses).collect(),
            alive: replicas
                .iter()
                .filter(|record| answers(record))
                .filter_map(addresses)
                .collect(),
            master_alive: answers(&master),
        })
    };
    read().map_or_else(
        || Heard::Silent("its answer cannot be understood".to_owned()),
        Heard::Names,
    )
}

/// What a Redis says about itself in `INFO replication` and `INFO persistence`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Instance {
    /// It is a master.
    pub master: bool,
    /// Whom it follows, if it is a replica.
    pub follows: Option<String>,
    /// As a replica: connected, and its copy complete.
    pub linked: bool,
    /// It is receiving or loading a whole copy.
    pub copying: bool,
    /// Replicas connected to it, with the seconds since each last answered.
    pub replicas: Vec<(String, u64)>,
    /// As a replica: the priority that it tells Sentinel; 0 is never to be promoted.
    pub priority: Option<u32>,
}

/// Reads the text of `INFO`.
#[must_use]
pub fn instance(info: &str) -> Option<Instance> {
    let fields: BTreeMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect();
    let is = |key: &str, value: &str| fields.get(key) == Some(&value);
    let master = match *fields.get("role")? {
        "master" => true,
        "slave" => false,
        _ => return None,
    };
    let replica = |line: &str| {
        let fields: BTreeMap<&str, &str> = line
            .split(',')
            .filter_map(|field| field.split_once('='))
            .collect();
        (fields.get("state") == Some(&"online")).then(|| {
            Some((
                fields.get("ip")?.to_string(),
                fields.get("lag")?.parse().ok()?,
            ))
        })?
    };
    Some(Instance {
        master,
        follows: fields.get("master_host").map(|&host| host.to_owned()),
        linked: is("master_link_status", "up"),
        copying: is("master_sync_in_progress", "1") || is("loading", "1"),
        replicas: fields
            .iter()
            .filter(|(key, _)| {
                key.strip_prefix("slave")
                    .is_some_and(|rest| rest.parse::<u32>().is_ok())
            })
            .filter_map(|(_, line)| replica(line))
            .collect(),
        priority: fields
            .get("slave_priority")
            .and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests;
