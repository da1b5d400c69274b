//! The agent's steps on PostgreSQL, one by one on real servers: what each leaves, what it leaves when it is cut off, and
//! that a DBA sees the truth. Nobody votes here: rolesmith-cluster.service is stopped.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root, work_dir};
use serde_json::{Value, json};

const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A step; it has to succeed. Gives what it said.
fn perform(fleet: &Fleet, node: &str, action: &Value) -> String {
    fleet.must(
        node,
        &format!("rolesmith-agent database perform '{action}'"),
    )
}

/// A step that has to be refused, with a word of the reason.
fn refused(fleet: &Fleet, node: &str, action: &Value, why: &str) {
    let (code, told) = fleet.shell(
        node,
        &format!("rolesmith-agent database perform '{action}'"),
    );
    assert!(code != 0 && told.contains(why), "{node} {action}: {told}");
}

fn observe(fleet: &Fleet, node: &str) -> Value {
    let text = fleet.must(node, "rolesmith-agent database observe");
    serde_json::from_str(&text).expect("JSON")
}

/// Waits for an observation.
fn sees(fleet: &Fleet, node: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = observe(fleet, node);
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{node}: {what}: {seen:#}");
    }
}

fn streams(fleet: &Fleet, node: &str) -> Value {
    sees(fleet, node, "streams", |seen| {
        seen["receiver"]["streaming"] == true
    })
}

/// The row that a primary commits first, by what it sees of itself.
fn row(fleet: &Fleet, node: &str, epoch: u64) -> Value {
    let seen = observe(fleet, node);
    let start = seen["history"]
        .as_array()
        .and_then(|list| list.last())
        .cloned();
    let start = start.unwrap_or_default();
    json!({ "epoch": epoch, "node": node, "timeline": start["timeline"], "switch": start["begins"] })
}

fn sql(fleet: &Fleet, node: &str, statements: &str) -> String {
    fleet.must(
        node,
        &format!("runuser -u postgres -- psql -v ON_ERROR_STOP=1 -qAtc \"{statements}\""),
    )
}

/// Kills the step after so many seconds, as a crash of the agent would with all it runs.
fn cut_off(fleet: &Fleet, node: &str, action: &Value, seconds: f64) {
    fleet.must(
        node,
        &format!(
            "systemd-run --quiet --unit=step --collect rolesmith-agent database perform '{action}'; sleep {seconds}; \
             systemctl kill --signal=KILL step.service 2>/dev/null; \
             while systemctl is-active --quiet step.service; do sleep 0.05; done"
        ),
    );
}

fn sync(names: &[&str]) -> Value {
    json!({ "set_sync": { "sync": { "k": names.len().min(1), "names": names } } })
}

#[test]
#[ignore = "needs root: boots real machines"]
fn steps_of_trixie() {
    steps("steps", "trixie");
}

#[test]
#[ignore = "needs root: boots real machines"]
fn steps_of_bookworm() {
    steps("steps-old", "bookworm");
}

fn steps(name: &str, suite: &str) {
    need_root();
    let fleet = Fleet {
        dir: work_dir().join("fleets").join(name),
    };
    fleet.lab_down();
    if fleet.dir.exists() {
        std::fs::remove_dir_all(&fleet.dir).expect("an old fleet can be removed");
    }
    std::fs::create_dir_all(&fleet.dir).expect("a directory can be made");
    fleet.run(&["init", "--example", "--name", name, "--suite", suite]);
    let _guard = LabGuard(&fleet);
    step("mirror, publish, lab up", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up"]);
    });
    step("nodes without a database", || {
        NODES.iter().for_each(|node| virgin(&fleet, name, node));
    });
    step("genesis", || genesis(&fleet));
    step("nobody else starts it", || guarded(&fleet, name));
    step("copies, also when cut off", || copies(&fleet));
    step("synchronous commits", || commits(&fleet));
    step("a killed postmaster", || killed(&fleet, name));
    step("sever, promote, follow, rewind", || failover(&fleet));
    step("what a DBA sees", || registered(&fleet));
    step("what looking costs", || cheap(&fleet));
}

/// Takes the cluster that the node has formed away.
fn virgin(fleet: &Fleet, name: &str, node: &str) {
    fleet.must(
        node,
        &format!(
            "systemctl disable --quiet --now rolesmith-cluster.service; \
             systemctl stop rolesmith-postgresql.service rolesmith-repmgrd.service; \
             rm -rf /etc/postgresql/*/{name} /var/lib/postgresql/*/{name}* /var/lib/rolesmith/db-primary-capable"
        ),
    );
    assert_eq!(observe(fleet, node)["data"], "absent");
}

fn genesis(fleet: &Fleet) {
    refused(
        fleet,
        "app-1",
        &json!({ "start": { "upstream": null } }),
        "no whole",
    );
    for seconds in [0.3, 1.0] {
        cut_off(fleet, "app-1", &json!("create_cluster"), seconds);
        let seen = observe(fleet, "app-1");
        assert!(
            seen["data"] == "absent" || seen["data"]["complete"].is_u64(),
            "{seen:#}"
        );
    }
    let made = perform(fleet, "app-1", &json!("create_cluster"));
    let id = observe(fleet, "app-1")["data"]["complete"].clone();
    assert!(made.contains(&id.to_string()), "{made} {id}");
    // Once more gives the same.
    assert!(perform(fleet, "app-1", &json!("create_cluster")).contains(&id.to_string()));
    perform(fleet, "app-1", &json!({ "start": { "upstream": null } }));
    let seen = sees(fleet, "app-1", "its end of log", |seen| {
        seen["end_of_wal"].is_object()
    });
    assert_eq!(seen["in_recovery"], true);
    assert_eq!(seen["access"], "closed");
    refused(fleet, "app-1", &json!("open"), "no primary");
    perform(fleet, "app-1", &json!("promote"));
    let row = row(fleet, "app-1", 1);
    perform(fleet, "app-1", &json!({ "commit_epoch": { "row": row } }));
    perform(fleet, "app-1", &json!("open"));
    let seen = observe(fleet, "app-1");
    assert_eq!(seen["in_recovery"], false);
    assert_eq!(seen["access"], "open");
    assert_eq!(seen["rows"], json!([row]));
}

/// Debian's tools, systemd and a restart get no server, and nothing that is a primary.
fn guarded(fleet: &Fleet, name: &str) {
    let (code, told) = fleet.shell(
        "app-1",
        &format!("pg_ctlcluster \"$(ls /etc/postgresql)\" {name} restart"),
    );
    assert!(code != 0 && told.contains("disabled"), "{told}");
    let (code, _) = fleet.shell("app-1", "systemctl restart rolesmith-postgresql.service");
    assert_ne!(code, 0);
    assert_eq!(observe(fleet, "app-1")["process"], "stopped");
    perform(fleet, "app-1", &json!({ "start": { "upstream": null } }));
    let seen = observe(fleet, "app-1");
    assert_eq!(
        (&seen["in_recovery"], &seen["access"]),
        (&json!(true), &json!("closed"))
    );
    perform(fleet, "app-1", &json!("promote"));
    perform(
        fleet,
        "app-1",
        &json!({ "commit_epoch": { "row": row(fleet, "app-1", 2) } }),
    );
    perform(fleet, "app-1", &json!("open"));
}

/// Tells repmgr who is a member.
fn reconcile(fleet: &Fleet, primary: &str, members: &[&str]) {
    let machine = json!({ "number": 1, "id": 1 });
    let members: serde_json::Map<String, Value> = members
        .iter()
        .map(|name| ((*name).to_owned(), machine.clone()))
        .collect();
    perform(
        fleet,
        primary,
        &json!({ "reconcile": { "members": members, "primary": primary } }),
    );
}

fn copies(fleet: &Fleet) {
    // repmgr copies only from whom its table names.
    reconcile(fleet, "app-1", &NODES);
    let clone = json!({ "clone": { "from": "app-1" } });
    let start = json!({ "start": { "upstream": "app-1" } });
    for seconds in [0.1, 0.6, 1.5] {
        cut_off(fleet, "app-2", &clone, seconds);
    }
    for node in ["app-2", "app-3"] {
        perform(fleet, node, &clone);
        perform(fleet, node, &start);
        streams(fleet, node);
    }
    // What was there before counts until the copy is whole, and is gone when that streams.
    cut_off(fleet, "app-3", &clone, 0.5);
    let seen = observe(fleet, "app-3");
    assert!(seen["data"]["complete"].is_u64(), "{seen:#}");
    perform(fleet, "app-3", &clone);
    perform(fleet, "app-3", &start);
    streams(fleet, "app-3");
    sees(fleet, "app-3", "only one data directory", |_| {
        fleet
            .must("app-3", "ls /var/lib/postgresql/*/ | wc -l")
            .trim()
            == "1"
    });
}

fn commits(fleet: &Fleet) {
    perform(fleet, "app-1", &sync(&["app-2", "app-3"]));
    let sync_states =
        "SELECT DISTINCT sync_state FROM pg_stat_replication WHERE state = 'streaming'";
    assert_eq!(sql(fleet, "app-1", sync_states), "quorum\n");
    perform(fleet, "app-1", &json!("heartbeat"));
    // Without a standby a commit waits for ever; a cancelled wait is no success.
    for node in ["app-2", "app-3"] {
        perform(fleet, node, &json!("sever"));
        assert!(observe(fleet, node)["receiver"].is_null());
    }
    let (_, told) = fleet.shell(
        "app-1",
        "rolesmith-agent database perform '\"heartbeat\"' & sleep 1; runuser -u postgres -- psql -qAtc \
         \"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'\" >/dev/null; wait $!",
    );
    assert!(told.contains("not confirmed by a standby"), "{told}");
    for node in ["app-2", "app-3"] {
        perform(fleet, node, &json!({ "follow": { "node": "app-1" } }));
        streams(fleet, node);
    }
}

fn killed(fleet: &Fleet, name: &str) {
    let began = Instant::now();
    fleet.must(
        "app-1",
        &format!("kill -9 $(head -1 /var/lib/postgresql/*/{name}/postmaster.pid)"),
    );
    perform(fleet, "app-1", &json!({ "stop": { "immediate": true } }));
    assert_eq!(observe(fleet, "app-1")["process"], "stopped");
    perform(fleet, "app-1", &json!({ "start": { "upstream": null } }));
    perform(fleet, "app-1", &json!("promote"));
    perform(
        fleet,
        "app-1",
        &json!({ "commit_epoch": { "row": row(fleet, "app-1", 3) } }),
    );
    perform(fleet, "app-1", &json!("open"));
    tell(&format!("    open again after {:?}", began.elapsed()));
}

fn failover(fleet: &Fleet) {
    sql(
        fleet,
        "app-1",
        "CREATE TABLE t (n int); INSERT INTO t VALUES (1)",
    );
    for node in ["app-2", "app-3"] {
        perform(fleet, node, &json!("sever"));
        sees(fleet, node, "its end of log", |seen| {
            seen["end_of_wal"].is_object()
        });
    }
    // Nobody acknowledged this one.
    sql(
        fleet,
        "app-1",
        "SET synchronous_commit = local; INSERT INTO t VALUES (2)",
    );
    perform(fleet, "app-2", &sync(&["app-1", "app-3"]));
    perform(fleet, "app-2", &json!("promote"));
    perform(fleet, "app-3", &json!({ "follow": { "node": "app-2" } }));
    perform(
        fleet,
        "app-2",
        &json!({ "commit_epoch": { "row": row(fleet, "app-2", 4) } }),
    );
    perform(fleet, "app-2", &json!("open"));
    perform(fleet, "app-1", &json!("close"));
    perform(fleet, "app-1", &json!({ "stop": { "immediate": true } }));
    perform(fleet, "app-1", &json!({ "rewind": { "from": "app-2" } }));
    perform(fleet, "app-1", &json!({ "start": { "upstream": "app-2" } }));
    streams(fleet, "app-1");
    for node in NODES {
        sees(fleet, node, "the newest row", |seen| {
            seen["rows"]
                .as_array()
                .and_then(|rows| rows.last())
                .is_some_and(|row| row["epoch"] == 4)
        });
        assert_eq!(sql(fleet, node, "SELECT n FROM t"), "1\n", "{node}");
    }
}

fn registered(fleet: &Fleet) {
    reconcile(fleet, "app-2", &NODES);
    for node in NODES {
        sees(fleet, node, "repmgr cluster show is content", |_| {
            let (code, told) =
                fleet.shell(node, "runuser -u postgres -- repmgr cluster show --compact");
            code == 0 && told.contains("* running") && told.matches("app-2").count() == 3
        });
    }
    // A member that is no more leaves nothing behind.
    perform(fleet, "app-3", &json!({ "stop": { "immediate": false } }));
    sees(fleet, "app-2", "one slot", |_| {
        reconcile(fleet, "app-2", &["app-1", "app-2"]);
        let slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots";
        sql(fleet, "app-2", slots) == "rolesmith_app_1\n"
    });
}

/// Looking four times a second takes well under a hundredth of a processor.
fn cheap(fleet: &Fleet) {
    let told = fleet.must("app-1", "rolesmith-agent database watch 10000");
    tell(&format!("    {}", told.trim()));
    let used: u64 = told
        .split_whitespace()
        .nth(2)
        .and_then(|word| word.parse().ok())
        .expect("a number");
    assert!(used < 100_000, "{told}");
}
