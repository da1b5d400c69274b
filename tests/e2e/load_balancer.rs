//! The lab's machine outside the fleet and its load balancer, with two of the fleet's nodes played by this program: what it
//! tells them, when it leaves one out and takes it back, and the way to it from this machine.

#[path = "fleet/gone.rs"]
mod gone;
#[path = "load_balancer/node.rs"]
mod node;
#[path = "load_balancer/way.rs"]
mod way;

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rolesmith_lab::{Backend, Balancer, Lab, OUTSIDE, ProxyProtocol};
use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};
use serde_json::Value;

use self::{
    node::{Health, Node},
    way::{HTTPS, Way},
};

const NAME: &str = "balanced";
const FLEET: &str = r#"
[fleet]
name = "balanced"
suite = "trixie"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "balanced.internal"

[repository]
url = "http://apt.balanced.internal"
upstream = "debian"

[network]
private = "10.77.0.0/24"
load_balancer = "10.77.0.2"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@balanced.internal"]

[nodes.one]
roles = ["edge"]
address = "10.77.0.11"

[nodes.two]
roles = ["edge"]
address = "10.77.0.12"

[nodes.inner]
roles = ["log-server"]
address = "10.77.0.13"
"#;

const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// The lab's own address in the public network, from which this machine's connections come.
const LAB: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// What a busy machine may add to a time that is stated.
const SLACK: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root: boots a real machine"]
fn the_load_balancer_is_as_stated() {
    need_root();
    let fleet = Fleet::create(NAME, FLEET);
    let guard = LabGuard(&fleet);
    // Where somebody else has it already, that is as good.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, HTTPS));
    step("publish and boot", || {
        fleet.run(&["publish"]);
        let output = fleet.run(&["lab", "up", OUTSIDE]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("The load balancer is at https://127.0.0.1:"),
            "{said}"
        );
    });
    let lab = || Lab::open(&fleet.lab_state(NAME)).expect("the lab is up");
    let one = Node::start(&lab(), "one", [10, 77, 0, 11].into());
    let two = Node::start(&lab(), "two", [10, 77, 0, 12].into());
    step("haproxy takes every form of its configuration", || {
        judge(&lab());
    });
    step(
        "both nodes are up, and what is no edge is not behind it",
        || {
            until(&lab(), "both are up and checked", |lab| {
                let backends = lab.backends().expect("it answers");
                let mut checked = backends.iter().filter(|one| one.service == "http");
                checked.all(|one| one.is_up() && one.check.as_deref() == Some("L7OK"))
            });
            let backends = lab().backends().expect("it answers");
            let mut names: Vec<_> = backends
                .iter()
                .map(|backend| format!("{} {}", backend.service, backend.node))
                .collect();
            names.sort();
            assert_eq!(names, ["http one", "http two", "https one", "https two"]);
            let told = status(&fleet);
            assert_eq!(told["outside"]["backends"][0]["check"], "L7OK", "{told}");
            assert_eq!(
                told["nodes"].as_array().map(Vec::len),
                Some(0),
                "it is no node"
            );
        },
    );
    let way = Way::of(&status(&fleet));
    assert_ne!(way.https, HTTPS, "the port was taken");
    drop(taken);
    step(
        "bytes pass through as they are, after who sends them",
        || {
            passes_through(&way, &one, &two);
        },
    );
    step("a sick node, a silent one and one without power", || {
        detects(&lab(), &way, &one, &two);
    });
    step("what a node has begun it ends", || {
        ends_what_it_has(&lab(), &way, &one)
    });
    step("faults of the machine itself", || faults(&fleet, &way));
    step("another configuration while it runs", || {
        let before = fleet.must(OUTSIDE, "systemctl show --property=MainPID haproxy");
        let file = fleet.dir.join("fleet.toml");
        let more = FLEET.replace(r#"["log-server"]"#, r#"["log-server", "edge"]"#);
        std::fs::write(file, more).expect("written");
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up", OUTSIDE]);
        assert!(
            lab()
                .backends()
                .expect("it answers")
                .iter()
                .any(|one| one.node == "inner")
        );
        let after = fleet.must(OUTSIDE, "systemctl show --property=MainPID haproxy");
        assert_eq!(before, after, "a reload, not a restart");
        assert_eq!(Way::of(&status(&fleet)), way);
    });
    step("a forwarder that was killed", || way.returns(&fleet));
    step("lab down, also where the record is gone", || {
        let traces = gone::Traces::of(&fleet, NAME);
        let record = fleet.lab_state(NAME).join("lab.json");
        std::fs::remove_file(record).expect("there is one");
        std::mem::forget(guard);
        fleet.run(&["lab", "down"]);
        traces.assert_gone();
        way.assert_closed();
    });
}

/// haproxy itself reads what is rendered.
fn judge(lab: &Lab) {
    let backend = |name: &str, last| Backend {
        name: name.to_owned(),
        address: [10, 77, 0, last].into(),
    };
    for proxy in [ProxyProtocol::Off, ProxyProtocol::V1, ProxyProtocol::V2] {
        for backends in [vec![], vec![backend("app-1", 11), backend("app-2", 12)]] {
            let text = Balancer { proxy, backends }.configuration(BALANCER);
            let mut child = lab
                .command(OUTSIDE, &["haproxy", "-c", "-f", "/dev/stdin"])
                .expect("it runs")
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("nsenter starts");
            let mut input = child.stdin.take().expect("was asked for");
            input.write_all(text.as_bytes()).expect("it reads");
            drop(input);
            let output = child.wait_with_output().expect("it ends");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && !said.contains("WARNING"),
                "{proxy:?}: {said}\n{text}"
            );
        }
    }
}

fn passes_through(way: &Way, one: &Node, two: &Node) {
    let mut answered = Vec::new();
    for _ in 0..4 {
        let (name, mut stream) = way.open();
        answered.push(name);
        // Nothing that TLS, HTTP or a terminal would make something else of is lost or added.
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let (mut reader, sent) = (stream.try_clone().expect("a second handle"), bytes.clone());
        let back = thread::spawn(move || {
            let mut back = vec![0; sent.len()];
            reader.read_exact(&mut back).map(|()| back)
        });
        stream.write_all(&bytes).expect("it is read");
        let back = back.join().expect("no panic").expect("it comes back");
        assert!(back == bytes);
    }
    answered.sort();
    assert_eq!(answered, ["one", "one", "two", "two"], "round robin");
    let (head, name) = way.get("/page");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(["one\n", "two\n"].contains(&name.as_str()), "{name}");
    let mut seen = 0;
    for (port, node) in [(443, one), (443, two), (80, one), (80, two)] {
        for header in node.headers(port) {
            assert_eq!(*header.from.ip(), LAB, "the client");
            assert_eq!((*header.to.ip(), header.to.port()), (PUBLIC, port));
            seen += 1;
        }
    }
    assert_eq!(seen, 5);
    for node in [one, two] {
        // A check is the load balancer's own connection.
        let (header, request) = node.check().expect("it was checked");
        let host = request
            .iter()
            .any(|line| line.eq_ignore_ascii_case("host: 10.77.0.2\r\n"));
        assert!(host, "HTTP/1.1 wants one: {request:?}");
        assert_eq!(*header.from.ip(), BALANCER);
        assert_eq!((*header.to.ip(), header.to.port()), (node.address, 80));
    }
}

/// When a node is out and back, by how it fails; and that new connections go to the other one from the first moment on, where
/// a connection to it is refused or not made.
fn detects(lab: &Lab, way: &Way, one: &Node, two: &Node) {
    // One check may just be over; each of the others takes its interval, or the whole of what it may take.
    let quick = Balancer::CHECK_INTERVAL * Balancer::FALL + SLACK;
    let slow = (Balancer::CHECK_INTERVAL + Balancer::CHECK_LIMIT) * Balancer::FALL + SLACK;
    let back = Balancer::CHECK_INTERVAL * Balancer::RISE + SLACK;
    let least = Balancer::CHECK_INTERVAL * (Balancer::FALL - 1) - Duration::from_millis(300);
    let whole = |limit: Duration, what: &str, took: Duration| {
        assert!(took <= limit, "{what} took {took:?}, not {limit:?}");
        let mut error = std::io::stderr();
        let _ = writeln!(error, "    {what}: {took:.1?}");
    };
    let is_out = |what: &str, begun: Instant, limit| {
        until(lab, what, |lab| !is_up(lab, "one"));
        let took = begun.elapsed();
        assert!(
            took >= least,
            "{what}: {took:?} is less than {} checks take",
            Balancer::FALL
        );
        whole(limit, what, took);
        for _ in 0..3 {
            assert_eq!(way.open().0, two.name);
        }
    };
    let is_back = |what: &str| {
        let took = until(lab, what, |lab| is_up(lab, "one"));
        whole(back, what, took);
    };

    one.set(Health::Sick);
    is_out("503 is out", Instant::now(), quick);
    one.set(Health::Well);
    is_back("and back");

    one.set(Health::Silent);
    is_out("silence is out", Instant::now(), slow);
    one.set(Health::Well);
    // One check may still wait for its answer.
    is_back("and back");

    one.plug(lab, false);
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(way.open().0, two.name, "tried at the other one");
    }
    is_out("no machine is out", begun, slow);
    one.plug(lab, true);
    is_back("and back");
}

/// A connection goes on after its node is out.
fn ends_what_it_has(lab: &Lab, way: &Way, one: &Node) {
    let mut stream: TcpStream = loop {
        let (name, stream) = way.open();
        if name == one.name {
            break stream;
        }
    };
    one.set(Health::Sick);
    until(lab, "one is out", |lab| !is_up(lab, "one"));
    stream.write_all(b"the rest").expect("it is open");
    let mut rest = [0; 8];
    stream.read_exact(&mut rest).expect("it is open");
    assert_eq!(&rest, b"the rest");
    one.set(Health::Well);
    until(lab, "one is back", |lab| is_up(lab, "one"));
}

fn faults(fleet: &Fleet, way: &Way) {
    fleet.run(&["lab", "freeze", OUTSIDE]);
    let told = status(fleet);
    assert_eq!(told["outside"]["frozen"], true);
    assert_eq!(told["outside"]["backends"], Value::Null);
    assert!(!way.answers());
    fleet.run(&["lab", "thaw", OUTSIDE]);
    assert!(way.answers());

    fleet.run(&["lab", "cut", OUTSIDE]);
    assert!(!way.answers());
    fleet.run(&["lab", "mend", OUTSIDE]);
    assert!(way.answers());

    fleet.must(OUTSIDE, "echo kept >/var/lib/mark");
    fleet.run(&["lab", "kill", OUTSIDE]);
    assert_eq!(status(fleet)["outside"]["state"], "stopped");
    assert!(!way.answers());
    fleet.run(&["lab", "start", OUTSIDE]);
    assert_eq!(fleet.must(OUTSIDE, "cat /var/lib/mark"), "kept\n");
    assert!(way.answers(), "the same ports lead to the machine again");
}

fn is_up(lab: &Lab, node: &str) -> bool {
    let backends = lab.backends().expect("it answers");
    let mut of_node = backends.iter().filter(|backend| backend.node == node);
    // One check speaks for both ports.
    let first = of_node.next().expect("it is behind it").is_up();
    assert!(of_node.all(|other| other.is_up() == first), "{backends:?}");
    first
}

/// Waits until this is true; says how long that took.
fn until(lab: &Lab, what: &str, is_true: impl Fn(&Lab) -> bool) -> Duration {
    let begun = Instant::now();
    while !is_true(lab) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

fn status(fleet: &Fleet) -> Value {
    let output = fleet.run(&["lab", "status", "--json"]);
    serde_json::from_slice(&output.stdout).expect("status is JSON")
}
