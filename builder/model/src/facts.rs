//! The public part of the plan as nodes read it, and what a seed tells a node about itself.
//!
//! On a node the facts package installs [`FACTS_FILE`] and, below [`NODES_DIR`], one directory a node with its
//! [`NodeFacts`] as `node.json` and the files rendered for it below `files/`. The identity comes with the seed, or from
//! `rolesmith enroll`, and never in a package.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::{ClusterKind, HealthCheck};

/// Where the facts package puts the fleet's facts.
pub const FACTS_FILE: &str = "/usr/lib/rolesmith/facts/facts.json";
/// Where the fleet's CA certificate stands on a node (PEM).
pub const CA_FILE: &str = "/usr/lib/rolesmith/facts/ca.pem";
/// Below it, one directory a node.
pub const NODES_DIR: &str = "/usr/lib/rolesmith/facts/nodes";
/// Who this machine is; made by the seed or by `enroll`. Not secret.
pub const IDENTITY_FILE: &str = "/etc/rolesmith/node.json";
/// The node's private key (PEM), readable by root alone.
pub const KEY_FILE: &str = "/etc/rolesmith/node.key";
/// Below a node's directory in [`NODES_DIR`], the certificate (PEM) with which its applications show that they run in the fleet.
pub const APPLICATION_CERTIFICATE: &str = "application.pem";
/// Its private key (PEM), readable by root alone. The agent works it out from the node's, so that it never travels.
pub const APPLICATION_KEY_FILE: &str = "/etc/rolesmith/application.key";
/// Secrets of the fleet that this node received: one file each, readable by root alone.
pub const SECRETS_DIR: &str = "/etc/rolesmith/secrets";

/// The secret of that name is the token with which a fleet's nodes ask DigitalOcean's API where their peers are.
pub const DIGITALOCEAN_TOKEN: &str = "digitalocean-token";

/// Format of the facts; an agent refuses a newer one than it knows.
pub const FACTS_FORMAT: u32 = 1;

/// Where agents listen unless fleet.toml says otherwise (TCP). IANA has assigned it to nobody.
pub const AGENT_PORT: u16 = 7432;

/// Whether an empty fleet may still form its clusters (rule 7 of the high-availability rules).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Genesis {
    /// No cluster was formed yet.
    Open,
    /// The clusters exist; virgin nodes join them or wait.
    Closed,
}

/// Where a node may ask for peers whose address the facts do not know, or who are not reached there. Hints, never votes: who
/// answers at an address is decided by certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Discovery {
    /// The system's resolver, for NAME.DOMAIN.
    #[serde(default)]
    pub dns: bool,
    /// DigitalOcean's API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digitalocean: Option<DigitalOcean>,
}

impl Discovery {
    /// Whether anybody may be asked.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.dns || self.digitalocean.is_some()
    }
}

/// A fleet's droplets at DigitalOcean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigitalOcean {
    /// The tag that all of them have.
    pub tag: String,
}

/// A declared member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Host name.
    pub name: String,
    /// Private address where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its roles, with those they require, in the order in which they are applied.
    pub roles: Vec<String>,
    /// Which incarnation of that name is the member; older ones are refused.
    pub incarnation: u64,
    /// SHA-256 of its certificate (DER), in hexadecimal.
    pub certificate: String,
    /// When that ends (Unix seconds); facts of older builders do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<u64>,
}

/// The fleet, as all nodes know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// [`FACTS_FORMAT`].
    pub format: u32,
    /// The fleet's name.
    pub fleet: String,
    /// The fleet's domain.
    pub domain: String,
    /// Debian code name of its nodes.
    pub suite: String,
    /// Grows with every change; a lower one than already seen is refused.
    pub version: u64,
    /// Whether a database may be made from nothing, and, where [`Facts::redis_genesis`] does not say, a Redis cluster too.
    pub genesis: Genesis,
    /// The database's system identifier as PostgreSQL shows it, once it was learnt: data of another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Whether Redis may begin from nothing: it may be added to a fleet whose database exists for long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_genesis: Option<Genesis>,
    /// Where its members' agents listen on their private addresses (TCP).
    #[serde(default = "agent_port")]
    pub agent_port: u16,
    /// Roles whose members form a cluster of a kind that agents know; the members of other roles stand each for themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub clusters: BTreeMap<String, ClusterKind>,
    /// How many copies confirm a commit of the database where enough nodes have it.
    #[serde(default = "one")]
    pub synchronous: u32,
    /// Where peers may be asked for.
    #[serde(default)]
    pub discovery: Discovery,
    /// Its members by name.
    pub members: Vec<Member>,
    /// Version of each fleet package that nodes should run.
    pub packages: BTreeMap<String, String>,
}

/// Facts of older builders do not say where agents listen.
const fn agent_port() -> u16 {
    AGENT_PORT
}

/// Facts of older builders do not say how many copies confirm a commit.
const fn one() -> u32 {
    1
}

/// A file of scope "node". Its bytes stand beside it at `files/<role>/<path>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// The role that asks for it.
    pub role: String,
    /// Path relative to `/var/lib/rolesmith/conf/<role>/`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// User that owns it.
    pub user: String,
    /// Group that owns it.
    pub group: String,
    /// Secrets whose placeholders ([`placeholder`]) the agent fills in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// What facts say about one node alone: `node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Files rendered for it.
    pub files: Vec<NodeFile>,
    /// Health checks by role.
    pub health: BTreeMap<String, Vec<HealthCheck>>,
    /// Empty: the packet filter's rules say which ports are open. The first agents want a list here and read nothing of it, and
    /// facts reach them before their successors do.
    #[serde(skip_deserializing)]
    pub openings: [(); 0],
    /// Its interface in the private network; [`ADDRESS_PLACEHOLDER`] stands for the address found there.
    pub private_interface: String,
}

/// How a machine became a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A fresh machine, booted with a seed: it belongs to the fleet as a whole.
    Seed,
    /// An existing machine, brought in by `enroll`: a first set of firewall rules has to be confirmed.
    Enroll,
}

/// Who a machine is: [`IDENTITY_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The fleet.
    pub fleet: String,
    /// Its name in it.
    pub node: String,
    /// Counts the machines that had this name; 1 is the first.
    pub incarnation: u64,
    /// How it came.
    pub origin: Origin,
}

/// The common name in the certificate of a node's applications. No member is called so: the name of a node is one label, and with
/// its domain it has three at least.
#[must_use]
pub fn application_name(node: &str) -> String {
    format!("application.{node}")
}

/// The text that stands for a secret in a file of scope "node" until the agent puts the value in its place.
#[must_use]
pub fn placeholder(secret: &str) -> String {
    format!("@@rolesmith-secret:{secret}@@")
}

/// The text that stands for the node's private address in a file of scope "node" while fleet.toml does not know it.
pub const ADDRESS_PLACEHOLDER: &str = "@@rolesmith-address@@";
