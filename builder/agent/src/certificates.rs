//! Certificates of sites: asked for by ACME (RFC 8555), shared by all edges, renewed in time.
//!
//! A service of its own on each edge ([`run`]), apart from the one that looks after the database. Edges speak to each other on a port
//! of its own, over the same mutual TLS and with the same judge as agents do ([`crate::net`]).
//!
//! - One edge issues at a time: others promise it so ([`lease`], pure). Which one, and when, is decided by all in the same way
//!   ([`plan`], pure).
//! - The authority's question may reach any edge: who does not know the answer asks the others ([`challenge`]).
//! - [`peers`] is what edges say to each other. Whoever sees a better certificate at another one takes it; what is better is the same
//!   for all ([`bundle`]).
//! - [`issue`] runs uacme(1), which knows the protocol.
//! - [`install`] is the one part that is root: it judges what was stored and gives it to nginx.

pub mod bundle;
pub mod challenge;
pub mod install;
pub mod issue;
pub mod lease;
pub mod peers;
pub mod plan;
pub mod report;
pub mod run;
pub mod store;

use serde::{Deserialize, Serialize};

use crate::files::{self, Root, Seen};

/// Rendered by the role `certificates` for each of its nodes.
pub const SETTINGS_FILE: &str = "/var/lib/rolesmith/conf/certificates/certificates.json";

/// The role whose members share certificates.
pub const ROLE: &str = "certificates";

/// [`SETTINGS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The authority's directory (RFC 8555, 7.1.1).
    pub directory: String,
    /// Whom the authority may write to.
    #[serde(default)]
    pub contact: Option<String>,
    /// A certificate is renewed so many days before its end, or when a third of its life is left, whichever is later.
    pub renew_days: u64,
    /// Where edges ask each other (TCP, private address).
    pub port: u16,
    /// This node's private address.
    pub address: String,
    /// What certificates are for.
    pub sites: Vec<Site>,
}

/// A site: one certificate for all its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its DNS names; never empty.
    pub hosts: Vec<String>,
}

impl Settings {
    /// Reads [`SETTINGS_FILE`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(root: &Root) -> Result<Self, String> {
        match files::read_json(&root.join(SETTINGS_FILE)) {
            Seen::Is(settings) => Ok(settings),
            Seen::Absent => Err(format!("there is no {SETTINGS_FILE}")),
            Seen::Broken(why) => Err(format!("{SETTINGS_FILE}: {why}")),
        }
    }

    /// The site of that name.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == name)
    }
}
