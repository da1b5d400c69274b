//! The lab's machine outside the fleet: what it is to be for this fleet.

use std::path::Path;

use rolesmith_host::lab_authority::LabAuthority;
use rolesmith_lab::{
    Authority, Backend, BackendStatus, Balancer, Forward, OUTSIDE, Outside, OutsideStatus,
    ProxyProtocol,
};
use rolesmith_model::{fleet::Certificates, plan::Plan};
use serde::Serialize;

/// The role whose nodes are behind the load balancer.
pub const EDGE: &str = "edge";

/// The machine, where the fleet has a load balancer. `program` is this one.
/// `authority` is how the lab's certificate authority shows who it is, where the fleet asks that one.
pub fn outside(plan: &Plan, program: &Path, authority: Option<LabAuthority>) -> Option<Outside> {
    let address = plan.fleet.network.load_balancer?;
    let edges = plan
        .nodes
        .iter()
        .filter(|node| node.roles.iter().any(|role| role.as_str() == EDGE));
    let backends = edges.filter_map(|node| {
        Some(Backend {
            name: node.name.to_string(),
            // One that has no address yet is not in the lab either.
            address: plan.fleet.nodes[&node.name].address?,
        })
    });
    Some(Outside {
        address,
        balancer: Balancer {
            proxy: ProxyProtocol::default(),
            backends: backends.collect(),
        },
        authority: authority.map(|authority| Authority {
            host: authority.host,
            port: Certificates::LAB_PORT,
            certificate: authority.certificate,
            key: authority.key,
            ca: authority.ca,
            ca_path: Certificates::LAB_CA.trim_start_matches('/').to_owned(),
            names: hosts(plan),
        }),
        forwarder: vec![program.into(), "lab".into(), "__forward".into()],
    })
}

/// All names of the fleet's sites.
fn hosts(plan: &Plan) -> Vec<String> {
    let sites = plan.fleet.applications.sites.iter();
    sites.flat_map(|site| site.hosts.iter().cloned()).collect()
}

/// Whether this name is that of the machine, in a lab of this fleet.
pub fn is(plan: &Plan, name: &str) -> bool {
    name == OUTSIDE && plan.fleet.network.load_balancer.is_some()
}

/// What to open in a browser on this machine, one a port that leads to the load balancer.
pub fn urls(forwards: &[Forward]) -> Vec<String> {
    forwards
        .iter()
        .filter_map(|forward| match forward.to.port() {
            443 => Some(format!("https://127.0.0.1:{}/", forward.port)),
            80 => Some(format!("http://127.0.0.1:{}/health", forward.port)),
            _ => None,
        })
        .collect()
}

/// What is served under a name that leads to the load balancer, for people who live in the fleet's network or the lab's browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteUrl {
    /// The site's name in fleet.toml.
    pub name: String,
    /// Its address by the first of its host names.
    pub url: String,
    #[serde(skip)]
    hosts: Vec<String>,
}

/// The fleet's sites.
pub fn sites(plan: &Plan) -> Vec<SiteUrl> {
    let sites = plan.fleet.applications.sites.iter();
    sites
        .map(|site| SiteUrl {
            name: site.name.clone(),
            url: format!("https://{}/", site.hosts[0]),
            hosts: site.hosts.clone(),
        })
        .collect()
}

/// Where each site is, and the line that opens a browser on this machine that finds them all; nothing where there are none, or no
/// port leads to them.
///
/// The browser is told where the names lead, so that nobody has to write them into /etc/hosts, and the address has no port that
/// redirections would lose. The profile is a new one: a running browser would take the address and not the rules.
pub fn site_lines(sites: &[SiteUrl], forwards: &[Forward]) -> Vec<String> {
    let https = forwards.iter().find(|forward| forward.to.port() == 443);
    let Some(https) = https.filter(|_| !sites.is_empty()) else {
        return Vec::new();
    };
    let mut lines: Vec<String> = sites
        .iter()
        .map(|site| format!("site {}: {}", site.name, site.url))
        .collect();
    let rules: Vec<String> = sites
        .iter()
        .flat_map(|site| &site.hosts)
        .map(|host| format!("MAP {host} 127.0.0.1:{}", https.port))
        .collect();
    let urls: Vec<&str> = sites.iter().map(|site| site.url.as_str()).collect();
    lines.push(format!(
        "in a browser: chromium --user-data-dir=\"$(mktemp -d)\" --no-first-run --host-resolver-rules='{}' {}",
        rules.join(", "),
        urls.join(" ")
    ));
    lines
}

/// What `lab status` says of the load balancer: where it is, what is behind it, and what it thinks of each node.
pub fn lines(
    outside: &OutsideStatus,
    sites: &[SiteUrl],
    backends: &[BackendStatus],
) -> Vec<String> {
    let mut lines = Vec::new();
    if !outside.forwards.is_empty() {
        let urls = urls(&outside.forwards).join(" and ");
        lines.push(format!("load balancer: {urls}"));
    }
    lines.extend(site_lines(sites, &outside.forwards));
    // The other port goes by the check of this one.
    for checked in backends.iter().filter(|backend| backend.check.is_some()) {
        let of_node = backends.iter().filter(|one| one.node == checked.node);
        let connections: u64 = of_node.map(|one| one.connections).sum();
        let check = checked.check.as_deref().unwrap_or_default();
        let code = checked
            .code
            .map_or_else(String::new, |code| format!(" {code}"));
        lines.push(format!(
            "load balancer: {} is {} for {} s (last check {check}{code}, {connections} connections)",
            checked.node, checked.state, checked.since
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use rolesmith_lab::{NodeStatus, RunState};

    use super::*;

    #[test]
    fn a_node_has_one_line_for_both_ports() {
        let public = [203, 0, 113, 2].into();
        let forward = |port, to| Forward {
            port,
            to: SocketAddrV4::new(public, to),
        };
        let outside = OutsideStatus {
            machine: NodeStatus {
                name: OUTSIDE.to_owned(),
                roles: vec![],
                address: [10, 77, 0, 2].into(),
                public_address: public,
                state: RunState::Running,
                pid: None,
                memory: None,
                frozen: false,
            },
            forwards: vec![forward(8443, 443), forward(40_000, 80)],
        };
        let http = BackendStatus {
            service: "http".to_owned(),
            node: "app-1".to_owned(),
            state: "DOWN".to_owned(),
            since: 7,
            check: Some("L7STS".to_owned()),
            code: Some(503),
            connections: 1,
            total: 9,
        };
        let https = BackendStatus {
            service: "https".to_owned(),
            check: None,
            code: None,
            connections: 2,
            ..http.clone()
        };
        assert_eq!(
            lines(&outside, &[], &[http, https]),
            [
                "load balancer: https://127.0.0.1:8443/ and http://127.0.0.1:40000/health",
                "load balancer: app-1 is DOWN for 7 s (last check L7STS 503, 3 connections)",
            ]
        );
    }

    #[test]
    fn a_browser_is_led_to_every_name_of_every_site() {
        let site = |name: &str, hosts: &[&str]| SiteUrl {
            name: name.to_owned(),
            url: format!("https://{}/", hosts[0]),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        let sites = [
            site("shop", &["shop.example", "www.shop.example"]),
            site("help", &["help.example"]),
        ];
        let forwards = [(40_001, 443), (8080, 80)].map(|(port, to)| Forward {
            port,
            to: SocketAddrV4::new([203, 0, 113, 2].into(), to),
        });
        assert_eq!(
            site_lines(&sites, &forwards),
            [
                "site shop: https://shop.example/",
                "site help: https://help.example/",
                "in a browser: chromium --user-data-dir=\"$(mktemp -d)\" --no-first-run \
                 --host-resolver-rules='MAP shop.example 127.0.0.1:40001, MAP www.shop.example 127.0.0.1:40001, \
                 MAP help.example 127.0.0.1:40001' https://shop.example/ https://help.example/",
            ]
        );
        assert_eq!(site_lines(&[], &forwards), Vec::<String>::new());
        assert_eq!(site_lines(&sites, &forwards[1..]), Vec::<String>::new());
    }
}
