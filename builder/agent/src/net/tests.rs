//! Real connections over loopback: members that speak, and everybody who is refused.

use rcgen::KeyPair;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::testing::{Authority, DAY, Fleet, Wish, application, wish};
use super::*;

mod discovery;
mod roll_over;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { timeout(PATIENCE, test).await.expect("the test hangs") });
}

fn machine(incarnation: u64) -> Machine {
    Machine {
        incarnation,
        boot: format!("boot of {incarnation}"),
    }
}

/// Each member has an address of its own in 127/8 and the same port, as in a real network.
struct Lan {
    fleet: Fleet,
}

impl Lan {
    fn new(names: &[&str]) -> Self {
        let mut fleet = Fleet::new(names);
        // A net of its own for each test of this process; the kernel finds a port that is free there.
        static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let net = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let process = std::process::id().to_be_bytes()[3];
        let base = format!("127.{}.{net}", process.max(1));
        let probe = std::net::TcpListener::bind((format!("{base}.250"), 0)).unwrap();
        fleet.facts.agent_port = probe.local_addr().unwrap().port();
        for (number, member) in fleet.facts.members.iter_mut().enumerate() {
            member.address = Some(format!("{base}.{}", number + 1));
        }
        Self { fleet }
    }

    fn address(&self, name: &str) -> String {
        let member = self.fleet.facts.members.iter().find(|m| m.name == name);
        let address = member.and_then(|m| m.address.clone()).unwrap();
        format!("{address}:{}", self.fleet.facts.agent_port)
    }

    fn start(&self, name: &str, incarnation: u64) -> Node {
        Node::with(self.fleet.material(name), machine(incarnation), limits())
    }
}

fn limits() -> Limits {
    Limits {
        retry: (Duration::from_millis(20), Duration::from_millis(50)),
        ..Limits::default()
    }
}

struct Node {
    net: Net,
    events: mpsc::Receiver<Event>,
    material: watch::Sender<Arc<Material>>,
}

impl Node {
    fn with(material: Material, machine: Machine, limits: Limits) -> Self {
        let (sender, receiver) = watch::channel(Arc::new(material));
        let (net, events) = Net::start(receiver, machine, limits);
        Self {
            net,
            events,
            material: sender,
        }
    }

    fn take_over(&mut self, material: Material) {
        let material = material.after(&self.material.borrow());
        self.material.send(Arc::new(material)).unwrap();
        self.net.reconcile();
    }

    /// Answers requests by their own bytes until a response comes.
    async fn response(&mut self) -> (u64, Result<(Peer, Vec<u8>), Unreachable>) {
        loop {
            match self.events.recv().await.unwrap() {
                Event::Request { body, reply, .. } => drop(reply.send(body)),
                Event::Response { number, result, .. } => return (number, result),
            }
        }
    }

    async fn refused(&self, reason: &str) -> RefusedPeer {
        loop {
            let found = self.net.status().refused;
            if let Some(peer) = found.into_iter().find(|peer| peer.reason == reason) {
                return peer;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn connected(&self, name: &str) {
        self.link(name, |link| link.connected).await;
    }

    async fn link(&self, name: &str, wanted: impl Fn(&LinkStatus) -> bool) -> LinkStatus {
        loop {
            let links = self.net.status().links;
            if let Some(link) = links.into_iter().find(|l| l.name == name && wanted(l)) {
                return link;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Serves requests by their own bytes for as long as the handle lives.
async fn echo(node: &mut Node) -> Peer {
    loop {
        if let Event::Request { from, body, reply } = node.events.recv().await.unwrap() {
            let _ = reply.send(body);
            return from;
        }
    }
}

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn members_ask_and_answer() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let (mut n1, mut n2) = (lan.start("n1", 11), lan.start("n2", 22));
        n1.net.send("n2", 7, b"{\"a\":1}".to_vec(), LIMIT);
        let (from, (number, result)) = tokio::join!(echo(&mut n2), n1.response());
        assert_eq!(
            from,
            Peer {
                name: "n1".into(),
                number: 1,
                id: 11
            }
        );
        let (peer, body) = result.unwrap();
        assert_eq!((number, body), (7, b"{\"a\":1}".to_vec()));
        assert_eq!((peer.name.as_str(), peer.number, peer.id), ("n2", 1, 22));
        n1.net.send("n9", 8, Vec::new(), LIMIT);
        assert_eq!(n1.response().await, (8, Err(Unreachable::NotAMember)));
        n1.net.send("n2", 9, vec![b' '; frame::MAX_BODY + 1], LIMIT);
        let (number, result) = n1.response().await;
        assert!(matches!(
            (number, result),
            (9, Err(Unreachable::NotSent(_)))
        ));
        assert_eq!(n1.net.status().refused, []);
        assert_eq!(n2.net.status().refused, []);
    });
}

#[test]
fn every_request_has_one_outcome_also_when_nobody_answers() {
    run(async {
        let lan = Lan::new(&["n1", "n2", "n3"]);
        let (mut n1, n2) = (lan.start("n1", 1), lan.start("n2", 2));
        n1.connected("n2").await;
        let limit = Duration::from_millis(60);
        for number in 0..20 {
            n1.net.send(
                if number % 2 == 0 { "n2" } else { "n3" },
                number,
                Vec::new(),
                limit,
            );
        }
        let mut numbers = BTreeSet::new();
        for _ in 0..20 {
            let (number, result) = n1.response().await;
            assert!(
                matches!(result, Err(Unreachable::TimedOut(_))),
                "{result:?}"
            );
            assert!(numbers.insert(number));
        }
        // The member dies in the middle of a request.
        n1.net.send("n2", 100, Vec::new(), LIMIT);
        let Node {
            net,
            mut events,
            material,
        } = n2;
        let asked = loop {
            if let Event::Request { reply, body, .. } = events.recv().await.unwrap()
                && body.is_empty()
                && !reply.is_closed()
            {
                break reply;
            }
        };
        drop((net, material, events));
        let (number, result) = n1.response().await;
        assert_eq!((number, result), (100, Err(Unreachable::Broken)));
        drop(asked);
    });
}

#[test]
fn a_member_that_comes_back_is_connected_again() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let (mut n1, n2) = (lan.start("n1", 1), lan.start("n2", 2));
        n1.connected("n2").await;
        drop(n2);
        n1.link("n2", |link| !link.connected).await;
        let rebooted = Machine {
            boot: "another".into(),
            ..machine(2)
        };
        let mut n2 = Node::with(lan.fleet.material("n2"), rebooted, limits());
        n1.net.send("n2", 1, b"again".to_vec(), LIMIT);
        let (_, (_, result)) = tokio::join!(echo(&mut n2), n1.response());
        assert_eq!(result.unwrap().1, b"again");
        assert_eq!(n1.net.status().refused, []);
    });
}

/// Somebody with this certificate calls n1, which is expected to refuse for this reason.
async fn is_refused(lan: &Lan, mut caller: Fleet, name: &str, number: u64, reason: &str) {
    let n1 = lan.start("n1", 1);
    // The caller's own facts say that it is a member, and where to find n1.
    caller.facts.agent_port = lan.fleet.facts.agent_port;
    for member in &mut caller.facts.members {
        if member.name == name {
            (member.address, member.incarnation) = (Some("127.0.0.1".into()), number);
        } else {
            let known = lan
                .fleet
                .facts
                .members
                .iter()
                .find(|m| m.name == member.name);
            member.address = known.and_then(|known| known.address.clone());
        }
    }
    let caller = Node::with(caller.material(name), machine(99), limits());
    let refused = n1.refused(reason).await;
    assert!(refused.count >= 1 && refused.why.len() > 10);
    let log = n1.net.log();
    assert!(
        log.iter().any(|line| line.contains(&refused.why)),
        "{log:?}"
    );
    let link = caller.link("n1", |link| link.problem.is_some()).await;
    assert!(!link.connected);
}

/// The fleet once more, with the same authority and keys.
fn copy(fleet: &Fleet) -> Fleet {
    let mut copy = Fleet::new(&[]);
    copy.facts = fleet.facts.clone();
    copy.certificates = fleet.certificates.clone();
    for (name, key) in &fleet.keys {
        let key = KeyPair::from_pem(&key.serialize_pem()).unwrap();
        copy.keys.insert(name.clone(), key);
    }
    copy.authority.pem = fleet.authority.pem.clone();
    copy
}

#[test]
fn an_undeclared_node_is_refused() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let mut caller = copy(&lan.fleet);
        let key = KeyPair::generate().unwrap();
        let pem = lan.fleet.authority.issue(&wish("n9"), &key);
        caller.add("n9");
        caller.keys.insert("n9".into(), key);
        caller.certify("n9", pem);
        is_refused(&lan, caller, "n9", 1, "undeclared").await;
    });
}

#[test]
fn an_expired_certificate_is_refused() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let mut caller = copy(&lan.fleet);
        let expired = Wish {
            from: -2 * DAY,
            until: -1,
            ..wish("n2")
        };
        let pem = lan.fleet.authority.issue(&expired, &lan.fleet.keys["n2"]);
        caller.certify("n2", pem);
        is_refused(&lan, caller, "n2", 1, "expired").await;
    });
}

#[test]
fn a_foreign_authority_is_refused() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let mut caller = copy(&lan.fleet);
        caller.certify(
            "n2",
            Authority::new().issue(&wish("n2"), &lan.fleet.keys["n2"]),
        );
        is_refused(&lan, caller, "n2", 1, "foreign").await;
    });
}

#[test]
fn an_old_incarnation_is_refused() {
    run(async {
        let mut lan = Lan::new(&["n1", "n2"]);
        let caller = copy(&lan.fleet);
        lan.fleet.facts.members[1].incarnation = 2;
        is_refused(&lan, caller, "n2", 1, "old-incarnation").await;
    });
}

#[test]
fn a_key_that_the_facts_do_not_know_is_refused() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let mut caller = copy(&lan.fleet);
        let key = KeyPair::generate().unwrap();
        let pem = lan.fleet.authority.issue(&wish("n2"), &key);
        caller.keys.insert("n2".into(), key);
        caller.certify("n2", pem);
        is_refused(&lan, caller, "n2", 1, "other-key").await;
    });
}

#[test]
fn the_applications_of_a_member_are_refused() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let mut caller = copy(&lan.fleet);
        let (key, pem) = application(&lan.fleet, "n2");
        caller.keys.insert("n2".into(), key);
        caller.certify("n2", pem);
        is_refused(&lan, caller, "n2", 1, "no-identity").await;
    });
}

#[test]
fn a_second_machine_under_one_name_is_refused_while_the_first_one_speaks() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let mut n1 = lan.start("n1", 1);
        let mut n2 = lan.start("n2", 2);
        n2.connected("n1").await;
        let caller = copy(&lan.fleet);
        is_second(&n1, &caller).await;
        // The first one goes on.
        n2.net.send("n1", 5, b"still here".to_vec(), LIMIT);
        let (_, (_, result)) = tokio::join!(echo(&mut n1), n2.response());
        assert_eq!(result.unwrap().1, b"still here");
    });
}

async fn is_second(n1: &Node, fleet: &Fleet) {
    let mut fleet = copy(fleet);
    // Its own address elsewhere, or it could not listen.
    fleet.facts.members[1].address = Some("127.0.0.1".into());
    let second = Node::with(fleet.material("n2"), machine(3), limits());
    let refused = n1.refused("second-machine").await;
    assert!(refused.from.contains("(n2)"), "{}", refused.from);
    let link = second.link("n1", |link| link.problem.is_some()).await;
    let problem = link.problem.unwrap();
    assert!(problem.contains("a second machine"), "{problem}");
}

#[test]
fn a_removed_member_loses_its_open_connections_and_others_keep_theirs() {
    run(async {
        let mut lan = Lan::new(&["n1", "n2", "n3"]);
        let mut n1 = lan.start("n1", 1);
        let (n2, mut n3) = (lan.start("n2", 2), lan.start("n3", 3));
        n2.connected("n1").await;
        n3.connected("n1").await;
        n1.connected("n2").await;
        n1.connected("n3").await;
        let before = n3.link("n1", |link| link.connected).await;
        // n1 alone takes newer facts: without n2, and with renewed certificates.
        lan.fleet.facts.members.remove(1);
        lan.fleet.facts.version = 2;
        let key = KeyPair::from_pem(&lan.fleet.keys["n1"].serialize_pem()).unwrap();
        let renewed = lan.fleet.authority.issue(&wish("n1"), &key);
        lan.fleet.certify("n1", renewed);
        n1.take_over(lan.fleet.material("n1"));
        n1.refused("removed").await;
        n2.link("n1", |link| !link.connected).await;
        assert!(n1.net.status().links.iter().all(|link| link.name != "n2"));
        // The connection of n3 is the one from before: it was told version 1 when it was made.
        assert_eq!(before.facts, Some(1));
        n3.net.send("n1", 5, b"on".to_vec(), LIMIT);
        let (_, (_, result)) = tokio::join!(echo(&mut n1), n3.response());
        assert_eq!(result.unwrap().1, b"on");
        assert_eq!(n3.link("n1", |_| true).await, before);
        assert_eq!(n3.net.status().refused, []);
    });
}

#[test]
fn a_new_certificate_is_shown_to_new_connections_before_others_know_of_it() {
    run(async {
        let mut lan = Lan::new(&["n1", "n2"]);
        let mut n2 = lan.start("n2", 2);
        let key = KeyPair::from_pem(&lan.fleet.keys["n1"].serialize_pem()).unwrap();
        let renewed = lan.fleet.authority.issue(&wish("n1"), &key);
        lan.fleet.certify("n1", renewed);
        let mut n1 = lan.start("n1", 1);
        n1.net.send("n2", 1, b"x".to_vec(), LIMIT);
        let (_, (_, result)) = tokio::join!(echo(&mut n2), n1.response());
        assert!(result.is_ok());
        n2.connected("n1").await;
        assert_eq!(n2.net.status().refused, []);
    });
}

#[test]
fn a_wrong_member_at_an_address_is_refused() {
    run(async {
        let mut lan = Lan::new(&["n1", "n2", "n3"]);
        let _n3 = lan.start("n3", 3);
        let right = lan.fleet.facts.members[2].address.clone();
        lan.fleet.facts.members[1].address = right;
        let n1 = lan.start("n1", 1);
        // The name in the certificate is checked by TLS already.
        n1.refused("foreign").await;
        let link = n1.link("n2", |link| link.problem.is_some()).await;
        assert!(!link.connected);
    });
}

#[test]
fn bytes_that_are_no_tls_are_refused_and_silence_ends() {
    run(async {
        let lan = Lan::new(&["n1"]);
        let short = Limits {
            handshake: Duration::from_millis(100),
            ..limits()
        };
        let n1 = Node::with(lan.fleet.material("n1"), machine(1), short);
        let address = lan.address("n1");
        let mut plain = connect(&address).await;
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        n1.refused("malformed").await;
        let mut silent = connect(&address).await;
        let mut byte = [0];
        assert!(matches!(silent.read(&mut byte).await, Ok(0) | Err(_)));
        n1.refused("too-much").await;
    });
}

async fn connect(address: &str) -> TcpStream {
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            return stream;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn connections_are_bounded_for_each_address_and_in_all() {
    run(async {
        let lan = Lan::new(&["n1"]);
        let few = Limits {
            connections: 3,
            handshakes: limits::Rate {
                each_second: 1,
                burst: 5,
            },
            ..limits()
        };
        let n1 = Node::with(lan.fleet.material("n1"), machine(1), few);
        let address = lan.address("n1");
        let mut open = vec![connect(&address).await];
        while !n1
            .net
            .status()
            .refused
            .iter()
            .any(|peer| peer.why.contains("opens too many"))
        {
            open.push(connect(&address).await);
        }
        let refused = n1.net.status().refused;
        // What is told is the latest reason; the counter has both.
        assert_eq!(refused.len(), 1);
        assert!(refused[0].count >= 3, "{refused:?}");
    });
}

/// A member that speaks TLS as it should, and then something else.
async fn misbehave(lan: &Lan, bytes: Vec<u8>) -> Vec<u8> {
    use rustls::pki_types::ServerName;
    let material = lan.fleet.material("n2");
    let stream = connect(&lan.address("n1")).await;
    let mut tls = tokio_rustls::TlsConnector::from(material.client.clone())
        .connect(ServerName::try_from("n1").unwrap(), stream)
        .await
        .unwrap();
    tls.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tls.read_to_end(&mut answer).await;
    answer
}

#[test]
fn a_member_that_does_not_keep_to_the_protocol_is_refused() {
    run(async {
        let hello = |protocol: u32| frame::Frame {
            kind: frame::Kind::Hello,
            number: 0,
            body: format!(
                "{{\"protocol\":{protocol},\"incarnation\":2,\"boot\":\"b\",\"facts\":1}}"
            )
            .into_bytes(),
        };
        let then = |bytes: &[u8]| [hello(1).encode().unwrap(), bytes.to_vec()].concat();
        let cases = [
            ("not a frame", vec![0xff; 64], "malformed"),
            ("another version", hello(2).encode().unwrap(), "protocol"),
            (
                "no introduction",
                frame::Frame::bare(frame::Kind::Ping, 1).encode().unwrap(),
                "malformed",
            ),
            ("too long a frame", then(&[0, 2, 0, 0, 3]), "malformed"),
            (
                "a response to nothing",
                then(
                    &frame::Frame::bare(frame::Kind::Response, 1)
                        .encode()
                        .unwrap(),
                ),
                "malformed",
            ),
        ];
        for (what, bytes, reason) in cases {
            let lan = Lan::new(&["n1", "n2"]);
            let n1 = lan.start("n1", 1);
            misbehave(&lan, bytes).await;
            let refused = n1.refused(reason).await;
            assert!(refused.from.ends_with("(n2)"), "{what}: {refused:?}");
        }
    });
}

#[test]
fn a_member_that_asks_too_much_is_answered_later() {
    run(async {
        let lan = Lan::new(&["n1", "n2"]);
        let slow = Limits {
            requests: limits::Rate {
                each_second: 50,
                burst: 5,
            },
            ..limits()
        };
        let mut n1 = Node::with(lan.fleet.material("n1"), machine(1), slow);
        let mut n2 = lan.start("n2", 2);
        n2.connected("n1").await;
        let began = Instant::now();
        for number in 0..20 {
            n2.net.send("n1", number, Vec::new(), LIMIT);
        }
        let served = async {
            for _ in 0..20 {
                echo(&mut n1).await;
            }
        };
        tokio::join!(served, async {
            for _ in 0..20 {
                assert!(n2.response().await.1.is_ok());
            }
        });
        // Fifteen beyond the burst, one in 20 ms.
        assert!(
            began.elapsed() >= Duration::from_millis(290),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn a_frozen_member_is_found_by_time_and_connected_to_anew() {
    run(async {
        let mut lan = Lan::new(&["n1", "n2"]);
        // Something that takes connections for n2 and never says a word.
        let address = lan.address("n2");
        let frozen = tokio::net::TcpListener::bind(&address).await.unwrap();
        lan.fleet.facts.version = 1;
        let short = Limits {
            handshake: Duration::from_millis(100),
            ..limits()
        };
        let mut n1 = Node::with(lan.fleet.material("n1"), machine(1), short);
        n1.net.send("n2", 1, Vec::new(), Duration::from_millis(150));
        let (_, result) = n1.response().await;
        assert!(
            matches!(result, Err(Unreachable::TimedOut(Some(_)))),
            "{result:?}"
        );
        drop(frozen);
        let _n2 = lan.start("n2", 2);
        n1.connected("n2").await;
    });
}
