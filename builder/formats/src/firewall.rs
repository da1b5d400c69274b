//! A node's complete firewall as iptables-restore(8), ip6tables-restore(8) and ipset(8) read it.
//!
//! Everything that is not opened is dropped. Bans are members of sets that these files declare, because a restore would
//! erase chains that another program made.

use std::{collections::BTreeSet, fmt::Write as _, net::Ipv4Addr};

use rolesmith_model::{
    fleet::Fleet,
    manifest::{OpenTo, Opening, Protocol},
    plan::NodePlan,
};

/// Set of the members' private addresses.
pub const FLEET_SET: &str = "rolesmith-fleet4";
/// Set of banned IPv4 addresses.
pub const BAN4_SET: &str = "rolesmith-ban4";
/// Set of banned IPv6 addresses.
pub const BAN6_SET: &str = "rolesmith-ban6";

/// What the rules of one node are made of.
#[derive(Debug)]
pub struct Rules<'a> {
    fleet: &'a Fleet,
    openings: BTreeSet<&'a Opening>,
    peers: BTreeSet<Ipv4Addr>,
}

impl<'a> Rules<'a> {
    /// The rules of `node`.
    #[must_use]
    pub fn new(fleet: &'a Fleet, node: &'a NodePlan) -> Self {
        Self {
            fleet,
            openings: node.openings.iter().collect(),
            peers: fleet.nodes.values().filter_map(|n| n.address).collect(),
        }
    }

    /// The sets, for `ipset -exist restore`. The members' set is filled aside and swapped in, so that no packet meets it
    /// half full; bans that are in force stay.
    #[must_use]
    pub fn ipset(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "create {BAN4_SET} hash:ip family inet timeout 0");
        let _ = writeln!(out, "create {BAN6_SET} hash:ip family inet6 timeout 0");
        let _ = writeln!(out, "create {FLEET_SET} hash:ip family inet");
        let _ = writeln!(out, "create {FLEET_SET}-new hash:ip family inet");
        let _ = writeln!(out, "flush {FLEET_SET}-new");
        for peer in &self.peers {
            let _ = writeln!(out, "add {FLEET_SET}-new {peer}");
        }
        let _ = writeln!(out, "swap {FLEET_SET}-new {FLEET_SET}");
        let _ = writeln!(out, "destroy {FLEET_SET}-new");
        out
    }

    /// The IPv4 rules.
    #[must_use]
    pub fn v4(&self) -> String {
        let network = &self.fleet.network;
        let mut out = String::from(HEAD);
        let _ = writeln!(out, "-A INPUT -m set --match-set {BAN4_SET} src -j DROP");
        out.push_str(STATE);
        // Answers to a broadcast come from an address that conntrack did not see being asked (RFC 2131 section 4.1).
        out.push_str("-A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT\n");
        out.push_str("-A INPUT -p icmp -m icmp --icmp-type 8 -m limit --limit 10/second --limit-burst 20 -j ACCEPT\n");
        for opening in &self.openings {
            let private = format!("-i {} ", network.private_interface);
            let source = match (opening.from, network.load_balancer) {
                (OpenTo::Public, _) | (OpenTo::LoadBalancer, None) => String::new(),
                (OpenTo::LoadBalancer, Some(address)) => format!("{private}-s {address}/32 "),
                // Peers that are being looked for come from addresses that no facts know yet. Certificates tell agents who is a
                // member; everything else is reached once the address is recorded.
                (OpenTo::Fleet, _)
                    if self.fleet.discovery.any() && opening.port == network.agent_port =>
                {
                    format!("{private}-s {} ", network.private)
                }
                (OpenTo::Fleet, _) => {
                    format!(
                        "{private}-s {} -m set --match-set {FLEET_SET} src ",
                        network.private
                    )
                }
            };
            out.push_str(&accept(opening, &source));
        }
        // The metadata service would tell any local process this node's seed. Only that: some providers answer for DNS and
        // NTP at the same address.
        out.push_str(
            "-A OUTPUT -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -m owner ! --uid-owner 0 -m comment --comment \"metadata is for root\" -j REJECT --reject-with icmp-admin-prohibited\n",
        );
        out.push_str("COMMIT\n");
        out
    }

    /// The IPv6 rules. Members talk to each other over IPv4, so only what is public is open.
    #[must_use]
    pub fn v6(&self) -> String {
        let mut out = String::from(HEAD);
        let _ = writeln!(out, "-A INPUT -m set --match-set {BAN6_SET} src -j DROP");
        out.push_str(STATE);
        // Neighbour discovery, path MTU and errors: IPv6 does not work without them (RFC 4890 section 4.4).
        for kind in [1, 2, 3, 4, 133, 134, 135, 136, 137] {
            let _ = writeln!(
                out,
                "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
            );
        }
        out.push_str("-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 128 -m limit --limit 10/second --limit-burst 20 -j ACCEPT\n");
        // Routers ask which groups have listeners (RFC 4890 section 4.4.1, RFC 3810).
        for kind in [130, 131, 132, 143] {
            let _ = writeln!(
                out,
                "-A INPUT -s fe80::/10 -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
            );
        }
        // DHCPv6 is asked by multicast, so conntrack does not know the answers (RFC 8415 section 7.2).
        out.push_str("-A INPUT -s fe80::/10 -p udp -m udp --dport 546 -j ACCEPT\n");
        let balanced = self.fleet.network.load_balancer.is_some();
        for opening in &self.openings {
            if opening.from == OpenTo::Public || opening.from == OpenTo::LoadBalancer && !balanced {
                out.push_str(&accept(opening, ""));
            }
        }
        out.push_str(
            "-A OUTPUT -d fd00:ec2::254/128 -p tcp -m tcp --dport 80 -m owner ! --uid-owner 0 -m comment --comment \"metadata is for root\" -j REJECT --reject-with icmp6-adm-prohibited\n",
        );
        out.push_str("COMMIT\n");
        out
    }
}

const HEAD: &str = "# Made by rolesmith: everything that is not opened here is dropped.\n\
*filter\n\
:INPUT DROP [0:0]\n\
:FORWARD DROP [0:0]\n\
:OUTPUT ACCEPT [0:0]\n\
-A INPUT -i lo -j ACCEPT\n";

const STATE: &str = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
-A INPUT -m conntrack --ctstate INVALID -j DROP\n";

fn accept(opening: &Opening, source: &str) -> String {
    let protocol = match opening.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!(
        "-A INPUT {source}-p {protocol} -m {protocol} --dport {} -m conntrack --ctstate NEW -m comment --comment \"{}\" -j ACCEPT\n",
        opening.port, opening.name
    )
}
