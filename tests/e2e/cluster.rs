//! The databases of a fleet become one cluster by themselves: whoever is booted first, however many at a time, and however
//! often; and it grows and shrinks by fleet.toml alone.

#[path = "cluster/client.rs"]
mod client;
#[path = "cluster/growth.rs"]
mod growth;
#[path = "cluster/many.rs"]
mod many;
#[path = "cluster/order.rs"]
mod order;

use std::{io::Write as _, time::Duration};

use rolesmith_tests::{
    Fleet, LabGuard,
    bare::step,
    cluster::{await_whole, fleet_toml},
    need_root,
};

const ROLES: [&str; 1] = ["db-primary-capable"];
const NODES: [&str; 3] = ["one", "two", "three"];
/// From the last boot until nothing is missing.
const LIMIT: Duration = Duration::from_secs(120);

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "    {text}");
}

/// A fleet of these machines, published; none is booted.
fn published(name: &str, nodes: &[&str]) -> Fleet {
    need_root();
    let fleet = Fleet::create(name, &fleet_toml(name, "trixie", nodes, &ROLES));
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    fleet
}

/// What `make test` holds of all this: one order, and a member that comes and goes.
#[test]
#[ignore = "needs root: boots real machines"]
fn grows_and_shrinks() {
    let name = "grows";
    let fleet = published(name, &NODES);
    let _guard = LabGuard(&fleet);
    order::boot(&fleet, name, ["two", "three", "one"]);
    growth::fourth(&fleet, name);
}

/// Four machines, of which one has a pooler alone.
#[test]
#[ignore = "needs root: boots real machines"]
fn a_client_without_a_database_follows() {
    need_root();
    let name = "clients";
    let text = fleet_toml(name, "trixie", &NODES, &ROLES) + client::ENTRY;
    let fleet = Fleet::create(name, &text);
    let _guard = LabGuard(&fleet);
    step("mirror, publish and boot", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up"]);
    });
    let (whole, _) = await_whole(&fleet, name, &NODES, LIMIT);
    step("a client and no more", || {
        client::is_no_more_than_a_client(&fleet, &whole.primary);
    });
    client::holds(&fleet, &["switchover", "primary-power", "primary-cut"]);
}

#[test]
#[ignore = "needs root: boots real machines"]
fn every_order() {
    let name = "orders";
    let fleet = published(name, &NODES);
    let _guard = LabGuard(&fleet);
    let [one, two, three] = NODES;
    for order in [
        [one, two, three],
        [one, three, two],
        [two, one, three],
        [two, three, one],
        [three, one, two],
        [three, two, one],
    ] {
        order::boot(&fleet, name, order);
        fleet.run(&["lab", "down"]);
    }
}

#[test]
#[ignore = "needs root: boots real machines"]
fn many_runs() {
    let name = "runs";
    let fleet = published(name, &NODES);
    let _guard = LabGuard(&fleet);
    step("lab up", || fleet.run(&["lab", "up"]));
    await_whole(&fleet, name, &NODES, LIMIT);
    many::runs(&fleet, name);
}

#[test]
#[ignore = "needs root: boots real machines"]
fn twenty_at_once() {
    many::twenty();
}
