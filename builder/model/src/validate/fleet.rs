//! Checks a fleet.toml and makes a [`Fleet`] of it.

mod applications;
mod certificates;
mod database;
mod edge;
mod mail;
mod network;
mod nodes;
mod settings;

use std::{collections::BTreeMap, ops::Range, str::FromStr};

use toml::Spanned;

use super::{
    syntax,
    toml_error::{self, Document},
};
use crate::{
    finding::{Findings, Place},
    fleet::{Database, Fleet, Logs, Node, Redis, Repository, Services, SigningKey},
    fleet_file::{FleetFile, RepositoryEntry},
    ids::{FleetName, NodeName, Suite},
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
        let discovery = self.discovery(&file.discovery);
        let mut services = Services {
            database: Database {
                // What the nodes come to is not known yet.
                synchronous: 1,
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
            if let Some(node) = self.node(key, entry, network.as_ref(), discovery.any()) {
                nodes.insert(node.name.clone(), node);
            }
        }
        self.distinct_addresses(&file, network.as_ref());
        self.redis_fits(&file, &nodes, services.redis.max_memory);
        services.database.synchronous = self.database(&file, &nodes);
        self.edges(network.as_ref(), &nodes);
        let mail = self.mail(&file, &mut nodes);
        let applications = self.applications(&file, &nodes, &services);
        let certificates = self.certificates(&file, &mut nodes);
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
            discovery,
            nodes,
            services,
            mail,
            certificates,
            applications,
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
        for path in &entry.also_trusted {
            let text = path.get_ref();
            let inside = text.split('/').all(|part| !["", ".", ".."].contains(&part));
            if !inside {
                self.error(
                    "fleet::repository-also-trusted",
                    path.span(),
                    format!("{text:?} is no path of a file in the fleet's directory"),
                    "the fleet's directory holds everything that its packages are made of",
                    "put the armored public key beside fleet.toml and write its path, such as \"keys/next.asc\"",
                );
            }
        }
        Some(Repository {
            also_trusted: entry
                .also_trusted
                .iter()
                .map(|path| path.get_ref().clone())
                .collect(),
            url: entry.url.get_ref().trim_end_matches('/').to_owned(),
            key: key?,
            upstream: entry.upstream,
            valid_days: self.number("valid_days", entry.valid_days.as_ref(), 30, 1..=365, "days"),
            keep: self.number("keep", entry.keep.as_ref(), 3, 2..=1000, "generations"),
        })
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
}
