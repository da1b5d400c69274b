//! The files that Redis and Sentinel are started with. Pure: from settings, state and decision to text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::settings::Declared;

/// How far above the highest configuration epoch that it was told a Sentinel without a file begins. Each election, won or
/// lost, takes one epoch, and a lost one is repeated after twice the failover time-out of 6 s: this is more than a week of
/// them, every Sentinel being awake and none winning.
pub const EPOCHS_SKIPPED: u64 = 100_000;

/// Sentinel's identifier of a member: 40 hexadecimal digits that depend on fleet and name alone (see [`super`]).
#[must_use]
pub fn sentinel_id(fleet: &str, name: &str) -> String {
    // Neither part can hold a slash.
    let digest = Sha256::digest(format!("rolesmith sentinel {fleet}/{name}"));
    let mut id = String::with_capacity(40);
    for byte in &digest[..20] {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// What Sentinel has written into its file about the fleet's master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentinelState {
    /// Address of the master.
    pub master: String,
    /// The epoch of its election.
    pub config_epoch: u64,
    /// The epoch it last voted in.
    pub leader_epoch: u64,
    /// The highest epoch it has seen.
    pub current_epoch: u64,
    /// Addresses of replicas.
    pub replicas: Vec<String>,
    /// Other Sentinels: identifier to address.
    pub others: BTreeMap<String, String>,
}

/// Reads what Sentinel wrote; `None` where it watches no master of that name.
///
/// A number that cannot be read makes the whole file count as none: to begin with a lower epoch than was promised would be
/// worse than to ask the others.
#[must_use]
pub fn parse_sentinel(fleet: &str, text: &str) -> Option<SentinelState> {
    let mut state = SentinelState {
        master: String::new(),
        config_epoch: 0,
        leader_epoch: 0,
        current_epoch: 0,
        replicas: Vec::new(),
        others: BTreeMap::new(),
    };
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["sentinel", "monitor", name, address, ..] if name == fleet => {
                address.clone_into(&mut state.master);
            }
            ["sentinel", "config-epoch", name, epoch] if name == fleet => {
                state.config_epoch = epoch.parse().ok()?;
            }
            ["sentinel", "leader-epoch", name, epoch] if name == fleet => {
                state.leader_epoch = epoch.parse().ok()?;
            }
            ["sentinel", "current-epoch", epoch] => state.current_epoch = epoch.parse().ok()?,
            [
                "sentinel",
                "known-replica" | "known-slave",
                name,
                address,
                ..,
            ] if name == fleet => {
                state.replicas.push(address.to_owned());
            }
            ["sentinel", "known-sentinel", name, address, _, id] if name == fleet => {
                state.others.insert(id.to_owned(), address.to_owned());
            }
            _ => {}
        }
    }
    (!state.master.is_empty()).then_some(state)
}

/// Where members were when the file was last prepared: name to address.
pub type Places = BTreeMap<String, String>;

impl SentinelState {
    /// Speaks of members by the addresses they have today, and forgets replicas and Sentinels that are no members any
    /// more.
    ///
    /// Sentinels are forgotten only while those that stay are a majority of those there were: facts that exchange more
    /// than that at once could otherwise leave two groups, each of which takes itself for all. Then all are kept.
    #[must_use]
    pub fn today(mut self, fleet: &str, declared: &Declared, before: &Places) -> Self {
        let now = |address: &str| -> Option<String> {
            let name = before.iter().find(|(_, old)| *old == address);
            let name = name.map(|(name, _)| name.as_str());
            match name.and_then(|name| declared.address(name)) {
                Some(address) => Some(address.to_owned()),
                None => declared.at(address).and_then(|peer| peer.address.clone()),
            }
        };
        if let Some(address) = now(&self.master) {
            self.master = address;
        }
        self.replicas = self.replicas.iter().filter_map(|old| now(old)).collect();
        self.replicas.sort();
        self.replicas.dedup();
        let ids: BTreeMap<String, Option<&str>> = declared
            .peers
            .iter()
            .map(|peer| (sentinel_id(fleet, &peer.name), peer.address.as_deref()))
            .collect();
        for (id, address) in &mut self.others {
            if let Some(Some(today)) = ids.get(id) {
                (*today).clone_into(address);
            }
        }
        // This Sentinel is one of them.
        let stay = 1 + self
            .others
            .keys()
            .filter(|id| ids.contains_key(*id))
            .count();
        if stay > self.others.len().div_ceil(2) {
            self.others.retain(|id, _| ids.contains_key(id));
        }
        self
    }
}

/// The file that Sentinel is started with: the role's settings, then what it watches.
///
/// `settings` is the role's sentinel.conf. Lines of it that set something for the master have to come after the line that
/// names the master, so that line is put before the first of them.
#[must_use]
pub fn sentinel_file(
    settings: &str,
    fleet: &str,
    me: &str,
    ports: (u16, u16),
    quorum: usize,
    state: &SentinelState,
) -> String {
    let (redis, sentinel) = ports;
    let mut text = String::new();
    let mut push = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let mut monitor = Some(format!(
        "sentinel monitor {fleet} {} {redis} {quorum}",
        state.master
    ));
    for line in settings.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let about_master = matches!(words[..], ["sentinel", _, name, ..] if name == fleet);
        if about_master && let Some(monitor) = monitor.take() {
            push(monitor);
        }
        push(line.to_owned());
    }
    if let Some(monitor) = monitor {
        push(monitor);
    }
    push(format!("sentinel myid {}", sentinel_id(fleet, me)));
    push(format!(
        "sentinel config-epoch {fleet} {}",
        state.config_epoch
    ));
    push(format!(
        "sentinel leader-epoch {fleet} {}",
        state.leader_epoch
    ));
    push(format!("sentinel current-epoch {}", state.current_epoch));
    for replica in state.replicas.iter().filter(|r| **r != state.master) {
        push(format!("sentinel known-replica {fleet} {replica} {redis}"));
    }
    for (id, address) in &state.others {
        push(format!(
            "sentinel known-sentinel {fleet} {address} {sentinel} {id}"
        ));
    }
    text
}

/// The file that Redis is started with.
///
/// It includes the role's settings, so that what CONFIG REWRITE leaves here never hides a later change of the fleet's.
#[must_use]
pub fn server_file(settings: &str, master: Option<(&str, u16)>, eligible: bool) -> String {
    let mut text = format!("include {settings}\n");
    if let Some((address, port)) = master {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "replicaof {address} {port}");
    }
    if !eligible {
        text.push_str("replica-priority 0\n");
    }
    text
}

#[cfg(test)]
mod tests;
