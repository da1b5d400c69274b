//! Services as their clients use them.

use std::collections::BTreeSet;

use rolesmith_lab::{Lab, OUTSIDE};
use rolesmith_tests::Fleet;

use super::NODES;

/// A question to a node's own server.
fn ask(fleet: &Fleet, node: &str, question: &str) -> String {
    fleet.must(
        node,
        &format!("runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 -c \"{question}\""),
    )
}

/// The node whose database takes writes.
pub fn primary(fleet: &Fleet) -> &'static str {
    let primaries: Vec<&str> = NODES
        .into_iter()
        .filter(|node| ask(fleet, node, "SELECT pg_is_in_recovery()") == "f\n")
        .collect();
    let [primary] = primaries[..] else {
        panic!("primaries: {primaries:?}");
    };
    primary
}

/// The databases of all nodes are one cluster, and repmgr says so on each: a primary, and standbys that confirm commits.
pub fn cluster(fleet: &Fleet) {
    let primary = primary(fleet);
    // A copy counts once it is proven; nodes are up before that.
    fleet.must(
        primary,
        "timeout 60 sh -c 'until [ \"$(runuser -u postgres -- psql -qAtXc \"SELECT state, sync_state, count(*) FROM \
         pg_stat_replication GROUP BY 1, 2\")\" = \"streaming|quorum|2\" ]; do sleep 0.2; done'",
    );
    for node in NODES {
        let told = fleet.must(node, "runuser -u postgres -- repmgr cluster show --compact");
        assert_eq!(told.matches("running").count(), NODES.len(), "{told}");
    }
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let identifiers: BTreeSet<String> = NODES
        .iter()
        .map(|node| ask(fleet, node, identifier))
        .collect();
    assert_eq!(identifiers.len(), 1, "{identifiers:?}");
}

/// A program on any node logs in at its pgbouncer by its password and reaches the primary; nobody does as superuser or with a
/// wrong password.
pub fn database(fleet: &Fleet) {
    let primary = primary(fleet);
    fleet.must(
        primary,
        "runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 -c \"CREATE ROLE probe LOGIN PASSWORD 'of these tests'\" \
         -c 'CREATE DATABASE probe OWNER probe' && \
         PGPASSWORD='of these tests' psql -h 127.0.0.1 -p 6432 -U probe -d probe -w -qc 'CREATE TABLE t (n int)'",
    );
    let psql = "psql -h 127.0.0.1 -p 6432 -U probe -d probe -w -qAt -v ON_ERROR_STOP=1";
    for (number, node) in NODES.into_iter().enumerate() {
        let answer = fleet.must(
            node,
            &format!(
                "PGPASSWORD='of these tests' {psql} -c 'INSERT INTO t VALUES ({number})' \
                 -c 'SELECT count(*) FROM t'"
            ),
        );
        assert_eq!(answer, format!("{}\n", number + 1), "{node}");
        let (code, told) = fleet.shell(node, &format!("PGPASSWORD=wrong {psql} -c 'SELECT 1'"));
        assert!(
            code != 0 && told.contains("authentication failed"),
            "{node}: {told}"
        );
        let (code, told) = fleet.shell(
            node,
            "PGPASSWORD=x psql -h 127.0.0.1 -p 6432 -U postgres -d postgres -w -c 'SELECT 1'",
        );
        assert!(code != 0, "{node}: the superuser came in: {told}");
    }
}

/// Every node reaches every node's Redis with its certificate and the password, and nobody without the certificate.
pub fn redis(fleet: &Fleet) {
    let tls = "--tls --cacert /usr/lib/rolesmith/facts/ca.pem";
    let own =
        "--cert /usr/lib/rolesmith/facts/nodes/$(hostname)/cert.pem --key /etc/rolesmith/node.key";
    for node in NODES {
        for host in ["127.0.0.1", "10.77.0.11", "10.77.0.12", "10.77.0.13"] {
            let redis = format!(
                "export REDISCLI_AUTH=$(cat /etc/rolesmith/secrets/redis-password); \
                 timeout 10 redis-cli -h {host} -p 6380 --user app --no-auth-warning {tls}"
            );
            assert_eq!(
                fleet.must(node, &format!("{redis} {own} ping")),
                "PONG\n",
                "{node} -> {host}"
            );
            let (_, told) = fleet.shell(node, &format!("{redis} ping"));
            assert!(
                !told.contains("PONG"),
                "{node} -> {host} without a certificate: {told}"
            );
        }
        let (_, told) = fleet.shell(
            node,
            &format!("timeout 10 redis-cli -p 6380 {tls} {own} ping"),
        );
        assert!(told.contains("NOAUTH"), "{node} without a password: {told}");
    }
}

/// The load balancer gets 200 from /health and a redirect from all else; another address gets nothing.
pub fn edge(fleet: &Fleet, name: &str) {
    let lab = Lab::open(&fleet.lab_state(name)).expect("the lab is up");
    let get = |address: &str, path: &str| {
        let url = format!("http://{address}{path}");
        fleet.must(
            OUTSIDE,
            &format!("curl --silent --include --max-time 3 --haproxy-protocol --header 'Host: shop.example' '{url}'"),
        )
    };
    for address in ["10.77.0.11", "10.77.0.12", "10.77.0.13"] {
        let healthy = get(address, "/health");
        assert!(
            healthy.starts_with("HTTP/1.1 200 ") && healthy.ends_with("ok\n"),
            "{address}: {healthy:?}"
        );
        let other = get(address, "/shop?a=b");
        assert!(other.starts_with("HTTP/1.1 308 "), "{address}: {other}");
        assert!(
            other.contains("Location: https://shop.example/shop?a=b\r\n"),
            "{address}: {other}"
        );
        // From the lab's own address in the same network.
        let connect = format!("exec 3<>/dev/tcp/{address}/80");
        let stranger = lab
            .client(&["timeout", "3", "bash", "-c", &connect])
            .status();
        assert!(
            !stranger.expect("nsenter starts").success(),
            "{address} answers others than the load balancer"
        );
    }
}

/// The example's site through the load balancer: its page, an order that is in PostgreSQL when it is answered, and a view that comes
/// there through Redis. And all of it from another node's service where that of a node is stopped.
pub fn shop(fleet: &Fleet, name: &str) {
    let host = format!("shop.{name}.internal");
    let curl = |more: &str, path: &str| {
        fleet.must(
            OUTSIDE,
            &format!(
                "curl --silent --show-error --insecure --max-time 20 --resolve {host}:443:10.77.0.2 {more} 'https://{host}{path}'"
            ),
        )
    };
    fleet.must(
        OUTSIDE,
        "timeout 30 sh -c 'until curl --silent --fail --max-time 3 http://10.77.0.2/health; do sleep 0.2; done'",
    );
    let page = curl("--include", "/orders/of-nobody");
    assert!(page.starts_with("HTTP/2 200"), "{page}");
    assert!(page.contains("<!doctype html>"), "{page}");
    let policy = page
        .lines()
        .find(|line| line.starts_with("content-security-policy: "));
    assert!(
        policy.is_some_and(|p| p.contains("default-src 'self'")),
        "{page}"
    );
    let post = |path: &str, id: u32, body: &str| {
        let id = format!("00000000-0000-4000-8000-{id:012}");
        let json = format!("{{\"id\":\"{id}\",{body}}}");
        curl(
            &format!(
                "--write-out ' %{{http_code}}' --header 'content-type: application/json' --data '{json}'"
            ),
            path,
        )
    };
    let count = |path: &str| -> u64 {
        let told = curl("", path);
        let value: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        value["count"].as_u64().unwrap_or_else(|| panic!("{told}"))
    };
    for id in 0..6 {
        let told = post("/api/orders", id, "\"product\":1,\"quantity\":2");
        assert!(told.ends_with(" 201"), "{told}");
        let told = post("/api/views", id, "\"product\":1");
        assert!(told.ends_with(" 202"), "{told}");
    }
    assert_eq!(count("/api/orders/count"), 6);
    let answer = ask(fleet, primary(fleet), "SELECT 1");
    assert_eq!(answer, "1\n");
    fleet.must(
        primary(fleet),
        "timeout 30 sh -c 'until [ \"$(runuser -u postgres -- psql -qAtXd shop -c \"SELECT count(*) FROM shop.views\")\" = 6 ]; do sleep 0.2; done'",
    );
    // Migrated once, by one of the three.
    let releases = fleet.must(
        primary(fleet),
        "runuser -u postgres -- psql -qAtXd shop -c 'SELECT count(*) FROM rolesmith_service.releases'",
    );
    assert_eq!(releases, "1\n");
    fleet.must("app-1", "systemctl stop rolesmith-service-shop.service");
    for id in 6..15 {
        let told = post("/api/orders", id, "\"product\":1,\"quantity\":2");
        assert!(told.ends_with(" 201"), "with a service down: {told}");
    }
    fleet.must("app-1", "systemctl start rolesmith-service-shop.service");
    assert_eq!(count("/api/orders/count"), 15);
}

/// A line from the node that keeps no logs arrives at both that do, with its name.
pub fn logs(fleet: &Fleet) {
    fleet.must("app-3", "logger -t of-these-tests 'a line from afar'");
    for server in ["app-1", "app-2"] {
        // A fraction of a second; a sender that found its server down tries again after half a minute at most.
        for file in ["all.log", "hosts/app-3.log"] {
            fleet.must(
                server,
                &format!(
                    "timeout 60 sh -c 'until grep -q \" app-3 .*of-these-tests.*a line from afar\" /var/log/rolesmith/{file}; do sleep 0.2; done'"
                ),
            );
        }
        // The name in the line is that of the sender, and files are for root and adm alone.
        assert_eq!(
            fleet.must(server, "stat -c '%U:%G %a' /var/log/rolesmith/all.log"),
            "root:adm 640\n"
        );
    }
    fleet.must("app-3", "test ! -e /var/log/rolesmith/all.log");
    // What a log server wrote comes to itself in the same way; `verify` of several machines is a test of its own.
    for server in ["app-1", "app-2"] {
        fleet.must(
            server,
            "timeout 60 sh -c 'until rolesmith-agent logs verify; do sleep 0.2; done'",
        );
    }
}
