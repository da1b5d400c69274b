//! The fleet's own programs and what its edge serves, checked, and the roles that are made of them.
//!
//! A service is a role that nobody has to write: its role.toml, its unit and its files are templates in `roles/app/service/`, those of a
//! site in `roles/edge/site/`. So everything that is done with roles (packages, facts, secrets, health) is done with them, and a fleet
//! that extends `app` or `edge` may bring templates of its own.

mod roles;

use std::ops::Range;

use serde::Serialize;

use crate::ids::{RoleName, SecretName};

pub use roles::add_roles;
pub(crate) use roles::{extend_context, extend_node_context};

/// Longest name of a service or site: with the fleet's name and what stands between, a package's name stays readable.
pub const NAME_LIMIT: usize = 24;

/// What begins the name of a service's role.
pub const SERVICE_PREFIX: &str = "service-";
/// What begins the name of a site's role.
pub const SITE_PREFIX: &str = "site-";

/// A program of the fleet. Templates read it as `service`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its directory, relative to the fleet's.
    pub source: String,
    /// How it starts.
    pub command: Vec<String>,
    /// Its port on loopback.
    pub port: u16,
    /// Path of its health check.
    pub health: Option<String>,
    /// Name of its database and of the PostgreSQL role that owns it.
    pub database: Option<String>,
    /// What brings its database up to date.
    pub migrate: Option<Vec<String>>,
    /// Whether it uses the fleet's Redis.
    pub redis: bool,
    /// Secrets that the operator sets for it.
    pub secrets: Vec<SecretName>,
    /// More of its environment.
    pub environment: Vec<(String, String)>,
    /// Debian packages that it needs.
    pub depends: Vec<String>,
    /// Most memory in MiB.
    pub memory: u32,
    /// Most of one processor in percent.
    pub cpu: u32,
    /// Where its table stands in fleet.toml.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl Service {
    /// The role that is made for it.
    ///
    /// # Panics
    /// Never: its name was checked.
    #[must_use]
    pub fn role(&self) -> RoleName {
        RoleName::new(format!("{SERVICE_PREFIX}{}", self.name)).expect("the name was checked")
    }

    /// The secret that holds its database password.
    ///
    /// # Panics
    /// Never: its name was checked.
    #[must_use]
    pub fn database_secret(&self) -> SecretName {
        SecretName::new(format!("{}-database-password", self.name)).expect("the name was checked")
    }
}

/// What the edge serves under some names. Templates read it as `site`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its DNS names; never empty.
    pub hosts: Vec<String>,
    /// The directory of its files, relative to the fleet's.
    pub root: Option<String>,
    /// The file that answers for every path without one.
    pub single_page: Option<String>,
    /// What its pages may load.
    pub content_security_policy: String,
    /// Days of Strict-Transport-Security.
    pub hsts_days: u32,
    /// Paths that services answer.
    pub routes: Vec<Route>,
    /// Where its table stands in fleet.toml.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl Site {
    /// The role that is made for it.
    ///
    /// # Panics
    /// Never: its name was checked.
    #[must_use]
    pub fn role(&self) -> RoleName {
        RoleName::new(format!("{SITE_PREFIX}{}", self.name)).expect("the name was checked")
    }
}

/// A path of a site that a service answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// What the path begins with.
    pub path: String,
    /// The service.
    pub service: String,
    /// Its port on loopback.
    pub port: u16,
    /// Most requests of one client, in nginx's syntax: `20r/s`.
    pub rate: String,
    /// Requests above the rate that are still answered.
    pub burst: u32,
    /// Largest body in MiB.
    pub max_body: u32,
    /// Whether connections may become WebSockets.
    pub websocket: bool,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Applications {
    /// By the order of fleet.toml.
    pub services: Vec<Service>,
    /// By the order of fleet.toml.
    pub sites: Vec<Site>,
}

impl Applications {
    /// The service of that name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|s| s.name == name)
    }

    /// Services that have a database.
    pub fn databases(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(|s| s.database.is_some())
    }
}
