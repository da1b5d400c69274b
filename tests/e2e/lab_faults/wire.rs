//! What nodes see of each other, told by programs inside them.

use std::{
    io::{BufReader, Read as _},
    process::{Child, Stdio},
};

use rolesmith_tests::Fleet;

/// Whether an echo comes back within a second.
pub fn pings(fleet: &Fleet, from: &str, to: &str) -> bool {
    fleet.shell(from, &format!("ping -q -c 1 -W 1 {to}")).0 == 0
}

/// Sees frames before any firewall does: whether one from the address in its second argument comes within two seconds.
const LISTEN: &str = r#"
import socket, sys, time
wanted = socket.inet_aton(sys.argv[1])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
s.bind(("eth1", 0))
print("listening", flush=True)
end = time.monotonic() + 2
while (left := end - time.monotonic()) > 0:
    s.settimeout(left)
    try:
        frame = s.recv(2048)
    except TimeoutError:
        break
    kind = frame[12:14]
    if (kind == b"\x08\x06" and frame[28:32] == wanted) or (kind == b"\x08\x00" and frame[26:30] == wanted):
        print("heard")
        sys.exit(0)
print("silence")
"#;

/// Whether a frame that one node sends, whatever comes back, arrives at the other.
pub fn hears(fleet: &Fleet, listener: (&str, &str), sender: (&str, &str)) -> bool {
    let mut child = python(fleet, listener.0, LISTEN, sender.1);
    let mut said = BufReader::new(child.stdout.take().expect("was asked for"));
    assert_eq!(line(&mut said), "listening\n");
    pings(fleet, sender.0, listener.1);
    let heard = line(&mut said) == "heard\n";
    child.wait().expect("it ends");
    heard
}

/// How a connection ends for the peer of a node.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It is told.
    Closed,
    /// Nobody tells it within three seconds.
    Silent,
}

/// Accepts a connection, and says how it ends.
const ACCEPT: &str = r#"
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 9000))
s.listen()
print("listening", flush=True)
s.settimeout(20)
peer, _ = s.accept()
print("connected", flush=True)
peer.settimeout(3)
try:
    end = peer.recv(1)
    print("closed" if not end else "data")
except TimeoutError:
    print("silent")
except ConnectionError:
    print("closed")
"#;

/// Connects, and holds on to it.
const CONNECT: &str =
    "import socket, sys, time; s = socket.create_connection((sys.argv[1], 9000)); time.sleep(60)";

/// What `peer` sees of its connection from `node` when `fault` befalls that.
pub fn watch_the_end_of(
    fleet: &Fleet,
    node: (&str, &str),
    peer: (&str, &str),
    fault: impl FnOnce(),
) -> End {
    fleet.must(
        peer.0,
        "iptables -C INPUT -p tcp --dport 9000 -j ACCEPT 2>/dev/null || iptables -I INPUT -p tcp --dport 9000 -j ACCEPT",
    );
    let mut child = python(fleet, peer.0, ACCEPT, "");
    let mut said = BufReader::new(child.stdout.take().expect("was asked for"));
    assert_eq!(line(&mut said), "listening\n");
    // One of the node's own processes: what is run from outside would outlive it.
    fleet.must(
        node.0,
        &format!(
            "systemd-run --quiet --collect python3 -c '{CONNECT}' {}",
            peer.1
        ),
    );
    assert_eq!(line(&mut said), "connected\n");
    fault();
    let mut end = String::new();
    said.read_to_string(&mut end).expect("it ends");
    child.wait().expect("it ends");
    match end.as_str() {
        "closed\n" => End::Closed,
        "silent\n" => End::Silent,
        other => panic!("{other:?}"),
    }
}

fn python(fleet: &Fleet, node: &str, program: &str, argument: &str) -> Child {
    fleet
        .command(&[
            "lab", "exec", node, "--", "python3", "-c", program, argument,
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn line(said: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    said.read_line(&mut line).expect("it speaks");
    line
}
