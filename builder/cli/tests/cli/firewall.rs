//! tests/fleets/firewall: fleets, who may reach what in them, and the rules of the first of their nodes.
//!
//! Beside each fleet.toml stand what `plan --firewall` shows (matrix.txt, matrix.json, matrix.svg) and the files that its first
//! node is given (rules.v4, rules.v6, rules.ipset). UPDATE_GOLDENS=1 writes them anew.

use std::path::Path;

use rolesmith_testkit::{TestFleet, deb};

use crate::{ROLESMITH, cases, fleets, golden};

fn fleet(case: &Path) -> TestFleet {
    TestFleet::copy_of(ROLESMITH, case, |name| {
        name.starts_with("matrix.") || name.starts_with("rules.")
    })
}

#[test]
fn the_matrix_and_the_rules_are_the_reviewed_ones() {
    let donor = TestFleet::init(ROLESMITH, "acme");
    let mut problems = Vec::new();
    for case in cases("firewall") {
        let fleet = fleet(&case);
        let show = |words: &[&str]| {
            let words = [&["plan", "--firewall"], words].concat();
            fleet.run(&words).succeeded().stdout.clone()
        };
        let json = show(&["--json"]);
        for (file, found) in [
            ("matrix.txt", &show(&[])),
            ("matrix.json", &json),
            ("matrix.svg", &show(&["--svg", "-"])),
        ] {
            problems.extend(golden(&case.join(file), found).err());
        }
        fleet.take_secrets(&donor);
        fleet.run(&["build", "--without-agent"]).succeeded();
        let matrix: serde_json::Value = serde_json::from_str(&json).expect("--json is JSON");
        let node = matrix["nodes"][0]["name"].as_str().expect("a node's name");
        let facts = fleet.path("dist/packages/acme-facts_1_all.deb");
        for kind in ["v4", "v6", "ipset"] {
            let dir = format!("./usr/lib/rolesmith/facts/nodes/{node}/files/base");
            let found = deb::file(&facts, &format!("{dir}/firewall.{kind}"));
            problems.extend(golden(&case.join(format!("rules.{kind}")), &found).err());
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn one_node_alone_a_picture_in_a_file_and_calls_that_are_wrong() {
    let fleet = fleet(&fleets("firewall").join("segmented"));
    let run = fleet.run(&["plan", "log-1", "--firewall"]);
    let text = &run.succeeded().stdout;
    assert!(
        text.contains("aggregated log") && !text.contains("postgresql"),
        "{text}"
    );
    let run = fleet.run(&["plan", "--firewall", "--svg", "who.svg"]);
    assert_eq!(run.succeeded().stdout, "");
    assert!(run.stderr.contains("who.svg"), "{}", run.stderr);
    assert!(fleet.read("who.svg").starts_with("<svg xmlns="));
    fleet.run(&["plan", "--firewall", "log-3"]).exited(1);
    fleet.run(&["plan", "--svg", "who.svg"]).exited(2);
    let run = fleet.run(&["plan", "--firewall", "--svg", "fleet.toml/who.svg"]);
    run.exited(1);
    assert!(
        run.stderr.contains("fleet.toml/who.svg: "),
        "{}",
        run.stderr
    );
}
