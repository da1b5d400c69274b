//! What the edge answers for the machine: whether the load balancer may send requests here.
//!
//! nginx hands the health check to a socket of this service ([`run`]), which looks at the machine all the time ([`look`]) and decides
//! without waiting for anything ([`Readiness`], pure).

mod look;
mod readiness;
mod server;

use serde::Deserialize;

pub use look::{Looks, look};
pub use readiness::{Limits, Readiness, Verdict};
pub use server::{LEAVING, SOCKET, UPGRADING, run};

/// The role whose nodes are behind the load balancer.
pub const ROLE: &str = "edge";

/// Rendered by the role edge for each of its nodes.
pub const SETTINGS_FILE: &str = "/var/lib/rolesmith/conf/edge/edge.json";

/// [`SETTINGS_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// The fleet.
    pub fleet: String,
    /// This node.
    pub node: String,
    /// Where nginx ends TLS.
    pub https: String,
    /// The services of this machine.
    pub services: Vec<Service>,
    /// How long the load balancer needs to see that the machine is not to be asked any more, in seconds; files of older builds do not
    /// say.
    #[serde(default)]
    pub leave_seconds: u64,
}

/// A service of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its port on loopback.
    pub port: u16,
    /// The path that says whether it can work; without one, that it takes connections has to do.
    #[serde(default)]
    pub health: Option<String>,
}
