//! The fleet's CA is replaced while everything runs: in the end all that is served carries a certificate of the new one, and
//! nobody was restarted, elected or copied for it who did not have to be.

use std::{
    thread,
    time::{Duration, Instant},
};

use rolesmith_tests::{Fleet, bare::step, cluster::await_whole};
use serde_json::Value;

const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];
/// From a publish until every member has taken it.
const LIMIT: Duration = Duration::from_secs(120);
/// What serves certificates: a port, and how TLS begins there.
const SERVED: [(u16, &str); 4] = [
    (5432, "-starttls postgres"),
    (6380, ""),
    (26380, ""),
    (7432, ""),
];
/// Services whose processes stay.
const STAYS: &str =
    "rolesmith-cluster rolesmith-logs rolesmith-pgbouncer rolesmith-postgresql rolesmith-redis";

/// What must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Stays {
    /// Of each node, the processes of its services.
    processes: Vec<String>,
    /// Of each node, the copies that it serves, by their processes.
    copies: Vec<String>,
    epoch: Value,
}

impl Stays {
    fn of(fleet: &Fleet) -> Self {
        let script = format!("systemctl show --property=MainPID --value {STAYS} | xargs");
        let sql = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_replication";
        let copies = format!("runuser -u postgres -- psql -qAtc \"{sql}\"");
        Self {
            processes: NODES.map(|node| fleet.must(node, &script)).into(),
            copies: NODES.map(|node| fleet.must(node, &copies)).into(),
            epoch: told(fleet)["configuration"]["epoch"].clone(),
        }
    }
}

pub fn replaced(fleet: &Fleet, name: &str) {
    let before = Stays::of(fleet);
    for which in ["next", "switch", "retire"] {
        step(&format!("rolesmith ca {which}"), || {
            accepted(fleet, which);
            fleet.run(&["publish"]);
            for node in NODES {
                fleet.must(node, "systemctl start rolesmith-facts.service");
            }
        });
    }
    step("all that is served", || {
        for node in NODES {
            let alone = "grep -c BEGIN /usr/lib/rolesmith/facts/ca.pem";
            until(node, || fleet.shell(node, alone).1 == "1\n");
        }
        for from in NODES {
            for to in NODES {
                for served in SERVED {
                    let what = format!("{to} port {} as {from} sees it", served.0);
                    until(&what, || is_current(fleet, from, to, served));
                }
            }
        }
        for from in ["app-1", "app-2"] {
            until("the log servers", || {
                is_current(fleet, "app-3", from, (2514, ""))
            });
        }
    });
    await_whole(fleet, name, &NODES, LIMIT);
    assert_eq!(Stays::of(fleet), before);
    // What is sent from now on arrives, too.
    fleet.must("app-3", "logger another-ca");
    for server in ["app-1", "app-2"] {
        let line = "grep -rq another-ca /var/log/rolesmith";
        until("a line from app-3", || fleet.shell(server, line).0 == 0);
    }
}

/// Goes a step on as soon as the members have taken the one before.
fn accepted(fleet: &Fleet, step: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        let status = fleet.dir.join("status.json");
        std::fs::write(&status, told(fleet).to_string()).expect("written");
        let status = status.display().to_string();
        let words: &[&str] = match step {
            "next" => &["ca", "next"],
            step => &["ca", step, "--from", &status],
        };
        let output = fleet.command(words).output().expect("the program starts");
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not all members"), "{said}");
        assert!(Instant::now() < end, "{said}");
        thread::sleep(Duration::from_millis(500));
    }
}

fn told(fleet: &Fleet) -> Value {
    let told = fleet.must("app-1", "rolesmith-agent status --fleet --json");
    serde_json::from_str(&told).expect("JSON")
}

/// Whether what a node serves is the certificate that the facts name, and the CA that another one trusts issued it.
fn is_current(fleet: &Fleet, from: &str, to: &str, (port, begins): (u16, &str)) -> bool {
    let facts = "/usr/lib/rolesmith/facts";
    let script = format!(
        "address=$(python3 -c 'import json,sys; print(next(m[\"address\"] for m in json.load(open(\"{facts}/facts.json\"))[\"members\"] \
         if m[\"name\"] == \"{to}\"))') && \
         openssl s_client -connect $address:{port} {begins} -cert {facts}/nodes/$(hostname)/cert.pem -key /etc/rolesmith/node.key \
         -CAfile {facts}/ca.pem -verify_return_error </dev/null >/run/served.pem 2>/run/served.err; \
         served=$(openssl x509 -in /run/served.pem -noout -fingerprint) && \
         named=$(openssl x509 -in {facts}/nodes/{to}/cert.pem -noout -fingerprint) && \
         [ \"$served\" = \"$named\" ] && openssl verify -CAfile {facts}/ca.pem {facts}/nodes/{to}/cert.pem"
    );
    fleet.shell(from, &script).0 == 0
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(500));
    }
}
