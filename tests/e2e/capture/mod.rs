//! Nothing of a fleet's data crosses the private network in clear text; and a capture in which it would be seen.

mod control;
mod judge;
mod pcap;

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rolesmith_lab::{Lab, OUTSIDE};
use rolesmith_tests::Fleet;
use rustix::process::{Pid, Signal, kill_process};

use self::{judge::Speech, pcap::Capture};

/// The example's nodes, and where they are.
const NODES: [(&str, &str); 3] = [
    ("app-1", "10.77.0.11"),
    ("app-2", "10.77.0.12"),
    ("app-3", "10.77.0.13"),
];
/// Those that keep the logs.
const LOG_SERVERS: [&str; 2] = ["app-1", "app-2"];
/// What every network of machines has, and that carries nothing of a fleet's: who has which address.
const HARMLESS: [&str; 4] = ["ARP", "ICMPv6", "ICMP", "IGMP"];

/// What the last frame of a capture says, to the port to which one says things that nobody listens to.
const LAST: &str = "nothing more is recorded";
const LAST_FRAME: &str = "UDP to port 9";

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "    {text}");
}

/// Words that stand nowhere else, one for each kind of thing that must not be seen.
#[derive(Debug)]
struct Markers([(&'static str, String); 6]);

impl Markers {
    fn new(of: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let number = now.expect("after 1970").as_nanos();
        let kinds = [
            "sql-text",
            "sql-data",
            "redis-key",
            "redis-value",
            "log",
            "web",
        ];
        Self(kinds.map(|kind| (kind, format!("{of}-{kind}-{number:x}"))))
    }

    fn get(&self, wanted: &str) -> &str {
        let found = self.0.iter().find(|(kind, _)| *kind == wanted);
        found.map(|(_, marker)| marker.as_str()).expect("a kind")
    }
}

/// tcpdump on the lab's private bridge, through which every frame between two nodes goes.
struct Tcpdump {
    child: Child,
    file: PathBuf,
    said: PathBuf,
}

impl Tcpdump {
    fn start(fleet: &Fleet, lab: &Lab, name: &str) -> Self {
        let file = fleet.dir.join(format!("{name}.pcap"));
        let said = fleet.dir.join(format!("{name}.tcpdump"));
        let log = fs::File::create(&said).expect("a file");
        let path = file.to_str().expect("a name");
        // 64 MiB between the kernel and a busy machine's tcpdump; as root, since the file is in a directory of root's.
        let words = [
            "tcpdump",
            "--immediate-mode",
            "-U",
            "-i",
            "private",
            "-n",
            "-s",
            "0",
            "-B",
            "65536",
            "-Z",
            "root",
            "-w",
            path,
        ];
        let child = lab
            .client(&words)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nsenter starts");
        let dump = Self { child, file, said };
        until("tcpdump listens", || dump.said().contains("listening on"));
        dump
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Everything until now is in the file when the last frame is.
    fn stop(mut self, lab: &Lab) -> Capture {
        let send = format!("echo {LAST} >/dev/udp/{}/9", NODES[0].1);
        let sent = lab.client(&["bash", "-c", &send]).status();
        assert!(sent.expect("nsenter starts").success(), "the last frame");
        until("the last frame is recorded", || {
            let file = fs::read(&self.file).expect("a capture");
            file.windows(LAST.len()).any(|part| part == LAST.as_bytes())
        });
        // nsenter has become tcpdump.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).expect("it runs");
        self.child.wait().expect("it ends");
        let said = self.said();
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        pcap::read(&fs::read(&self.file).expect("a capture"))
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "not within 60 s: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Data of each kind goes through the fleet while all is recorded; nothing of it is seen. Where protection is switched off, each
/// kind is.
pub fn nothing_in_clear(fleet: &Fleet, name: &str) {
    let lab = Lab::open(&fleet.lab_state(name)).expect("the lab is up");
    let primary = NODES
        .into_iter()
        .find(|(node, _)| {
            let ask = "runuser -u postgres -- psql -qAtXc 'SELECT pg_is_in_recovery()'";
            fleet.must(node, ask) == "f\n"
        })
        .expect("a primary");
    let markers = Markers::new("hidden");
    let dump = Tcpdump::start(fleet, &lab, "wire");
    database(fleet, primary.0, &markers);
    redis(fleet, &markers);
    logs(fleet, &markers);
    web(fleet, name, &markers);
    let capture = dump.stop(&lab);
    report(&capture);
    for (kind, marker) in &markers.0 {
        let places = judge::find(&capture, marker);
        assert_eq!(places, Vec::<String>::new(), "{kind} in clear text");
    }
    let census = judge::census(&capture);
    let clear: Vec<_> = census
        .keys()
        .filter(|(_, speech)| matches!(speech, Speech::Clear(_)))
        .collect();
    assert!(clear.is_empty(), "not TLS: {clear:#?}");
    let strange: Vec<_> = capture
        .others
        .keys()
        .filter(|what| !HARMLESS.contains(&what.as_str()) && *what != LAST_FRAME)
        .collect();
    assert!(strange.is_empty(), "nobody accounted for {strange:?}");
    // What was there to be protected was on this wire.
    for port in [443, 5432, 6380, 2514, 7432, 8443] {
        assert!(
            census
                .keys()
                .any(|(to, speech)| *to == port && *speech != Speech::Nothing),
            "nothing was said to port {port}: {census:?}"
        );
    }
    control::seen_in_clear(fleet, &lab, primary);
}

fn report(capture: &Capture) {
    tell(&format!(
        "{} frames, {} TCP connections",
        capture.frames,
        capture.connections.len()
    ));
    for ((port, speech), count) in judge::census(capture) {
        tell(&format!("port {port:<5} {count:>4} {speech:?}"));
    }
    for (what, count) in &capture.others {
        tell(&format!("{count:>15} {what}"));
    }
}

/// Text and data of SQL from every node to the primary, and on to the standbys; connections that are open, and new ones.
fn database(fleet: &Fleet, primary: &str, markers: &Markers) {
    fleet.must(
        primary,
        "runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 -c 'DROP DATABASE IF EXISTS wire WITH (FORCE)' -c 'DROP ROLE IF EXISTS wire' \
         -c \"CREATE ROLE wire LOGIN PASSWORD 'of these tests'\" -c 'CREATE DATABASE wire OWNER wire'",
    );
    let (text, data) = (markers.get("sql-text"), markers.get("sql-data"));
    for (node, _) in NODES {
        fleet.must(
            node,
            &format!(
                "systemctl restart rolesmith-pgbouncer
                export PGPASSWORD='of these tests' PGCONNECT_TIMEOUT=30
                psql -h 127.0.0.1 -p 6432 -U wire -d wire -w -qAtX -v ON_ERROR_STOP=1 \
                    -c '/* {text} */ CREATE TABLE IF NOT EXISTS wire (words text)' \
                    -c \"INSERT INTO wire SELECT '{data} ' || n FROM generate_series(1, 200) n /* {text} */\" \
                    -c 'SELECT * FROM wire' >/dev/null
                runuser -u postgres -- repmgr cluster show >/dev/null"
            ),
        );
    }
    for (node, _) in NODES {
        until("every node has every row", || {
            let ask = format!(
                "runuser -u postgres -- psql -qAtX -d wire -c \"SELECT count(*) FROM wire WHERE words LIKE '{data} %'\""
            );
            fleet.shell(node, &ask).1 == "600\n"
        });
    }
}

/// The beginning of a call of redis-cli, as programs of a node make it.
const REDIS: &str = "export REDISCLI_AUTH=$(cat /etc/rolesmith/secrets/redis-password)
    ask() { host=$1; shift; timeout 10 redis-cli -h $host -p 6380 --user app --no-auth-warning --tls \
        --cacert /usr/lib/rolesmith/facts/ca.pem --cert /usr/lib/rolesmith/facts/nodes/$(hostname)/cert.pem \
        --key /etc/rolesmith/node.key \"$@\"; }";

/// Keys and values from every node to the master, and on to the replicas.
fn redis(fleet: &Fleet, markers: &Markers) {
    let (key, value) = (markers.get("redis-key"), markers.get("redis-value"));
    let hosts = NODES.map(|(_, host)| host).join(" ");
    for (node, _) in NODES {
        // The two that are no master refuse it.
        let told = fleet.must(
            node,
            &format!(
                "{REDIS}\nfor host in {hosts}; do ask $host SET {key}-{node} {value}; done; :"
            ),
        );
        assert_eq!(told.matches("OK").count(), 1, "{node}: {told}");
    }
    for (node, _) in NODES {
        until("every node has every key", || {
            let script = format!(
                "{REDIS}\nfor host in {hosts}; do for node in app-1 app-2 app-3; do ask $host GET {key}-$node; done; done"
            );
            fleet.shell(node, &script).1.matches(value).count() == 9
        });
    }
}

/// A line of every node to every log server.
fn logs(fleet: &Fleet, markers: &Markers) {
    let line = markers.get("log");
    for (node, _) in NODES {
        fleet.must(node, &format!("logger -t wire '{line} of {node}'"));
    }
    for server in LOG_SERVERS {
        for (node, _) in NODES {
            until("every log server has every line", || {
                let script = format!("grep -q '{line} of {node}' /var/log/rolesmith/all.log");
                fleet.shell(server, &script).0 == 0
            });
        }
    }
}

/// Visitors' requests from the load balancer's place to every edge; one edge's own service is away, so that it asks another's.
fn web(fleet: &Fleet, name: &str, markers: &Markers) {
    let marker = markers.get("web");
    let site = format!("shop.{name}.internal");
    let (alone, _) = NODES[0];
    let get = |host: &str| {
        let ask = format!(
            "curl --silent --show-error --fail --insecure --max-time 30 --haproxy-protocol --resolve {site}:443:{host} \
             --header 'X-Marker: {marker}' --output /dev/null --write-out '%{{http_code}}' 'https://{site}/api/products?marker={marker}'"
        );
        fleet.shell(OUTSIDE, &ask)
    };
    fleet.must(alone, "systemctl stop rolesmith-service-shop.service");
    for (node, host) in NODES {
        until("every edge answers", || get(host).1 == "200");
        tell(&format!("{node} answers a visitor"));
    }
    fleet.must(alone, "systemctl start rolesmith-service-shop.service");
}
