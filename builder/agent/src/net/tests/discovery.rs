//! Members whose address the facts do not know, or know wrongly.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// What the resolver of these tests knows, and how often it was asked.
static NAMES: Mutex<BTreeMap<String, IpAddr>> = Mutex::new(BTreeMap::new());
static ASKED: AtomicU64 = AtomicU64::new(0);

fn resolver(name: &str) -> io::Result<Vec<IpAddr>> {
    if name.contains("silent") {
        ASKED.fetch_add(1, Ordering::Relaxed);
    }
    let found = NAMES.lock().unwrap().get(name).copied();
    found
        .map(|address| vec![address])
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn impatient() -> Limits {
    Limits {
        lost: Duration::from_millis(100),
        discover: (Duration::from_millis(10), Duration::from_millis(50)),
        lookup: resolver,
        ..limits()
    }
}

/// Members of which n1 does not know where the others are, in a domain of their own.
fn scattered(names: &[&str], domain: &str, dns: bool) -> (Lan, Material) {
    let mut lan = Lan::new(names);
    lan.fleet.facts.domain = domain.to_owned();
    lan.fleet.facts.discovery.dns = dns;
    let addresses: Vec<_> = lan
        .fleet
        .facts
        .members
        .iter()
        .map(|m| m.address.clone())
        .collect();
    for member in &mut lan.fleet.facts.members[1..] {
        member.address = None;
    }
    let n1 = lan.fleet.material("n1");
    for (member, address) in lan.fleet.facts.members.iter_mut().zip(addresses) {
        member.address = address;
    }
    // The others know where n1 is and would come by themselves.
    lan.fleet.facts.members[0].address = None;
    lan.fleet.facts.discovery.dns = false;
    (lan, n1)
}

fn address(lan: &Lan, name: &str) -> IpAddr {
    let text = lan.address(name);
    text.split(':').next().unwrap().parse().unwrap()
}

/// Another host of the same network.
fn beside(address: IpAddr, host: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, host])
        }
        IpAddr::V6(_) => address,
    }
}

#[test]
fn a_member_is_found_by_its_name_and_waited_for_until_then() {
    run(async {
        let (lan, material) = scattered(&["n1", "n2"], "found.invalid", true);
        let n1 = Node::with(material, machine(1), impatient());
        let n2 = lan.start("n2", 2);
        let waiting = n1.link("n2", |link| link.problem.is_some()).await;
        let why = waiting.problem.unwrap();
        assert!(
            why.contains("in no facts") && why.contains("DNS does not know n2.found.invalid"),
            "{why}"
        );
        assert!(waiting.addresses.is_empty());
        assert_eq!(n1.net.lost(), BTreeSet::from(["n2".to_owned()]));
        let there = address(&lan, "n2");
        NAMES
            .lock()
            .unwrap()
            .insert("n2.found.invalid".into(), there);
        n1.connected("n2").await;
        assert!(n1.net.lost().is_empty());
        // It is known where it was: no name is needed to find it again.
        NAMES.lock().unwrap().remove("n2.found.invalid");
        drop(n2);
        n1.link("n2", |link| !link.connected).await;
        let _n2 = lan.start("n2", 2);
        n1.connected("n2").await;
    });
}

#[test]
fn a_fleet_that_did_not_opt_in_asks_nobody() {
    run(async {
        let (_lan, material) = scattered(&["n1", "n2"], "silent.invalid", false);
        let n1 = Node::with(material, machine(1), impatient());
        let waiting = n1.link("n2", |link| link.problem.is_some()).await;
        assert!(!waiting.problem.unwrap().contains("DNS"));
        sleep(Duration::from_millis(100)).await;
        assert_eq!(ASKED.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn wrong_hints_lead_to_nobody_and_the_right_one_is_found_among_them() {
    run(async {
        let (lan, material) = scattered(&["n1", "n2", "n3"], "wrong.invalid", false);
        let mut n1 = Node::with(material, machine(1), impatient());
        let _n2 = lan.start("n2", 2);
        let mut n3 = lan.start("n3", 3);
        // Somebody who speaks another language, at an address that a member once had.
        let there = address(&lan, "n2");
        let stranger = beside(there, 77);
        let place = (stranger, lan.fleet.facts.agent_port);
        let listener = tokio::net::TcpListener::bind(place).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"SSH-2.0-OpenSSH_10.0\r\n").await;
            }
        });
        let wrong = vec![beside(there, 1), address(&lan, "n3"), stranger];
        n1.net.told(BTreeMap::from([
            ("n2".to_owned(), wrong.clone()),
            ("nobody".to_owned(), wrong.clone()),
        ]));
        let link = n1.link("n2", |link| link.problem.is_some()).await;
        assert!(
            !link.addresses.contains(&wrong[0]),
            "that is this node itself"
        );
        n1.net
            .send("n2", 7, b"{}".to_vec(), Duration::from_millis(500));
        let (number, result) = n1.response().await;
        assert!(number == 7 && result.is_err(), "{result:?}");
        assert!(
            n3.events.try_recv().is_err(),
            "it was meant for another one"
        );
        // Another one comes with the next answer.
        let mut right = wrong;
        right.push(there);
        n1.net.told(BTreeMap::from([("n2".to_owned(), right)]));
        n1.connected("n2").await;
        assert!(
            !n1.net
                .status()
                .links
                .iter()
                .any(|link| link.name == "nobody")
        );
    });
}

#[test]
fn a_member_that_moved_is_looked_for_when_it_was_away_for_long() {
    run(async {
        let (lan, _) = scattered(&["n1", "n2"], "moved.invalid", false);
        let mut old = lan.fleet.facts.clone();
        let there = address(&lan, "n2");
        old.members[0].address = Some(beside(there, 1).to_string());
        // Nobody is there any more.
        old.members[1].address = Some(beside(there, 99).to_string());
        let mut fleet = lan.fleet;
        let new = std::mem::replace(&mut fleet.facts, old);
        let n1 = Node::with(fleet.material("n1"), machine(1), impatient());
        fleet.facts = new;
        let _n2 = Node::with(fleet.material("n2"), machine(2), limits());
        assert!(n1.net.lost().is_empty(), "not for long yet");
        n1.net
            .told(BTreeMap::from([("n2".to_owned(), vec![there])]));
        n1.connected("n2").await;
    });
}
