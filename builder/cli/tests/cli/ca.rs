//! One CA takes the other's place: what each step refuses, what publish makes of it, and commands that are killed.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    thread::sleep,
    time::Instant,
};

use rolesmith_testkit::{EPOCH, Run, TestFleet, deb};
use serde_json::{Value, json};

use crate::{ROLESMITH, fleets};

const PUBLISH: [&str; 2] = ["publish", "--without-agent"];
const DAY: u64 = 86_400;
/// In the facts, the certificate of the node's applications.
const APPLICATION: &str = "nodes/one/application.pem";

/// A fleet of the one node `one`, published.
fn fleet() -> TestFleet {
    let fleet = TestFleet::copy_of(ROLESMITH, &fleets("valid").join("smallest"), |_| false);
    fleet.take_secrets(&TestFleet::init(ROLESMITH, "a"));
    fleet.run(&PUBLISH).succeeded();
    fleet
}

fn status(fleet: &TestFleet) -> Value {
    let run = fleet.run(&["ca", "status", "--json"]);
    run.succeeded();
    serde_json::from_str(&run.stdout).expect("JSON")
}

fn fingerprints(status: &Value) -> Vec<String> {
    let list = status["authorities"].as_array().expect("a list");
    let prints = list.iter().map(|ca| ca["fingerprint"].as_str());
    prints
        .map(|print| print.expect("text").to_owned())
        .collect()
}

/// A file of the newest facts package.
fn facts(fleet: &TestFleet, name: &str) -> String {
    let lock: toml::Value = toml::from_str(&fleet.read("rolesmith.lock")).expect("TOML");
    let version = &lock["packages"]["a-facts"]["version"];
    let package = fleet.path(&format!("dist/packages/a-facts_{version}_all.deb"));
    deb::file(&package, &format!("./usr/lib/rolesmith/facts/{name}"))
}

/// The version of the facts, the certificate that they name, and that certificate.
fn published(fleet: &TestFleet) -> (u64, String, String) {
    let text = facts(fleet, "facts.json");
    let json: Value = serde_json::from_str(&text).expect("facts are JSON");
    (
        json["version"].as_u64().expect("a number"),
        json["members"][0]["certificate"]
            .as_str()
            .expect("text")
            .to_owned(),
        facts(fleet, "nodes/one/cert.pem"),
    )
}

/// What the node says when it has taken all that is published.
fn told(fleet: &TestFleet) -> Value {
    let (version, certificate, _) = published(fleet);
    json!({
        "format": 1, "at": 1, "fleet": "a", "asked": "one", "facts": version,
        "members": [{
            "name": "one", "incarnation": 1, "roles": ["base"], "reachable": true, "facts": version, "applied": version,
            "certificate": certificate, "authorities": fingerprints(&status(fleet)),
        }]
    })
}

fn step(fleet: &TestFleet, step: &str, told: &Value) -> Run {
    fleet.write("../told.json", told.to_string());
    let path = fleet.path("../told.json").display().to_string();
    fleet.run(&["ca", step, "--from", &path])
}

/// Refused with a reason and a way out, and nothing was changed.
fn refused(fleet: &TestFleet, run: impl Fn() -> Run, reason: &str) {
    let before = fleet.tree();
    let run = run();
    run.failed();
    let said = &run.stderr;
    assert!(said.contains(reason), "{reason:?} not in {said}");
    assert!(said.contains("  help: "), "{said}");
    before.assert_unchanged(&fleet.tree());
}

/// openssl's word.
fn verifies(fleet: &TestFleet, bundle: &str, certificate: &str) -> bool {
    fleet.write("../ca.pem", bundle);
    fleet.write("../cert.pem", certificate);
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-no-CApath", "-attime"])
        .arg(EPOCH.to_string())
        .arg("-CAfile")
        .args([fleet.path("../ca.pem"), fleet.path("../cert.pem")])
        .output();
    output.expect("openssl is there").status.success()
}

fn public_key(fleet: &TestFleet, certificate: &str) -> Vec<u8> {
    fleet.write("../cert.pem", certificate);
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-pubkey", "-in"])
        .arg(fleet.path("../cert.pem"))
        .output();
    output.expect("openssl is there").stdout
}

#[test]
fn a_roll_over_goes_step_by_step_and_each_is_refused_before_its_time() {
    let fleet = fleet();
    let (first_version, _, first) = published(&fleet);
    let application = facts(&fleet, APPLICATION);
    let alone = facts(&fleet, "ca.pem");
    assert!(status(&fleet)["next"] == "next" && !fleet.read("identities.lock").contains("[ca]"));
    for early in ["switch", "retire"] {
        refused(
            &fleet,
            || fleet.run(&["ca", early, "--unseen", "one"]),
            "there is one CA, and no successor was made",
        );
    }

    let run = fleet.run(&["ca", "next"]);
    run.succeeded();
    assert!(run.stderr.contains("`rolesmith ca switch`"));
    assert!(fleet.read("identities.lock").contains("[ca]\nsteps = 1\n"));
    for early in [&["ca", "next"][..], &["ca", "retire", "--unseen", "one"]] {
        refused(&fleet, || fleet.run(early), "does not issue yet");
    }
    // Nobody was told of it.
    let before = {
        let mut told = told(&fleet);
        told["members"][0]["authorities"] = json!([fingerprints(&status(&fleet))[0]]);
        told
    };
    refused(
        &fleet,
        || step(&fleet, "switch", &before),
        "one (trusts other CAs only)",
    );
    let run = fleet.run(&PUBLISH);
    run.succeeded();
    assert!(run.stderr.contains("go on with `rolesmith ca switch`"));
    let (version, _, still) = published(&fleet);
    let both = facts(&fleet, "ca.pem");
    assert!(version > first_version && still == first);
    assert_eq!(facts(&fleet, APPLICATION), application);
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.starts_with(alone.trim_end()), "the present one leads");

    // Members that have not taken it, in each way that there is.
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (
            |told| told["members"] = json!([]),
            "one (the facts of one do not know it)",
        ),
        (
            |told| told["members"][0]["reachable"] = json!(false),
            "one (does not answer: no answer)",
        ),
        (
            |told| told["members"][0]["authorities"] = json!([]),
            "one (its agent is too old to say which CAs it trusts)",
        ),
        (
            |told| told["members"][0]["applied"] = json!(1),
            "one (is still at work on its services",
        ),
        (
            |told| told["members"][0]["applied"] = Value::Null,
            "one (is still at work on its services",
        ),
        (
            |told| {
                let list = told["members"].as_array_mut().expect("a list");
                list.push(json!({ "name": "old", "reachable": false, "problem": "gone" }));
            },
            "old (does not answer: gone)",
        ),
    ];
    for (change, reason) in cases {
        let mut told = told(&fleet);
        change(&mut told);
        refused(&fleet, || step(&fleet, "switch", &told), reason);
    }
    step(&fleet, "switch", &told(&fleet)).succeeded();
    refused(
        &fleet,
        || fleet.run(&["ca", "switch", "--unseen", "one"]),
        "the former CA is still trusted",
    );
    refused(
        &fleet,
        || step(&fleet, "retire", &told(&fleet)),
        "one (its certificate was not issued anew: publish first)",
    );

    let taken = told(&fleet);
    let run = fleet.run(&PUBLISH);
    run.succeeded();
    assert!(run.stderr.contains("issued anew by the present CA"));
    assert!(run.stderr.contains("go on with `rolesmith ca retire`"));
    let (_, _, second) = published(&fleet);
    let second_application = facts(&fleet, APPLICATION);
    assert_ne!(first, second);
    assert_eq!(public_key(&fleet, &first), public_key(&fleet, &second));
    assert_ne!(application, second_application);
    assert_eq!(
        public_key(&fleet, &application),
        public_key(&fleet, &second_application)
    );
    let switched = facts(&fleet, "ca.pem");
    for bundle in [&both, &switched] {
        for certificate in [&first, &second, &application, &second_application] {
            assert!(verifies(&fleet, bundle, certificate));
        }
    }
    assert!(!fleet.run(&PUBLISH).stderr.contains("issued anew"));
    refused(
        &fleet,
        || step(&fleet, "retire", &taken),
        "one (shows the certificate from before)",
    );
    // That of the applications has to be of the present one as well.
    fleet.write("secrets/applications/one.pem", &application);
    refused(
        &fleet,
        || step(&fleet, "retire", &told(&fleet)),
        "one (its certificate was not issued anew: publish first)",
    );
    fleet.write("secrets/applications/one.pem", &second_application);
    step(&fleet, "retire", &told(&fleet)).succeeded();
    fleet.run(&PUBLISH).succeeded();
    let last = facts(&fleet, "ca.pem");
    for (former, present) in [(&first, &second), (&application, &second_application)] {
        assert!(!verifies(&fleet, &last, former) && verifies(&fleet, &last, present));
    }
    assert_eq!(published(&fleet).2, second);
    assert_eq!(facts(&fleet, APPLICATION), second_application);
    assert_eq!(status(&fleet)["next"], "next");
    assert!(fleet.read("identities.lock").contains("[ca]\nsteps = 3\n"));
}

#[test]
fn who_does_not_wait_for_a_node_is_told_what_breaks() {
    let fleet = fleet();
    fleet.run(&["ca", "next"]).succeeded();
    fleet.run(&PUBLISH).succeeded();
    // The others are asked all the same.
    let mut told = told(&fleet);
    let list = told["members"].as_array_mut().expect("a list");
    list.push(json!({ "name": "old", "reachable": false }));
    fleet.write("../told.json", told.to_string());
    let path = fleet.path("../told.json").display().to_string();
    let switch = |unseen: &str| fleet.run(&["ca", "switch", "--from", &path, "--unseen", unseen]);
    refused(&fleet, || switch("two"), "the fleet has no node \"two\"");
    told["members"][0]["authorities"] = json!([]);
    fleet.write("../told.json", told.to_string());
    refused(&fleet, || switch("old"), "one (its agent is too old");
    let run = switch("one,old");
    run.succeeded();
    assert!(
        run.stderr.contains("Not waited for: one, old.")
            && run.stderr.contains("does not trust the successor yet"),
        "{}",
        run.stderr
    );
    // Where nobody is left to be asked, nobody is.
    let run = fleet.run(&["ca", "retire", "--unseen", "one"]);
    run.succeeded();
    assert!(
        run.stderr.contains("Not waited for: one.") && run.stderr.contains("is refused by those"),
        "{}",
        run.stderr
    );
}

#[test]
fn an_older_copy_of_the_secrets_issues_nothing() {
    let fleet = fleet();
    let other = TestFleet::empty(ROLESMITH);
    other.take_secrets(&fleet);
    fleet.run(&["ca", "next"]).succeeded();
    // Another operator's copy of secrets/, with what was committed since.
    let his = TestFleet::copy_of(ROLESMITH, fleet.dir(), |name| name == "secrets");
    let lock = fleet.read("identities.lock");
    his.take_secrets(&other);
    his.write("identities.lock", &lock);
    for command in [&PUBLISH[..], &["ca", "next"], &["ca", "status"]] {
        refused(
            &his,
            || his.run(command),
            "identities.lock knows 1 steps of the CA's roll-over, and secrets/ has made 0",
        );
    }
}

#[test]
fn publish_and_check_say_when_a_successor_is_due() {
    let fleet = fleet();
    let on_day = |day: u64, args: &[&str]| {
        let mut command = fleet.command(args);
        command.env("SOURCE_DATE_EPOCH", (EPOCH + day * DAY).to_string());
        Run::of(command)
    };
    let reminder = "warning: the fleet's CA ends on 2036-01-";
    let quiet = on_day(2_400, &PUBLISH);
    quiet.succeeded();
    assert!(!quiet.stderr.contains(reminder), "{}", quiet.stderr);
    let due = on_day(2_450, &PUBLISH);
    due.succeeded();
    assert!(
        due.stderr.contains(reminder) && due.stderr.contains("`rolesmith ca next`"),
        "{}",
        due.stderr
    );
    let check = on_day(2_450, &["check", "--strict"]);
    check.succeeded();
    assert!(check.stderr.contains("[fleet::ca-expires]"));
    on_day(2_450, &["ca", "next"]).succeeded();
    assert!(!on_day(2_450, &PUBLISH).stderr.contains(reminder));
    let check = on_day(2_450, &["check", "--strict"]);
    assert!(!check.stderr.contains("fleet::ca-expires"));
}

/// However far a killed command came, the step was made or not, and the next command goes on from there.
#[test]
fn a_step_that_is_killed_was_made_or_was_not() {
    const KILLS: u32 = 10;
    let fleet = fleet();
    let modes = || {
        for entry in std::fs::read_dir(fleet.path("secrets")).expect("there") {
            let data = entry.expect("readable").metadata().expect("readable");
            assert_eq!(data.permissions().mode() & 0o077, 0);
        }
    };
    for (steps, name) in [
        &["next"][..],
        &["switch", "--unseen", "one"],
        &["retire", "--unseen", "one"],
    ]
    .into_iter()
    .enumerate()
    {
        let command = || {
            let mut command = fleet.command(&["ca"]);
            command.args(name).stderr(Stdio::null());
            command
        };
        // How long it takes up to where it is refused, and some more.
        let begun = Instant::now();
        fleet.run(&["ca", "status"]).succeeded();
        let whole = begun.elapsed().mul_f64(1.5);
        for kill in 0..KILLS {
            let before = status(&fleet);
            let mut child = command().spawn().expect("it starts");
            sleep(whole * kill / KILLS);
            let _ = child.kill();
            child.wait().expect("it ended");
            modes();
            let after = status(&fleet);
            let made = after["steps"].as_u64().expect("a number");
            let steps = steps as u64;
            assert!(made == steps || made == steps + 1, "{after}");
            let expected = ["next", "switch", "retire"][made as usize % 3];
            assert_eq!(after["next"], expected);
            if made == steps {
                assert_eq!(before, after);
            } else {
                break;
            }
        }
        if status(&fleet)["steps"] == steps {
            assert!(command().status().expect("it starts").success());
        }
        // What was cut off before the lock was written is written now.
        fleet.run(&PUBLISH).succeeded();
        let lock = fleet.read("identities.lock");
        assert!(lock.contains(&format!("steps = {}\n", steps + 1)), "{lock}");
    }
}
