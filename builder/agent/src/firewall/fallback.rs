//! Rules for a boot at which the confirmed ones cannot be loaded: a way in, and nothing else.
//!
//! They need no set and no file. A machine that stands open because ipset(8) was removed or a file was damaged is worse
//! than one whose services cannot be reached until somebody looks.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use rolesmith_model::metadata;

/// Ports that an sshd_config(5) opens; 22 where it names none.
#[must_use]
pub(super) fn ssh_ports(config: &str) -> BTreeSet<u16> {
    let ports: BTreeSet<u16> = config
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let port = words.next()?.eq_ignore_ascii_case("port");
            port.then(|| words.next()?.parse().ok()).flatten()
        })
        .collect();
    if ports.is_empty() { [22].into() } else { ports }
}

/// The rules of one family, for iptables-restore(8) or ip6tables-restore(8); with `guarded`, others than root are kept from the
/// metadata service, which needs a module of the kernel besides.
#[must_use]
pub(super) fn rules(program: &str, ssh_ports: &BTreeSet<u16>, guarded: bool) -> String {
    let mut text = String::from(
        "# Made by rolesmith-agent: the confirmed rules could not be loaded.\n\
         *filter\n\
         :INPUT DROP [0:0]\n\
         :FORWARD DROP [0:0]\n\
         :OUTPUT ACCEPT [0:0]\n\
         -A INPUT -i lo -j ACCEPT\n\
         -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
    );
    if program == "ip6tables-restore" {
        // Errors, echo, listeners and neighbours (RFC 4890 section 4.4), and answers of DHCPv6 (RFC 8415 section 7.2).
        for kind in [1, 2, 3, 4, 128, 130, 131, 132, 133, 134, 135, 136, 143] {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "-A INPUT -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -j ACCEPT"
            );
        }
        text.push_str("-A INPUT -s fe80::/10 -p udp -m udp --dport 546 -j ACCEPT\n");
    } else {
        text.push_str("-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT\n");
        text.push_str("-A INPUT -p udp -m udp --sport 67 --dport 68 -j ACCEPT\n");
    }
    for port in ssh_ports {
        let _ = writeln!(text, "-A INPUT -p tcp -m tcp --dport {port} -j ACCEPT");
    }
    let addresses: Vec<IpAddr> = match (guarded, program) {
        (false, _) => Vec::new(),
        (true, "ip6tables-restore") => metadata::IPV6.map(IpAddr::from).to_vec(),
        (true, _) => metadata::IPV4.map(IpAddr::from).to_vec(),
    };
    for address in addresses {
        // Names and the time come from there at some providers; what is secret is asked for over TCP.
        let _ = writeln!(
            text,
            "-A OUTPUT -d {address} -p tcp -m tcp ! --dport 53 -m owner --socket-exists ! --uid-owner 0 -j REJECT"
        );
    }
    text.push_str("COMMIT\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_in_is_where_the_ssh_server_listens() {
        for (config, ports) in [
            ("", vec![22]),
            ("# Port 1\nPermitRootLogin no\n", vec![22]),
            ("Port 2222\n  port 22\nPort x\nPort\n", vec![22, 2222]),
        ] {
            assert_eq!(
                ssh_ports(config).into_iter().collect::<Vec<_>>(),
                ports,
                "{config}"
            );
        }
        for program in ["iptables-restore", "ip6tables-restore"] {
            for guarded in [true, false] {
                let text = rules(program, &[2222].into(), guarded);
                assert!(
                    text.contains(":INPUT DROP") && text.contains("--dport 2222 -j ACCEPT"),
                    "{text}"
                );
                assert!(!text.contains("match-set"), "{text}");
                assert_eq!(text.contains("owner"), guarded, "{text}");
            }
        }
    }
}
