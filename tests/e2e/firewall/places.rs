//! From where the nodes are asked: addresses on the lab's two bridges, and the nodes themselves.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use rolesmith_lab::Lab;
use rolesmith_tests::{Fleet, scan::Scanner};

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
    pub fn prepare(fleet: &Fleet, lab: &Lab) -> Self {
        let status = lab.status().expect("a lab that is up");
        let mut all = Vec::new();
        for (name, side, number) in [
            ("public", Side::Public, OUTSIDE),
            ("load-balancer", Side::Private, BALANCER),
            ("stranger", Side::Private, STRANGER),
        ] {
            give(lab, side, number);
            all.push(Place {
                name: name.to_owned(),
                side,
                namespace: status.namespace.clone(),
                number,
            });
        }
        for node in NODES {
            let (public, private) = (
                Side::Public.address("ipv6", node.number),
                Side::Private.address("ipv6", node.number),
            );
            fleet.must(
                node.name,
                &format!(
                    "ip -6 address add {public}/64 dev eth0 nodad && ip -6 address add {private}/64 dev eth1 nodad"
                ),
            );
            let known = status.nodes.iter().find(|known| known.name == node.name);
            let pid = known.and_then(|known| known.pid).expect("it runs");
            all.push(Place {
                name: format!("member:{}", node.name),
                side: Side::Private,
                namespace: format!("/proc/{pid}/ns/net").into(),
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

/// Puts addresses of both families on a bridge of the lab.
fn give(lab: &Lab, side: Side, number: u8) {
    let bridge = match side {
        Side::Public => "public",
        Side::Private => "private",
    };
    let [v4, v6] = FAMILIES.map(|family| side.address(family, number));
    run(
        lab,
        &format!(
            "ip address replace {v4}/24 dev {bridge}\nip -6 address replace {v6}/64 dev {bridge} nodad"
        ),
    );
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
