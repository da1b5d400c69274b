//! Checks a fleet.toml and makes a [`Fleet`] of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Range,
    str::FromStr,
};

use toml::Spanned;

use super::{
    syntax,
    toml_error::{self, Document},
};
use crate::{
    archive_names::closest,
    finding::{Findings, Place},
    fleet::{
        Database, Fleet, Logs, Network, Node, Redis, Repository, Services, SettingValue, SigningKey,
    },
    fleet_file::{FleetFile, NetworkEntry, NodeEntry, RepositoryEntry},
    ids::{FleetName, NodeName, RoleName, Suite},
    network::Ipv4Network,
    role::Roles,
    source::{SourceId, Sources},
};

/// Reads and checks the fleet's file.
///
/// `None` means that an error was found; `findings` tells which.
#[must_use]
pub fn load(sources: &Sources, roles: &Roles, findings: &mut Findings) -> Option<Fleet> {
    let id = sources.fleet?;
    let Some(text) = sources.get(id).text() else {
        findings.error(
            "fleet::not-utf8",
            Place::whole(id),
            "fleet.toml is not UTF-8",
            "TOML files are UTF-8 by definition",
            "convert it, for example with iconv(1)",
        );
        return None;
    };
    let file: FleetFile = match toml::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            let document = Document {
                id,
                text,
                name: "fleet.toml",
                docs: "docs/fleet.md",
            };
            toml_error::report(document, &error, findings);
            return None;
        }
    };
    let mut check = Check {
        id,
        roles,
        findings,
    };
    check.fleet(file)
}

struct Check<'a> {
    id: SourceId,
    roles: &'a Roles,
    findings: &'a mut Findings,
}

impl Check<'_> {
    fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: String,
        why: &str,
        help: impl Into<String>,
    ) {
        self.findings
            .error(code, Place::new(self.id, span), message, why, help);
    }

    fn fleet(&mut self, file: FleetFile) -> Option<Fleet> {
        let name = self.name(&file.fleet.name);
        let suite = self.suite(file.fleet.suite.as_ref());
        let maintainer = &file.fleet.maintainer;
        if let Err(why) = syntax::maintainer(maintainer.get_ref()) {
            self.error(
                "fleet::maintainer",
                maintainer.span(),
                format!("the maintainer {why}"),
                "shown in every package (Policy 5.6.2)",
                "write it as \"Operations <ops@example.com>\"",
            );
        }
        if let Err(why) = syntax::domain(file.fleet.domain.get_ref()) {
            self.error(
                "fleet::domain",
                file.fleet.domain.span(),
                format!("the domain {why}"),
                "nodes get names in it (RFC 1123)",
                "write a domain such as \"example.com\"",
            );
        }
        let repository = self.repository(&file.repository);
        let network = self.network(&file.network);
        let services = Services {
            database: Database {
                port: self.port("port", file.database.port.as_ref(), 5432),
                pooler_port: self.port("pooler_port", file.database.pooler_port.as_ref(), 6432),
            },
            redis: Redis {
                port: self.port("port", file.redis.port.as_ref(), 6380),
                sentinel_port: self.port("sentinel_port", file.redis.sentinel_port.as_ref(), 26380),
                max_memory: self.number(
                    "max_memory",
                    file.redis.max_memory.as_ref(),
                    96,
                    8..=1_000_000,
                    "MiB",
                ),
            },
            logs: Logs {
                port: self.port("port", file.logs.port.as_ref(), 2514),
                retention_days: self.number(
                    "retention_days",
                    file.logs.retention_days.as_ref(),
                    30,
                    1..=3650,
                    "days",
                ),
            },
        };
        if file.nodes.is_empty() {
            self.error(
                "fleet::no-nodes",
                0..0,
                "the fleet has no nodes".into(),
                "nothing would be installed anywhere",
                "add one, such as [nodes.app-1] with roles = [\"app\"]",
            );
        }
        let mut nodes = BTreeMap::new();
        for (key, entry) in &file.nodes {
            if let Some(node) = self.node(key, entry, network.as_ref()) {
                nodes.insert(node.name.clone(), node);
            }
        }
        self.distinct_addresses(&file, network.as_ref());
        self.redis_fits(&file, &nodes, services.redis.max_memory);
        let settings = self.settings(&file);
        if self.findings.has_errors() {
            return None;
        }
        Some(Fleet {
            source: self.id,
            name: name?,
            name_span: file.fleet.name.span(),
            suite: suite?,
            maintainer: maintainer.get_ref().clone(),
            domain: file.fleet.domain.get_ref().clone(),
            repository: repository?,
            network: network?,
            nodes,
            services,
            settings,
        })
    }

    fn name(&mut self, name: &Spanned<String>) -> Option<FleetName> {
        match FleetName::new(name.get_ref().as_str()) {
            Ok(name) => Some(name),
            Err(why) => {
                self.error(
                    "fleet::name",
                    name.span(),
                    format!("the fleet's name {why}"),
                    "begins every package name of the fleet (Policy 5.6.7)",
                    "choose a short name such as \"acme\"",
                );
                None
            }
        }
    }

    fn suite(&mut self, suite: Option<&Spanned<String>>) -> Option<Suite> {
        let Some(suite) = suite else {
            return Some(Suite::default());
        };
        match Suite::from_str(suite.get_ref()) {
            Ok(suite) => Some(suite),
            Err(why) => {
                self.error(
                    "fleet::suite",
                    suite.span(),
                    why,
                    "the Debian release of every node",
                    "write \"trixie\" (Debian 13) or \"bookworm\" (Debian 12)",
                );
                None
            }
        }
    }

    fn number(
        &mut self,
        key: &str,
        value: Option<&Spanned<i64>>,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
        unit: &str,
    ) -> u32 {
        let Some(value) = value else { return default };
        match u32::try_from(*value.get_ref())
            .ok()
            .filter(|v| range.contains(v))
        {
            Some(good) => good,
            None => {
                self.error(
                    "fleet::number",
                    value.span(),
                    format!("`{key}` cannot be {}", value.get_ref()),
                    "out of range",
                    format!(
                        "write a number from {} to {} ({unit})",
                        range.start(),
                        range.end()
                    ),
                );
                default
            }
        }
    }

    fn port(&mut self, key: &str, value: Option<&Spanned<i64>>, default: u16) -> u16 {
        let Some(value) = value else { return default };
        match u16::try_from(*value.get_ref()).ok().filter(|p| *p != 0) {
            Some(port) => port,
            None => {
                self.error(
                    "fleet::port",
                    value.span(),
                    format!("`{key}` cannot be {}", value.get_ref()),
                    "ports are numbers from 1 to 65535",
                    format!("write another number, or leave the key out for the default {default}"),
                );
                default
            }
        }
    }

    fn repository(&mut self, entry: &RepositoryEntry) -> Option<Repository> {
        if let Err(why) = syntax::repository_url(entry.url.get_ref()) {
            self.error(
                "fleet::repository-url",
                entry.url.span(),
                format!("the repository's URL {why}"),
                "goes into every node's sources (sources.list(5))",
                "write where nodes reach it, such as \"https://apt.example.com\"",
            );
        }
        let key = match entry.key.as_ref().map(|k| k.get_ref().as_str()) {
            None | Some("file") => Some(SigningKey::File),
            Some(text) => match text.strip_prefix("gpg:") {
                Some(fpr) if fpr.len() == 40 && fpr.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    Some(SigningKey::Gpg(fpr.to_ascii_uppercase()))
                }
                _ => {
                    self.error(
                        "fleet::repository-key",
                        entry.key.as_ref().map_or(0..0, Spanned::span),
                        format!("{text:?} names no signing key"),
                        "neither \"file\" nor gpg: with a full fingerprint",
                        "write \"gpg:\" and the 40 hexadecimal digits that `gpg --list-secret-keys` shows",
                    );
                    None
                }
            },
        };
        Some(Repository {
            url: entry.url.get_ref().trim_end_matches('/').to_owned(),
            key: key?,
            upstream: entry.upstream,
            valid_days: self.number("valid_days", entry.valid_days.as_ref(), 30, 1..=365, "days"),
            keep: self.number("keep", entry.keep.as_ref(), 3, 2..=1000, "generations"),
        })
    }

    fn interface(&mut self, value: Option<&Spanned<String>>, default: &str) -> String {
        let Some(value) = value else {
            return default.into();
        };
        if !syntax::interface(value.get_ref()) {
            self.error(
                "fleet::interface",
                value.span(),
                format!(
                    "{:?} is not the name of a network interface",
                    value.get_ref()
                ),
                "at most 15 letters, digits, dots, hyphens and underscores",
                "see `ip link` on a node",
            );
        }
        value.get_ref().clone()
    }

    fn network(&mut self, entry: &NetworkEntry) -> Option<Network> {
        let private = match Ipv4Network::from_str(entry.private.get_ref()) {
            Ok(net) => {
                if !net.is_private() {
                    self.error(
                        "fleet::network-public",
                        entry.private.span(),
                        format!("{net} is not a private network"),
                        "its addresses belong to somebody on the internet (RFC 1918, RFC 6598)",
                        "write the network that the provider gave the machines between themselves",
                    );
                }
                if !(8..=29).contains(&net.prefix()) {
                    self.error(
                        "fleet::network-size",
                        entry.private.span(),
                        format!("a /{} cannot be the fleet's private network", net.prefix()),
                        "prefixes from 8 to 29 have room for a fleet",
                        "write a network such as \"10.77.0.0/24\"",
                    );
                }
                Some(net)
            }
            Err(why) => {
                self.error(
                    "fleet::network",
                    entry.private.span(),
                    format!("{:?} is not a network: {why}", entry.private.get_ref()),
                    "not an IPv4 network in CIDR notation",
                    "write a network such as \"10.77.0.0/24\"",
                );
                None
            }
        };
        let private_interface = self.interface(entry.private_interface.as_ref(), "eth1");
        let public_interface = self.interface(entry.public_interface.as_ref(), "eth0");
        if private_interface == public_interface {
            let span = entry
                .private_interface
                .as_ref()
                .or(entry.public_interface.as_ref())
                .map_or(0..0, Spanned::span);
            self.error(
                "fleet::same-interface",
                span,
                format!("{private_interface} is both the public and the private interface"),
                "the firewall tells public from private traffic by its interface",
                "name the two interfaces that `ip link` shows on a node",
            );
        }
        let mut seen = BTreeSet::new();
        for key in &entry.admin_ssh_keys {
            if let Err(why) = syntax::ssh_public_key(key.get_ref()) {
                self.error(
                    "fleet::ssh-key",
                    key.span(),
                    format!("the key {why}"),
                    "not a line of authorized_keys",
                    "copy the one line of a .pub file, such as ~/.ssh/id_ed25519.pub",
                );
            } else if !seen.insert(key.get_ref()) {
                self.error(
                    "fleet::ssh-key-twice",
                    key.span(),
                    "the same key stands here twice".into(),
                    "a duplicate",
                    "remove one of them",
                );
            }
        }
        if entry.admin_ssh_keys.is_empty() {
            self.findings.warning(
                "fleet::no-ssh-key",
                Place::new(self.id, entry.private.span()),
                "admin_ssh_keys is empty: nobody can log in to the nodes",
                "sshd on nodes takes keys alone",
                "add the line of your ~/.ssh/id_ed25519.pub to [network] admin_ssh_keys",
            );
        }
        let load_balancer = entry
            .load_balancer
            .as_ref()
            .and_then(|lb| self.address(lb, private, "load balancer"));
        Some(Network {
            private: private?,
            private_interface,
            public_interface,
            admin_ssh_keys: entry
                .admin_ssh_keys
                .iter()
                .map(|k| k.get_ref().clone())
                .collect(),
            load_balancer,
        })
    }

    fn address(
        &mut self,
        text: &Spanned<String>,
        network: Option<Ipv4Network>,
        whose: &str,
    ) -> Option<Ipv4Addr> {
        let Ok(address) = text.get_ref().parse::<Ipv4Addr>() else {
            self.error(
                "fleet::address",
                text.span(),
                format!("{:?} is not an IPv4 address", text.get_ref()),
                "not four numbers from 0 to 255",
                format!("write the private address of the {whose}"),
            );
            return None;
        };
        if let Some(network) = network
            && !network.has_host(address)
        {
            self.error(
                "fleet::address-outside",
                text.span(),
                format!("{address} cannot be a host of the private network {network}"),
                "outside, or the network's own or broadcast address",
                format!("write the private address of the {whose}, or mend [network] private"),
            );
            return None;
        }
        Some(address)
    }

    fn node(
        &mut self,
        key: &Spanned<String>,
        entry: &NodeEntry,
        network: Option<&Network>,
    ) -> Option<Node> {
        let name = match NodeName::new(key.get_ref().as_str()) {
            Ok(name) => name,
            Err(why) => {
                self.error(
                    "fleet::node-name",
                    key.span(),
                    format!("the node's name {why}"),
                    "becomes its host name (RFC 1123)",
                    "write the first label alone, such as app-1; the domain stands in [fleet]",
                );
                return None;
            }
        };
        if entry.roles.get_ref().is_empty() {
            self.error(
                "fleet::no-roles",
                entry.roles.span(),
                format!("node {name} has no role"),
                "it would be a member that does nothing",
                "add roles such as [\"app\"], or remove the node",
            );
        }
        let mut roles: Vec<(RoleName, Range<usize>)> = Vec::new();
        for role in entry.roles.get_ref() {
            let wanted = role.get_ref().as_str();
            match self.roles.get(wanted) {
                Some(found) if roles.iter().any(|(r, _)| *r == found.name) => self.error(
                    "fleet::role-twice",
                    role.span(),
                    format!("node {name} names the role {wanted} twice"),
                    "a duplicate",
                    "remove one of them",
                ),
                Some(found) => roles.push((found.name.clone(), role.span())),
                // What is wrong with it is told where it is wrong.
                None if self.roles.is_broken(wanted) => {}
                None => {
                    let help = self.roles.similar(wanted).map_or_else(
                        || format!("known roles are {}", self.roles.names().join(", ")),
                        |near| format!("did you mean {near:?}?"),
                    );
                    self.error(
                        "fleet::unknown-role",
                        role.span(),
                        format!("there is no role {wanted:?}"),
                        "neither built in nor a directory in roles/",
                        help,
                    );
                }
            }
        }
        let private = network.map(|n| n.private);
        let address = entry
            .address
            .as_ref()
            .and_then(|a| self.address(a, private, "node"));
        if entry.address.is_none() {
            self.findings.advice(
                "fleet::no-address",
                Place::new(self.id, key.span()),
                format!("the address of {name} is not known yet"),
                "its peers cannot be told where it is",
                format!("once the machine exists: rolesmith record {name} ADDRESS"),
            );
        }
        Some(Node {
            name,
            span: key.span(),
            roles,
            address,
            ssh_port: self.port("ssh_port", entry.ssh_port.as_ref(), 22),
            memory: self.number(
                "memory",
                entry.memory.as_ref(),
                1024,
                256..=4_194_304,
                "MiB",
            ),
        })
    }

    fn distinct_addresses(&mut self, file: &FleetFile, network: Option<&Network>) {
        let mut seen: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
        if let Some(lb) = network.and_then(|n| n.load_balancer) {
            seen.insert(lb, "the load balancer".into());
        }
        for (key, entry) in &file.nodes {
            let Some(text) = &entry.address else { continue };
            let Ok(address) = text.get_ref().parse() else {
                continue;
            };
            if let Some(other) = seen.insert(address, key.get_ref().clone()) {
                self.error(
                    "fleet::address-twice",
                    text.span(),
                    format!("{address} is the address of {other} too"),
                    "two machines cannot share an address",
                    "see what `ip address` shows on both",
                );
            }
        }
    }

    /// Redis that may fill a machine makes the kernel kill its neighbours.
    fn redis_fits(&mut self, file: &FleetFile, nodes: &BTreeMap<NodeName, Node>, limit: u32) {
        let Some(written) = &file.redis.max_memory else {
            return;
        };
        for node in nodes.values() {
            let closure = self.roles.closure(node.roles.iter().map(|(role, _)| role));
            if closure.iter().any(|role| role.as_str() == "redis") && limit >= node.memory {
                self.error(
                    "fleet::redis-memory",
                    written.span(),
                    format!(
                        "Redis may use {limit} MiB, but node {} has {} MiB",
                        node.name, node.memory
                    ),
                    "more than the machine has",
                    format!(
                        "lower it, or write the machine's real size as `memory` under [nodes.{}]",
                        node.name
                    ),
                );
                return;
            }
        }
    }

    fn settings(&mut self, file: &FleetFile) -> BTreeMap<String, BTreeMap<String, SettingValue>> {
        let mut all = BTreeMap::new();
        for (role_name, values) in &file.settings {
            let Some(role) = self.roles.get(role_name.get_ref()) else {
                if self.roles.is_broken(role_name.get_ref()) {
                    continue;
                }
                let help = self.roles.similar(role_name.get_ref()).map_or_else(
                    || "write the name of one of the roles, or remove the table".to_owned(),
                    |near| format!("did you mean [settings.{near}]?"),
                );
                self.error(
                    "fleet::settings-unknown-role",
                    role_name.span(),
                    format!(
                        "[settings.{}] is for a role that does not exist",
                        role_name.get_ref()
                    ),
                    "neither built in nor a directory in roles/",
                    help,
                );
                continue;
            };
            let declared: BTreeMap<&str, &toml::Value> = role
                .layers
                .iter()
                .flat_map(|l| &l.file.settings)
                .map(|(k, v)| (k.get_ref().as_str(), v.get_ref()))
                .collect();
            let mut of_role = BTreeMap::new();
            for (key, value) in values {
                match declared.get(key.get_ref().as_str()) {
                    None => {
                        let names: Vec<&str> = declared.keys().copied().collect();
                        let help = if let Some(near) = closest(key.get_ref(), names.iter().copied())
                        {
                            format!("did you mean {near:?}?")
                        } else if names.is_empty() {
                            format!("role {} declares no settings", role.name)
                        } else {
                            format!("role {} declares {}", role.name, names.join(", "))
                        };
                        self.error(
                            "fleet::unknown-setting",
                            key.span(),
                            format!("role {} has no setting {:?}", role.name, key.get_ref()),
                            "not declared in its role.toml",
                            help,
                        );
                    }
                    Some(default) if !default.same_type(value.get_ref()) => self.error(
                        "fleet::setting-type",
                        value.span(),
                        format!(
                            "setting {:?} takes a value of type {}",
                            key.get_ref(),
                            default.type_str()
                        ),
                        &format!("this is a value of type {}", value.get_ref().type_str()),
                        format!("its default is {default}"),
                    ),
                    Some(_) => {
                        of_role.insert(
                            key.get_ref().clone(),
                            SettingValue {
                                value: value.get_ref().clone(),
                                span: value.span(),
                            },
                        );
                    }
                }
            }
            all.insert(role.name.to_string(), of_role);
        }
        all
    }
}
