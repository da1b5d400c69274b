//! fleet.toml as it is written: shapes and spans, nothing checked beyond them.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "these comments name tables of TOML and are the descriptions of the JSON Schema"
)]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// A fleet: its machines, their roles and policies.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "fleet.toml")]
pub struct FleetFile {
    /// What the fleet is called and runs.
    pub fleet: FleetHead,
    /// Where its packages are published.
    pub repository: RepositoryEntry,
    /// Its networks.
    pub network: NetworkEntry,
    /// Where nodes may ask for peers whose address is not recorded yet.
    #[serde(default)]
    pub discovery: DiscoveryEntry,
    /// Its machines, by host name: [nodes.app-1].
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, NodeEntry>")]
    pub nodes: BTreeMap<Spanned<String>, NodeEntry>,
    /// PostgreSQL.
    #[serde(default)]
    pub database: DatabaseEntry,
    /// Redis and Sentinel.
    #[serde(default)]
    pub redis: RedisEntry,
    /// The aggregated log.
    #[serde(default)]
    pub logs: LogsEntry,
    /// Where the mail of nodes goes. Without it nodes send none, and have no mail system.
    pub mail: Option<MailEntry>,
    /// Where the certificates of sites come from. Without it each machine signs its own, which nobody trusts.
    pub certificates: Option<CertificatesEntry>,
    /// The fleet's own programs: each becomes a package, and a service on every node with the role `app`.
    #[serde(default)]
    pub services: Vec<ServiceEntry>,
    /// What the edge serves: static files, single-page applications, and the paths that services answer.
    #[serde(default)]
    pub sites: Vec<SiteEntry>,
    /// Values for the settings that roles declare, by role: [settings.worker].
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, BTreeMap<String, serde_json::Value>>")]
    pub settings: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<toml::Value>>>,
}

/// [fleet]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetHead {
    /// Begins every package name of the fleet: at most 20 lower-case letters, digits and hyphens.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The Debian release of all nodes: trixie (the default) or bookworm.
    #[schemars(with = "Option<crate::ids::Suite>")]
    pub suite: Option<Spanned<String>>,
    /// Who answers for the packages: Name <address> (Policy 5.6.2).
    #[schemars(with = "String")]
    pub maintainer: Spanned<String>,
    /// The DNS domain of the fleet's machines, such as example.com.
    #[schemars(with = "String")]
    pub domain: Spanned<String>,
}

/// [repository]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryEntry {
    /// Where nodes read it: http:// or https://, without user and password.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// What signs it: "file" (the key that `init` made, the default) or "gpg:FINGERPRINT" for a key that the gpg program holds.
    #[schemars(with = "Option<String>")]
    pub key: Option<Spanned<String>>,
    /// Files with armored public keys, relative to the fleet's directory, that nodes shall trust beside the one that signs:
    /// the next key before a rotation, the last one after it.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub also_trusted: Vec<Spanned<String>>,
    /// Where Debian's own packages come from: "debian" leaves the machine's sources as they are, "mirror" pins them in this repository.
    #[serde(default)]
    pub upstream: Upstream,
    /// Days until the signature of the repository runs out (Valid-Until). Default 30.
    #[schemars(with = "Option<u32>")]
    pub valid_days: Option<Spanned<i64>>,
    /// Generations that a directory keeps after a publish. Default 3.
    #[schemars(with = "Option<u32>")]
    pub keep: Option<Spanned<i64>>,
}

/// Where Debian's own packages come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// The sources that the machine already has.
    #[default]
    Debian,
    /// The fleet's repository alone, filled by `rolesmith mirror`.
    Mirror,
}

/// [network]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkEntry {
    /// The private network that all nodes share: "10.77.0.0/24".
    #[schemars(with = "String")]
    pub private: Spanned<String>,
    /// The interface in it. Default eth1.
    #[schemars(with = "Option<String>")]
    pub private_interface: Option<Spanned<String>>,
    /// The interface towards the internet. Default eth0.
    #[schemars(with = "Option<String>")]
    pub public_interface: Option<Spanned<String>>,
    /// Public keys that may log in as root or the image's default user, in the format of authorized_keys.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub admin_ssh_keys: Vec<Spanned<String>>,
    /// The private address of the load balancer.
    #[schemars(with = "Option<String>")]
    pub load_balancer: Option<Spanned<String>>,
    /// Where nodes' agents speak to each other, in the private network. Default 7432.
    #[schemars(with = "Option<u16>")]
    pub agent_port: Option<Spanned<i64>>,
    /// Where edges reach the services of other nodes, in the private network. Default 8443.
    #[schemars(with = "Option<u16>")]
    pub edge_port: Option<Spanned<i64>>,
}

/// [discovery]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryEntry {
    /// Ask the system's resolver for the name of the node in the fleet's domain. Default false.
    #[serde(default)]
    pub dns: bool,
    /// Ask DigitalOcean's API for the droplets that have a tag: { tag = "acme" }. Every node gets a token for that in its seed.
    pub digitalocean: Option<DigitalOceanEntry>,
}

/// [discovery] digitalocean
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DigitalOceanEntry {
    /// The tag of the fleet's droplets, which are called as its nodes are.
    #[schemars(with = "String")]
    pub tag: Spanned<String>,
}

/// [nodes.<name>]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeEntry {
    /// What the machine does. `base` is always part of it.
    #[schemars(with = "Vec<String>")]
    pub roles: Spanned<Vec<Spanned<String>>>,
    /// Its address in the private network.
    #[schemars(with = "Option<String>")]
    pub address: Option<Spanned<String>>,
    /// Where its sshd listens. Default 22.
    #[schemars(with = "Option<u16>")]
    pub ssh_port: Option<Spanned<i64>>,
    /// Its memory in MiB, from which services take their share. Default 1024.
    #[schemars(with = "Option<u32>")]
    pub memory: Option<Spanned<i64>>,
}

/// [database]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseEntry {
    /// Where PostgreSQL listens. Default 5432.
    #[schemars(with = "Option<u16>")]
    pub port: Option<Spanned<i64>>,
    /// Where pgbouncer listens, on loopback. Default 6432.
    #[schemars(with = "Option<u16>")]
    pub pooler_port: Option<Spanned<i64>>,
    /// How many copies on other nodes confirm each commit: "any-1" (the default), or "any-2" where five nodes have the database.
    #[schemars(with = "Option<String>")]
    pub synchronous: Option<Spanned<String>>,
}

/// [redis]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisEntry {
    /// Where Redis listens. Default 6380, so that Debian's own instance on 6379 is left alone.
    #[schemars(with = "Option<u16>")]
    pub port: Option<Spanned<i64>>,
    /// Where Sentinel listens. Default 26380.
    #[schemars(with = "Option<u16>")]
    pub sentinel_port: Option<Spanned<i64>>,
    /// Most memory for data, in MiB. Default 96.
    #[schemars(with = "Option<u32>")]
    pub max_memory: Option<Spanned<i64>>,
}

/// [logs]
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsEntry {
    /// Where log servers listen for RELP. Default 2514.
    #[schemars(with = "Option<u16>")]
    pub port: Option<Spanned<i64>>,
    /// Days that log servers keep the aggregate. Default 30.
    #[schemars(with = "Option<u32>")]
    pub retention_days: Option<Spanned<i64>>,
}

/// [mail]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MailEntry {
    /// The server that takes nodes' mail, by the DNS name in its certificate.
    #[schemars(with = "String")]
    pub smarthost: Spanned<String>,
    /// Its port: 465 speaks TLS from the first byte, every other one has to offer STARTTLS. Default 587.
    #[schemars(with = "Option<u16>")]
    pub port: Option<Spanned<i64>>,
    /// Whom nodes log in as. The password is the secret mail-password.
    #[schemars(with = "String")]
    pub user: Spanned<String>,
    /// Who gets what is written to root, and to every other account of a node.
    #[schemars(with = "String")]
    pub to: Spanned<String>,
    /// The domain that senders have in place of the node's name. Default: the fleet's domain.
    #[schemars(with = "Option<String>")]
    pub from_domain: Option<Spanned<String>>,
    /// A file with the CAs (PEM) that may sign the smarthost's certificate, relative to the fleet's directory. Default: those that Debian
    /// trusts.
    #[schemars(with = "Option<String>")]
    pub ca: Option<Spanned<String>>,
}

/// [certificates]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificatesEntry {
    /// The authority: "letsencrypt" (the default), "staging" (Let's Encrypt's for tests), "lab" (the one in the lab), or the URL of another
    /// one's directory (RFC 8555).
    #[schemars(with = "Option<String>")]
    pub acme: Option<Spanned<String>>,
    /// A mail address that the authority may write to.
    #[schemars(with = "Option<String>")]
    pub contact: Option<Spanned<String>>,
    /// A file with the CAs (PEM) that may sign the certificate of the authority's own server, relative to the fleet's directory. Default:
    /// those that Debian trusts.
    #[schemars(with = "Option<String>")]
    pub ca: Option<Spanned<String>>,
    /// Days before its end when a certificate is renewed; one that lives for less than three times as long is renewed when a third of
    /// its life is left. Default 30.
    #[schemars(with = "Option<u32>")]
    pub renew_days: Option<Spanned<i64>>,
    /// Where edges give each other certificates, and answers for the authority, in the private network. Default 7433.
    #[schemars(with = "Option<u16>")]
    pub port: Option<Spanned<i64>>,
}

/// [[services]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceEntry {
    /// Its name: at most 24 lower-case letters, digits and hyphens. Its package is <fleet>-service-<name>.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The directory of its program, relative to the fleet's directory. With a package.json its dependencies are installed as
    /// its lock file says.
    #[schemars(with = "String")]
    pub source: Spanned<String>,
    /// How it starts, in its directory: a program (of /usr/bin, or with a slash of the directory) and its arguments. Default ["node", "."].
    #[schemars(with = "Option<Vec<String>>")]
    pub command: Option<Spanned<Vec<String>>>,
    /// The port of 127.0.0.1 on which it listens; it finds it in PORT.
    #[schemars(with = "u16")]
    pub port: Spanned<i64>,
    /// The path that answers with 200 while it can work, such as "/health". Without one a connection to its port has to do.
    #[schemars(with = "Option<String>")]
    pub health: Option<Spanned<String>>,
    /// It has a database of its name: DATABASE_URL leads there. Default false.
    #[schemars(with = "Option<bool>")]
    pub database: Option<Spanned<bool>>,
    /// Brings its database up to date: a program and its arguments, run once for each version, before the first new instance starts.
    #[schemars(with = "Option<Vec<String>>")]
    pub migrate: Option<Spanned<Vec<String>>>,
    /// It uses the fleet's Redis: REDIS_SENTINELS says where. Default false.
    #[schemars(with = "Option<bool>")]
    pub redis: Option<Spanned<bool>>,
    /// Secrets that the operator writes into secrets/fleet/, each a file of that name in $CREDENTIALS_DIRECTORY.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub secrets: Vec<Spanned<String>>,
    /// More of its environment. Nothing secret: every user of the machine may read it.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub environment: BTreeMap<Spanned<String>, Spanned<String>>,
    /// Debian packages that it needs besides Node.js.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub depends: Vec<Spanned<String>>,
    /// Memory in MiB above which the kernel ends it. Default 192.
    #[schemars(with = "Option<u32>")]
    pub memory: Option<Spanned<i64>>,
    /// Share of one processor in percent that it never exceeds. Default 150.
    #[schemars(with = "Option<u32>")]
    pub cpu: Option<Spanned<i64>>,
}

/// [[sites]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteEntry {
    /// Its name: at most 24 lower-case letters, digits and hyphens. Its package is <fleet>-site-<name>.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The names under which it is reached, the first being the one that others are redirected to.
    #[schemars(with = "Vec<String>")]
    pub hosts: Spanned<Vec<Spanned<String>>>,
    /// The directory of its files, relative to the fleet's directory.
    #[schemars(with = "Option<String>")]
    pub root: Option<Spanned<String>>,
    /// A single-page application: the file of `root` that answers for every path without one, such as "index.html".
    #[schemars(with = "Option<String>")]
    pub single_page: Option<Spanned<String>>,
    /// What its pages may load (Content Security Policy Level 3). Default "default-src 'self'; …", see docs/edge.md.
    #[schemars(with = "Option<String>")]
    pub content_security_policy: Option<Spanned<String>>,
    /// Days for which browsers remember to come by HTTPS alone (RFC 6797). Default 365; 0 tells them nothing.
    #[schemars(with = "Option<u32>")]
    pub hsts_days: Option<Spanned<i64>>,
    /// Paths that services answer.
    #[serde(default)]
    pub routes: Vec<RouteEntry>,
}

/// [[sites.routes]]
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    /// What the path begins with, such as "/api/".
    #[schemars(with = "String")]
    pub path: Spanned<String>,
    /// The service that answers.
    #[schemars(with = "String")]
    pub service: Spanned<String>,
    /// Most requests of one client address: "20/s" or "300/m". Default "50/s".
    #[schemars(with = "Option<String>")]
    pub rate: Option<Spanned<String>>,
    /// How many requests above the rate are answered before others are refused with 429. Default: two seconds of the rate, at least 20.
    #[schemars(with = "Option<u32>")]
    pub burst: Option<Spanned<i64>>,
    /// Largest body of a request in MiB. Default 10.
    #[schemars(with = "Option<u32>")]
    pub max_body: Option<Spanned<i64>>,
    /// Connections may be upgraded to WebSocket (RFC 6455). Default false.
    #[serde(default)]
    pub websocket: bool,
}
