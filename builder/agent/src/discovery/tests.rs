//! Against a local server that speaks DigitalOcean's API, in all its moods.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rolesmith_model::facts::{DigitalOcean, FACTS_FILE};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::*;
use crate::net::http::Server;
use crate::net::testing::Fleet;

const TOKEN: &str = "dop_v1_good";

/// What a request was: its path and its token.
type Asked = (String, String);
type Handler = Box<dyn Fn(&str, &str) -> Vec<u8> + Send>;

/// Serves so many connections; what it answers may depend on its own port.
fn serve(
    connections: usize,
    handler: impl FnOnce(u16) -> Handler,
) -> (Api, thread::JoinHandle<Vec<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let handler = handler(port);
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            asked.push(answer(&mut stream, &handler));
        }
        asked
    });
    let place = Server {
        tls: false,
        host: "127.0.0.1".into(),
        port,
    };
    (Api::at(place, Duration::from_secs(5)), server)
}

/// A server that gives the same answer again and again.
fn always(connections: usize, answer: Vec<u8>) -> (Api, thread::JoinHandle<Vec<Asked>>) {
    serve(connections, |_| Box::new(move |_, _| answer.clone()))
}

fn answer(stream: &mut (impl Read + Write), handler: &Handler) -> Asked {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).unwrap();
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let token = text
        .lines()
        .find_map(|line| line.strip_prefix("Authorization: Bearer "));
    let token = token.unwrap_or_default().to_owned();
    // Who was told enough closes the connection first.
    let _ = stream.write_all(&handler(&path, &token));
    let _ = stream.flush();
    (path, token)
}

fn http(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

fn page(droplets: &[Value], next: Option<&str>) -> Vec<u8> {
    let mut pages = json!({"last": "https://api.digitalocean.com/v2/droplets?page=9"});
    if let Some(next) = next {
        pages["next"] = json!(next);
    }
    let body = json!({
        "droplets": droplets,
        "links": if next.is_some() { json!({"pages": pages}) } else { json!({}) },
        "meta": {"total": droplets.len()},
    });
    http("200 OK", "", body.to_string().as_bytes())
}

/// As the API describes one, with some of what nobody here reads.
fn droplet(name: &str, private: &[&str]) -> Value {
    let mut v4 = vec![json!({
        "ip_address": "203.0.113.5", "netmask": "255.255.240.0", "gateway": "203.0.113.1", "type": "public"
    })];
    v4.extend(private.iter().map(|address| {
        json!({"ip_address": address, "netmask": "255.255.0.0", "gateway": null, "type": "private"})
    }));
    json!({
        "id": 3_164_444, "name": name, "memory": 1024, "status": "active", "tags": ["acme"],
        "networks": {"v4": v4, "v6": []}, "region": {"slug": "fra1", "sizes": ["s-1vcpu-1gb"]},
    })
}

fn list(addresses: &[&str]) -> Vec<Ipv4Addr> {
    addresses.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn all_pages_are_read_and_private_addresses_taken() {
    let (api, server) = serve(2, |port| {
        Box::new(move |path, _| {
            let next = format!(
                "http://127.0.0.1:{port}/v2/droplets?page=2&per_page=200&tag_name=acme%3Aprod"
            );
            if path.contains("?page=2") {
                page(
                    &[
                        droplet("n2.acme.invalid", &["10.0.0.2"]),
                        droplet("n3", &[]),
                    ],
                    None,
                )
            } else {
                page(&[droplet("n1", &["10.0.0.1", "10.0.9.1"])], Some(&next))
            }
        })
    });
    let found = api.droplets("acme:prod", TOKEN, b"").unwrap();
    assert_eq!(
        found,
        BTreeMap::from([
            ("n1".into(), list(&["10.0.0.1", "10.0.9.1"])),
            ("n2.acme.invalid".into(), list(&["10.0.0.2"])),
            ("n3".into(), Vec::new()),
        ])
    );
    let asked = server.join().unwrap();
    assert_eq!(asked[0].0, "/v2/droplets?tag_name=acme:prod&per_page=200");
    assert!(asked.iter().all(|(_, token)| token == TOKEN));
}

#[test]
fn a_server_that_sends_on_to_another_one_gets_no_second_question() {
    for next in [
        "https://api.digitalocean.com/v2/droplets?page=2",
        "http://127.0.0.1.example.com/v2/droplets?page=2",
        "http://127.0.0.1:1/v2/droplets?page=2",
        "//127.0.0.1/v2/droplets?page=2",
        "/v2/droplets?page=2",
    ] {
        let (api, server) = always(1, page(&[], Some(next)));
        let refused = api.droplets("acme", TOKEN, b"").unwrap_err();
        assert!(
            refused.to_string().contains("elsewhere"),
            "{next}: {refused}"
        );
        assert_eq!(server.join().unwrap().len(), 1);
    }
    let other = |path: &'static str| {
        let (api, server) = serve(1, move |port| {
            let next = format!("http://127.0.0.1:{port}{path}");
            Box::new(move |_, _| page(&[], Some(&next)))
        });
        let refused = api.droplets("acme", TOKEN, b"").is_err();
        server.join().unwrap();
        refused
    };
    assert!(
        other("/v2/account") && other("/v2/droplets?a b") && other(".example.com/v2/droplets?x")
    );
}

#[test]
fn what_is_no_answer_is_told_apart() {
    let error = |answer: Vec<u8>| {
        let (api, server) = always(1, answer);
        let refusal = api.droplets("acme", TOKEN, b"").unwrap_err();
        server.join().unwrap();
        assert!(!refusal.to_string().contains(TOKEN));
        refusal
    };
    let body = br#"{"id":"Unauthorized","message":"Unable to authenticate you"}"#;
    assert_eq!(
        error(http("401 Unauthorized", "", body)),
        Refusal::Token(401)
    );
    assert_eq!(error(http("403 Forbidden", "", body)), Refusal::Token(403));
    let busy = |fields| error(http("429 Too Many Requests", fields, b"{}"));
    assert_eq!(busy("Retry-After: 7\r\n"), Refusal::Busy(7));
    assert_eq!(busy("Retry-After: soon\r\n"), Refusal::Busy(60));
    assert_eq!(busy(""), Refusal::Busy(60));
    // A redirection is not followed.
    let away = "Location: http://example.com/\r\n";
    assert_eq!(
        error(http("301 Moved Permanently", away, b"")),
        Refusal::Other("status 301".into())
    );
    for garbage in [
        http("200 OK", "", b"<html>a page</html>"),
        http("200 OK", "", b"{}"),
        http("200 OK", "", br#"{"droplets": 7}"#),
        http("200 OK", "", br#"{"droplets": [{"networks": {}}]}"#),
        http("200 OK", "", &b"[".repeat(100_000)),
        http("200 OK", "", b"\xff\xfe"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{".to_vec(),
        b"\x15\x03\x01".to_vec(),
        Vec::new(),
    ] {
        assert!(matches!(error(garbage), Refusal::Other(_)));
    }
    let long = vec![b' '; 5 * 1024 * 1024];
    assert!(
        error(http("200 OK", "", &long))
            .to_string()
            .contains("too long")
    );
}

#[test]
fn pages_without_end_are_given_up() {
    let (api, server) = serve(10, |port| {
        let next = format!("http://127.0.0.1:{port}/v2/droplets?page=2&tag_name=acme");
        Box::new(move |_, _| page(&[droplet("n1", &["10.0.0.1"])], Some(&next)))
    });
    let refused = api.droplets("acme", TOKEN, b"").unwrap_err();
    assert!(refused.to_string().contains("10 pages"), "{refused}");
    server.join().unwrap();
}

#[test]
fn a_token_is_shown_to_a_server_with_the_right_certificate_alone() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Server {
        tls: true,
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
    };
    let handler: Handler = Box::new(|_, _| page(&[droplet("n1", &["10.0.0.1"])], None));
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (stream, _) = listener.accept().unwrap();
            let session = ServerConnection::new(config.clone()).unwrap();
            asked.push(answer(&mut StreamOwned::new(session, stream), &handler));
        }
        asked
    });
    let api = Api::at(place, Duration::from_secs(5));
    let stranger = Fleet::new(&[]).authority.pem;
    assert!(matches!(
        api.droplets("acme", TOKEN, stranger.as_bytes()),
        Err(Refusal::Other(_))
    ));
    let found = api.droplets("acme", TOKEN, pem.as_bytes()).unwrap();
    assert_eq!(found["n1"], list(&["10.0.0.1"]));
    let asked = server.join().unwrap();
    assert_eq!(asked[0], (String::new(), String::new()), "nothing was said");
    assert_eq!(asked[1].1, TOKEN);
}

/// A machine with facts that want it, and a token.
struct Place(tempfile::TempDir);

impl Place {
    fn new(digitalocean: Option<&str>) -> Self {
        let mut fleet = Fleet::new(&["n1", "n2"]);
        fleet.facts.discovery.digitalocean = digitalocean.map(|tag| DigitalOcean {
            tag: tag.to_owned(),
        });
        let place = Self(tempfile::tempdir().unwrap());
        let facts = serde_json::to_vec(&fleet.facts).unwrap();
        files::write(&place.root().join(FACTS_FILE), &facts, Access::PUBLIC).unwrap();
        place.token(TOKEN);
        place
    }

    fn root(&self) -> Root {
        Root::at(self.0.path())
    }

    fn token(&self, token: &str) {
        let path = self.0.path().join("credentials").join(DIGITALOCEAN_TOKEN);
        files::write(&path, token.as_bytes(), Access::PRIVATE).unwrap();
    }

    fn look(&self, api: &Api, now: u64) -> Looked {
        let credentials = self.0.path().join("credentials");
        look(&self.root(), Some(&credentials), api, now).unwrap()
    }

    fn found(&self) -> Found {
        Found::read(&self.root()).unwrap()
    }
}

#[test]
fn members_are_found_kept_and_not_asked_for_too_often() {
    let place = Place::new(Some("acme"));
    let (api, server) = serve(4, |_| {
        let good = page(
            &[
                droplet("n1", &["10.0.0.1", "0.0.0.0", "224.0.0.1"]),
                droplet("n2.acme.invalid", &["10.0.0.2"]),
                droplet(
                    "n2",
                    &["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"],
                ),
                droplet("somebody-else", &["10.0.0.9"]),
            ],
            None,
        );
        Box::new(move |_, token| match token {
            TOKEN => good.clone(),
            "busy" => http("429 Too Many Requests", "Retry-After: 900\r\n", b"{}"),
            _ => http("401 Unauthorized", "", b"{}"),
        })
    });
    assert!(matches!(place.look(&api, 1_001_000), Looked::Asked(_)));
    let first = place.found();
    assert_eq!(first.addresses["n1"], list(&["10.0.0.1"]));
    let some = list(&["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert_eq!(first.addresses["n2"], some);
    assert_eq!((first.addresses.len(), &first.problem), (2, &None));

    // What is known outlives a token that does not; the server is left alone for a while.
    place.token("old\n");
    assert!(matches!(place.look(&api, 1_001_010), Looked::Asked(_)));
    let second = place.found();
    assert_eq!(second.addresses, first.addresses);
    assert!(second.problem.unwrap().contains("refuses the token"));
    place.token("busy");
    assert!(matches!(
        place.look(&api, 1_001_010 + 299),
        Looked::Nothing(_)
    ));
    assert!(matches!(
        place.look(&api, 1_001_010 + 300),
        Looked::Asked(_)
    ));
    assert!(matches!(
        place.look(&api, 1_001_310 + 899),
        Looked::Nothing(_)
    ));
    place.token(TOKEN);
    // A clock that went back far is no reason to wait for years.
    assert!(matches!(place.look(&api, 5), Looked::Asked(_)));
    assert_eq!(place.found().problem, None);
    assert_eq!(server.join().unwrap().len(), 4);
}

#[test]
fn nobody_is_asked_without_facts_that_want_it_or_without_a_token() {
    let nobody = Api::at(
        Server {
            tls: false,
            host: "127.0.0.1".into(),
            port: 1,
        },
        Duration::from_secs(1),
    );
    let place = Place::new(None);
    assert!(matches!(place.look(&nobody, 1000), Looked::Nothing(_)));
    assert_eq!(Found::read(&place.root()), None);
    for token in ["-", "", "two words", "a\r\nX-Evil: 1", "\u{e9}"] {
        let place = Place::new(Some("acme"));
        place.token(token);
        place.look(&nobody, 1000);
        let problem = place.found().problem.unwrap();
        assert!(problem.contains("no usable token"), "{token:?}: {problem}");
    }
}

#[test]
fn a_file_of_somebody_else_is_read_with_care() {
    let place = Place::new(Some("acme"));
    let path = place.root().join(FOUND);
    let write = |text: &str| files::write(&path, text.as_bytes(), Access::PUBLIC).unwrap();
    let read = || Found::read(&place.root());
    assert_eq!(read(), None);
    for text in ["", "{", "[]", "{\"format\":1}", &" ".repeat(200_000)] {
        write(text);
        assert_eq!(read(), None, "{}", text.len());
    }
    let whole = |format, addresses| json!({"format": format, "tag": "acme", "at": 1, "problem": "a\u{1b}b", "addresses": {"n1": addresses}});
    write(&whole(2, json!([])).to_string());
    assert_eq!(read(), None);
    write(&whole(1, json!(["10.0.0.1", "0.0.0.0", "::1"])).to_string());
    assert_eq!(read(), None, "one that is no address");
    let many: Vec<String> = (1..200).map(|n| format!("10.0.0.{n}")).collect();
    write(&whole(1, json!(many)).to_string());
    let found = read().unwrap();
    assert_eq!(found.addresses["n1"].len(), ADDRESSES);
    assert_eq!(found.problem.as_deref(), Some("ab"));
    // Neither what it leads to nor something that would keep the reader waiting.
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert_eq!(read(), None);
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert_eq!(read(), None);
}
