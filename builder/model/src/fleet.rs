//! A fleet that was checked.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::Serialize;

use crate::{
    applications::Applications,
    facts::Discovery,
    fleet_file::Upstream,
    ids::{FleetName, NodeName, RoleName, Suite},
    network::Ipv4Network,
    source::SourceId,
};

/// What signs the repository and its packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// The key file in the fleet's secrets directory.
    File,
    /// A key that the gpg program holds, by its fingerprint.
    Gpg(String),
}

/// A checked fleet.toml.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Where it was read from.
    pub source: SourceId,
    /// Its name.
    pub name: FleetName,
    /// Where its name stands in fleet.toml.
    pub name_span: std::ops::Range<usize>,
    /// The Debian release of its nodes.
    pub suite: Suite,
    /// Name and address of who answers for it.
    pub maintainer: String,
    /// DNS domain of its machines.
    pub domain: String,
    /// Its repository.
    pub repository: Repository,
    /// Its networks.
    pub network: Network,
    /// Where its nodes may ask for each other.
    pub discovery: Discovery,
    /// Its machines, by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Values that templates read as `database`, `redis` and `logs`.
    pub services: Services,
    /// Where its nodes' mail goes, where they send any.
    pub mail: Option<Mail>,
    /// Where its sites' certificates come from, unless its machines sign them themselves.
    pub certificates: Option<Certificates>,
    /// Its own programs, and what its edge serves.
    pub applications: Applications,
    /// Values for roles' settings, with the place where each was set.
    pub settings: BTreeMap<String, BTreeMap<String, SettingValue>>,
}

/// A value that fleet.toml gives to a role's setting.
#[derive(Debug, Clone)]
pub struct SettingValue {
    /// The value.
    pub value: toml::Value,
    /// Where it stands in fleet.toml.
    pub span: std::ops::Range<usize>,
}

/// Where packages are published.
#[derive(Debug, Clone)]
pub struct Repository {
    /// As nodes reach it, without a slash at its end.
    pub url: String,
    /// What signs it.
    pub key: SigningKey,
    /// Files with armored public keys that nodes trust too, relative to the fleet's directory.
    pub also_trusted: Vec<String>,
    /// Where Debian's packages come from.
    pub upstream: Upstream,
    /// Days until Valid-Until.
    pub valid_days: u32,
    /// Generations kept.
    pub keep: u32,
}

/// The fleet's networks.
#[derive(Debug, Clone)]
pub struct Network {
    /// The private network.
    pub private: Ipv4Network,
    /// Interface in it.
    pub private_interface: String,
    /// Interface to the internet.
    pub public_interface: String,
    /// Lines of authorized_keys.
    pub admin_ssh_keys: Vec<String>,
    /// Private address of the load balancer.
    pub load_balancer: Option<Ipv4Addr>,
    /// Where agents listen, in the private network.
    pub agent_port: u16,
    /// Where edges reach the services of other nodes, in the private network.
    pub edge_port: u16,
}

/// A machine.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Where its table stands in fleet.toml.
    pub span: std::ops::Range<usize>,
    /// Roles as written, each with its place.
    pub roles: Vec<(RoleName, std::ops::Range<usize>)>,
    /// Private address where known.
    pub address: Option<Ipv4Addr>,
    /// Port of its sshd.
    pub ssh_port: u16,
    /// Memory in MiB.
    pub memory: u32,
}

/// Values of the built-in services that all templates may read.
#[derive(Debug, Clone, Serialize)]
pub struct Services {
    /// PostgreSQL and pgbouncer.
    pub database: Database,
    /// Redis and Sentinel.
    pub redis: Redis,
    /// The aggregated log.
    pub logs: Logs,
}

/// Values of `database`.
#[derive(Debug, Clone, Serialize)]
pub struct Database {
    /// Port of PostgreSQL.
    pub port: u16,
    /// Port of pgbouncer.
    pub pooler_port: u16,
    /// How many copies confirm a commit where enough nodes have the database. Templates do not read it: agents decide what is
    /// in force.
    #[serde(skip)]
    pub synchronous: u32,
}

/// Values of `redis`.
#[derive(Debug, Clone, Serialize)]
pub struct Redis {
    /// Port of Redis.
    pub port: u16,
    /// Port of Sentinel.
    pub sentinel_port: u16,
    /// Memory for data in MiB.
    pub max_memory: u32,
}

/// Values of `logs`.
#[derive(Debug, Clone, Serialize)]
pub struct Logs {
    /// Port of the log servers.
    pub port: u16,
    /// Days that the aggregate is kept.
    pub retention_days: u32,
}

/// The one server that takes the mail of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Its DNS name, which its certificate has to have.
    pub smarthost: String,
    /// Its port.
    pub port: u16,
    /// Whom nodes log in as.
    pub user: String,
    /// Who gets the mail of nodes' accounts.
    pub to: String,
    /// The domain of senders.
    pub from_domain: String,
    /// Who may sign its certificate, where that is not left to Debian.
    pub ca: Option<MailAuthorities>,
}

/// Certificates that are trusted in place of those that Debian trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailAuthorities {
    /// Their file, relative to the fleet's directory.
    pub path: String,
    /// Where that stands in fleet.toml.
    pub span: std::ops::Range<usize>,
    /// What the file holds (PEM); empty until it was read.
    pub pem: String,
}

impl Mail {
    /// The port where TLS begins with the connection (RFC 8314, 3.3); everywhere else it begins with STARTTLS (RFC 3207).
    pub const IMPLICIT_TLS: u16 = 465;
    /// The port for submission (RFC 6409).
    pub const SUBMISSION: u16 = 587;
    /// The role that nodes have then.
    pub const ROLE: &str = "mail";
}

/// Who signs the certificates of sites, by ACME (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The URL of the authority's directory.
    pub directory: String,
    /// Whether it is the lab's.
    pub lab: bool,
    /// Whom the authority may write to.
    pub contact: Option<String>,
    /// Who may sign the certificate of the authority's server, where that is not left to Debian.
    pub ca: Option<MailAuthorities>,
    /// Days before its end when a certificate is renewed.
    pub renew_days: u32,
    /// Where edges ask each other.
    pub port: u16,
}

impl Certificates {
    /// The role that edges have then.
    pub const ROLE: &str = "certificates";
    /// What the lab's authority is called. Its machines know the name, and nobody else does.
    pub const LAB_HOST: &str = "acme.lab.internal";
    /// Where that listens.
    pub const LAB_PORT: u16 = 14_000;
    /// Where a machine of the lab finds who may sign that one's certificate.
    pub const LAB_CA: &str = "/etc/rolesmith/lab/acme.pem";
}

impl Fleet {
    /// The package that carries a role of this fleet.
    #[must_use]
    pub fn package_of(&self, role: &RoleName) -> String {
        format!("{}-{role}", self.name)
    }
}
