use proptest::prelude::*;

use super::*;
use crate::outside::{Balancer, ProxyProtocol};

fn spec() -> LabSpec {
    let node = |name: &str, address: &str| NodeSpec {
        name: name.to_owned(),
        address: address.parse().expect("an address"),
        roles: vec![],
        user_data: String::new(),
        meta_data: String::new(),
        memory_limit: None,
        baked: None,
    };
    LabSpec {
        name: "acme".to_owned(),
        tree: TreeSpec {
            purpose: Purpose::Node,
            suite: "trixie".to_owned(),
            cache_dir: "/var/cache/x".into(),
            key_extra: None,
            sources: None,
        },
        network: Network {
            private_prefix: "10.77.0.0/24".parse().expect("a prefix"),
            public_prefix: "10.78.0.0/24".parse().expect("a prefix"),
            private_interface: "eth1".to_owned(),
            public_interface: "eth0".to_owned(),
        },
        nodes: vec![node("app-1", "10.77.0.11"), node("app-2", "10.77.0.12")],
        outside: None,
        repository: None,
        hosts: vec![],
        state_dir: "/var/lib/x".into(),
    }
}

fn complaint(change: impl FnOnce(&mut LabSpec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    spec.check()
        .expect_err("the specification is wrong")
        .to_string()
}

#[test]
fn a_sound_specification_passes_and_public_addresses_follow_private_ones() {
    let spec = spec();
    spec.check().expect("sound");
    assert_eq!(
        spec.public_address(&spec.nodes[1]),
        Some(Ipv4Addr::new(10, 78, 0, 12))
    );
}

#[test]
fn contradictions_are_named() {
    assert!(complaint(|s| s.name = "../etc".to_owned()).contains("no name for a fleet"));
    assert!(complaint(|s| s.nodes[1].name = "app-1".to_owned()).contains("two nodes called app-1"));
    assert!(complaint(|s| s.nodes[1].address = s.nodes[0].address).contains("is taken"));
    assert!(
        complaint(|s| s.nodes[0].address = Ipv4Addr::new(10, 77, 0, 1)).contains("the lab's own")
    );
    assert!(
        complaint(|s| s.nodes[0].address = Ipv4Addr::new(10, 77, 0, 255)).contains("does not fit")
    );
    assert!(
        complaint(|s| s.network.public_prefix = "10.0.0.0/8".parse().expect("a prefix"))
            .contains("overlap")
    );
    assert!(
        complaint(|s| s.network.public_interface = "eth1".to_owned()).contains("both networks")
    );
    let outside = |address: &str| {
        Some(Outside {
            address: address.parse().expect("an address"),
            balancer: Balancer {
                proxy: ProxyProtocol::V1,
                backends: vec![],
            },
            authority: None,
            forwarder: vec![],
        })
    };
    assert!(complaint(|s| s.outside = outside("10.77.0.1")).contains("the lab's own"));
    assert!(complaint(|s| s.outside = outside("10.79.0.2")).contains("does not fit"));
    assert!(complaint(|s| s.outside = outside("10.77.0.11")).contains("is taken"));
    let named = complaint(|s| {
        s.outside = outside("10.77.0.2");
        s.nodes[0].name = "outside".to_owned();
    });
    assert!(named.contains("outside the fleet has this name"), "{named}");
    assert!(complaint(|s| s.state_dir = "/a:b".into()).contains("overlayfs"));
    assert!(complaint(|s| s.state_dir = "a".into()).contains("not absolute"));
}

#[test]
fn wrong_prefixes_are_refused() {
    for text in [
        "10.77.0.0",
        "10.77.0.1/24",
        "10.77.0.0/30",
        "10.0.0.0/7",
        "x/24",
        "10.77.0.0/x",
    ] {
        text.parse::<Prefix>().expect_err(text);
    }
}

proptest! {
    #[test]
    fn host_and_part_are_inverse(network: u32, length in 8u8..=29, part: u32) {
        let mask = u32::MAX << (32 - length);
        let prefix: Prefix = format!("{}/{length}", Ipv4Addr::from(network & mask)).parse().expect("a prefix");
        let part = part & !mask;
        match prefix.host(part) {
            Some(address) => prop_assert_eq!(prefix.part(address), Some(part)),
            None => prop_assert!(part == 0 || part == !mask),
        }
    }
}
