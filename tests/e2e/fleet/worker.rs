//! The role of docs/roles.md, written by a reader and added to a fleet that runs.

use std::{fs, path::PathBuf};

use rolesmith_tests::{Fleet, checkout};

use super::node;

/// The tutorial's files.
const FILES: [&str; 4] = [
    "role.toml",
    "files/main.js",
    "templates/worker.json",
    "units/rolesmith-worker.service",
];

fn fixture(file: &str) -> PathBuf {
    checkout().join("tests/e2e/fleet/worker").join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(fixture(file)).expect("the fixture is there")
}

/// The code blocks of the tutorial, each after a line that begins with the name of its file.
fn tutorial() -> Vec<(String, String)> {
    let page = fs::read_to_string(checkout().join("docs/roles.md")).expect("the page is there");
    let mut found = Vec::new();
    for part in page.split("\n`roles/worker/").skip(1) {
        let (file, rest) = part.split_once('`').expect("the name ends");
        let (_, block) = rest.split_once("\n```").expect("a block follows");
        let (_, block) = block.split_once('\n').expect("the block has lines");
        let (block, _) = block.split_once("\n```").expect("the block ends");
        found.push((file.to_owned(), format!("{block}\n")));
    }
    found
}

#[test]
fn the_tutorial_is_what_is_tested() {
    let mut told = tutorial();
    told.sort();
    let mut tested: Vec<_> = FILES
        .iter()
        .map(|file| ((*file).to_owned(), text(file)))
        .collect();
    tested.sort();
    assert_eq!(
        told, tested,
        "tests/e2e/fleet/worker has to be what docs/roles.md says"
    );
}

/// Adds the role to app-1, publishes and installs it there by hand.
pub fn is_added(fleet: &Fleet, name: &str) {
    let dir = fleet.dir.join("roles/worker");
    for file in FILES {
        let target = dir.join(file);
        fs::create_dir_all(target.parent().expect("a file is in a directory"))
            .expect("a directory");
        fs::copy(fixture(file), target).expect("a copy");
    }
    let path = fleet.dir.join("fleet.toml");
    let toml = fs::read_to_string(&path).expect("fleet.toml");
    let (head, rest) = toml
        .split_once("[nodes.app-1]\nroles = [")
        .expect("the example's first node");
    fs::write(
        &path,
        format!("{head}[nodes.app-1]\nroles = [\"worker\", {rest}"),
    )
    .expect("fleet.toml");
    fleet.run(&["check"]);
    fleet.run(&["publish"]);

    // A node that runs gets a new secret by hand until `enroll --secrets` brings it.
    let secret = fleet
        .seed("app-1")
        .files
        .into_iter()
        .find(|file| file.path.ends_with("/worker-database-password"));
    let secret = secret.expect("the role's secret is in the node's seed");
    fleet.feed(
        "app-1",
        &format!("umask 077; cat >{}", secret.path),
        &secret.text,
    );
    fleet.must("app-1", &format!("apt-get -q update && timeout 300 apt-get -q -y install {name}-worker {name}-facts </dev/null"));
    fleet.must(
        "app-1",
        "rolesmith-agent wait --timeout 120 || { rolesmith-agent status; exit 1; }",
    );
    node::is_ready(fleet, "app-1");
    assert_eq!(
        fleet.must("app-1", "systemctl is-active rolesmith-worker.service"),
        "active\n"
    );
    fleet.must(
        "app-1",
        "timeout 20 sh -c 'until journalctl --no-pager -u rolesmith-worker | grep -q \"app-1: 100 jobs at a time, results go to 127.0.0.1:6432 as worker\"; \
         do sleep 0.2; done'",
    );
    let status = fleet.must("app-1", "rolesmith-agent status");
    assert!(
        status.contains("worker") && status.contains("rolesmith-worker.service"),
        "{status}"
    );
    assert_eq!(
        fleet.must(
            "app-1",
            "stat -c '%U:%G %a' /var/lib/rolesmith/conf/worker/worker.json"
        ),
        "root:root 600\n"
    );
    let uid = fleet.must(
        "app-1",
        "stat -c %u /proc/$(systemctl show -P MainPID rolesmith-worker)",
    );
    assert_ne!(uid, "0\n", "it does not run as root");
    // The others learnt nothing of it, and go on.
    fleet.must(
        "app-2",
        "test ! -e /usr/lib/rolesmith/worker && rolesmith-agent wait --timeout 60",
    );
}
