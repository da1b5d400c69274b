//! Fleets of other shapes than the example's three: one that is divided by tasks, and one of a single machine. Each serves the example's
//! page through the load balancer and bears the loss of a machine as far as it can.

#[path = "topologies/page.rs"]
mod page;
#[path = "topologies/removal.rs"]
mod removal;

use std::fs;

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};
use serde_json::Value;

use self::page::Page;

/// Three database servers, two for the application and its edge, two for the log.
const SEGMENTED: &[(&str, &str)] = &[
    ("db-1", r#""db-primary-capable", "redis""#),
    ("db-2", r#""db-primary-capable", "redis""#),
    ("db-3", r#""db-primary-capable", "redis""#),
    ("web-1", r#""app", "edge""#),
    ("web-2", r#""app", "edge""#),
    ("log-1", r#""log-server""#),
    ("log-2", r#""log-server""#),
];

/// One machine for everything.
const SMALLEST: &[(&str, &str)] = &[(
    "solo",
    r#""app", "db-primary-capable", "redis", "edge", "log-server""#,
)];

/// The example's fleet with other machines.
fn fleet(name: &str, nodes: &[(&str, &str)]) -> Fleet {
    let fleet = Fleet::example(name, "trixie");
    let path = fleet.dir.join("fleet.toml");
    let text = fs::read_to_string(&path).expect("the example has one");
    let begin = text.find("[nodes.").expect("nodes");
    let end = text.find("# The fleet's own program").expect("services");
    let mut machines = String::new();
    for (place, (node, roles)) in nodes.iter().enumerate() {
        machines += &format!(
            "[nodes.{node}]\nroles = [{roles}]\naddress = \"10.77.0.{}\"\n\n",
            11 + place
        );
    }
    let text = format!("{}{machines}{}", &text[..begin], &text[end..]);
    fs::write(&path, text).expect("written");
    fleet
}

fn up(fleet: &Fleet) {
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("lab up", || fleet.run(&["lab", "up"]));
}

#[test]
#[ignore = "needs root: boots real machines"]
fn segmented() {
    need_root();
    let fleet = fleet("segmented", SEGMENTED);
    let _guard = LabGuard(&fleet);
    up(&fleet);
    let page = Page::of(&fleet, "segmented");
    step("the page and an order", || {
        page.is_served();
        page.order(1);
    });
    step("each machine in turn loses power", || {
        let output = fleet
            .command(&["lab", "drill", "web-kill", "--json"])
            .output()
            .expect("the program starts");
        let told = String::from_utf8_lossy(&output.stdout);
        let runs: Value = serde_json::from_str(&told)
            .unwrap_or_else(|_| panic!("{told}{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(runs[0]["passed"], true, "{:#}", runs[0]["problems"]);
        let visits = &runs[0]["visits"];
        assert!(visits["ok"].as_u64() > Some(500), "{visits:#}");
        assert_eq!(visits["lost"], Value::Array(vec![]), "{visits:#}");
        // Machines of the edge were lost as well, and somebody was there to see it.
        assert!(
            visits["changes"]
                .as_array()
                .is_some_and(|all| all.len() >= 4)
        );
    });
    step("roles are taken from running machines", || {
        removal::of_edge_and_log_server(&fleet, "segmented", &page);
    });
}

#[test]
#[ignore = "needs root: boots a real machine"]
fn smallest() {
    need_root();
    let fleet = fleet("smallest", SMALLEST);
    let _guard = LabGuard(&fleet);
    step("check says what one machine cannot promise", || {
        let output = fleet.run(&["check", "--json"]);
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let told = told.to_string();
        for code in ["fleet::one-data-node", "fleet::one-edge"] {
            assert!(told.contains(code), "{code}: {told}");
        }
    });
    up(&fleet);
    let page = Page::of(&fleet, "smallest");
    step("the page and an order", || {
        page.is_served();
        page.order(1);
    });
    step("the machine loses power, and comes back by itself", || {
        fleet.run(&["lab", "kill", "solo"]);
        fleet.run(&["lab", "start", "solo"]);
        fleet.must("solo", "rolesmith-agent wait --timeout 120");
        page.is_served();
        assert_eq!(page.orders(), 1);
        page.order(2);
    });
}
