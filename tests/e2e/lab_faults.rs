//! What may befall nodes of the lab, each shown by what the nodes see of each other, and a drill on a database of one node.

#[path = "lab_faults/drill.rs"]
mod drill;
#[path = "fleet/gone.rs"]
mod gone;
#[path = "lab_faults/wire.rs"]
mod wire;

use std::{thread, time::Duration};

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};
use serde_json::Value;

use crate::wire::{End, hears, pings, watch_the_end_of};

const NAME: &str = "faults";
const FLEET: &str = r#"
[fleet]
name = "faults"
suite = "trixie"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "faults.internal"

[repository]
url = "http://apt.faults.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@faults.internal"]

[nodes.data]
roles = ["db-primary-capable"]
address = "10.77.0.11"

[nodes.left]
roles = ["log-server"]
address = "10.77.0.12"

[nodes.right]
roles = ["log-server"]
address = "10.77.0.13"
"#;

const DATA: &str = "10.77.0.11";
const LEFT: &str = "10.77.0.12";
const RIGHT: &str = "10.77.0.13";
/// Where the repository is.
const LAB: &str = "203.0.113.1";

#[test]
#[ignore = "needs root: boots real machines"]
fn faults_are_what_they_say() {
    need_root();
    let fleet = Fleet::create(NAME, FLEET);
    let guard = LabGuard(&fleet);
    step("mirror, publish and boot", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up"]);
    });
    step("a cut from everybody", || cut_from_everybody(&fleet));
    step("a cut from one", || cut_from_one(&fleet));
    step("a cut one way", || cut_one_way(&fleet));
    step("a frozen node", || freeze(&fleet));
    step("power loss", || {
        kill(&fleet, &["kill", "left"], End::Silent)
    });
    step("a crash", || {
        kill(&fleet, &["kill", "left", "--crash"], End::Closed);
    });
    step("a drill", || drill::on_one_node(&fleet));
    step("a replaced node", || replace(&fleet));
    step("a lab whose fleet has another name now", || {
        let traces = gone::Traces::of(&fleet, NAME);
        rename(&fleet);
        // Its end is what is tested.
        std::mem::forget(guard);
        fleet.run(&["lab", "down"]);
        traces.assert_gone();
    });
}

fn cut_from_everybody(fleet: &Fleet) {
    assert!(pings(fleet, "left", RIGHT) && pings(fleet, "left", LAB));
    // Doing it twice is doing it once.
    for _ in 0..2 {
        fleet.run(&["lab", "cut", "left"]);
    }
    for (from, to) in [("left", RIGHT), ("right", LEFT), ("left", LAB)] {
        assert!(!pings(fleet, from, to), "{from} reaches {to}");
    }
    assert!(pings(fleet, "right", DATA), "others are cut too");
    assert_eq!(status(fleet)["cuts"].as_array().map(Vec::len), Some(2));
    for _ in 0..2 {
        fleet.run(&["lab", "mend", "left"]);
    }
    assert!(pings(fleet, "left", RIGHT) && pings(fleet, "left", LAB));
    assert_eq!(status(fleet)["cuts"].as_array().map(Vec::len), Some(0));
}

fn cut_from_one(fleet: &Fleet) {
    fleet.run(&["lab", "cut", "left", "--from", "right"]);
    for (from, to) in [("left", RIGHT), ("right", LEFT), ("left", "203.0.113.13")] {
        assert!(!pings(fleet, from, to), "{from} reaches {to}");
    }
    assert!(pings(fleet, "left", DATA) && pings(fleet, "right", DATA) && pings(fleet, "left", LAB));
    // A cut has two ends; either names it.
    fleet.run(&["lab", "mend", "right"]);
    assert!(pings(fleet, "left", RIGHT));
}

fn cut_one_way(fleet: &Fleet) {
    fleet.run(&["lab", "cut", "left", "--from", "right", "--one-way"]);
    assert!(hears(fleet, ("left", LEFT), ("right", RIGHT)));
    assert!(!hears(fleet, ("right", RIGHT), ("left", LEFT)));
    assert!(pings(fleet, "left", DATA), "others are cut too");
    fleet.run(&["lab", "mend"]);
    assert!(hears(fleet, ("right", RIGHT), ("left", LEFT)));
}

fn freeze(fleet: &Fleet) {
    fleet.must(
        "left",
        "systemd-run --quiet --unit=tick sh -c 'while :; do date +%s%N >/run/tick.new; mv /run/tick.new /run/tick; sleep 0.02; done'",
    );
    // What is run from outside goes on.
    let tick = || fleet.must("left", "cat /run/tick");
    let moves = || {
        let before = tick();
        (0..200).any(|_| {
            thread::sleep(Duration::from_millis(10));
            tick() != before
        })
    };
    fleet.must("left", "until [ -e /run/tick ]; do sleep 0.05; done");
    assert!(moves());
    for _ in 0..2 {
        fleet.run(&["lab", "freeze", "left"]);
    }
    assert!(!moves(), "a frozen node works");
    assert_eq!(status(fleet)["nodes"][1]["frozen"], true);
    let (code, said) = refused(fleet, &["lab", "start", "left"]);
    assert!(code == 1 && said.contains("lab thaw"), "{said}");
    for _ in 0..2 {
        fleet.run(&["lab", "thaw", "left"]);
    }
    assert!(moves());
    assert_eq!(status(fleet)["nodes"][1]["frozen"], false);
    fleet.must("left", "systemctl stop tick");
}

/// A peer with an open connection sees what it has to, and the node comes back with its disk.
fn kill(fleet: &Fleet, words: &[&str], end: End) {
    fleet.must("left", "echo kept >/var/lib/mark");
    let seen = watch_the_end_of(fleet, ("left", LEFT), ("right", RIGHT), || {
        for _ in 0..2 {
            fleet.run(&[&["lab"], words].concat());
        }
    });
    assert_eq!(seen, end, "{words:?}");
    assert_eq!(status(fleet)["nodes"][1]["state"], "stopped");
    assert!(!pings(fleet, "right", LEFT));
    fleet.run(&["lab", "start", "left"]);
    assert_eq!(fleet.must("left", "cat /var/lib/mark"), "kept\n");
    assert!(pings(fleet, "right", LEFT) && pings(fleet, "left", LAB));
}

fn replace(fleet: &Fleet) {
    let identity = || -> (Value, String) {
        let node = fleet.must("left", "cat /etc/rolesmith/node.json");
        let machine = fleet.must("left", "cat /etc/machine-id");
        (serde_json::from_str(&node).expect("JSON"), machine)
    };
    let (before, old) = identity();
    assert_eq!(before["incarnation"], 1);
    // A cut of the old machine is none of the new one's.
    fleet.run(&["lab", "cut", "left"]);
    fleet.run(&["lab", "replace", "left"]);
    let (after, new) = identity();
    assert_eq!(after["incarnation"], 2);
    assert_ne!(old, new);
    let (code, _) = fleet.shell("left", "test -e /var/lib/mark");
    assert_eq!(code, 1, "the old disk");
    assert!(pings(fleet, "right", LEFT));
    fleet.must("left", "rolesmith-agent wait --timeout 120");
}

fn rename(fleet: &Fleet) {
    let file = fleet.dir.join("fleet.toml");
    let text = std::fs::read_to_string(&file).expect("read");
    let renamed = text.replace("name = \"faults\"", "name = \"renamed\"");
    std::fs::write(&file, renamed).expect("written");
    for words in [
        &["lab", "status"][..],
        &["lab", "up"],
        &["lab", "kill", "left"],
    ] {
        let (code, said) = refused(fleet, words);
        assert_eq!(code, 1, "{words:?}: {said}");
        assert!(
            said.contains("when its name was faults"),
            "{words:?}: {said}"
        );
    }
}

fn status(fleet: &Fleet) -> Value {
    let output = fleet.run(&["lab", "status", "--json"]);
    serde_json::from_slice(&output.stdout).expect("status is JSON")
}

/// Exit code and words of a command that fails.
fn refused(fleet: &Fleet, words: &[&str]) -> (i32, String) {
    let output = fleet.command(words).output().expect("the program starts");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
