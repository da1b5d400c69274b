//! Cut cables: which frames are lost between the nodes, and the nftables rules that lose them.
//!
//! The rules stand in the bridges of the lab's own namespace and drop whole frames, ARP among them, so nobody is told: to the
//! nodes it looks like a switch that fails, and connections that are open stay open.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::network::Ports;

/// The table's name inside the lab's namespace.
const TABLE: &str = "rolesmith";

/// Frames that are lost: those from one party to another. Nobody named stands for everybody, the lab's own bridges included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cut {
    /// Who sends.
    pub from: Option<String>,
    /// Who does not receive.
    pub to: Option<String>,
}

impl Cut {
    /// What cutting `node` off from `other` (nobody named: from everybody) means in frames. With `one_way` only what `node` sends
    /// is lost; what is sent to it still arrives.
    pub fn between(node: &str, other: Option<&str>, one_way: bool) -> Vec<Cut> {
        let there = Cut {
            from: Some(node.to_owned()),
            to: other.map(str::to_owned),
        };
        if one_way {
            return vec![there];
        }
        let back = Cut {
            from: there.to.clone(),
            to: there.from.clone(),
        };
        vec![there, back]
    }

    /// Whether a node is one of the two parties.
    pub fn names(&self, node: &str) -> bool {
        [&self.from, &self.to]
            .into_iter()
            .flatten()
            .any(|name| name == node)
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let party = |name: &Option<String>| name.clone().unwrap_or_else(|| "everybody".to_owned());
        write!(f, "{} to {}", party(&self.from), party(&self.to))
    }
}

/// The script for nft(8) that makes these cuts, and no others, in force at one moment. `ports_of` knows the machines' cables by
/// name; machines that are not known have none.
pub(crate) fn script<'a>(
    cuts: impl IntoIterator<Item = &'a Cut>,
    ports_of: impl Fn(&str) -> Option<Ports>,
) -> String {
    let (mut forward, mut input, mut output) = (String::new(), String::new(), String::new());
    for cut in cuts {
        let ports = |name: &Option<String>| match name {
            None => Some(None),
            Some(name) => ports_of(name).map(|ports| Some(set(&ports))),
        };
        let (Some(from), Some(to)) = (ports(&cut.from), ports(&cut.to)) else {
            continue;
        };
        match (from, to) {
            (Some(from), Some(to)) => {
                forward += &format!("iifname {from} oifname {to} drop\n");
            }
            (Some(from), None) => {
                forward += &format!("iifname {from} drop\n");
                input += &format!("iifname {from} drop\n");
            }
            (None, Some(to)) => {
                forward += &format!("oifname {to} drop\n");
                output += &format!("oifname {to} drop\n");
            }
            (None, None) => {}
        }
    }
    // Adding first makes deleting sure to find it.
    let mut script = format!("add table bridge {TABLE}\ndelete table bridge {TABLE}\n");
    if !forward.is_empty() {
        script += &format!("table bridge {TABLE} {{\n");
        for (hook, rules) in [("forward", forward), ("input", input), ("output", output)] {
            script += &format!("chain {hook} {{\ntype filter hook {hook} priority 0\n{rules}}}\n");
        }
        script += "}\n";
    }
    script
}

fn set(ports: &Ports) -> String {
    format!("{{ \"{}\", \"{}\" }}", ports.private, ports.public)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(name: &str) -> Option<Ports> {
        let known = [("a", 1), ("b", 2)];
        let (_, index) = known.into_iter().find(|(known, _)| *known == name)?;
        Some(Ports::of(index))
    }

    #[test]
    fn a_cut_is_two_ways_unless_one_is_asked_for() {
        let both = Cut::between("a", Some("b"), false);
        assert_eq!(
            both.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a to b", "b to a"]
        );
        let one = Cut::between("a", None, true);
        assert_eq!(
            one.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a to everybody"]
        );
        assert!(one[0].names("a") && !one[0].names("b"));
    }

    #[test]
    fn no_cut_is_no_table() {
        let mended = "add table bridge rolesmith\ndelete table bridge rolesmith\n";
        assert_eq!(script([], nodes), mended);
        // What is cut off from a node that was removed has nothing to be cut.
        assert_eq!(
            script(&Cut::between("a", Some("gone"), false), nodes),
            mended
        );
    }

    #[test]
    fn frames_are_lost_in_the_direction_that_was_cut() {
        let pair = script(&Cut::between("a", Some("b"), true), nodes);
        assert!(
            pair.contains("iifname { \"priv1\", \"pub1\" } oifname { \"priv2\", \"pub2\" } drop\n")
        );
        assert_eq!(pair.matches(" drop").count(), 1);
        // Alone: the lab's own bridges, where the repository is, are lost too.
        let alone = script(&Cut::between("a", None, false), nodes);
        assert_eq!(
            alone
                .matches("iifname { \"priv1\", \"pub1\" } drop")
                .count(),
            2
        );
        assert_eq!(
            alone
                .matches("oifname { \"priv1\", \"pub1\" } drop")
                .count(),
            2
        );
    }
}
