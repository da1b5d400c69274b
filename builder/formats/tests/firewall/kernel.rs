//! As much of netfilter as the rules use, for the first packet of a connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The first packet of a connection to the node.
#[derive(Debug, Clone)]
pub struct Packet {
    pub interface: &'static str,
    pub source: IpAddr,
    pub protocol: &'static str,
    pub port: u16,
}

/// Sets and rules of a node.
pub struct Kernel {
    sets: BTreeMap<String, BTreeSet<IpAddr>>,
    v4: Vec<Vec<String>>,
    v6: Vec<Vec<String>>,
}

impl Kernel {
    pub fn load(ipset: &str, v4: &str, v6: &str) -> Self {
        Self {
            sets: sets(ipset),
            v4: rules(v4),
            v6: rules(v6),
        }
    }

    pub fn lets_in(&self, packet: &Packet) -> bool {
        let rules = if packet.source.is_ipv4() {
            &self.v4
        } else {
            &self.v6
        };
        let verdict = rules.iter().find_map(|rule| self.judge(rule, packet));
        match verdict {
            Some("ACCEPT") => true,
            Some("DROP") | None => false,
            Some(other) => panic!("INPUT leads to {other}"),
        }
    }

    /// Where the rule leads the packet, if it matches.
    fn judge<'r>(&self, rule: &'r [String], packet: &Packet) -> Option<&'r str> {
        let mut words = rule.iter().map(String::as_str);
        let mut negated = false;
        let mut matches = true;
        while let Some(word) = words.next() {
            if word == "!" {
                negated = true;
                continue;
            }
            let mut value = || words.next().unwrap_or_else(|| panic!("{word} of {rule:?}"));
            let holds = match word {
                "-j" => return matches.then(value),
                "-i" => value() == packet.interface,
                "-s" => is_in(packet.source, value()),
                "-p" => value() == packet.protocol,
                "--dport" => value().parse() == Ok(packet.port),
                "--sport" => value().parse() == Ok(40_000_u16),
                "--ctstate" => value().split(',').any(|state| state == "NEW"),
                "--match-set" => {
                    let set = value();
                    assert_eq!(value(), "src", "{rule:?}");
                    self.sets[set].contains(&packet.source)
                }
                // The first one is below every limit.
                "--hashlimit-above" => {
                    value();
                    false
                }
                "-m"
                | "--comment"
                | "--icmp-type"
                | "--icmpv6-type"
                | "--limit"
                | "--limit-burst"
                | "--hashlimit-burst"
                | "--hashlimit-mode"
                | "--hashlimit-name"
                | "--hashlimit-srcmask" => {
                    value();
                    true
                }
                other => panic!("nobody here knows {other} of {rule:?}"),
            };
            matches &= holds != negated;
            negated = false;
        }
        panic!("{rule:?} leads nowhere")
    }
}

/// What `ipset restore` makes of the commands.
fn sets(text: &str) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut sets: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["create", name, "hash:ip", "family", ..] => {
                sets.entry(name.to_owned()).or_default();
            }
            ["flush", name] => sets.get_mut(name).expect("a set").clear(),
            ["add", name, address] => {
                let address = address.parse().expect("an address");
                sets.get_mut(name).expect("a set").insert(address);
            }
            ["swap", one, other] => {
                let first = sets.remove(one).expect("a set");
                let second = sets.remove(other).expect("a set");
                sets.insert(one.to_owned(), second);
                sets.insert(other.to_owned(), first);
            }
            ["destroy", name] => {
                sets.remove(name).expect("a set");
            }
            _ => panic!("nobody here knows {line}"),
        }
    }
    sets
}

/// The words of each rule of INPUT, whose policy is to drop.
fn rules(text: &str) -> Vec<Vec<String>> {
    assert!(text.contains("\n:INPUT DROP [0:0]\n"), "{text}");
    let rules = text
        .lines()
        .filter_map(|line| line.strip_prefix("-A INPUT "));
    rules.map(words).collect()
}

/// Words, of which some are in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn is_in(address: IpAddr, network: &str) -> bool {
    let (network, prefix) = network.split_once('/').expect("a prefix");
    let prefix: u32 = prefix.parse().expect("a length");
    match (address, network.parse().expect("an address")) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u32::from(address) ^ u32::from(network)).leading_zeros() >= prefix
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            (u128::from(address) ^ u128::from(network)).leading_zeros() >= prefix
        }
        _ => false,
    }
}
