//! A node's complete packet filter as iptables-restore(8), ip6tables-restore(8) and ipset(8) read it.
//!
//! Everything that is not let in is dropped. Bans are members of sets that these files declare, because a restore would erase
//! chains that another program made. Fragments need no rule: connection tracking puts packets together before these rules see
//! them. docs/firewall.md tells what each rule is for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Display, Write as _},
    net::Ipv4Addr,
};

use rolesmith_model::{manifest::Protocol, metadata};

use super::policy::{Admits, Family, NodePolicy, Way};

/// Set of the members' private addresses.
pub const FLEET_SET: &str = "rolesmith-fleet4";
/// Set of banned IPv4 addresses.
pub const BAN4_SET: &str = "rolesmith-ban4";
/// Set of banned IPv6 addresses.
pub const BAN6_SET: &str = "rolesmith-ban6";

/// Set of the members that may reach a port which is not open to all of them. ipset takes names of up to 31 characters.
pub(super) fn set_name(protocol: Protocol, port: u16) -> String {
    format!("rolesmith-{}-{port}", word(protocol))
}

impl NodePolicy<'_> {
    /// The sets, for `ipset -exist restore`. Each members' set is filled aside and swapped in, so that no packet meets it half
    /// full; bans that are in force stay.
    #[must_use]
    pub fn ipset(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "create {BAN4_SET} hash:ip family inet timeout 0");
        let _ = writeln!(out, "create {BAN6_SET} hash:ip family inet6 timeout 0");
        let mut sets: BTreeMap<&str, &BTreeSet<Ipv4Addr>> =
            BTreeMap::from([(FLEET_SET, &self.members)]);
        for way in &self.ways {
            if let Admits::Members { set, addresses } = &way.admits {
                sets.insert(set, addresses);
            }
        }
        for (set, addresses) in sets {
            let _ = writeln!(out, "create {set} hash:ip family inet");
            let _ = writeln!(out, "create {set}-new hash:ip family inet");
            let _ = writeln!(out, "flush {set}-new");
            for address in addresses {
                let _ = writeln!(out, "add {set}-new {address}");
            }
            let _ = writeln!(out, "swap {set}-new {set}");
            let _ = writeln!(out, "destroy {set}-new");
        }
        out
    }

    /// The IPv4 rules.
    #[must_use]
    pub fn v4(&self) -> String {
        let network = &self.fleet.network;
        let private = &network.private_interface;
        let mut out = begin(BAN4_SET);
        // Before answers are let in: who claims a member's address from outside is in no connection of ours.
        let _ = writeln!(
            out,
            "-A INPUT -s {} ! -i {private} -m comment --comment \"private addresses are on the private side\" -j DROP",
            network.private
        );
        out.push_str(STATE);
        // Answers to a broadcast come from an address that conntrack did not see being asked (RFC 2131 section 4.1).
        out.push_str("-A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT\n");
        let _ = writeln!(
            out,
            "-A INPUT -i {private} -p icmp -m icmp --icmp-type 8 {ECHO_LIMIT} -j ACCEPT"
        );
        self.openings(Family::V4, &mut out);
        end(&metadata::IPV4, 32, "icmp-admin-prohibited", &mut out);
        out
    }

    /// The IPv6 rules. Members talk to each other over IPv4, so only what is open to everybody is open.
    #[must_use]
    pub fn v6(&self) -> String {
        let private = &self.fleet.network.private_interface;
        let mut out = begin(BAN6_SET);
        // Errors, packets that are too big for a path among them, belong to a connection and pass here, or mean nothing.
        out.push_str(STATE);
        // Routers and neighbours: IPv6 does not work without them (RFC 4890 section 4.4.1). The kernel sees to it that they
        // come from the link. Redirects (137) are not followed, so they are not let in.
        for kind in 133..=136 {
            let _ = writeln!(
                out,
                "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
            );
        }
        let _ = writeln!(
            out,
            "-A INPUT -i {private} -p ipv6-icmp -m icmp6 --icmpv6-type 128 {ECHO_LIMIT} -j ACCEPT"
        );
        // Routers ask which groups have listeners (RFC 4890 section 4.4.1, RFC 3810).
        for kind in [130, 131, 132, 143] {
            let _ = writeln!(
                out,
                "-A INPUT -s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
            );
        }
        // DHCPv6 is asked by multicast, so conntrack does not know the answers (RFC 8415 section 7.2).
        out.push_str("-A INPUT -s fe80::/10 -p udp -m udp --dport 546 -j ACCEPT\n");
        self.openings(Family::V6, &mut out);
        end(&metadata::IPV6, 128, "icmp6-adm-prohibited", &mut out);
        out
    }

    fn openings(&self, family: Family, out: &mut String) {
        for way in &self.ways {
            if let Some(source) = self.source(way, family) {
                opening(way, family, &source, out);
            }
        }
    }

    /// The part of a rule that says where a packet comes from, with a blank after it; nothing where the family cannot come.
    fn source(&self, way: &Way<'_>, family: Family) -> Option<String> {
        let network = &self.fleet.network;
        let interface = &network.private_interface;
        match (&way.admits, family) {
            (Admits::Everybody, _) => Some(String::new()),
            (_, Family::V6) => None,
            (Admits::Network(private), Family::V4) => Some(format!("-i {interface} -s {private} ")),
            (Admits::Host(address), Family::V4) => Some(format!("-i {interface} -s {address}/32 ")),
            (Admits::Members { set, .. }, Family::V4) => Some(format!(
                "-i {interface} -s {} -m set --match-set {set} src ",
                network.private
            )),
        }
    }
}

/// A few a second tell whether a machine is there; more are of no use to those who may ask.
const ECHO_LIMIT: &str = "-m limit --limit 10/second --limit-burst 20";

const STATE: &str = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
-A INPUT -m conntrack --ctstate INVALID -j DROP\n";

fn begin(bans: &str) -> String {
    format!(
        "# Made by rolesmith: everything that is not opened here is dropped.\n\
         *filter\n\
         :INPUT DROP [0:0]\n\
         :FORWARD DROP [0:0]\n\
         :OUTPUT ACCEPT [0:0]\n\
         :metadata - [0:0]\n\
         -A INPUT -i lo -j ACCEPT\n\
         -A INPUT -m set --match-set {bans} src -j DROP\n"
    )
}

fn opening(way: &Way<'_>, family: Family, source: &str, out: &mut String) {
    let opening = way.opening;
    let (protocol, port) = (word(opening.protocol), opening.port);
    let new = format!(
        "-A INPUT {source}-p {protocol} -m {protocol} --dport {port} -m conntrack --ctstate NEW"
    );
    if let Some(most) = opening.per_minute {
        // A prefix of 64 bits is one customer's (RFC 6177). The limit is part of the table's name because the kernel finds the
        // table of rules that are just being replaced by its name, and would go on with their limit.
        let mask = match family {
            Family::V4 => "",
            Family::V6 => " --hashlimit-srcmask 64",
        };
        let _ = writeln!(
            out,
            "{new} -m hashlimit --hashlimit-above {most}/minute --hashlimit-burst {most} --hashlimit-mode srcip{mask} --hashlimit-name {protocol}-{port}-{most} -j DROP"
        );
    }
    let _ = writeln!(
        out,
        "{new} -m comment --comment \"{}\" -j ACCEPT",
        opening.name
    );
}

/// The metadata service would tell any local process this node's seed.
fn end<A: Display>(addresses: &[A], prefix: u8, reject: &str, out: &mut String) {
    for address in addresses {
        let _ = writeln!(out, "-A OUTPUT -d {address}/{prefix} -j metadata");
    }
    out.push_str("-A metadata -m owner --uid-owner 0 -j RETURN\n");
    // The kernel's own, such as the last words of a connection that root has closed: no program can send without a socket.
    out.push_str("-A metadata -m owner ! --socket-exists -j RETURN\n");
    for (protocol, ports) in [
        ("udp", &metadata::PUBLIC_UDP[..]),
        ("tcp", &metadata::PUBLIC_TCP[..]),
    ] {
        for port in ports {
            let _ = writeln!(
                out,
                "-A metadata -p {protocol} -m {protocol} --dport {port} -j RETURN"
            );
        }
    }
    let _ = writeln!(
        out,
        "-A metadata -m comment --comment \"metadata is for root\" -j REJECT --reject-with {reject}"
    );
    out.push_str("COMMIT\n");
}

/// As iptables(8) writes it.
pub(super) const fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}
