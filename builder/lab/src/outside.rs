//! The machine outside the fleet: one real Debian machine that stands for everything that is the provider's or the world's, first
//! of all the load balancer. It is no member: it has no role, no agent, no repository; all that it runs is in its root tree.
//!
//! To give it one more task: a package in `packages.rs`, what that reads in `files.rs`.

mod acme;
pub(crate) mod boot;
mod files;
mod forward;
pub(crate) mod forwarder;
mod haproxy;
mod packages;
mod stats;

use std::{ffi::OsString, net::Ipv4Addr};

pub use self::acme::Authority;
pub use self::forward::{Forward, forward};
pub(crate) use self::forwarder::ForwarderState;
pub use self::haproxy::{Backend, Balancer, ProxyProtocol};
pub(crate) use self::packages::PACKAGES;
pub use self::stats::BackendStatus;
pub(crate) use self::stats::{SOCKET, ask};

/// What the machine is called, in commands and by itself. No node of the fleet can have the name in a lab that has the machine.
pub const NAME: &str = "outside";

/// The Debian release that it runs, whatever the fleet's is.
pub(crate) const SUITE: &str = "trixie";

/// The machine outside the fleet.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Address in the private network, from which the nodes see the load balancer come. In the public network it has the same
    /// host part, as nodes do.
    pub address: Ipv4Addr,
    /// The provider's load balancer.
    pub balancer: Balancer,
    /// The certificate authority, where the fleet asks this one.
    pub authority: Option<Authority>,
    /// Program and first arguments of the process that leads from this machine's loopback address into the lab;
    /// `--namespace PATH --forward PORT=ADDRESS:PORT ...` is added. The program has to end up in [`forward()`]. Empty: nothing
    /// leads there.
    pub forwarder: Vec<OsString>,
}
