//! What a role's package tells the agent: `/usr/lib/rolesmith/roles/<role>.json`.

use serde::{Deserialize, Serialize};

/// Directory of the roles' manifests on a node.
pub const MANIFEST_DIR: &str = "/usr/lib/rolesmith/roles";
/// Directory below which the agent installs the files of scope "node", one directory a role.
pub const CONF_DIR: &str = "/var/lib/rolesmith/conf";
/// Directory in which a configured role's package leaves a file of its name that holds the package's version.
pub const CONFIGURED_DIR: &str = "/var/lib/rolesmith/roles";
/// A file whose appearance wakes the agent (rolesmith-apply.path).
pub const POKE_FILE: &str = "/run/rolesmith/poke";

/// When a unit starts first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// When the node is enrolled, its files of scope "node" are there and the role has joined its cluster.
    #[default]
    Enrolled,
    /// As Debian's packages do, when the package is configured.
    Install,
    /// By something else: a timer, a socket, another unit, an administrator.
    Never,
}

/// What happens to a running unit when its package or its files change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// It is stopped and started.
    #[default]
    Restart,
    /// It reads its configuration again (systemctl reload-or-restart).
    Reload,
    /// Nothing: it notices by itself, or an administrator decides.
    Nothing,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "build", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    #[default]
    Tcp,
    /// RFC 768.
    Udp,
}

/// A unit that a role brings or adds to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedUnit {
    /// Its name with suffix.
    pub name: String,
    /// When it starts.
    pub start: Start,
    /// What a change does.
    pub on_change: OnChange,
    /// What another certificate of the node or of its applications does, and another list of the CAs that are trusted.
    #[serde(default = "nothing", skip_serializing_if = "is_nothing")]
    pub on_certificate: OnChange,
    /// Belongs to the role's package; otherwise the role only adds a drop-in to it.
    pub own: bool,
}

/// A unit that uses none of these certificates, and one of which an older builder does not say.
#[must_use]
pub const fn nothing() -> OnChange {
    OnChange::Nothing
}

fn is_nothing(change: &OnChange) -> bool {
    *change == OnChange::Nothing
}

/// One look at the role's health. Values are rendered for the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// The unit is active.
    Unit(String),
    /// The address (`host:port`) accepts a connection within two seconds.
    Tcp(String),
    /// The URL answers with a status below 400 within two seconds.
    Http(String),
    /// The program exits with 0 within five seconds.
    Command(Vec<String>),
}

/// A named look at the role's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is looked at.
    pub name: String,
    /// How.
    pub probe: Probe,
}

/// How a role becomes a member of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cluster {
    /// The agent knows how.
    Kind(ClusterKind),
    /// The role brings a program (see role.toml, `cluster.join`).
    Join(String),
}

/// A kind of cluster that the agent knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterKind {
    /// PostgreSQL with repmgr.
    Postgresql,
    /// Redis with Sentinel.
    Redis,
    /// Log servers and their clients.
    Rsyslog,
}

/// The role whose members vote in the elections of the database without holding any of it, where another role forms a cluster
/// of kind [`ClusterKind::Postgresql`].
pub const WITNESS_ROLE: &str = "db-witness";
/// Nodes with it reach the database through a pooler of their own; those that hold it have it too.
pub const CLIENT_ROLE: &str = "db-client";

/// A role as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleManifest {
    /// The role's name.
    pub role: String,
    /// Roles that are applied before it.
    pub requires: Vec<String>,
    /// Its units, in the order in which they start.
    pub units: Vec<ManagedUnit>,
    /// Its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}
