//! Performance lines: each machine's arrive at both log servers, are what the schema says, and are found there.

use std::process::{Command, Stdio};

use rolesmith_model::perf::{PERF_FORMAT, PerfLine};
use rolesmith_tests::Fleet;
use serde_json::{Value, json};

use super::NODES;

const SERVERS: [&str; 2] = ["app-1", "app-2"];
/// Checks lines with an implementation that knows all of JSON Schema.
const CHECK: &str = "import json, sys\nimport jsonschema\nschema, lines = json.load(sys.stdin)\n\
    kind = jsonschema.validators.validator_for(schema)\nkind.check_schema(schema)\n\
    for line in lines:\n    kind(schema).validate(line)\n";

/// Every node tells how it is, PostgreSQL, pgbouncer and Redis included, on primary and standbys; `logs grep` finds it.
pub fn lines_arrive(fleet: &Fleet) {
    let mut lines = Vec::new();
    for server in SERVERS {
        for node in NODES {
            // One a minute. The first after the cluster was there may have met a server that was just starting.
            let told = fleet.must(
                server,
                &format!(
                    "timeout 240 sh -c 'until rolesmith-agent logs grep --service=rolesmith-perf --node={node} --json \
                     \"commits.*pgbouncer.*transactions.*redis.*commands\" | tail -n 1 | grep .; do sleep 1; done'"
                ),
            );
            let line: Value = serde_json::from_str(&told).expect("an object a line");
            assert_eq!(
                (&line["node"], &line["severity"]),
                (&json!(node), &json!("info")),
                "{told}"
            );
            let message = line["message"].as_str().expect("a text");
            let value: Value = serde_json::from_str(message).expect("the line is JSON");
            is_sound(fleet, node, &value);
            lines.push(value);
        }
    }
    let primaries = lines
        .iter()
        .filter(|line| line["postgresql"]["in_recovery"] == json!(false));
    assert_eq!(
        primaries.count(),
        SERVERS.len(),
        "one primary, on each log server"
    );
    let schema: Value =
        serde_json::from_slice(&fleet.run(&["schema", "perf"]).stdout).expect("JSON");
    validate(&schema, &lines);
    // Where people look for messages there are none of these.
    fleet.must(
        "app-3",
        "! grep -q rolesmith-perf.*interval_ms /var/log/syslog",
    );
    // The operator's command does the same from outside.
    let found = fleet.run(&[
        "logs",
        "--lab",
        "--since",
        "-1h",
        "-t",
        "rolesmith-perf",
        "-n",
        "app-3",
        "--count",
    ]);
    let found: u64 = String::from_utf8_lossy(&found.stdout)
        .trim()
        .parse()
        .expect("a number");
    assert!(found > 0);
    let nothing = fleet
        .command(&["logs", "--lab", "--until", "2020-01-01", "--count"])
        .output();
    assert_eq!(nothing.expect("the program starts").status.code(), Some(1));
}

fn is_sound(fleet: &Fleet, node: &str, value: &Value) {
    // The types that are the schema know all of it, and nothing is lost in them.
    let line: PerfLine = serde_json::from_value(value.clone()).expect("a performance line");
    assert_eq!(&serde_json::to_value(&line).expect("JSON"), value, "{node}");
    assert_eq!((line.format, line.node.as_str()), (PERF_FORMAT, node));
    let primary = fleet.must(
        node,
        "runuser -u postgres -- psql -qAtXc 'SELECT NOT pg_is_in_recovery()'",
    ) == "t\n";
    let postgresql = line
        .postgresql
        .as_ref()
        .and_then(|answer| answer.told())
        .expect("PostgreSQL told");
    assert_eq!(postgresql.in_recovery, !primary, "{node}");
    assert_eq!(
        (postgresql.wal.is_some(), postgresql.receiver.is_some()),
        (primary, !primary),
        "{node}"
    );
    assert_eq!(
        postgresql.standbys.len(),
        if primary { 2 } else { 0 },
        "{node}"
    );
    assert!(
        postgresql
            .databases
            .iter()
            .all(|database| database.bytes > Some(0)),
        "{node}"
    );
    let redis = line
        .redis
        .as_ref()
        .and_then(|answer| answer.told())
        .expect("Redis told");
    assert!(
        redis.aof_enabled && redis.memory_max > 0,
        "{node}: {redis:?}"
    );
    assert!(
        line.pgbouncer
            .as_ref()
            .is_some_and(|answer| answer.told().is_some())
    );
    for unit in [
        "rolesmith-postgresql.service",
        "rolesmith-perf.service",
        "rsyslog.service",
    ] {
        let found = line.units.iter().find(|found| found.name == unit);
        assert!(found.is_some_and(|unit| unit.rss > 0), "{node}: {unit}");
    }
    assert!(
        line.cpu.is_some() && line.memory.is_some() && line.tcp.is_some(),
        "{node}"
    );
    assert!(
        line.mounts.iter().any(|mount| mount.path == "/"),
        "{node}: {:?}",
        line.mounts
    );
    assert!(line.health.is_some_and(|health| health.healthy), "{node}");
    // 0.2 % of a core.
    let most = line.interval_ms as f64 * 0.002;
    assert!(
        line.cost.cpu_ms < most,
        "{node}: {:?} in {} ms",
        line.cost,
        line.interval_ms
    );
}

/// Where the machine has python3-jsonschema.
fn validate(schema: &Value, lines: &[Value]) {
    let python = |program: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", program]).stdout(Stdio::null());
        command
    };
    if !python("import jsonschema")
        .status()
        .is_ok_and(|status| status.success())
    {
        return;
    }
    let input = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(input.path(), json!([schema, lines]).to_string()).expect("written");
    let status = python(CHECK)
        .stdin(std::fs::File::open(input.path()).expect("just written"))
        .status();
    assert!(
        status.expect("python3 was there").success(),
        "the schema refuses a line"
    );
}
