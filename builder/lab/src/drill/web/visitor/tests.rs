use std::{cell::RefCell, rc::Rc, sync::Arc};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::drill::web::parse_visits;

/// What the server does with one connection: an answer to each request, and then the end.
type Script = Vec<&'static str>;

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
const CACHED: &str = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
const BAD_GATEWAY: &str = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";

fn acceptor() -> TlsAcceptor {
    let made =
        rcgen::generate_simple_self_signed(vec!["shop.example.com".into()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

/// Reads a request to its end.
async fn request_of(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    while !bytes.ends_with(b"}") {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&part[..read]),
        }
    }
    Some(String::from_utf8(bytes).expect("text"))
}

/// Runs a visitor against the scripts, a connection each, for as many requests; gives its ledger and what it sent.
async fn visited(
    scripts: Vec<Script>,
    keep: bool,
    kind: Kind,
    requests: u64,
) -> (Vec<Visit>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let std::net::SocketAddr::V4(to) = listener.local_addr().expect("an address") else {
        unreachable!("bound to IPv4");
    };
    let seen = Rc::new(RefCell::new(Vec::new()));
    let log = Rc::clone(&seen);
    let acceptor = acceptor();
    let server = tokio::task::spawn_local(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            for answer in script {
                let Some(request) = request_of(&mut stream).await else {
                    break;
                };
                log.borrow_mut().push(request);
                stream.write_all(answer.as_bytes()).await.expect("written");
                stream.flush().await.expect("written");
            }
            stream.shutdown().await.expect("closed");
        }
        // Nobody listens here any more: connections are refused.
    });
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = directory.path().join("visitor.jsonl");
    let spec = VisitorSpec {
        name: "visitor".into(),
        kind,
        source: Ipv4Addr::new(127, 1, 0, 1),
        keep,
        first: 7,
        ledger: ledger.clone(),
    };
    let mut visitor = Visitor {
        plan: VisitorPlan {
            to,
            host: "shop.example.com".into(),
            run: 1,
            every: 1,
            connect_limit: 2000,
            answer_limit: 2000,
            visitors: vec![spec.clone()],
        },
        dialler: Dialler::new(to, "shop.example.com").expect("a site"),
        ledger: File::create(&ledger).expect("a file"),
        spec,
        kept: None,
    };
    for number in 7..7 + requests {
        for attempt in 1..=ATTEMPTS {
            if matches!(
                visitor.attempt(number, attempt).await.expect("written"),
                Answer::Ok | Answer::Accepted
            ) {
                break;
            }
        }
    }
    drop(visitor);
    server.abort();
    let text = std::fs::read_to_string(&ledger).expect("a ledger");
    let seen = seen.borrow().clone();
    (parse_visits(&text).expect("a ledger"), seen)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

fn short(visits: &[Visit]) -> Vec<(u64, u32, Answer, Option<u16>)> {
    let short = |visit: &Visit| (visit.number, visit.attempt, visit.answer, visit.status);
    visits.iter().map(short).collect()
}

#[test]
fn a_connection_is_kept_and_one_that_was_closed_is_not_used() {
    let (visits, seen) = run(visited(
        vec![vec![CREATED, CREATED], vec![CREATED]],
        true,
        Kind::Order,
        3,
    ));
    assert_eq!(
        short(&visits),
        [
            (7, 1, Answer::Ok, Some(201)),
            (8, 1, Answer::Ok, Some(201)),
            (9, 1, Answer::Ok, Some(201)),
        ]
    );
    assert_eq!(visits[0].client, visits[1].client);
    assert_ne!(visits[1].client, visits[2].client);
    let source = visits[0].client.map(|client| *client.ip());
    assert_eq!(source, Some(Ipv4Addr::new(127, 1, 0, 1)));
    assert!(seen[0].starts_with("POST /api/orders HTTP/1.1\r\nHost: shop.example.com\r\n"));
    assert!(
        seen[0]
            .ends_with(r#"{"id":"00000001-0000-4000-8000-000000000007","product":2,"quantity":1}"#)
    );
}

#[test]
fn what_was_not_answered_is_tried_once_more_as_the_same_order() {
    let (visits, seen) = run(visited(
        vec![vec![BAD_GATEWAY], vec![CREATED], vec![]],
        false,
        Kind::Order,
        2,
    ));
    assert_eq!(
        short(&visits),
        [
            (7, 1, Answer::Unknown, Some(502)),
            (7, 2, Answer::Ok, Some(201)),
            // The connection was closed without an answer, and then none was to be had.
            (8, 1, Answer::Unknown, None),
            (8, 2, Answer::Failed, None),
        ]
    );
    assert!(
        visits[2]
            .error
            .as_ref()
            .is_some_and(|why| why.contains("ended"))
    );
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn what_the_cache_took_is_no_commit() {
    let (visits, seen) = run(visited(vec![vec![CACHED]], false, Kind::View, 1));
    assert_eq!(short(&visits), [(7, 1, Answer::Accepted, Some(202))]);
    assert!(seen[0].starts_with("POST /api/views HTTP/1.1\r\n"));
}

#[test]
fn from_an_error_of_a_server_nothing_follows() {
    assert_eq!(answer(200), Answer::Unknown);
    assert_eq!(answer(429), Answer::Failed);
    assert_eq!(answer(503), Answer::Unknown);
}
