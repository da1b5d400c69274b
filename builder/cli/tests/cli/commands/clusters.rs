//! What is learnt from a fleet, what publish makes of it, and the way out of a lost majority. ssh and the agent are programs
//! of this test.

use std::path::Path;

use rolesmith_testkit::{Run, TestFleet, deb};
use serde_json::{Value, json};

use crate::ROLESMITH;

const PUBLISH: [&str; 2] = ["publish", "--without-agent"];

/// A fleet of three nodes with a database role of its own, published once.
fn fleet() -> TestFleet {
    let fleet = TestFleet::empty(ROLESMITH);
    fleet
        .run(&["init", "--name", "acme", "--domain", "example.com"])
        .succeeded();
    fleet.write(
        "roles/shop-db/role.toml",
        "[role]\nsummary = \"database of the shop\"\ndescription = \"Keeps what the shop sells, and to whom.\"\n\
         requires = [\"base\"]\n\n[cluster]\nkind = \"postgresql\"\n",
    );
    let text = fleet.read("fleet.toml");
    let (head, _) = text.split_once("[nodes.").expect("it has a node");
    let nodes: String = (1..=3)
        .map(|n| {
            format!("[nodes.app-{n}]\nroles = [\"shop-db\"]\naddress = \"10.77.0.1{n}\"\nssh_port = 220{n}\n\n")
        })
        .collect();
    fleet.write("fleet.toml", format!("{head}{nodes}"));
    fleet.run(&PUBLISH).succeeded();
    fleet
}

fn member(number: u64, role: &str) -> Value {
    json!({
        "name": format!("app-{number}"), "incarnation": 1, "roles": ["base", "shop-db"], "part": "data",
        "address": format!("10.77.0.1{number}"), "reachable": true, "machine": format!("000000000000000{number}"),
        "facts": 1, "healthy": true, "alarms": [],
        "database": {
            "role": role, "epoch": 2, "row": 2, "data": "complete", "system_id": "7481", "formed": "7481",
            "configuration": [2, 5], "position": 5000
        }
    })
}

/// All is well.
fn told() -> Value {
    json!({
        "format": 1, "at": 1, "fleet": "acme", "asked": "app-1", "facts": 1,
        "configuration": {
            "epoch": 2, "version": 5, "data": ["app-1", "app-2", "app-3"], "synchronous": 1, "system_id": "7481",
            "voters": { "app-1": "0000000000000001", "app-2": "0000000000000002", "app-3": "0000000000000003" }
        },
        "members": [member(1, "primary"), member(2, "standby"), member(3, "standby")]
    })
}

/// Only app-1 is left.
fn alone() -> Value {
    let mut told = told();
    told["members"][0]["database"]["role"] = json!("standby");
    for number in 1..=2 {
        told["members"][number] =
            json!({ "name": format!("app-{}", number + 1), "reachable": false });
    }
    told
}

/// Programs in front of the machine's: an ssh whose machines all are this one, one of them away, and an agent that tells this.
fn programs(fleet: &TestFleet, told: &Value) {
    fleet.write("../bin/told.json", told.to_string());
    let bin = fleet.path("../bin");
    let bin = bin.display();
    let scripts = [
        (
            "ssh",
            "#!/bin/sh\n\
             for word; do case $word in\n\
             10.77.0.11) echo 'no route to 10.77.0.11' >&2; exit 255;;\n\
             -O) exit 0;;\n\
             true) exit 0;;\n\
             'sh -s') exec sh -s;;\n\
             esac; done\nexit 255\n"
                .to_owned(),
        ),
        ("id", "#!/bin/sh\necho 0\n".to_owned()),
        (
            "rolesmith-agent",
            format!(
                "#!/bin/sh\ncase $1 in\n\
                 status) cat {bin}/told.json;;\n\
                 recover) cat > {bin}/order.json; echo 'app-1 alone is the cluster now';;\n\
                 esac\n"
            ),
        ),
    ];
    for (name, script) in scripts {
        fleet.write(&format!("../bin/{name}"), script);
        fleet.chmod(&format!("../bin/{name}"), 0o755);
    }
}

fn over_ssh(fleet: &TestFleet, args: &[&str]) -> Run {
    let mut command = fleet.command(args);
    let bin = fleet.path("../bin");
    command.env(
        "PATH",
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()),
    );
    Run::of(command)
}

fn facts(fleet: &TestFleet, version: u64) -> Value {
    let package = fleet.path(&format!("dist/packages/acme-facts_{version}_all.deb"));
    let text = deb::file(&package, "./usr/lib/rolesmith/facts/facts.json");
    serde_json::from_str(&text).expect("facts are JSON")
}

fn says(run: &Run, word: &str) {
    assert!(run.stderr.contains(word), "no {word:?} in {}", run.stderr);
}

fn learnt(fleet: &TestFleet, told: &Value) -> Run {
    fleet.write("told.json", told.to_string());
    fleet.run(&["status", "--from", "told.json"])
}

#[test]
fn genesis_is_closed_by_what_the_fleet_tells_and_stays_so() {
    let fleet = fleet();
    assert_eq!(facts(&fleet, 1)["genesis"], "open");
    let open = fleet.run(&["check"]);
    open.succeeded();
    says(&open, "[fleet::genesis-open]");

    // Half a fleet proves nothing.
    let run = learnt(&fleet, &alone());
    run.succeeded();
    assert!(run.stdout.contains("NO MAJORITY"), "{}", run.stdout);
    assert!(!fleet.path("cluster.lock").exists());
    let run = learnt(&fleet, &told());
    run.succeeded();
    says(&run, "cluster.lock now names the database 7481");
    assert!(run.stdout.contains("app-1  primary"), "{}", run.stdout);
    let lock = fleet.read("cluster.lock");
    assert!(
        lock.contains("system_id = \"7481\"") && lock.contains("\"app-3\""),
        "{lock}"
    );
    let again = learnt(&fleet, &told());
    again.succeeded();
    assert!(!again.stderr.contains("cluster.lock"), "{}", again.stderr);

    let run = fleet.run(&PUBLISH);
    run.succeeded();
    says(&run, "Genesis is closed");
    let closed = facts(&fleet, 2);
    assert_eq!(
        (&closed["genesis"], &closed["system_id"]),
        (&json!("closed"), &json!("7481"))
    );
    // The fleet has no Redis that could have begun.
    assert_eq!(closed["redis_genesis"], "open");
    let checked = fleet.run(&["check"]);
    checked.succeeded();
    assert!(!checked.stderr.contains("genesis"), "{}", checked.stderr);
    let quiet = fleet.run(&PUBLISH);
    assert!(
        !quiet.succeeded().stderr.contains("Genesis"),
        "{}",
        quiet.stderr
    );

    // Another fleet's members under this name, a lost lock, and facts from before.
    let mut other = told();
    for number in 0..3 {
        for key in ["system_id", "formed"] {
            other["members"][number]["database"][key] = json!("7482");
        }
    }
    let run = learnt(&fleet, &other);
    run.failed();
    says(
        &run,
        "cluster.lock names the database 7481, and the fleet has 7482",
    );
    std::fs::remove_file(fleet.path("cluster.lock")).expect("there");
    let before = fleet.tree();
    let run = fleet.run(&PUBLISH);
    run.failed();
    says(&run, "genesis would be open again");
    says(&run, "--abandon-database 7481");
    before.assert_unchanged(&fleet.tree());
    let run = fleet.run(&["publish", "--rollback", "1"]);
    run.failed();
    says(&run, "no database");

    // Only its operator gives a database up.
    fleet.write("cluster.lock", &lock);
    let wrong = fleet.run(&["publish", "--without-agent", "--abandon-database", "7482"]);
    wrong.failed();
    assert_eq!(fleet.read("cluster.lock"), lock);
    fleet
        .run(&["publish", "--without-agent", "--abandon-database", "7481"])
        .succeeded();
    assert!(!fleet.path("cluster.lock").exists());
    assert_eq!(facts(&fleet, 3)["genesis"], "open");
}

#[test]
fn the_first_node_that_answers_tells_how_all_are() {
    let fleet = fleet();
    programs(&fleet, &told());
    let run = over_ssh(&fleet, &["status"]);
    run.succeeded();
    says(&run, "Asking 10.77.0.11.");
    says(&run, "Asking 10.77.0.12.");
    assert!(!run.stderr.contains("10.77.0.13"), "{}", run.stderr);
    assert!(run.stdout.contains("app-3  standby"), "{}", run.stdout);
    assert!(fleet.path("cluster.lock").exists());
    let run = over_ssh(&fleet, &["--json", "status", "--ssh", "ops@bastion"]);
    let value: Value = serde_json::from_str(&run.succeeded().stdout).expect("JSON");
    assert_eq!(value["members"][0]["database"]["role"], "primary");

    let mut other = told();
    other["fleet"] = json!("acne");
    programs(&fleet, &other);
    let run = over_ssh(&fleet, &["status", "--ssh", "bastion"]);
    run.failed();
    says(&run, "\"acne\"");
    fleet.write("../bin/told.json", "rolesmith-agent: no");
    let run = over_ssh(&fleet, &["status"]);
    run.failed();
    says(&run, "no node told how the fleet is");
    says(&run, "help: ");
}

/// The order that was brought, without what differs between two runs.
fn order(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("an order");
    let mut order: Value = serde_json::from_str(&text).expect("JSON");
    let signature = order["signature"].take();
    assert!(
        signature.as_str().is_some_and(|text| text.len() > 128),
        "{signature}"
    );
    assert!(order["issued"].take().is_u64());
    order
}

#[test]
fn a_lost_majority_is_ended_by_the_operators_word_alone() {
    let fleet = fleet();
    // What is not lost is not recovered.
    programs(&fleet, &told());
    let recover = |args: &[&str]| {
        let mut words = vec!["recover", "app-1", "--ssh", "app-1"];
        words.extend(args);
        over_ssh(&fleet, &words)
    };
    let run = recover(&["--accept-loss"]);
    run.failed();
    says(&run, "3 of 3 voters answer");

    programs(&fleet, &alone());
    let run = recover(&[]);
    run.succeeded();
    for word in [
        "app-1 would go on alone, with the database 7481",
        "app-2, app-3. Commits that only they have are lost",
        "Nothing was done.",
    ] {
        says(&run, word);
    }
    let brought = fleet.path("../bin/order.json");
    assert!(!brought.exists());
    let run = recover(&["--accept-loss"]);
    run.succeeded();
    says(&run, "app-1 alone is the cluster now");
    let expected = json!({
        "format": 1, "fleet": "acme", "survivor": "app-1", "incarnation": 1, "machine": "0000000000000001",
        "epoch": 2, "version": 5, "system_id": "7481", "issued": null, "signature": null
    });
    assert_eq!(order(&brought), expected);
    // Without ssh.
    fleet.write("told.json", alone().to_string());
    let run = fleet.run(&[
        "recover",
        "app-1",
        "--from",
        "told.json",
        "--accept-loss",
        "--output",
        "order.json",
    ]);
    run.succeeded();
    assert_eq!(order(&fleet.path("order.json")), expected);

    type Change = fn(&mut Value);
    let cases: [(&str, Change); 6] = [
        ("does not answer", |told| {
            told["members"][0]["reachable"] = json!(false);
        }),
        ("is the primary", |told| {
            told["members"][0]["database"]["role"] = json!("primary");
        }),
        ("no whole copy", |told| {
            told["members"][0]["database"]["data"] = json!("cloning");
        }),
        ("newer data than app-1", |told| {
            told["members"][1] = member(2, "standby");
            // Another machine than the one that votes.
            told["members"][1]["machine"] = json!("ffffffffffffffff");
            told["members"][1]["database"]["position"] = json!(5001);
        }),
        ("another member a newer one, 3.6", |told| {
            told["configuration"]["epoch"] = json!(3);
            told["configuration"]["version"] = json!(6);
        }),
        ("never formed", |told| told["configuration"] = Value::Null),
    ];
    for (word, change) in cases {
        let mut told = alone();
        change(&mut told);
        programs(&fleet, &told);
        let run = recover(&["--accept-loss"]);
        run.failed();
        says(&run, word);
        says(&run, "help: ");
    }
}
