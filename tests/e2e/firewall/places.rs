//! From where the nodes are asked: addresses on the lab's two bridges, and the nodes themselves.

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use rolesmith_lab::Lab;
use rolesmith_tests::scan::Scanner;

/// A machine of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    pub name: &'static str,
    /// The host part of its addresses.
    pub number: u8,
}

pub const NODES: [Node; 2] = [
    Node {
        name: "web-1",
        number: 11,
    },
    Node {
        name: "data-1",
        number: 12,
    },
];

/// The two networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Public,
    Private,
}

/// The two versions of the Internet Protocol, as the matrix calls them.
pub const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

impl Side {
    /// The lab's bridge.
    fn bridge(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    /// The address with this host part. The lab gives nodes the IPv4 ones; those of IPv6 are for documentation (RFC 3849).
    pub fn address(self, family: &str, number: u8) -> IpAddr {
        match (family, self) {
            ("ipv4", Self::Public) => Ipv4Addr::new(203, 0, 113, number).into(),
            ("ipv4", Self::Private) => Ipv4Addr::new(10, 77, 0, number).into(),
            (_, Self::Public) => Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number.into()).into(),
            (_, Self::Private) => Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, number.into()).into(),
        }
    }
}

/// Whoever asks from the lab's own namespace.
const OUTSIDE: u8 = 99;
const BALANCER: u8 = 2;
const STRANGER: u8 = 66;

/// Somebody who asks.
#[derive(Debug, Clone)]
pub struct Place {
    /// As the matrix calls it.
    pub name: String,
    pub side: Side,
    namespace: PathBuf,
    number: u8,
}

impl Place {
    pub fn scanner(&self, family: &str) -> Scanner {
        Scanner {
            namespace: self.namespace.clone(),
            address: self.side.address(family, self.number),
        }
    }
}

/// Everybody who asks.
#[derive(Debug, Clone)]
pub struct Places {
    /// The lab's own namespace.
    pub namespace: PathBuf,
    all: Vec<Place>,
}

impl Places {
    /// Gives them addresses; they go with the lab.
    pub fn prepare(lab: &Lab) -> Self {
        let status = lab.status().expect("a lab that is up");
        let machine = |pid: u32| PathBuf::from(format!("/proc/{pid}/ns/net"));
        // A lab whose load balancer is a machine has given it its address already.
        let told = serde_json::to_value(&status).expect("a status has a JSON form");
        let balancer = told["outside"]["pid"].as_u64();
        let balancer = balancer.map(|pid| machine(pid.try_into().expect("a process")));
        let mut all = Vec::new();
        for (name, side, number, own) in [
            ("public", Side::Public, OUTSIDE, None),
            ("load-balancer", Side::Private, BALANCER, balancer),
            ("stranger", Side::Private, STRANGER, None),
        ] {
            let interface = own.as_ref().map_or(side.bridge(), |_| "eth1");
            let namespace = own.unwrap_or_else(|| status.namespace.clone());
            give(&namespace, interface, side, number);
            all.push(Place {
                name: name.to_owned(),
                side,
                namespace,
                number,
            });
        }
        for node in NODES {
            let known = status.nodes.iter().find(|known| known.name == node.name);
            let namespace = machine(known.and_then(|known| known.pid).expect("it runs"));
            // The lab gave it those of IPv4.
            give(&namespace, "eth0", Side::Public, node.number);
            give(&namespace, "eth1", Side::Private, node.number);
            all.push(Place {
                name: format!("member:{}", node.name),
                side: Side::Private,
                namespace,
                number: node.number,
            });
        }
        Self {
            namespace: status.namespace,
            all,
        }
    }

    /// Everybody but the node itself.
    pub fn around(&self, node: Node) -> impl Iterator<Item = &Place> {
        let own = format!("member:{}", node.name);
        self.all.iter().filter(move |place| place.name != own)
    }
}

/// Gives an interface the addresses of both families that it has not got.
fn give(namespace: &Path, interface: &str, side: Side, number: u8) {
    let [v4, v6] = FAMILIES.map(|family| side.address(family, number));
    let mut into = OsString::from("--net=");
    into.push(namespace);
    let script = format!(
        "ip address replace {v4}/24 dev {interface}
        ip -6 address replace {v6}/64 dev {interface} nodad"
    );
    let status = Command::new("nsenter")
        .arg(into)
        .args(["sh", "-ec", &script])
        .status()
        .expect("nsenter starts");
    assert!(status.success(), "{script}");
}

/// Runs a script in the lab's namespace.
pub fn run(lab: &Lab, script: &str) {
    let output = lab
        .client(&["sh", "-ec", script])
        .output()
        .expect("nsenter starts");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
