//! Every machine of a fleet is destroyed and replaced, one after the other, while programs write; and only one after the other.

use std::{
    collections::BTreeSet,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use rolesmith_tests::{Fleet, cluster::await_whole};

const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];

/// Nothing acknowledged is lost, and nobody remembers the machines that are gone.
pub fn each(fleet: &Fleet, name: &str) {
    let machines = || NODES.map(|node| fleet.must(node, "cat /etc/machine-id"));
    let limit = Duration::from_secs(180);
    let before = (await_whole(fleet, name, &NODES, limit).0, machines());
    let output = fleet
        .command(&["lab", "drill", "all-replaced"])
        .output()
        .expect("the program starts");
    let told = [output.stderr, output.stdout].concat();
    let _ = std::io::stderr().write_all(&told);
    assert!(output.status.success(), "the drill did not pass");

    let (after, _) = await_whole(fleet, name, &NODES, limit);
    assert_eq!(after.identifier, before.0.identifier);
    for (old, new) in before.1.iter().zip(machines()) {
        assert_ne!(*old, new, "the same machine");
    }
    let end = Instant::now() + limit;
    while let Err(ghost) = sentinels(fleet, name) {
        assert!(Instant::now() < end, "{ghost}");
        thread::sleep(Duration::from_millis(500));
    }
    refused(fleet, name);
}

/// Each Sentinel knows the two others and each replica, and nobody who is gone.
fn sentinels(fleet: &Fleet, name: &str) -> Result<(), String> {
    for node in NODES {
        let ask = |what: &str| {
            let (_, told) = fleet.shell(
                node,
                &format!(
                    "REDISCLI_AUTH=$(cat /etc/rolesmith/secrets/redis-password) timeout 5 redis-cli --no-auth-warning -h 127.0.0.1 -p 26380 \
                     --user app --tls --cacert /usr/lib/rolesmith/facts/ca.pem \
                     --cert /usr/lib/rolesmith/facts/nodes/$(hostname)/cert.pem --key /etc/rolesmith/node.key --json SENTINEL {what} {name}"
                ),
            );
            told
        };
        for what in ["SENTINELS", "REPLICAS"] {
            let told = ask(what);
            let list: Vec<serde_json::Value> =
                serde_json::from_str(&told).map_err(|_| format!("{node} {what}: {told}"))?;
            let addresses: BTreeSet<&str> =
                list.iter().filter_map(|peer| peer["ip"].as_str()).collect();
            let alive = list.iter().all(|peer| {
                let flags = peer["flags"].as_str().unwrap_or("s_down");
                !flags.contains("down") && !flags.contains("disconnected")
            });
            if list.len() != NODES.len() - 1 || addresses.len() != list.len() || !alive {
                return Err(format!("{what} of {node}: {told}"));
            }
        }
    }
    Ok(())
}

/// While a replacement has not come to its end, `lab replace` begins no other one, and destroys nothing.
fn refused(fleet: &Fleet, name: &str) {
    // A machine that is lost is replaced by one that never comes up.
    fleet.run(&["lab", "kill", "app-3"]);
    fleet.run(&["user-data", "app-3", "--replace"]);
    let said = |words: &[&str]| {
        let output = fleet.command(words).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, told) = said(&["user-data", "app-2", "--replace"]);
    assert!(code == Some(1) && told.contains("app-3"), "{told}");
    fleet.run(&["publish"]);
    let (code, told) = said(&["lab", "replace", "app-2"]);
    assert!(
        code == Some(1) && told.contains("app-3 (incarnation 3) is not a member"),
        "{told}"
    );
    fleet.must("app-2", "true");
    // The same one may be replaced again, whatever became of the first attempt.
    fleet.run(&["lab", "replace", "app-3"]);
    await_whole(fleet, name, &NODES, Duration::from_secs(180));
}
