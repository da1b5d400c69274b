//! Rules that no port shows.

use std::{
    net::{IpAddr, TcpListener},
    time::Duration,
};

use rolesmith_lab::Lab;
use rolesmith_tests::{
    Fleet,
    scan::{Answer, Scanner, Transport, inside},
};

use super::places::{FAMILIES, NODES, Places, Side, run};

/// Less than the second after which the kernel asks again.
const SHORT: Duration = Duration::from_millis(800);

/// Enough for an answer of a busy machine.
const LONG: Duration = Duration::from_secs(4);

/// Pings are answered on the private side alone; a router's word that a packet is too big is heard.
pub fn icmp(fleet: &Fleet, lab: &Lab) {
    let [web, data] = NODES;
    for family in FAMILIES {
        for (side, answered) in [(Side::Private, true), (Side::Public, false)] {
            let to = side.address(family, data.number);
            let (code, told) = fleet.shell(web.name, &format!("ping -q -c 1 -W 2 {to}"));
            assert_eq!(code == 0, answered, "ping {to}: {told}");
        }
    }
    // Behind the nodes' gateway is a network that takes packets of 1280 bytes.
    run(
        lab,
        "ip link add narrow mtu 1280 type veth peer name narrow-end
        ip link set narrow up
        ip link set narrow-end up
        ip address add 198.51.100.1/24 dev narrow
        ip -6 address add 2001:db8:3::1/64 dev narrow nodad
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
    );
    let gateway = Side::Public.address("ipv6", 99);
    fleet.must(
        web.name,
        &format!("ip -6 route add 2001:db8:3::/64 via {gateway} dev eth0"),
    );
    for to in ["198.51.100.9", "2001:db8:3::9"] {
        let (_, told) = fleet.shell(web.name, &format!("ping -c 2 -W 2 -M do -s 1400 {to}"));
        assert!(
            told.to_lowercase().replace(' ', "").contains("mtu=1280"),
            "ping {to}: {told}"
        );
    }
}

/// A private address is nobody's on the public side, not even for ssh; without its rule it is let in.
pub fn spoofed(fleet: &Fleet, lab: &Lab, places: &Places) {
    let node = NODES[0];
    // Answers come back on the other bridge, which has to be no reason to drop them.
    run(
        lab,
        "ip address add 10.77.0.67/32 dev public
        for filter in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$filter; done",
    );
    let scanner = Scanner {
        namespace: places.namespace.clone(),
        address: Side::Private.address("ipv4", 67),
    };
    let to = Side::Public.address("ipv4", node.number);
    let ask = || scanner.scan(Transport::Tcp, to, &[22, 4001], LONG);
    assert_eq!(ask(), [].into());
    fleet.must(
        node.name,
        "iptables-save -t filter | grep -v 'private addresses are on the private side' | iptables-restore",
    );
    let without = ask();
    fleet.must(node.name, "rolesmith-agent firewall load");
    assert_eq!(without.get(&22), Some(&Answer::Open), "{without:?}");
    assert_eq!(ask(), [].into());
    run(lab, "ip address del 10.77.0.67/32 dev public");
}

/// Of many connections to sshd at once from one address some are let in; others are not kept out by it.
pub fn limited(lab: &Lab, places: &Places) {
    let to = Side::Private.address("ipv4", NODES[0].number);
    let from = |number| {
        run(
            lab,
            &format!("ip address replace 10.77.0.{number}/24 dev private"),
        );
        Scanner {
            namespace: places.namespace.clone(),
            address: Side::Private.address("ipv4", number),
        }
    };
    let flood = from(68).answers(Transport::Tcp, to, &[22; 150], SHORT);
    // One more with each second that it takes.
    assert!((60..90).contains(&flood.len()), "{} of 150", flood.len());
    let other = from(69).scan(Transport::Tcp, to, &[22], LONG);
    assert_eq!(other.get(&22), Some(&Answer::Open));
}

/// Root reaches the metadata service; others reach nothing at its address but names and the time.
pub fn metadata(fleet: &Fleet, lab: &Lab, places: &Places) {
    let node = NODES[1].name;
    run(
        lab,
        "ip address add 169.254.169.254/32 dev public
        ip -6 address add fd00:ec2::254/128 dev public nodad",
    );
    let gateway = Side::Public.address("ipv6", 99);
    fleet.must(
        node,
        &format!("ip -6 route add fd00:ec2::254/128 via {gateway} dev eth0"),
    );
    for address in ["169.254.169.254", "fd00:ec2::254"] {
        let service: IpAddr = address.parse().expect("an address");
        let _listeners: Vec<TcpListener> = inside(&places.namespace, || {
            let listen = |port: u16| TcpListener::bind((service, port)).expect("a free port");
            [53, 80, 8080].into_iter().map(listen).collect()
        });
        for (user, kind, port, reached) in [
            ("root", "tcp", 80, true),
            ("root", "tcp", 8080, true),
            ("nobody", "tcp", 80, false),
            ("nobody", "tcp", 8080, false),
            ("nobody", "udp", 80, false),
            ("rolesmith", "tcp", 80, false),
            ("nobody", "tcp", 53, true),
            ("nobody", "udp", 53, true),
            ("nobody", "udp", 123, true),
        ] {
            let (code, told) = fleet.shell(
                node,
                &format!(
                    "runuser -u {user} -- timeout 5 bash -c 'echo x >/dev/{kind}/{address}/{port}'"
                ),
            );
            assert_eq!(
                code == 0,
                reached,
                "{user} to {kind} {address} {port}: {told}"
            );
            // It is told so, instead of waiting for it.
            assert_ne!(code, 124, "{user} to {kind} {address} {port}");
        }
    }
}
