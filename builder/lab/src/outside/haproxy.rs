//! The provider's load balancer: haproxy, told to do what DigitalOcean's does.
//!
//! What that does, by its documentation (docs.digitalocean.com, load balancers), its API and its Terraform provider: it passes TCP through
//! to the private addresses, round robin; with PROXY protocol (version 1) on, health checks begin with the PROXY header too, so that
//! one port serves both; a check passes with a status of 200 to 299; a machine is out after so many failures in a row and
//! back after so many successes; an idle connection is closed after a minute; there are at most 10,000 connections at once.

use std::{
    fmt::{self, Write as _},
    net::Ipv4Addr,
    time::Duration,
};

use super::stats::SOCKET;

/// How long a connection to a node may take to be made before another node is tried. A SYN that was lost is sent again after 1 s;
/// between machines of one network none takes that long.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// For how long nothing may be said on a connection (DigitalOcean's keep-alive time).
const IDLE: Duration = Duration::from_secs(60);

/// Connections at a time (DigitalOcean's limit of one node of a load balancer).
const CONNECTIONS: u32 = 10_000;

/// What the load balancer serves: the name of frontend and backend, and the port, the same on both sides.
const SERVICES: [(&str, u16); 2] = [(HTTP, 80), (HTTPS, 443)];
const HTTP: &str = "http";
const HTTPS: &str = "https";

/// The provider's load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// How nodes are told who connects.
    pub proxy: ProxyProtocol,
    /// Who is behind it.
    pub backends: Vec<Backend>,
}

/// A node behind the load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name: letters, digits, `-`, `_`, `.` and `:`.
    pub name: String,
    /// Its address in the private network.
    pub address: Ipv4Addr,
}

/// The header by which a proxy tells whose connection it passes on (haproxy, doc/proxy-protocol.txt). It stands before
/// everything else, in health checks too; a port that expects it takes no connection without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// No header: every client has the load balancer's address.
    Off,
    /// A line of text. DigitalOcean's load balancers send this one.
    #[default]
    V1,
    /// The binary form.
    V2,
}

impl ProxyProtocol {
    /// The words on a line `server`.
    fn words(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::V1 => " send-proxy",
            Self::V2 => " send-proxy-v2",
        }
    }
}

impl Balancer {
    /// How often a node's health is asked for. DigitalOcean: 10 s unless told otherwise, 3 s at least. The lab is not to make people
    /// wait, and what a fleet promises of a drain is measured against this very value.
    pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

    /// How long a check may take, its connection and its answer each. DigitalOcean: 5 s, 3 s at least.
    pub const CHECK_LIMIT: Duration = Duration::from_secs(1);

    /// Failures in a row after which a node gets no new connections. DigitalOcean: 3 or 5, by the tool that makes it, 2 at least; one
    /// would take a single lost packet for a lost machine.
    pub const FALL: u32 = 2;

    /// Successes in a row after which a node gets connections again. DigitalOcean: 5, 2 at least.
    pub const RISE: u32 = 2;

    /// haproxy.cfg, for haproxy 3.0. `address` is the load balancer's own.
    pub fn configuration(&self, address: Ipv4Addr) -> String {
        let mut text = format!(
            "\
# The load balancer of the lab, written by `rolesmith lab up`.

global
    user haproxy
    group haproxy
    log stdout format raw daemon
    stats socket {SOCKET} mode 600 level admin
    # Two descriptors a connection; fewer where the machine that the lab is on gives fewer.
    fd-hard-limit {descriptors}

defaults
    mode tcp
    log global
    option tcplog
    # What goes well is not logged.
    option dontlognull
    option dontlog-normal
    balance roundrobin
    # A connection that a node does not take is tried at another one.
    option redispatch 1
    retries 3
    timeout connect {connect}ms
    timeout client {idle}ms
    timeout server {idle}ms
    timeout check {check}ms
    # A node that is out gets no new connections; those that it has go on, so that it can end what it is at.
    default-server inter {interval}ms fall {fall} rise {rise}
",
            descriptors = 2 * CONNECTIONS + 100,
            connect = Milliseconds(CONNECT_LIMIT),
            idle = Milliseconds(IDLE),
            check = Milliseconds(Self::CHECK_LIMIT),
            fall = Self::FALL,
            rise = Self::RISE,
            interval = Milliseconds(Self::CHECK_INTERVAL),
        );
        for (service, port) in SERVICES {
            let _ = write!(
                text,
                "\nfrontend {service}\n    bind :{port}\n    default_backend {service}\n"
            );
        }
        for (service, port) in SERVICES {
            let _ = write!(text, "\nbackend {service}\n");
            if service == HTTP {
                let _ = write!(
                    text,
                    "    option httpchk\n    \
                     http-check send meth GET uri /health ver HTTP/1.1 hdr Host {address}\n    \
                     http-check expect status 200-299\n"
                );
            }
            for backend in &self.backends {
                let Backend { name, address } = backend;
                let proxy = self.proxy.words();
                let check = match (service, self.proxy) {
                    // One check, of port 80, speaks for both ports.
                    (HTTPS, _) => format!(" track {HTTP}/{name}"),
                    (_, ProxyProtocol::Off) => " check".to_owned(),
                    _ => " check check-send-proxy".to_owned(),
                };
                let _ = writeln!(text, "    server {name} {address}:{port}{proxy}{check}");
            }
        }
        text
    }
}

/// A time as haproxy reads it, without its unit.
struct Milliseconds(Duration);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(proxy: ProxyProtocol) -> Balancer {
        let backend = |name: &str, last| Backend {
            name: name.to_owned(),
            address: [10, 77, 0, last].into(),
        };
        Balancer {
            proxy,
            backends: vec![backend("app-1", 11), backend("app-2", 12)],
        }
    }

    fn servers(proxy: ProxyProtocol) -> Vec<String> {
        let text = balancer(proxy).configuration([10, 77, 0, 2].into());
        text.lines()
            .filter_map(|line| line.strip_prefix("    server "))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_node_is_behind_both_ports_and_one_check_speaks_for_both() {
        assert_eq!(
            servers(ProxyProtocol::V1),
            [
                "app-1 10.77.0.11:80 send-proxy check check-send-proxy",
                "app-2 10.77.0.12:80 send-proxy check check-send-proxy",
                "app-1 10.77.0.11:443 send-proxy track http/app-1",
                "app-2 10.77.0.12:443 send-proxy track http/app-2",
            ]
        );
    }

    #[test]
    fn traffic_and_check_have_the_same_header_or_none() {
        for (proxy, word) in [
            (ProxyProtocol::Off, None),
            (ProxyProtocol::V1, Some("send-proxy")),
            (ProxyProtocol::V2, Some("send-proxy-v2")),
        ] {
            for server in servers(proxy) {
                let words: Vec<&str> = server.split(' ').collect();
                let sent = words.iter().find(|word| word.starts_with("send-proxy"));
                assert_eq!(sent, word.as_ref(), "{server}");
                if words.contains(&"check") {
                    assert_eq!(words.contains(&"check-send-proxy"), word.is_some());
                }
            }
        }
        assert_eq!(ProxyProtocol::default(), ProxyProtocol::V1);
    }

    #[test]
    fn what_is_promised_of_the_checks_is_what_haproxy_is_told() {
        let text = balancer(ProxyProtocol::V1).configuration([10, 77, 0, 2].into());
        assert!(text.contains("default-server inter 1000ms fall 2 rise 2"));
        assert!(text.contains("timeout check 1000ms\n"));
        assert!(text.contains("uri /health ver HTTP/1.1 hdr Host 10.77.0.2\n"));
        assert_eq!(text.matches("option httpchk").count(), 1);
    }
}
