//! The same kinds of data on the same wire with protection switched off: a capture that did not show them would prove nothing.

use rolesmith_lab::Lab;
use rolesmith_tests::Fleet;

use super::{
    Markers, NODES, Tcpdump,
    judge::{self, Speech},
    report, until,
};

/// Opens what listens without TLS on the primary's node, for this test alone.
const OPEN: &str = r#"
hba=/var/lib/rolesmith/db-primary-capable/pg_hba.conf
cp -a $hba /run/control-hba.conf
{ echo 'hostnossl wire wire 10.77.0.0/24 scram-sha-256'; cat /run/control-hba.conf; } >$hba
runuser -u postgres -- psql -qAtXc 'SELECT pg_reload_conf()' >/dev/null
iptables -I INPUT -p tcp -m multiport --dports 6381,2515,8081 -j ACCEPT
systemd-run --quiet --collect --unit=control-redis redis-server --port 6381 --bind "$HOST" --protected-mode no --save '' --dir /run
systemd-run --quiet --collect --unit=control-syslog python3 -c '
import socket, sys
server = socket.create_server((sys.argv[1], 2515))
while True:
    taken, _ = server.accept()
    while taken.recv(4096):
        pass
' "$HOST"
mkdir /run/control-web
systemd-run --quiet --collect --unit=control-web python3 -m http.server --bind "$HOST" --directory /run/control-web 8081
"#;

/// Takes it all away again.
const CLOSE: &str = r#"
systemctl stop control-redis.service control-syslog.service control-web.service
rmdir /run/control-web
iptables -D INPUT -p tcp -m multiport --dports 6381,2515,8081 -j ACCEPT
cat /run/control-hba.conf >/var/lib/rolesmith/db-primary-capable/pg_hba.conf
rm /run/control-hba.conf
runuser -u postgres -- psql -qAtXc 'SELECT pg_reload_conf()' >/dev/null
"#;

/// Each kind of marker is found, and each connection that carried it is called what it is.
pub fn seen_in_clear(fleet: &Fleet, lab: &Lab, (primary, host): (&str, &str)) {
    let markers = Markers::new("shown");
    let marker = |kind| markers.get(kind);
    fleet.must(primary, &format!("set -e\nHOST={host}\n{OPEN}"));
    let dump = Tcpdump::start(fleet, lab, "control");
    let (client, _) = NODES
        .into_iter()
        .find(|(node, _)| *node != primary)
        .expect("another node");
    let script = format!(
        "set -e
        export PGPASSWORD='of these tests'
        psql 'host={host} port=5432 user=wire dbname=wire sslmode=disable gssencmode=disable connect_timeout=5' -w -qAtX \
            -v ON_ERROR_STOP=1 -c \"/* {} */ SELECT '{}'\"
        timeout 10 redis-cli -h {host} -p 6381 SET {} {}
        logger --server {host} --port 2515 --tcp --rfc5424 '{}'
        python3 -c \"import urllib.request; urllib.request.urlopen('http://{host}:8081/?{}', timeout=10).read()\"",
        marker("sql-text"),
        marker("sql-data"),
        marker("redis-key"),
        marker("redis-value"),
        marker("log"),
        marker("web")
    );
    // The services may be on their way still, and nobody sends twice what was seen once.
    until("everything is sent in clear text", || {
        fleet.shell(client, &script).0 == 0
    });
    let capture = dump.stop(lab);
    fleet.must(primary, &format!("set -e\n{CLOSE}"));
    report(&capture);
    for (kind, marker) in &markers.0 {
        assert!(
            !judge::find(&capture, marker).is_empty(),
            "{kind} is not seen"
        );
    }
    let census = judge::census(&capture);
    for port in [5432, 6381, 2515, 8081] {
        let clear = census
            .keys()
            .any(|(to, speech)| *to == port && matches!(speech, Speech::Clear(_)));
        assert!(clear, "port {port} is not called clear: {census:?}");
    }
}
