//! One CA takes the other's place under a running cluster.

use std::time::Duration;

use rolesmith_agent::redis::client::Client;

use super::fleet::{Authority, Fleet, Part};
use super::{form, kept, settled, write_everywhere};

const CA: &str = "/usr/lib/rolesmith/facts/ca.pem";
const CERT: &str = "/etc/rolesmith/cert.pem";

/// Connections that were made before anything changed: each still answers, on a Redis that was not started anew.
fn answer(clients: &mut [Client]) -> Vec<String> {
    clients
        .iter_mut()
        .map(|client| {
            client.extend(Duration::from_secs(5));
            let info = client
                .ask(&["INFO", "server"])
                .expect("the connection stands");
            let info = info.text().expect("text").to_owned();
            let line = info.lines().find(|line| line.starts_with("run_id:"));
            line.expect("it says which start it is").to_owned()
        })
        .collect()
}

/// What happens on a node when its files change: its watch has Redis read them, its unit starts Sentinel anew.
fn take(fleet: &mut Fleet, node: usize, file: &str, text: &str, taken: impl Fn(&Fleet) -> bool) {
    fleet.nodes[node].replace(file, text);
    fleet.until("Redis has read its files anew", 15, taken);
    fleet.start(node, Part::Sentinel);
    fleet.until("all know each other", 40, |fleet| settled(fleet).is_some());
}

#[test]
#[ignore = "a minute, and redis-tools"]
fn a_roll_over_of_the_ca_drops_no_connection_to_redis() {
    let mut fleet = form(8);
    write_everywhere(&mut fleet, "before");
    let mut held: Vec<Client> = (0..3).map(|node| fleet.client(node).unwrap()).collect();
    let starts = answer(&mut held);

    let next = Authority::new();
    let both = format!("{}{}", fleet.authority.pem, next.pem);
    let (old, new) = (fleet.authority.tester(&both), next.tester(&both));
    let strict = next.tester(&next.pem);
    // From here on the test's own look at the cluster trusts both.
    fleet.tls = old.clone();

    for node in 0..3 {
        assert!(fleet.client_as(&new, node).is_err());
        take(&mut fleet, node, CA, &both, |fleet| {
            fleet.client_as(&new, node).is_ok()
        });
        assert_eq!(answer(&mut held), starts);
    }
    for node in 0..3 {
        assert!(fleet.client_as(&strict, node).is_err());
        let name = fleet.nodes[node].name.clone();
        let pem = next.certify(&name, &fleet.nodes[node].key());
        take(&mut fleet, node, CERT, &pem, |fleet| {
            fleet.client_as(&strict, node).is_ok()
        });
        assert_eq!(answer(&mut held), starts);
    }
    fleet.tls = new.clone();
    for node in 0..3 {
        assert!(fleet.client_as(&old, node).is_ok());
        take(&mut fleet, node, CA, &next.pem, |fleet| {
            fleet.client_as(&old, node).is_err()
        });
        assert_eq!(answer(&mut held), starts);
    }
    kept(&fleet, "before");
    assert_eq!(settled(&fleet), Some(1), "nobody was voted in");

    // New connections between members, too: a replica that comes back, and a new master.
    fleet.crash(0);
    fleet.boot(0);
    fleet.until("the replica is back", 40, |fleet| settled(fleet).is_some());
    write_everywhere(&mut fleet, "after");
}
