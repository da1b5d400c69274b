//! Redis and Sentinel on three real machines: they become one cluster by themselves, and lose no data that they may keep.
//!
//! The same faults without systemd, and in seconds: `cargo test -p rolesmith-agent --test redis -- --ignored`.
#![allow(clippy::print_stderr, reason = "a long test says what it measured")]

use std::time::{Duration, Instant};

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};
use serde_json::Value;

const NODES: [&str; 3] = ["one", "two", "three"];

fn fleet_toml(name: &str, suite: &str) -> String {
    let mut text = format!(
        r#"
[fleet]
name = "{name}"
suite = "{suite}"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "{name}.internal"

[repository]
url = "http://apt.{name}.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@{name}.internal"]
"#
    );
    for (n, node) in NODES.iter().enumerate() {
        text.push_str(&format!(
            "\n[nodes.{node}]\nroles = [\"redis\"]\naddress = \"10.77.0.{}\"\n",
            11 + n
        ));
    }
    text
}

#[test]
#[ignore = "needs root: boots real machines"]
fn redis_of_trixie() {
    redis_of("rds", "trixie");
}

#[test]
#[ignore = "needs root: boots real machines"]
fn redis_of_bookworm() {
    redis_of("rds-old", "bookworm");
}

fn redis_of(name: &str, suite: &str) {
    need_root();
    let fleet = Fleet::create(name, &fleet_toml(name, suite));
    let _guard = LabGuard(&fleet);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("lab up", || fleet.run(&["lab", "up"]));
    step("one master, two replicas, three Sentinels", || {
        for node in NODES {
            fleet.must(node, "rolesmith-agent wait --timeout 60");
        }
        let took = until("settled", 30, || settled(&fleet).is_some());
        eprintln!("      {took:.1?} after the last node was healthy");
    });
    step(
        "nobody may vote, or move the master, with a certificate alone",
        || {
            locked(&fleet);
        },
    );
    step(
        "a master that lost its data does not wipe the others",
        || {
            wiped(&fleet);
        },
    );
    step("a lost master is replaced", || lost(&fleet));
    step("a blackout in an order that favours nobody", || {
        blackout(&fleet)
    });
}

/// What a node's agent says of the cluster.
fn watch(fleet: &Fleet, node: &str) -> Option<Value> {
    let (code, text) = fleet.shell(node, "cat /run/rolesmith-redis/watch.json");
    let report: Value = (code == 0).then(|| serde_json::from_str(&text).ok())??;
    (report["state"] == "running").then_some(report)
}

/// The master, once all nodes agree on it, with its place among [`NODES`].
fn settled(fleet: &Fleet) -> Option<usize> {
    let reports: Vec<Value> = NODES
        .iter()
        .map(|node| watch(fleet, node))
        .collect::<Option<_>>()?;
    let master = reports[0]["master"].as_str()?.to_owned();
    let place = NODES.iter().position(|node| *node == master)?;
    let fits = reports.iter().enumerate().all(|(n, report)| {
        let role = if n == place { "master" } else { "replica" };
        report["master"] == *master
            && report["role"] == role
            && report["sentinels"] == 3
            && report["voters"] == 3
            && report["alarms"].as_array().is_some_and(Vec::is_empty)
            && (n != place || report["replicas"] == 2)
    });
    // Sentinel asks for the replicas every ten seconds only.
    (fits
        && NODES
            .iter()
            .all(|node| sentinel(fleet, node, "num-slaves") == "2"))
    .then_some(place)
}

/// A field of what a node's Sentinel says of the master.
fn sentinel(fleet: &Fleet, node: &str, field: &str) -> String {
    let ask = cli("26380", "app", "redis-password");
    let script = format!(
        "{ask} SENTINEL MASTER \"$(sed -n 's/.*\"fleet\": *\"\\([^\"]*\\)\".*/\\1/p' /etc/rolesmith/node.json)\" | grep -x -A 1 {field} | tail -n 1"
    );
    fleet.shell(node, &script).1.trim().to_owned()
}

/// The beginning of a call of redis-cli in a node.
fn cli(port: &str, user: &str, secret: &str) -> String {
    format!(
        "REDISCLI_AUTH=$(cat /etc/rolesmith/secrets/{secret}) timeout 5 redis-cli --no-auth-warning -h 127.0.0.1 -p {port} --user {user} \
         --tls --cacert /usr/lib/rolesmith/facts/ca.pem --cert /usr/lib/rolesmith/facts/nodes/$(hostname)/cert.pem \
         --key /etc/rolesmith/node.key"
    )
}

fn app(fleet: &Fleet, node: &str, command: &str) -> String {
    let ask = cli("6380", "app", "redis-password");
    fleet
        .shell(node, &format!("{ask} {command}"))
        .1
        .trim()
        .to_owned()
}

fn until(what: &str, limit: u64, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(limit),
            "not within {limit} s: {what}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}

/// Writes to whoever accepts it.
fn write(fleet: &Fleet, key: &str) -> Duration {
    until("a write is accepted", 30, || {
        NODES
            .iter()
            .any(|node| app(fleet, node, &format!("SET {key} kept")) == "OK")
    })
}

fn kept(fleet: &Fleet, key: &str) {
    for node in NODES {
        assert_eq!(
            app(fleet, node, &format!("GET {key}")),
            "kept",
            "{key} on {node}"
        );
    }
}

fn again(fleet: &Fleet) -> usize {
    let took = until("one cluster again", 60, || settled(fleet).is_some());
    eprintln!("      whole again after {took:.1?}");
    settled(fleet).expect("it was just now")
}

fn locked(fleet: &Fleet) {
    let ask = cli("26380", "app", "redis-password");
    for command in [
        "SENTINEL FAILOVER rds",
        "SENTINEL RESET '*'",
        "SENTINEL CONFIG SET resolve-hostnames yes",
        "SHUTDOWN",
    ] {
        let (_, told) = fleet.shell("one", &format!("{ask} {command}"));
        assert!(told.contains("NOPERM"), "{command}: {told}");
    }
    let (_, told) = fleet.shell(
        "one",
        &format!("{} PING", cli("26380", "default", "redis-password")),
    );
    assert!(
        told.contains("WRONGPASS") || told.contains("NOAUTH"),
        "{told}"
    );
}

fn wiped(fleet: &Fleet) {
    write(fleet, "before");
    let master = settled(fleet).expect("a cluster");
    fleet.must(
        NODES[master],
        "systemctl kill --signal=KILL rolesmith-redis; find /var/lib/rolesmith-redis -mindepth 1 -delete; systemctl start --no-block rolesmith-redis",
    );
    let took = write(fleet, "after");
    eprintln!("      a write was accepted {took:.1?} later");
    assert_ne!(again(fleet), master);
    kept(fleet, "before");
    kept(fleet, "after");
}

const UNITS: &str = "rolesmith-redis rolesmith-sentinel rolesmith-redis-watch";

fn stop(fleet: &Fleet, node: &str) {
    // What is killed would come back at once: Restart=always.
    fleet.must(
        node,
        &format!("systemctl kill --signal=KILL {UNITS}; systemctl stop {UNITS}"),
    );
}

fn lost(fleet: &Fleet) {
    let master = settled(fleet).expect("a cluster");
    stop(fleet, NODES[master]);
    let took = write(fleet, "between");
    eprintln!("      a write was accepted {took:.1?} later");
    assert!(took < Duration::from_secs(10), "{took:?}");
    fleet.must(NODES[master], &format!("systemctl start {UNITS}"));
    assert_ne!(again(fleet), master);
    kept(fleet, "between");
}

fn blackout(fleet: &Fleet) {
    let master = settled(fleet).expect("a cluster");
    write(fleet, "last");
    for node in NODES {
        stop(fleet, node);
    }
    for n in [master + 1, master + 2, master] {
        fleet.must(NODES[n % 3], &format!("systemctl start {UNITS}"));
        std::thread::sleep(Duration::from_secs(3));
    }
    assert_eq!(again(fleet), master);
    for key in ["before", "after", "between", "last"] {
        kept(fleet, key);
    }
}
