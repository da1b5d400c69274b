//! The matrix says of every packet what the rules do with it, whatever fleet they were made for.

mod kernel;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use kernel::{Kernel, Packet};
use proptest::{collection, option, prelude::*, sample};
use rolesmith_formats::firewall::{
    Family, Matrix, NodePolicy, Policy, Sender, Side, Source, Target,
};
use rolesmith_model::{
    applications::Applications,
    facts::Discovery,
    fleet::{Database, Fleet, Logs, Network, Node, Redis, Repository, Services, SigningKey},
    fleet_file::Upstream,
    ids::{FleetName, NodeName, RoleName, Suite},
    manifest::Protocol,
    opening::{OpenTo, Opening},
    plan::{NodePlan, Plan},
    source::Sources,
};

const ROLES: [&str; 4] = ["base", "app", "cache", "web"];
const PORTS: [u16; 5] = [22, 80, 4000, 5000, AGENT];
const AGENT: u16 = 7432;
const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

fn role(name: &str) -> RoleName {
    RoleName::new(name).expect("a role's name")
}

fn open_to() -> impl Strategy<Value = OpenTo> {
    prop_oneof![
        Just(OpenTo::Public),
        Just(OpenTo::LoadBalancer),
        Just(OpenTo::Fleet),
        sample::subsequence(ROLES.to_vec(), 1..=ROLES.len())
            .prop_map(|names| OpenTo::Roles(names.into_iter().map(role).collect())),
    ]
}

fn opening() -> impl Strategy<Value = Opening> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let port = sample::select(PORTS.to_vec());
    (port, protocol, open_to(), option::of(1_u16..=1000)).prop_map(
        |(port, protocol, from, per_minute)| Opening {
            name: format!("service on {port}"),
            port,
            protocol,
            from,
            per_minute,
        },
    )
}

/// Roles, whether the address is recorded, and openings.
type Machine = (Vec<&'static str>, bool, Vec<Opening>);

fn machine() -> impl Strategy<Value = Machine> {
    (
        sample::subsequence(ROLES.to_vec(), 0..=ROLES.len()),
        any::<bool>(),
        collection::vec(opening(), 0..8),
    )
}

fn plan(machines: &[Machine], balanced: bool, dns: bool) -> Plan {
    let mut sources = Sources::default();
    let source = sources.add("fleet.toml", *b"");
    let name = |number: usize| NodeName::new(format!("node-{number}")).expect("a node's name");
    let mut nodes = BTreeMap::new();
    let mut plans = Vec::new();
    for (number, (roles, recorded, openings)) in machines.iter().enumerate() {
        let last = u8::try_from(11 + number).expect("few machines");
        let node = Node {
            name: name(number),
            span: 0..0,
            roles: Vec::new(),
            address: recorded.then(|| Ipv4Addr::new(10, 77, 0, last)),
            ssh_port: 22,
            memory: 1024,
        };
        nodes.insert(node.name.clone(), node);
        plans.push(NodePlan {
            name: name(number),
            roles: roles.iter().map(|name| role(name)).collect(),
            packages: Vec::new(),
            files: Vec::new(),
            openings: openings.clone(),
            jails: Vec::new(),
            health: BTreeMap::new(),
            secrets: Vec::new(),
            masked_units: Vec::new(),
            debconf: Vec::new(),
        });
    }
    let fleet = Fleet {
        source,
        name: FleetName::new("acme").expect("a fleet's name"),
        name_span: 0..0,
        suite: Suite::default(),
        maintainer: "Operations <ops@example.com>".into(),
        domain: "example.com".into(),
        repository: Repository {
            url: "https://apt.example.com".into(),
            key: SigningKey::File,
            also_trusted: Vec::new(),
            upstream: Upstream::Debian,
            valid_days: 30,
            keep: 3,
        },
        network: Network {
            private: "10.77.0.0/24".parse().expect("a network"),
            private_interface: "eth1".into(),
            public_interface: "eth0".into(),
            admin_ssh_keys: Vec::new(),
            load_balancer: balanced.then_some(BALANCER),
            agent_port: AGENT,
            edge_port: 8443,
        },
        certificates: None,
        discovery: Discovery {
            dns,
            digitalocean: None,
        },
        nodes,
        services: Services {
            database: Database {
                port: 5432,
                pooler_port: 6432,
                synchronous: 1,
            },
            redis: Redis {
                port: 6380,
                sentinel_port: 26380,
                max_memory: 96,
            },
            logs: Logs {
                port: 2514,
                retention_days: 30,
            },
        },
        applications: Applications::default(),
        mail: None,
        settings: BTreeMap::new(),
    };
    Plan {
        fleet,
        packages: Vec::new(),
        roles: Vec::new(),
        nodes: plans,
        images: Vec::new(),
        common_secrets: Vec::new(),
    }
}

/// A packet of that sender to that port.
fn packet(sender: &Sender, family: Family, protocol: Protocol, port: u16) -> Packet {
    let (interface, v4) = match sender.side {
        Side::Public => ("eth0", OUTSIDE),
        Side::Private => ("eth1", sender.address.unwrap_or(STRANGER)),
    };
    Packet {
        interface,
        source: match family {
            Family::V4 => IpAddr::V4(v4),
            Family::V6 => IpAddr::V6(OUTSIDE6),
        },
        protocol: match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        },
        port,
    }
}

/// Every port of a node that anybody opens, and one that nobody does.
fn everything() -> impl Iterator<Item = (Family, Protocol, u16)> {
    [Family::V4, Family::V6].into_iter().flat_map(|family| {
        [Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .flat_map(move |protocol| {
                PORTS
                    .into_iter()
                    .chain([9])
                    .map(move |port| (family, protocol, port))
            })
    })
}

fn told(target: &Target, source: &Source, family: Family, protocol: Protocol, port: u16) -> bool {
    let lines = target.openings.iter();
    lines
        .filter(|line| (line.protocol, line.port) == (protocol, port))
        .map(|line| line.of(target, source))
        .any(|(v4, v6)| match family {
            Family::V4 => v4,
            Family::V6 => v6,
        })
}

fn kernel(policy: &NodePolicy<'_>) -> Kernel {
    Kernel::load(&policy.ipset(), &policy.v4(), &policy.v6())
}

proptest! {
    #[test]
    fn the_matrix_is_what_the_rules_do(
        machines in collection::vec(machine(), 1..5),
        balanced in any::<bool>(),
        dns in any::<bool>(),
    ) {
        let plan = plan(&machines, balanced, dns);
        let policy = Policy::new(&plan);
        let matrix = Matrix::new(&policy, None);
        for (node, target) in policy.nodes.iter().zip(&matrix.nodes) {
            let kernel = kernel(node);
            for (family, protocol, port) in everything() {
                for sender in &matrix.sources {
                    let packet = packet(sender, family, protocol, port);
                    prop_assert_eq!(
                        kernel.lets_in(&packet),
                        told(target, &sender.name, family, protocol, port),
                        "{:?} {:?} from {} to {}", packet, family, sender.name, target.name
                    );
                }
                // Private addresses are nobody's on the public side.
                let mut spoofed = packet(&matrix.sources[0], Family::V4, protocol, port);
                for address in [BALANCER, STRANGER, Ipv4Addr::new(10, 77, 0, 11)] {
                    spoofed.source = IpAddr::V4(address);
                    prop_assert!(!kernel.lets_in(&spoofed), "{:?}", spoofed);
                }
            }
        }
    }
}

#[test]
fn names_of_sets_are_short_enough_for_ipset() {
    let opening = Opening {
        name: "far up".into(),
        port: 65535,
        protocol: Protocol::Tcp,
        from: OpenTo::Roles([role("app")].into()),
        per_minute: None,
    };
    let plan = plan(&[(vec!["app"], true, vec![opening])], true, false);
    let policy = Policy::new(&plan);
    let sets = policy.node("node-0").expect("there is one").ipset();
    // IPSET_MAXNAMELEN of the kernel's <linux/netfilter/ipset/ip_set.h> counts a NUL.
    for name in sets.lines().filter_map(|line| line.strip_prefix("create ")) {
        let name = name.split(' ').next().expect("a name");
        assert!(name.len() < 32, "{name}");
    }
    assert!(sets.contains("create rolesmith-tcp-65535-new "), "{sets}");
}
