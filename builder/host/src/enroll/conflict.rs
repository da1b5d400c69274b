//! What stands between a machine and its node, found before anything is changed.
//!
//! [`conflicts`] is a pure function of what the machine is and what the fleet expects, so that every text can be tested.
//! Each conflict says what was found, what would follow, and the way out.

mod access;
mod machine;
mod network;
mod services;

use std::{collections::BTreeSet, net::Ipv4Addr};

use rolesmith_formats::{keyring, seed::Seed};
use rolesmith_model::{
    ids::Suite,
    manifest::Protocol,
    network::Ipv4Network,
    opening::OpenTo,
    plan::{NodePlan, Plan},
};

pub(super) use services::is_used;

use super::probe::{Enrolled, Probe};

/// How much a conflict weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// Stops, unless somebody accepts what follows.
    Blocks,
    /// Stops: the node could not work.
    Impossible,
}

/// Something on the machine that the node would collide with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What people name it by when they accept it; one of [`CODES`].
    pub code: &'static str,
    /// Whether it stops.
    pub weight: Weight,
    /// What was found.
    pub what: String,
    /// What would follow from going on.
    pub consequence: String,
    /// The way out.
    pub help: String,
}

/// Every code that there is.
pub const CODES: [&str; 36] = [
    "address",
    "architecture",
    "clock",
    "containers",
    "database-port",
    "disk",
    "distribution",
    "dpkg-broken",
    "dpkg-busy",
    "enrolled",
    "firewalld",
    "forwarding",
    "hostname",
    "interface",
    "iptables",
    "mail-configuration",
    "management",
    "masked-units",
    "memory",
    "nftables",
    "nginx-sites",
    "no-ssh-key",
    "other-identity",
    "password-login",
    "port-taken",
    "ports-closed",
    "postgresql",
    "redis",
    "replaced-packages",
    "repository",
    "ssh-allow",
    "ssh-include",
    "ssh-port",
    "suite",
    "systemd",
    "ufw",
];

/// `--accept` with a code that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no conflict called {0:?}; accepted may be those that this machine has")]
pub struct UnknownCode(pub String);

/// The conflicts that stop, given what somebody accepted.
///
/// # Errors
/// [`UnknownCode`]: a slip of the finger must not look like consent.
pub fn stopping<'a>(
    conflicts: &'a [Conflict],
    accepted: &[String],
) -> Result<Vec<&'a Conflict>, UnknownCode> {
    if let Some(unknown) = accepted.iter().find(|code| !CODES.contains(&code.as_str())) {
        return Err(UnknownCode(unknown.clone()));
    }
    Ok(conflicts
        .iter()
        .filter(|conflict| match conflict.weight {
            Weight::Note => false,
            Weight::Blocks => !accepted.iter().any(|code| code == conflict.code),
            Weight::Impossible => true,
        })
        .collect())
}

/// A port that a role of the node listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// What listens there.
    pub name: String,
    /// The port (TCP unless `udp`).
    pub port: u16,
    /// UDP.
    pub udp: bool,
    /// Who may reach it; None on the loopback interface alone.
    pub from: Option<OpenTo>,
}

/// What the fleet expects of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectations {
    /// The fleet's name.
    pub fleet: String,
    /// The node's name, its host name.
    pub node: String,
    /// Counts the machines that had this name.
    pub incarnation: u64,
    /// The Debian release.
    pub suite: Suite,
    /// Port of its sshd.
    pub ssh_port: u16,
    /// Its private address where fleet.toml knows it.
    pub address: Option<Ipv4Addr>,
    /// The private network.
    pub private: Ipv4Network,
    /// The interface in it.
    pub private_interface: String,
    /// Whether a load balancer stands before the edge.
    pub load_balancer: Option<Ipv4Addr>,
    /// What its roles listen on.
    pub listens: Vec<Listen>,
    /// Port of its PostgreSQL server, if it is to have one.
    pub database_port: Option<u16>,
    /// Port of its Redis server, if it is to have one.
    pub redis_port: Option<u16>,
    /// Whether it is to have nginx.
    pub nginx: bool,
    /// Keys that get a way in.
    pub admin_keys: usize,
    /// Memory in MiB that fleet.toml says it has.
    pub memory: u64,
    /// The fleet's repository.
    pub repository: String,
    /// Where its .sources file is put.
    pub sources_file: String,
    /// Units that a fresh machine masks.
    pub masked_units: Vec<String>,
    /// Packages of Debian that its roles depend on.
    pub packages: BTreeSet<String>,
    /// The operator's clock, Unix seconds.
    pub now: u64,
}

impl Expectations {
    /// What the plan expects of a node with that seed; `now` is Unix seconds, by the clock and not SOURCE_DATE_EPOCH.
    #[must_use]
    pub fn new(plan: &Plan, node: &NodePlan, seed: &Seed, now: u64) -> Self {
        let fleet = &plan.fleet;
        let machine = &fleet.nodes[node.name.as_str()];
        let packages: BTreeSet<&str> = plan
            .roles
            .iter()
            .filter(|role| node.roles.contains(&role.name))
            .flat_map(|role| role.debian.iter().map(String::as_str))
            .collect();
        let has = |prefix: &str| packages.iter().any(|name| name.starts_with(prefix));
        let mut listens: Vec<Listen> = node
            .openings
            .iter()
            .map(|opening| Listen {
                name: opening.name.clone(),
                port: opening.port,
                udp: opening.protocol == Protocol::Udp,
                from: Some(opening.from.clone()),
            })
            .collect();
        let database = &fleet.services.database;
        if has("pgbouncer") {
            listens.push(Listen {
                name: "pgbouncer".to_owned(),
                port: database.pooler_port,
                udp: false,
                from: None,
            });
        }
        Self {
            fleet: seed.fleet.clone(),
            node: seed.node.clone(),
            incarnation: seed.incarnation,
            suite: seed.suite,
            ssh_port: seed.ssh_port,
            address: machine.address,
            private: fleet.network.private,
            private_interface: fleet.network.private_interface.clone(),
            load_balancer: fleet.network.load_balancer,
            listens,
            database_port: has("postgresql-").then_some(database.port),
            redis_port: has("redis-server").then_some(fleet.services.redis.port),
            nginx: has("nginx"),
            admin_keys: seed.admin_ssh_keys.len(),
            memory: machine.memory.into(),
            repository: fleet.repository.url.clone(),
            sources_file: keyring::sources_path(fleet),
            masked_units: seed.masked_units.clone(),
            packages: packages.into_iter().map(str::to_owned).collect(),
            now,
        }
    }
}

/// Everything that the node would collide with on the machine: what stops first, in a fixed order.
#[must_use]
pub fn conflicts(probe: &Probe, wanted: &Expectations) -> Vec<Conflict> {
    let mut found = Vec::new();
    machine::find(probe, wanted, &mut found);
    access::find(probe, wanted, &mut found);
    // On a machine that is this node already, what listens and filters is the node itself.
    if !is_this_node(probe, wanted) {
        network::find(probe, wanted, &mut found);
        services::find(probe, wanted, &mut found);
    }
    found.sort_by_key(|conflict| std::cmp::Reverse(conflict.weight));
    found
}

/// Whether the machine belongs to this node already.
fn is_this_node(probe: &Probe, wanted: &Expectations) -> bool {
    matches!(&probe.enrolled, Enrolled::As(identity) if identity.fleet == wanted.fleet && identity.node == wanted.node)
}

/// Puts a conflict into the list.
fn add(
    found: &mut Vec<Conflict>,
    code: &'static str,
    weight: Weight,
    what: impl Into<String>,
    consequence: impl Into<String>,
    help: impl Into<String>,
) {
    debug_assert!(CODES.contains(&code), "{code} is not in CODES");
    found.push(Conflict {
        code,
        weight,
        what: what.into(),
        consequence: consequence.into(),
        help: help.into(),
    });
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: impl IntoIterator<Item = impl Into<String>>) -> String {
    let mut items: Vec<String> = items.into_iter().map(Into::into).collect();
    match (items.pop(), items.is_empty()) {
        (Some(last), false) => format!("{} and {last}", items.join(", ")),
        (Some(only), true) => only,
        (None, _) => String::new(),
    }
}
