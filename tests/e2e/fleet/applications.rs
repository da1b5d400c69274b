//! What a program can do that has the key of its node's applications: use the fleet's services, and nothing that members do
//! among each other. Each refusal stands beside what the node's own certificate gets at the same place, or it would prove
//! nothing.

use rolesmith_tests::Fleet;

/// Where a node has a certificate and its key.
struct Pair {
    cert: &'static str,
    key: &'static str,
}

const NODE: Pair = Pair {
    cert: "/usr/lib/rolesmith/facts/nodes/$(hostname)/cert.pem",
    key: "/etc/rolesmith/node.key",
};
const APPLICATION: Pair = Pair {
    cert: "/usr/lib/rolesmith/facts/nodes/$(hostname)/application.pem",
    key: "/etc/rolesmith/application.key",
};
const CA: &str = "/usr/lib/rolesmith/facts/ca.pem";

/// As redis-cli, as the programs' user with its password.
fn redis(to: &str, port: u16, Pair { cert, key }: &Pair) -> String {
    format!(
        "REDISCLI_AUTH=$(cat /etc/rolesmith/secrets/redis-password) timeout 10 redis-cli --no-auth-warning --user app --tls \
         --cacert {CA} --cert {cert} --key {key} -h {to} -p {port} PING"
    )
}

/// As psql.
fn sql(to: &str, Pair { cert, key }: &Pair, login: &str, command: &str) -> String {
    format!(
        "PGPASSWORD='of these tests' timeout 10 psql -qAtX -w \"host={to} port=5432 {login} sslmode=verify-ca sslrootcert={CA} \
         sslcert={cert} sslkey={key}\" -c '{command}'"
    )
}

/// As a sender of lines (RELP) that opens a session; the server's answer, or nothing.
fn relp(to: &str, Pair { cert, key }: &Pair) -> String {
    let offers = "relp_version=0\\nrelp_software=test\\ncommands=syslog";
    // Standard input stays open until the server has answered or hung up.
    format!(
        "{{ printf '1 open 49 {offers}\\n'; sleep 3; }} | timeout 10 openssl s_client -quiet -verify_quiet -connect {to}:2514 \
         -CAfile {CA} -cert {cert} -key {key} 2>/dev/null | head -c 100"
    )
}

/// The node has the key, for root alone, and it is the certificate's.
pub fn have_a_key(fleet: &Fleet, node: &str) {
    let Pair { cert, key } = APPLICATION;
    let told = fleet.must(
        node,
        &format!(
            "stat -c '%a %U:%G' {key} && [ \"$(openssl x509 -noout -pubkey -in {cert})\" = \"$(openssl pkey -pubout -in {key})\" ] \
             && openssl verify -CAfile {CA} -purpose sslclient {cert} >/dev/null \
             && openssl x509 -noout -subject -nameopt RFC2253 -in {cert}"
        ),
    );
    assert_eq!(
        told,
        format!("600 root:root\nsubject=CN=application.{node}\n")
    );
}

/// The services of the node at this address let programs in, with the password that each wants besides.
pub fn are_let_in(fleet: &Fleet, node: &str, to: &str) {
    for port in [6380, 26380] {
        let told = fleet.must(node, &redis(to, port, &APPLICATION));
        assert_eq!(told, "PONG\n", "{node} -> {to}:{port}");
    }
}

/// What members do among each other needs a member's certificate: the database as repmgr does, its log, and lines.
pub fn are_no_members(fleet: &Fleet, node: &str, primary: &str, log_server: &str) {
    let probe = "user=probe dbname=probe";
    let told = fleet.must(node, &sql(primary, &APPLICATION, probe, "SELECT 1"));
    assert_eq!(told, "1\n");
    for (login, command) in [
        ("user=repmgr dbname=repmgr", "SELECT 1"),
        ("user=repmgr dbname=postgres", "SELECT 1"),
        ("user=repmgr replication=true", "IDENTIFY_SYSTEM"),
    ] {
        fleet.must(node, &sql(primary, &NODE, login, command));
        let (code, told) = fleet.shell(node, &sql(primary, &APPLICATION, login, command));
        let refused = "certificate authentication failed for user \"repmgr\"";
        assert!(code != 0 && told.contains(refused), "{login}: {told}");
    }
    let answer = fleet.must(node, &relp(log_server, &NODE));
    assert!(
        answer.starts_with("1 rsp ") && answer.contains("200 OK"),
        "{answer:?}"
    );
    assert_eq!(fleet.must(node, &relp(log_server, &APPLICATION)), "");
}
