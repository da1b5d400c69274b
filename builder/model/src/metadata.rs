//! Where providers answer a machine's questions about itself, its user-data above all.
//!
//! Who reads user-data has the node's key and its secrets (CVE-2023-1786 is one such leak), so a node's packet filter keeps
//! everybody but root away from these addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 3927 link-local address of the service at nearly all providers.
pub const IPV4: [Ipv4Addr; 1] = [Ipv4Addr::new(169, 254, 169, 254)];

/// At Amazon EC2, Google Compute Engine, and OpenStack (the IPv4 address in hexadecimal).
pub const IPV6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// What some providers serve at the same address to every program: names (DNS, over UDP and TCP) and the time (NTP, over UDP).
pub const PUBLIC_UDP: [u16; 2] = [53, 123];
/// See [`PUBLIC_UDP`].
pub const PUBLIC_TCP: [u16; 1] = [53];
