//! Ports that answer, held against the matrix.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use rolesmith_tests::{
    Fleet,
    scan::{Answer, Scanner, Transport},
};
use serde_json::Value;

use super::places::{FAMILIES, NODES, Node, Place, Places};

/// Time for a question, for one more a second later, and for the answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// For a port that ought to answer, on a busy machine.
const MORE_PATIENCE: Duration = Duration::from_secs(20);

/// What the plan says.
struct Plan(Value);

impl Plan {
    fn of(fleet: &Fleet) -> Self {
        let output = fleet.run(&["--json", "plan", "--firewall"]);
        Self(serde_json::from_slice(&output.stdout).expect("--json is JSON"))
    }

    /// Ports of a node that are open to a place.
    fn open(&self, node: Node, place: &Place, family: &str, protocol: &str) -> BTreeSet<u16> {
        let nodes = self.0["nodes"].as_array().expect("nodes");
        let node = nodes.iter().find(|n| n["name"] == node.name);
        let openings = node.expect("the node")["openings"].as_array();
        openings
            .expect("openings")
            .iter()
            .filter(|opening| opening["protocol"] == protocol)
            .filter(|opening| {
                let sources = opening[family].as_array().expect("sources");
                sources.iter().any(|source| *source == place.name)
            })
            .map(|opening| opening["port"].as_u64().expect("a port"))
            .map(|port| port.try_into().expect("a port"))
            .collect()
    }
}

/// Every port, on every node at once.
pub fn tcp(fleet: &Fleet, places: &Places) {
    let ports: Vec<u16> = (1..=u16::MAX).collect();
    let seen = everywhere(fleet, places, Transport::Tcp, &ports);
    // What the services are for, or the machines would be safe because nothing runs on them.
    for (place, node, wanted) in [
        ("public", "web-1", &[22_u16][..]),
        ("load-balancer", "web-1", &[22, 80, 443]),
        (
            "member:web-1",
            "data-1",
            &[22, 2514, 5432, 6380, 7432, 26380],
        ),
        ("member:data-1", "web-1", &[22, 7432]),
    ] {
        let open = &seen[&(node, place.to_owned(), "ipv4")];
        let wanted: BTreeSet<u16> = wanted.iter().copied().collect();
        assert_eq!(*open, wanted, "served by {node} to {place}");
    }
}

/// Ports below 1024, and some that are known.
pub fn udp(fleet: &Fleet, places: &Places) {
    let known = [
        1194, 1900, 4000, 4001, 4002, 4004, 5353, 5355, 7432, 51820, 65535,
    ];
    let ports: Vec<u16> = (1..1024).chain(known).collect();
    everywhere(fleet, places, Transport::Udp, &ports);
}

/// Asks everybody from everywhere. What answers has to be what the plan opens; gives what is served.
fn everywhere(
    fleet: &Fleet,
    places: &Places,
    transport: Transport,
    ports: &[u16],
) -> BTreeMap<(&'static str, String, &'static str), BTreeSet<u16>> {
    let plan = Plan::of(fleet);
    let begin = Instant::now();
    let mut served = BTreeMap::new();
    let mut count = 0;
    thread::scope(|scope| {
        let work: Vec<_> = NODES
            .iter()
            .map(|node| scope.spawn(|| one(fleet, &plan, places, *node, transport, ports)))
            .collect();
        for work in work {
            for (key, open) in work.join().expect("a scan that agrees with the plan") {
                count += ports.len();
                served.insert(key, open);
            }
        }
    });
    tell(&format!(
        "{count} ports asked in {:.0} s",
        begin.elapsed().as_secs_f64()
    ));
    served
}

type Served = Vec<((&'static str, String, &'static str), BTreeSet<u16>)>;

fn one(
    fleet: &Fleet,
    plan: &Plan,
    places: &Places,
    node: Node,
    transport: Transport,
    ports: &[u16],
) -> Served {
    let mut served = Vec::new();
    for family in FAMILIES {
        for place in places.around(node) {
            let to = place.side.address(family, node.number);
            let protocol = match transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            let wanted = plan.open(node, place, family, protocol);
            let answers = ask(&place.scanner(family), transport, to, ports, &wanted);
            let what = format!(
                "{protocol} of {} over {family} from {}",
                node.name, place.name
            );
            let answered: BTreeSet<u16> = answers.keys().copied().collect();
            assert_eq!(answered, wanted, "{what}: {answers:?}");
            assert!(
                answers.values().all(|answer| *answer != Answer::Prohibited),
                "{what}: {answers:?}"
            );
            let open: BTreeSet<u16> = answers
                .iter()
                .filter(|(_, answer)| **answer == Answer::Open)
                .map(|(port, _)| *port)
                .collect();
            let listening = listening(fleet, node, to, transport);
            let expected: BTreeSet<u16> = wanted.intersection(&listening).copied().collect();
            assert_eq!(
                open, expected,
                "{what}: {answers:?}, it listens on {listening:?}"
            );
            let list = |all: &BTreeSet<u16>| {
                let words: Vec<String> = all.iter().map(u16::to_string).collect();
                words.join(" ")
            };
            tell(&format!(
                "{what}: served {}, let in besides {}",
                list(&open),
                list(&answered.difference(&open).copied().collect())
            ));
            served.push(((node.name, place.name.clone(), family), open));
        }
    }
    served
}

/// Asks, and asks those again whose answer is not what it ought to be, one after the other: a busy machine may be late, and a node that
/// asks the one that asks it has now and then asked from the very port that it is asked for, so that the question looks like the
/// answer to its own.
fn ask(
    scanner: &Scanner,
    transport: Transport,
    to: IpAddr,
    ports: &[u16],
    wanted: &BTreeSet<u16>,
) -> BTreeMap<u16, Answer> {
    let mut answers = scanner.scan(transport, to, ports, PATIENCE);
    for port in wanted {
        if !answers.contains_key(port) {
            answers.extend(scanner.scan(transport, to, &[*port], MORE_PATIENCE));
        }
    }
    answers.retain(|port, answer| {
        wanted.contains(port)
            || scanner.scan(transport, to, &[*port], PATIENCE).get(port) == Some(answer)
    });
    answers
}

/// Ports on which something listens at that address of the node.
fn listening(fleet: &Fleet, node: Node, address: IpAddr, transport: Transport) -> BTreeSet<u16> {
    let (ss, wildcard) = match (transport, address) {
        (Transport::Tcp, IpAddr::V4(_)) => ("ss -Hltn", "0.0.0.0"),
        (Transport::Tcp, IpAddr::V6(_)) => ("ss -Hltn", "[::]"),
        (Transport::Udp, IpAddr::V4(_)) => ("ss -Hlun", "0.0.0.0"),
        (Transport::Udp, IpAddr::V6(_)) => ("ss -Hlun", "[::]"),
    };
    let own = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    fleet
        .must(node.name, &format!("{ss} | awk '{{ print $4 }}'"))
        .lines()
        .filter_map(|line| line.rsplit_once(':'))
        .filter(|(at, _)| [own.as_str(), wildcard, "*"].contains(at))
        .filter_map(|(_, port)| port.parse().ok())
        .collect()
}

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "    {text}");
}
