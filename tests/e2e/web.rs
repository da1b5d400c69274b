//! What the world sees of a fleet: the example's shop in a real browser, through load balancer, edge, service, pgbouncer,
//! PostgreSQL and Redis; which TLS its ports speak; and on the nodes, how far its units are shut in and who uses the memory.

#[path = "web/certificate.rs"]
mod certificate;
#[path = "web/memory.rs"]
mod memory;
#[path = "web/tls.rs"]
mod tls;
#[path = "web/units.rs"]
mod units;
#[path = "web/visit.rs"]
mod visit;

use std::net::SocketAddr;

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::{
    Fleet, LabGuard,
    bare::step,
    browser::{Browser, World},
    need_root,
};
use serde_json::Value;

use self::{certificate::Expected, visit::Shop};

const NAME: &str = "web";
const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];
const HOST: &str = "shop.web.internal";

#[test]
#[ignore = "needs root: boots real machines"]
fn the_example_on_trixie() {
    the_example("trixie");
}

#[test]
#[ignore = "needs root: boots real machines"]
fn the_example_on_bookworm() {
    the_example("bookworm");
}

fn the_example(suite: &str) {
    need_root();
    let fleet = Fleet::example(NAME, suite);
    let _guard = LabGuard(&fleet);
    step("mirror, publish and boot", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up"]);
        fleet.must(
            OUTSIDE,
            "timeout 60 sh -c 'until curl --silent --fail --max-time 3 http://10.77.0.2/health; do sleep 0.2; done'",
        );
    });
    let expected = Expected::of(&fleet, &NODES);
    let world = World {
        hosts: vec![(HOST.to_owned(), load_balancer(&fleet))],
        trusted_keys: expected.keys(),
    };
    step("a browser that trusts nobody", || stranger(&world));
    step("the shop in a browser", || visit(&fleet, &world, &expected));
    step("what openssl can offer", || {
        tls::client_can_do_worse(&fleet)
    });
    step("TLS of the world", || tls::of_the_world(&fleet));
    step("TLS between edges", || tls::of_members(&fleet));
    step("units are shut in", || units::are_shut_in(&fleet, &NODES));
    step("nginx in its sandbox", || {
        NODES
            .iter()
            .for_each(|node| units::nginx_works(&fleet, node));
    });
    step("memory, idle and under load", || memory::is_enough(&fleet));
    step("a program that hangs is started again", || hangs(&fleet));
}

/// Where the load balancer is on this machine, as `lab status` says.
fn load_balancer(fleet: &Fleet) -> SocketAddr {
    let output = fleet.run(&["lab", "status", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("status is JSON");
    let forwards = told["outside"]["forwards"].as_array().expect("a list");
    let https = forwards
        .iter()
        .find(|forward| forward["to"] == "203.0.113.2:443")
        .and_then(|forward| forward["port"].as_u64());
    let port = u16::try_from(https.expect("it leads there")).expect("a port");
    ([127, 0, 0, 1], port).into()
}

/// Without the keys the certificate is refused: what the other browser accepts it accepts for them.
fn stranger(world: &World) {
    let browser = Browser::start(&World {
        trusted_keys: Vec::new(),
        ..world.clone()
    });
    let error = browser.try_open(&format!("https://{HOST}/")).unwrap_err();
    assert_eq!(error, "NET::ERR_CERT_AUTHORITY_INVALID");
}

fn visit(fleet: &Fleet, world: &World, expected: &Expected) {
    const PRODUCT: usize = 2;
    let browser = Browser::start(world);
    let shop = Shop::new(&browser, HOST);
    let before = shop.products();
    let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
    let stored = database(fleet, "SELECT name FROM shop.products ORDER BY id");
    assert_eq!(names, stored.lines().collect::<Vec<_>>());
    shop.assert_protocol("h2");
    expected.judge(&shop.certificates());
    shop.assert_content();
    let order = shop.order(3, 2);
    let stored = database(
        fleet,
        &format!(
            "SELECT product_id, quantity FROM shop.orders WHERE id = '{}'",
            order.id
        ),
    );
    assert_eq!(stored, "3|2\n");
    let fact = |term: &str| {
        let found = order.facts.iter().find(|(name, _)| name == term);
        found.map(|(_, text)| text.as_str())
    };
    assert_eq!(fact("Product"), Some(names[PRODUCT]));
    assert_eq!(fact("Quantity"), Some("2"));
    // The order was placed from the product's page, which counts as a view.
    shop.until_seen(PRODUCT, before[PRODUCT].1 + 1);
    shop.assert_content();
    shop.assert_policy_is_watched();
}

/// A stopped process takes connections, by the kernel, and answers none: systemd has to hear of it. What it says it ends it for is
/// its watchdog.
fn hangs(fleet: &Fleet) {
    const UNIT: &str = "rolesmith-service-shop.service";
    let shop = |property: &str| {
        let asked = format!("systemctl show --value --property={property} {UNIT}");
        fleet.must(NODES[0], &asked).trim().to_owned()
    };
    let restarts = shop("NRestarts");
    fleet.must(NODES[0], &format!("kill -STOP {}", shop("MainPID")));
    fleet.must(
        NODES[0],
        &format!(
            "timeout 180 sh -c 'until [ \"$(systemctl show --value --property=NRestarts {UNIT})\" != {restarts} ]; do sleep 1; done'; \
             timeout 60 sh -c 'until curl --silent --fail --max-time 3 http://127.0.0.1:3000/health; do sleep 0.5; done'; \
             journalctl --unit={UNIT} --grep='Watchdog timeout'"
        ),
    );
}

/// What the primary answers in the shop's database.
fn database(fleet: &Fleet, question: &str) -> String {
    let psql =
        |question: &str| format!("runuser -u postgres -- psql -qAtXd shop -c \"{question}\"");
    let primary = NODES
        .into_iter()
        .find(|node| fleet.must(node, &psql("SELECT pg_is_in_recovery()")) == "f\n");
    fleet.must(primary.expect("there is a primary"), &psql(question))
}
