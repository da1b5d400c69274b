//! The example fleet on three real machines: everything installed by their own cloud-init, looked at from all sides, a role of a
//! user's own added, and nothing left afterwards.

#[path = "fleet/applications.rs"]
mod applications;
#[path = "capture/mod.rs"]
mod capture;
#[path = "fleet/gone.rs"]
mod gone;
#[path = "fleet/node.rs"]
mod node;
#[path = "fleet/performance.rs"]
mod performance;
#[path = "fleet/secrets.rs"]
mod secrets;
#[path = "fleet/services.rs"]
mod services;
#[path = "fleet/worker.rs"]
mod worker;

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

/// The example's nodes.
const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];

#[test]
#[ignore = "needs root: boots real machines"]
fn three_nodes_of_trixie() {
    three_nodes("trio", "trixie");
}

#[test]
#[ignore = "needs root: boots real machines"]
fn three_nodes_of_bookworm() {
    three_nodes("trio-old", "bookworm");
}

fn three_nodes(name: &str, suite: &str) {
    need_root();
    let fleet = Fleet::example(name, suite);
    let guard = LabGuard(&fleet);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    // Fails where a node is not `running`, cloud-init complains or an interface has no address.
    step("lab up", || fleet.run(&["lab", "up"]));
    step("systemd, cloud-init and the agent of every node", || {
        NODES.iter().for_each(|node| node::is_up(&fleet, node));
    });
    step("packages: where they came from, and whole", || {
        NODES
            .iter()
            .for_each(|node| node::packages_are_signed(&fleet, name, node));
    });
    step("the firewall that was rendered", || {
        NODES
            .iter()
            .for_each(|node| node::firewall_is_loaded(&fleet, node))
    });
    step("one PostgreSQL cluster", || services::cluster(&fleet));
    step("PostgreSQL through pgbouncer", || {
        services::database(&fleet)
    });
    step("Redis over TLS", || services::redis(&fleet));
    step("what programs may do by their certificate", || {
        let primary = services::primary(&fleet).replace("app-", "10.77.0.1");
        for node in NODES {
            applications::have_a_key(&fleet, node);
            applications::are_let_in(&fleet, node, "10.77.0.11");
            applications::are_no_members(&fleet, node, &primary, "10.77.0.11");
        }
    });
    step("nginx as the load balancer sees it", || {
        services::edge(&fleet, name)
    });
    step("the example's site through the load balancer", || {
        services::shop(&fleet, name)
    });
    step("the aggregated log", || services::logs(&fleet));
    step("performance lines", || performance::lines_arrive(&fleet));
    step("nothing in clear text on the private network", || {
        capture::nothing_in_clear(&fleet, name);
    });
    step("no secret where it does not belong", || {
        secrets::stay_secret(&fleet)
    });
    step("a role of a user's own", || worker::is_added(&fleet, name));
    step("lab down", || {
        let traces = gone::Traces::of(&fleet, name);
        // Its end is what is tested.
        std::mem::forget(guard);
        fleet.run(&["lab", "down"]);
        traces.assert_gone();
    });
}
