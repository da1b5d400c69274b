//! What Redis's part of the agent is told: the role's file of scope "node", the facts, and the founder.

use std::path::{Path, PathBuf};

use rolesmith_model::facts::{FACTS_FILE, Facts, Genesis};
use rolesmith_model::manifest::ClusterKind;
use serde::Deserialize;

use crate::files::{self, Root, Seen};

/// The role whose members are meant.
pub const ROLE: &str = "redis";
/// Directory of the role's files of scope "node".
pub const CONF_DIR: &str = "/var/lib/rolesmith/conf/redis";
/// One line: the name of the member that the fleet chose as founder. Written by root's part of the agent, once it knows;
/// never changed afterwards.
pub const FOUNDER_FILE: &str = "/run/rolesmith/founder";

/// `cluster.json` of the role.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The fleet, which is also the name that Sentinels give to its master.
    pub fleet: String,
    /// This node.
    pub node: String,
    /// Its private address.
    pub address: String,
    /// Redis's port.
    pub port: u16,
    /// Sentinel's port.
    pub sentinel_port: u16,
    /// Password of the users `agent` of both.
    pub password: String,
    /// This node's certificate (PEM).
    pub cert: PathBuf,
    /// The fleet's authority (PEM).
    pub ca: PathBuf,
    /// Who says which member is the first master.
    pub founder: Choice,
}

/// Who says which member is the first master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The fleet, by consensus, where it has a database: [`FOUNDER_FILE`] is waited for. Whoever is there first leads, as
    /// long as it is a majority. Elsewhere the facts.
    Fleet,
    /// The facts: it is the first member by name, and the fleet waits for it.
    Facts,
}

impl std::fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Settings({} of {})", self.node, self.fleet)
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not there.
    #[error("{0} is not there")]
    Absent(PathBuf),
    /// Not to be read.
    #[error("{0}: {1}")]
    Broken(PathBuf, String),
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SettingsError> {
    match files::read_json(path) {
        Seen::Is(value) => Ok(value),
        Seen::Absent => Err(SettingsError::Absent(path.to_owned())),
        Seen::Broken(why) => Err(SettingsError::Broken(path.to_owned(), why)),
    }
}

impl Settings {
    /// Reads `cluster.json`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(root: &Root) -> Result<Self, SettingsError> {
        read(&root.join(CONF_DIR).join("cluster.json"))
    }
}

/// A declared member with the role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its private address where it is known.
    pub address: Option<String>,
}

/// What facts say about Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The members with the role, by name.
    pub peers: Vec<Peer>,
    /// A cluster may be formed from nothing.
    pub open: bool,
    /// The fleet's databases are a cluster, which has a founder.
    pub database: bool,
    /// Version of the facts.
    pub version: u64,
}

impl Declared {
    /// Takes out of facts what concerns Redis. This node's own address is known to itself, if to nobody else.
    #[must_use]
    pub fn from_facts(facts: &Facts, settings: &Settings) -> Self {
        let mut peers: Vec<Peer> = facts
            .members
            .iter()
            .filter(|member| member.roles.iter().any(|role| role == ROLE))
            .map(|member| Peer {
                name: member.name.clone(),
                address: if member.name == settings.node {
                    Some(settings.address.clone())
                } else {
                    member.address.clone()
                },
            })
            .collect();
        peers.sort();
        Self {
            peers,
            open: facts.redis_genesis.unwrap_or(facts.genesis) == Genesis::Open,
            database: facts
                .clusters
                .values()
                .any(|kind| *kind == ClusterKind::Postgresql),
            version: facts.version,
        }
    }

    /// Reads the installed facts.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(root: &Root, settings: &Settings) -> Result<Self, SettingsError> {
        let facts: Facts = read(&root.join(FACTS_FILE))?;
        Ok(Self::from_facts(&facts, settings))
    }

    /// The member at an address.
    #[must_use]
    pub fn at(&self, address: &str) -> Option<&Peer> {
        let own = |peer: &&Peer| peer.address.as_deref() == Some(address);
        self.peers.iter().find(own)
    }

    /// The address of a member.
    #[must_use]
    pub fn address(&self, name: &str) -> Option<&str> {
        let own = |peer: &&Peer| peer.name == name;
        self.peers.iter().find(own)?.address.as_deref()
    }

    /// A majority of the declared members.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.peers.len() / 2 + 1
    }
}

/// The founder, once it is known here.
#[must_use]
pub fn founder(root: &Root, choice: Choice, declared: &Declared) -> Option<String> {
    match choice {
        Choice::Fleet if declared.database => {
            let bytes = files::read(&root.join(FOUNDER_FILE)).ok()??;
            let name = String::from_utf8(bytes).ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| name.to_owned())
        }
        _ => declared.peers.first().map(|peer| peer.name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_says_who_is_first_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let peer = |name: &str| Peer {
            name: name.to_owned(),
            address: None,
        };
        let mut declared = Declared {
            peers: vec![peer("a"), peer("b")],
            open: true,
            database: false,
            version: 1,
        };
        let first = |choice, declared: &Declared| founder(&root, choice, declared);
        assert_eq!(first(Choice::Fleet, &declared).as_deref(), Some("a"));
        declared.database = true;
        assert_eq!(first(Choice::Fleet, &declared), None, "it is waited for");
        assert_eq!(first(Choice::Facts, &declared).as_deref(), Some("a"));
        let file = root.join(FOUNDER_FILE);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "b\n").unwrap();
        assert_eq!(first(Choice::Fleet, &declared).as_deref(), Some("b"));
    }
}
