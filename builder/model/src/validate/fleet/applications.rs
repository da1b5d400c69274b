//! [[services]] and [[sites]]

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

use super::Check;
use crate::{
    applications::{Applications, NAME_LIMIT, Route, Service, Site},
    archive_names::closest,
    finding::Place,
    fleet::{Node, Services},
    fleet_file::{FleetFile, RouteEntry, ServiceEntry, SiteEntry},
    ids::{NodeName, RoleName, SecretName},
    validate::syntax,
};

/// What pages may load where the fleet says nothing: what comes from the site itself, no plug-ins, no foreign frames.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

/// What an application's environment gets from rolesmith.
const OWN_VARIABLES: [&str; 6] = ["PORT", "HOST", "DATABASE_URL", "NODE_ENV", "PATH", "HOME"];
const OWN_PREFIXES: [&str; 3] = ["ROLESMITH_", "REDIS_", "CREDENTIALS_"];

/// Directories of a fleet that hold what the builder keeps there.
const OWN: [&str; 3] = ["secrets", "dist", ".rolesmith"];

impl Check<'_> {
    pub(super) fn applications(
        &mut self,
        file: &FleetFile,
        nodes: &BTreeMap<NodeName, Node>,
        known: &Services,
    ) -> Applications {
        let mut all = Applications::default();
        for entry in &file.services {
            if let Some(service) = self.service(entry, nodes, known, &all.services) {
                all.services.push(service);
            }
        }
        // A route to a service with an error is not told as a second error.
        let names: Vec<&str> = file
            .services
            .iter()
            .map(|s| s.name.get_ref().as_str())
            .collect();
        for entry in &file.sites {
            if let Some(site) = self.site(entry, nodes, &all, &names) {
                all.sites.push(site);
            }
        }
        all
    }

    fn application_name(
        &mut self,
        what: &str,
        name: &Spanned<String>,
        taken: bool,
    ) -> Option<String> {
        let text = name.get_ref();
        let why = match RoleName::new(text.as_str()) {
            Err(why) => why.to_string(),
            Ok(_) if text.len() > NAME_LIMIT => {
                format!(
                    "has {} characters; at most {NAME_LIMIT} are allowed",
                    text.len()
                )
            }
            Ok(_) if taken => {
                self.error(
                    "fleet::application-twice",
                    name.span(),
                    format!("there are two {what}s called {text}"),
                    "the name is that of the package",
                    "give one of them another name",
                );
                return None;
            }
            Ok(_) => return Some(text.clone()),
        };
        self.error(
            "fleet::application-name",
            name.span(),
            format!("the name of the {what} {why}"),
            "becomes a part of package, unit and directory names",
            "choose a short name such as \"shop\"",
        );
        None
    }

    /// A directory of the fleet's directory.
    fn directory(&mut self, what: &str, path: &Spanned<String>) -> String {
        let text = path.get_ref().trim_end_matches('/');
        if let Err(why) = syntax::relative_path(text) {
            self.error(
                "fleet::application-directory",
                path.span(),
                format!("the directory of the {what} {why}"),
                "what packages are made of stands in the fleet's directory",
                "write a path such as \"services/shop\"",
            );
        } else if let Some(owner) = text.split('/').next().filter(|top| OWN.contains(top)) {
            self.error(
                "fleet::application-directory",
                path.span(),
                format!("the directory of the {what} is in {owner}/, which is the builder's own"),
                "secrets are never in a package, and what is built is not built from itself",
                "move its files to a directory such as \"services/shop\"",
            );
        }
        text.to_owned()
    }

    /// Whether a node has the role, with those that its roles require.
    fn some_node_has(&self, nodes: &BTreeMap<NodeName, Node>, role: &str) -> bool {
        nodes.values().any(|node| {
            self.roles
                .closure(node.roles.iter().map(|(role, _)| role))
                .iter()
                .any(|r| r.as_str() == role)
        })
    }

    fn needs_role(
        &mut self,
        span: Range<usize>,
        nodes: &BTreeMap<NodeName, Node>,
        (name, needs): (&str, &str),
        role: &str,
    ) {
        if !self.some_node_has(nodes, role) {
            self.error(
                "fleet::application-without-role",
                span,
                format!("{name} needs {needs}, and no node has the role {role}"),
                "it could not work on any machine",
                format!("add {role:?} to the roles of a node"),
            );
        }
    }

    fn service(
        &mut self,
        entry: &ServiceEntry,
        nodes: &BTreeMap<NodeName, Node>,
        known: &Services,
        others: &[Service],
    ) -> Option<Service> {
        let taken = others.iter().any(|s| s.name == *entry.name.get_ref());
        let name = self.application_name("service", &entry.name, taken);
        let shown = format!("the service {}", entry.name.get_ref());
        self.needs_role(
            entry.name.span(),
            nodes,
            (&shown, "application servers"),
            "app",
        );
        let source = self.directory("service", &entry.source);
        let default = Spanned::new(entry.name.span(), vec!["node".to_owned(), ".".to_owned()]);
        let command = self.command("command", entry.command.as_ref().unwrap_or(&default));
        let migrate = entry.migrate.as_ref().map(|c| self.command("migrate", c));
        let port = self.service_port(entry, known, others);
        if let Some(path) = &entry.health {
            self.url_path("health", path);
        }
        let wants_database = entry.database.as_ref().is_some_and(|d| *d.get_ref());
        if let Some(database) = entry.database.as_ref().filter(|_| wants_database) {
            self.needs_role(
                database.span(),
                nodes,
                (&shown, "a database"),
                "db-primary-capable",
            );
        }
        if let (Some(migrate), false) = (&entry.migrate, wants_database) {
            self.error(
                "fleet::migrate-without-database",
                migrate.span(),
                format!("{shown} has a migration and no database"),
                "a migration is run once for each version of the fleet's database",
                "write database = true as well, or remove `migrate`",
            );
        }
        let redis = entry.redis.as_ref().is_some_and(|r| *r.get_ref());
        if let Some(wanted) = entry.redis.as_ref().filter(|_| redis) {
            self.needs_role(wanted.span(), nodes, (&shown, "Redis"), "redis");
        }
        let database = match &name {
            Some(name) if wants_database => self.database_name(entry, name),
            _ => None,
        };
        let secrets = self.service_secrets(entry);
        let environment = self.environment(entry);
        Some(Service {
            name: name?,
            source,
            command,
            port,
            health: entry.health.as_ref().map(|h| h.get_ref().clone()),
            database,
            migrate,
            redis,
            secrets,
            environment,
            depends: entry.depends.iter().map(|d| d.get_ref().clone()).collect(),
            memory: self.number("memory", entry.memory.as_ref(), 192, 16..=1_048_576, "MiB"),
            cpu: self.number(
                "cpu",
                entry.cpu.as_ref(),
                150,
                5..=100_000,
                "percent of one processor",
            ),
            span: entry.name.span(),
        })
    }

    fn service_port(&mut self, entry: &ServiceEntry, known: &Services, others: &[Service]) -> u16 {
        let port = self.port("port", Some(&entry.port), 0);
        let reserved = [
            (known.database.port, "PostgreSQL"),
            (known.database.pooler_port, "pgbouncer"),
            (known.redis.port, "Redis"),
            (known.redis.sentinel_port, "Sentinel"),
            (known.logs.port, "the log server"),
        ];
        let other = others
            .iter()
            .find(|s| s.port == port)
            .map(|s| s.name.as_str());
        let taken = reserved
            .iter()
            .find(|(p, _)| *p == port)
            .map(|(_, name)| *name);
        if let Some(other) = other.or(taken) {
            self.error(
                "fleet::application-port",
                entry.port.span(),
                format!(
                    "port {port} of service {} is that of {other}",
                    entry.name.get_ref()
                ),
                "only one program can listen on a port",
                "choose another, such as one from 3000 on",
            );
        } else if port != 0 && port < 1024 {
            self.error(
                "fleet::application-port",
                entry.port.span(),
                format!("service {} cannot listen on port {port}", entry.name.get_ref()),
                "ports below 1024 are for privileged programs (ip(7)), and the edge is in front of it anyway",
                "choose another, such as one from 3000 on",
            );
        }
        port
    }

    fn command(&mut self, key: &str, command: &Spanned<Vec<String>>) -> Vec<String> {
        let words = command.get_ref();
        let wrong = match words.first() {
            None => Some("names no program"),
            Some(first) if first.is_empty() => Some("names no program"),
            Some(first) if first.starts_with(['-', '@', '+', '!', ':']) => {
                Some("begins with a character that systemd takes for an instruction")
            }
            Some(first) if first.split('/').any(|part| part == "..") => {
                Some("leads out of the service's directory")
            }
            _ if words.iter().any(|w| w.chars().any(char::is_control)) => {
                Some("holds a control character")
            }
            _ => None,
        };
        if let Some(why) = wrong {
            self.error(
                "fleet::application-command",
                command.span(),
                format!("`{key}` {why}"),
                "becomes ExecStart= of a unit (systemd.service(5))",
                "write a list such as [\"node\", \"server.js\"]; it runs in the service's directory",
            );
        }
        words.clone()
    }

    fn url_path(&mut self, key: &str, path: &Spanned<String>) {
        let text = path.get_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        if !text.starts_with('/')
            || !text.bytes().all(sound)
            || text.contains("//")
            || text.contains("..")
        {
            self.error(
                "fleet::application-path",
                path.span(),
                format!("`{key}` cannot be {text:?}"),
                "not a path of letters, digits and -._~ that begins with a slash (RFC 3986, 3.3)",
                "write it such as \"/api/\"",
            );
        }
    }

    /// PostgreSQL's names are letters, digits and underscores where nobody is to quote them.
    fn database_name(&mut self, entry: &ServiceEntry, name: &str) -> Option<String> {
        let database = name.replace('-', "_");
        let reserved = [
            "postgres",
            "repmgr",
            "template0",
            "template1",
            "public",
            "user",
            "pgbouncer",
        ];
        if reserved.contains(&database.as_str())
            || database.starts_with("pg_")
            || database.starts_with("rolesmith_")
        {
            self.error(
                "fleet::application-database",
                entry.name.span(),
                format!("a service with a database cannot be called {name}"),
                "its database would have a name that PostgreSQL, repmgr or rolesmith uses",
                "choose another name",
            );
            return None;
        }
        Some(database)
    }

    fn service_secrets(&mut self, entry: &ServiceEntry) -> Vec<SecretName> {
        let mut all: Vec<SecretName> = Vec::new();
        for secret in &entry.secrets {
            match SecretName::new(secret.get_ref().as_str()) {
                Ok(name) if all.contains(&name) => self.error(
                    "fleet::application-secret",
                    secret.span(),
                    format!("the secret {name} is named twice"),
                    "a duplicate",
                    "remove one of them",
                ),
                Ok(name) => all.push(name),
                Err(why) => self.error(
                    "fleet::application-secret",
                    secret.span(),
                    format!("the secret's name {why}"),
                    "it becomes the name of a file",
                    "write a name such as \"shop-payment-key\"",
                ),
            }
        }
        all
    }

    fn environment(&mut self, entry: &ServiceEntry) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (key, value) in &entry.environment {
            let name = key.get_ref();
            let sound = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            let own = OWN_VARIABLES.contains(&name.as_str())
                || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if name.is_empty() || !name.bytes().all(sound) || name.as_bytes()[0].is_ascii_digit() {
                self.error(
                    "fleet::application-environment",
                    key.span(),
                    format!("no variable can be called {name:?}"),
                    "not upper-case letters, digits and underscores, beginning with a letter",
                    "write it such as LOG_LEVEL",
                );
            } else if own {
                self.error(
                    "fleet::application-environment",
                    key.span(),
                    format!("{name} is set by rolesmith"),
                    "programs find the database, Redis and their port there",
                    "remove it",
                );
            } else if value.get_ref().chars().any(char::is_control) {
                self.error(
                    "fleet::application-environment",
                    value.span(),
                    format!("the value of {name} holds a control character"),
                    "it is a line of a file",
                    "write it without",
                );
            }
            all.push((name.clone(), value.get_ref().clone()));
        }
        all
    }

    fn site(
        &mut self,
        entry: &SiteEntry,
        nodes: &BTreeMap<NodeName, Node>,
        applications: &Applications,
        services: &[&str],
    ) -> Option<Site> {
        let taken = applications
            .sites
            .iter()
            .any(|s| s.name == *entry.name.get_ref());
        let name = self.application_name("site", &entry.name, taken);
        let shown = format!("the site {}", entry.name.get_ref());
        self.needs_role(entry.name.span(), nodes, (&shown, "an edge"), "edge");
        let hosts = self.hosts(entry, &applications.sites);
        let root = entry.root.as_ref().map(|root| self.directory("site", root));
        if let Some(page) = &entry.single_page {
            if let Err(why) = syntax::relative_path(page.get_ref()) {
                self.error(
                    "fleet::site-page",
                    page.span(),
                    format!("`single_page` {why}"),
                    "a file of the site's directory",
                    "write it such as \"index.html\"",
                );
            } else if entry.root.is_none() {
                self.error(
                    "fleet::site-page",
                    page.span(),
                    format!("{shown} has a page and no directory"),
                    "the page is a file of `root`",
                    "add `root`, such as \"sites/shop\"",
                );
            }
        }
        if entry.root.is_none() && entry.routes.is_empty() {
            self.error(
                "fleet::site-empty",
                entry.name.span(),
                format!("{shown} has neither files nor routes"),
                "it would answer nothing",
                "add `root`, or a [[sites.routes]]",
            );
        }
        let policy = match &entry.content_security_policy {
            None => POLICY.to_owned(),
            Some(policy) => self.policy(policy),
        };
        let routes = self.routes(entry, applications, services);
        Some(Site {
            name: name?,
            hosts,
            root,
            single_page: entry.single_page.as_ref().map(|p| p.get_ref().clone()),
            content_security_policy: policy,
            hsts_days: self.number("hsts_days", entry.hsts_days.as_ref(), 365, 0..=3650, "days"),
            routes,
            span: entry.name.span(),
        })
    }

    fn hosts(&mut self, entry: &SiteEntry, others: &[Site]) -> Vec<String> {
        if entry.hosts.get_ref().is_empty() {
            self.error(
                "fleet::site-host",
                entry.hosts.span(),
                format!("the site {} has no name", entry.name.get_ref()),
                "the edge tells sites apart by the name that a browser asks for (RFC 6066, 3)",
                "write its DNS name, such as [\"shop.example.com\"]",
            );
        }
        let mut all: Vec<String> = Vec::new();
        for host in entry.hosts.get_ref() {
            let text = host.get_ref();
            if let Err(why) = syntax::domain(text) {
                self.error(
                    "fleet::site-host",
                    host.span(),
                    format!("{text:?} {why}"),
                    "browsers reach the site by a DNS name (RFC 1123)",
                    "write it such as \"shop.example.com\"",
                );
            } else if all.contains(text) || others.iter().any(|s| s.hosts.contains(text)) {
                self.error(
                    "fleet::site-host",
                    host.span(),
                    format!("{text} is named twice"),
                    "only one site can answer for a name",
                    "remove one of them",
                );
            } else {
                all.push(text.clone());
            }
        }
        all
    }

    fn policy(&mut self, policy: &Spanned<String>) -> String {
        let text = policy.get_ref().trim();
        // It becomes a string of nginx's configuration, in which these are special.
        let bad = |c: char| c.is_control() || !c.is_ascii() || "\"\\$".contains(c);
        if text.is_empty() || text.contains(bad) {
            self.error(
                "fleet::site-policy",
                policy.span(),
                "the content security policy is empty or holds a character that no policy has"
                    .into(),
                "a header of directives and sources (Content Security Policy Level 3)",
                "write it such as \"default-src 'self'\"",
            );
        }
        text.to_owned()
    }

    fn routes(
        &mut self,
        entry: &SiteEntry,
        applications: &Applications,
        services: &[&str],
    ) -> Vec<Route> {
        let mut all: Vec<Route> = Vec::new();
        for route in &entry.routes {
            self.url_path("path", &route.path);
            let path = route.path.get_ref().clone();
            if all.iter().any(|r| r.path == path) {
                self.error(
                    "fleet::route-twice",
                    route.path.span(),
                    format!(
                        "two routes of the site {} have the path {path}",
                        entry.name.get_ref()
                    ),
                    "only one service can answer",
                    "remove one of them",
                );
                continue;
            }
            if path.starts_with("/.well-known/acme-challenge") {
                self.error(
                    "fleet::route-challenge",
                    route.path.span(),
                    format!("a route cannot have the path {path}"),
                    "it is where the certificate authority looks (RFC 8555, 8.3)",
                    "choose another path",
                );
            }
            let wanted = route.service.get_ref();
            let Some(service) = applications.service(wanted) else {
                if !services.contains(&wanted.as_str()) {
                    let help = closest(wanted, services.iter().copied()).map_or_else(
                        || "add it as [[services]]".to_owned(),
                        |near| format!("did you mean {near:?}?"),
                    );
                    self.error(
                        "fleet::route-service",
                        route.service.span(),
                        format!("there is no service {wanted:?}"),
                        "a route leads to one of the fleet's services",
                        help,
                    );
                }
                continue;
            };
            let (rate, per_second) = self.rate(route);
            let burst = (per_second * 2).clamp(20, 100_000);
            all.push(Route {
                path,
                service: wanted.clone(),
                port: service.port,
                rate,
                burst: self.number(
                    "burst",
                    route.burst.as_ref(),
                    burst,
                    0..=1_000_000,
                    "requests",
                ),
                max_body: self.number("max_body", route.max_body.as_ref(), 10, 1..=102_400, "MiB"),
                websocket: route.websocket,
            });
        }
        if entry.root.is_some() && all.iter().any(|r| r.path == "/") {
            self.findings.warning(
                "fleet::site-root-hidden",
                Place::new(self.id, entry.name.span()),
                format!(
                    "the files of the site {} are never served",
                    entry.name.get_ref()
                ),
                "a route with the path / answers for all of them",
                "remove `root`, or give the route a longer path",
            );
        }
        all
    }

    /// The rate in nginx's syntax, and per second.
    fn rate(&mut self, route: &RouteEntry) -> (String, u32) {
        let Some(rate) = &route.rate else {
            return ("50r/s".into(), 50);
        };
        let parsed = rate.get_ref().split_once('/').and_then(|(number, unit)| {
            let number: u32 = number
                .parse()
                .ok()
                .filter(|n| (1..=1_000_000).contains(n))?;
            match unit {
                "s" => Some((format!("{number}r/s"), number)),
                "m" => Some((format!("{number}r/m"), number.div_ceil(60))),
                _ => None,
            }
        });
        parsed.unwrap_or_else(|| {
            self.error(
                "fleet::route-rate",
                rate.span(),
                format!("{:?} is not a rate", rate.get_ref()),
                "not a number of requests a second or a minute",
                "write it such as \"20/s\" or \"300/m\"",
            );
            (String::new(), 1)
        })
    }
}
