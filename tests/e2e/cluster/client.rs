//! A machine that has a pooler and no database: programs on it reach the primary, and follow it wherever it goes.

use std::{fs, path::Path};

use rolesmith_tests::{Fleet, bare::step};
use serde_json::Value;

use super::tell;

/// The machine.
pub const NODE: &str = "client";

/// Its entry in fleet.toml.
pub const ENTRY: &str = "\n[nodes.client]\nroles = [\"db-client\"]\naddress = \"10.77.0.21\"\n";

/// Its agent says what is there and complains of nothing, and PostgreSQL lets it see the epochs and nothing else.
pub fn is_no_more_than_a_client(fleet: &Fleet, primary: &str) {
    fleet.must(NODE, "! command -v psql && [ ! -e /var/lib/postgresql ]");
    follows(fleet, primary);
    let ask = |statement: &str| {
        fleet.shell(
            primary,
            &format!(
                "runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 -c 'SET ROLE rolesmith_follower' -c '{statement}'"
            ),
        )
    };
    let (code, rows) = ask("SELECT count(*) > 0 FROM rolesmith.epoch");
    assert_eq!((code, rows.as_str()), (0, "t\n"));
    for forbidden in [
        "SELECT FROM rolesmith.heartbeat",
        "DELETE FROM rolesmith.epoch",
        "SELECT rolesmith.pooler_lookup(current_user::text)",
        "SELECT FROM pg_authid",
        "CREATE TABLE t ()",
    ] {
        let (code, said) = ask(forbidden);
        assert!(
            code != 0 && said.contains("permission denied"),
            "{forbidden}: {said}"
        );
    }
    // A certificate is asked for, and a password does not do.
    let (code, said) = fleet.shell(
        primary,
        "psql -X 'host=10.77.0.11,10.77.0.12,10.77.0.13 user=rolesmith_follower dbname=postgres sslmode=require' -c 'SELECT 1'",
    );
    assert!(code != 0, "nobody asks for a certificate: {said}");
}

/// Its pgbouncer leads to that node, and its agent has nothing to complain of.
fn follows(fleet: &Fleet, primary: &str) {
    fleet.must(
        NODE,
        &format!(
            "timeout 30 sh -c 'until [ \"$(head -n 1 /var/lib/rolesmith/pooler/databases.ini)\" = \"; follows {primary}\" ]; do sleep 0.1; done'
            rolesmith-agent wait --timeout 60 || {{ rolesmith-agent status; exit 1; }}"
        ),
    );
    let status = fleet.must(NODE, "rolesmith-agent status --json");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(
        status["alarms"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    assert_eq!(status["cluster"]["primary"]["node"], primary, "{status}");
}

/// Holds drills whose writers run on the client too: nothing is lost, and those are served again. Tells how long each kind
/// waited.
pub fn holds(fleet: &Fleet, drills: &[&str]) {
    let artefacts = fleet.dir.join("drills");
    for drill in drills {
        let told = step(&format!("drill {drill}"), || {
            let directory = artefacts.to_str().expect("a name");
            let words = ["lab", "drill", drill, "--json", "--artefacts", directory];
            let output = fleet.command(&words).output().expect("the program starts");
            let said = String::from_utf8_lossy(&output.stdout);
            let runs: Value = serde_json::from_str(&said)
                .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
            runs[0].clone()
        });
        let verdict = &told["verdict"];
        for promise in ["lost", "duplicate", "ghosts", "foreign", "double", "reused"] {
            assert_eq!(
                verdict[promise].as_array().map(Vec::len),
                Some(0),
                "{promise}: {told}"
            );
        }
        let waits = verdict["interruption"]["writers"]
            .as_object()
            .expect("writers were interrupted");
        let longest = |of_client: bool| {
            let of = |name: &String| name.contains(&format!("-{NODE}-")) == of_client;
            let of = waits.iter().filter(|(name, _)| of(name));
            let waits = of.filter_map(|(_, wait)| wait.as_u64());
            waits.max().expect("there are such writers") / 1_000_000
        };
        tell(&format!(
            "{drill}: beside the databases {} ms, on the client {} ms",
            longest(false),
            longest(true)
        ));
        let reigns = verdict["reigns"].as_array().expect("a list");
        assert!(reigns.len() > 1, "{drill}: {reigns:?}");
        let last = &reigns[reigns.len() - 1]["server"];
        let ledgers = artefacts.join(drill).join("1/ledgers");
        assert!(
            written(&ledgers).any(|entry| entry["result"] == "ok" && entry["server"] == *last),
            "{drill}: the client was never served by {last}"
        );
    }
}

/// What the client's writers noted.
fn written(ledgers: &Path) -> impl Iterator<Item = Value> {
    let files = fs::read_dir(ledgers).expect("read");
    let of_client = files
        .map(|entry| entry.expect("read").path())
        .filter(|path| {
            let name = path.to_string_lossy();
            name.contains(&format!("-{NODE}-")) && name.ends_with(".jsonl")
        });
    of_client.flat_map(|path| {
        let text = fs::read_to_string(path).expect("read");
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        lines
    })
}
