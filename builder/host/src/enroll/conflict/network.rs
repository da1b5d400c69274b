//! Packet filters, and ports that would close.

use rolesmith_model::opening::OpenTo;

use super::{
    Conflict, Expectations, Probe,
    Weight::{Blocks, Note},
    add, list,
};
use crate::enroll::probe::Listener;

/// Programs whose packets come back through the firewall, or which talk to the local link alone.
const HARMLESS: [&str; 9] = [
    "dhclient",
    "dhcpcd",
    "systemd-network",
    "systemd-networkd",
    "systemd-resolve",
    "systemd-timesyn",
    "chronyd",
    "ntpd",
    "avahi-daemon",
];

pub(super) fn find(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    filters(probe, found);
    routing(probe, found);
    closed(probe, wanted, found);
    taken(probe, wanted, found);
}

fn filters(probe: &Probe, found: &mut Vec<Conflict>) {
    if probe.ufw {
        add(
            found,
            "ufw",
            Blocks,
            "ufw is active",
            "the node's rules replace ufw's at once, and ufw loads its own again at the next boot or `ufw reload`: ports open and close by turns",
            "move what ufw opens into roles ([[firewall]] in role.toml), then run `ufw disable`",
        );
    }
    if probe.is_active("firewalld.service") {
        add(
            found,
            "firewalld",
            Blocks,
            "firewalld is active",
            "two firewalls filter every packet: what only one of them opens is closed, and firewalld does not know the node's ports",
            "run `systemctl disable --now firewalld`, after moving what it opens into roles ([[firewall]] in role.toml)",
        );
    }
    if probe.nftables && !probe.is_active("firewalld.service") {
        add(
            found,
            "nftables",
            Blocks,
            "nftables filters incoming packets by a table of its own",
            "the node's rules stand beside that table: a packet has to pass both, so what only the node opens stays closed",
            "empty /etc/nftables.conf or run `systemctl disable --now nftables`, after moving what it opens into roles",
        );
    }
    let theirs = |rule: &&String| {
        ![
            "ufw",
            "f2b-",
            "DOCKER",
            "KUBE-",
            "CNI-",
            "LIBVIRT_",
            "rolesmith",
        ]
        .iter()
        .any(|name| rule.contains(name))
    };
    let count = probe.rules.iter().filter(theirs).count();
    if count > 0 && !probe.ufw {
        let persistent = if probe.is_active("netfilter-persistent.service") {
            "; netfilter-persistent loads them again at every boot"
        } else {
            ""
        };
        add(
            found,
            "iptables",
            Blocks,
            format!(
                "{count} rules of iptables are loaded, the first: {}",
                probe.rules.iter().find(theirs).map_or("", String::as_str)
            ),
            format!("the node's rules take the place of the whole filter table{persistent}"),
            "move what they open into roles ([[firewall]] in role.toml), and remove what loads them",
        );
    }
}

/// The node's rules drop whatever would be forwarded.
fn routing(probe: &Probe, found: &mut Vec<Conflict>) {
    let engines = [
        "docker.service",
        "containerd.service",
        "k3s.service",
        "kubelet.service",
        "libvirtd.service",
        "incus.service",
        "lxd.service",
    ];
    let running: Vec<_> = engines
        .into_iter()
        .filter(|unit| probe.is_active(unit))
        .collect();
    if !running.is_empty() {
        add(
            found,
            "containers",
            Blocks,
            format!("{} is running", list(running)),
            "it keeps its networks alive by rules in the filter table, which the node's rules replace; forwarding is dropped: containers and virtual machines lose their network",
            "run them on another machine: a node's firewall is complete, and knows the node's own services only",
        );
    } else if probe.forwarding {
        add(
            found,
            "forwarding",
            Blocks,
            "the machine forwards IPv4 packets",
            "the node's firewall drops everything that is forwarded: a router, VPN gateway or NAT stops to work",
            "run that on another machine; set net.ipv4.ip_forward = 0 if nothing needs it",
        );
    }
}

fn closed(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    let open = |listener: &Listener| {
        wanted.listens.iter().any(|listen| {
            listen.port == listener.port && listen.udp != listener.tcp && listen.from.is_some()
        })
    };
    // Of sshd another conflict tells, unless one of its ports is the right one.
    let other_ssh = !probe.ssh.ports.contains(&wanted.ssh_port);
    let mut ports: Vec<String> = probe
        .listeners
        .iter()
        .filter(|listener| listener.is_reachable() && !open(listener))
        .filter(|listener| !HARMLESS.contains(&listener.program.as_str()))
        .filter(|listener| !(other_ssh && listener.program == "sshd"))
        .map(describe)
        .collect();
    ports.dedup();
    if !ports.is_empty() {
        add(
            found,
            "ports-closed",
            Blocks,
            format!(
                "{} can be reached from other machines, as far as a firewall lets them",
                list(ports)
            ),
            "no role of the node opens these ports: they can no longer be reached once its firewall is confirmed",
            "open them by [[firewall]] in a role of your own that the node has, or accept that they close",
        );
    }
}

fn taken(probe: &Probe, wanted: &Expectations, found: &mut Vec<Conflict>) {
    for listen in &wanted.listens {
        let holders = probe
            .listeners
            .iter()
            .filter(|listener| listener.tcp != listen.udp && listener.port == listen.port);
        let others: Vec<_> = holders
            .filter(|listener| {
                listen.from.is_some()
                    || listener.address.is_none_or(|address| address.is_loopback())
            })
            .filter(|listener| !is_expected(listener, listen.port, probe, wanted))
            .map(describe)
            .collect();
        if let Some(other) = others.first() {
            add(
                found,
                "port-taken",
                Blocks,
                format!(
                    "{other} listens where {} of the node is to listen",
                    listen.name
                ),
                format!(
                    "{} does not start, so the node does not become healthy",
                    listen.name
                ),
                format!(
                    "stop that program or move it to another port; some ports of the fleet can be changed in fleet.toml ({})",
                    setting(listen.port, wanted)
                ),
            );
        }
    }
    let balanced = wanted.load_balancer.is_some();
    let web = |listen: &&super::Listen| listen.from == Some(OpenTo::LoadBalancer) && balanced;
    if wanted.nginx && !probe.nginx.is_empty() {
        let mut files: Vec<&str> = probe.nginx.iter().map(|(file, _)| file.as_str()).collect();
        files.dedup();
        let ports = list(
            wanted
                .listens
                .iter()
                .filter(web)
                .map(|listen| listen.port.to_string()),
        );
        let reach = if ports.is_empty() {
            String::new()
        } else {
            format!(", and the firewall opens {ports} to the load balancer alone")
        };
        add(
            found,
            "nginx-sites",
            Blocks,
            format!("nginx has sites of its own: {}", list(files)),
            format!(
                "the node's sites take every request to its private address{reach}: those sites are no longer reached the way they are now"
            ),
            "bring them into the fleet as sites of the role edge, leave edge off this node, or accept it",
        );
    } else if wanted.nginx && probe.has("nginx") {
        add(
            found,
            "nginx-sites",
            Note,
            "nginx is installed, without a site of its own",
            "the node's sites are added to it",
            "nothing to do",
        );
    }
}

/// Programs of Debian that the role builds on, and those that another conflict tells about.
fn is_expected(listener: &Listener, port: u16, probe: &Probe, wanted: &Expectations) -> bool {
    match listener.program.as_str() {
        "sshd" => port == wanted.ssh_port,
        // Socket activation.
        "systemd" => port == wanted.ssh_port && probe.is_active("ssh.socket"),
        "nginx" => wanted.nginx,
        "postgres" => {
            wanted.database_port == Some(port)
                && probe.clusters.iter().any(|cluster| cluster.port == port)
        }
        _ => false,
    }
}

fn setting(port: u16, wanted: &Expectations) -> &'static str {
    match port {
        port if port == wanted.ssh_port => "ssh_port of the node",
        port if Some(port) == wanted.database_port => "[database] port",
        port if Some(port) == wanted.redis_port => "[redis] port",
        _ => "[database], [redis] and [logs]",
    }
}

fn describe(listener: &Listener) -> String {
    let program = if listener.program.is_empty() {
        "the kernel"
    } else {
        &listener.program
    };
    let protocol = if listener.tcp { "" } else { "/udp" };
    format!("{program} (port {}{protocol})", listener.port)
}
