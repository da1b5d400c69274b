use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use proptest::prelude::*;

use super::*;

const SOURCES: &str = "# The repository of the fleet acme.\nTypes: deb\nURIs: http://apt.example.com/acme/\nSuites: trixie\n\
                       Components: main\nSigned-By: /usr/share/keyrings/acme-archive-keyring.asc\n";

fn place(uri: &str) -> Result<Place, AskError> {
    Place::from_sources(&SOURCES.replace("http://apt.example.com/acme/", uri))
}

#[test]
fn the_sources_say_where_to_ask() {
    let known = Validators {
        etag: Some("\"x\"".into()),
        modified: Some("Sun, 22 Nov 2026 00:00:00 GMT".into()),
        digest: None,
    };
    let there = Place::from_sources(SOURCES).unwrap();
    assert_eq!(
        (there.host.as_str(), there.port, there.path.as_str()),
        ("apt.example.com", 80, "/acme/dists/trixie/InRelease")
    );
    assert_eq!(
        known.fields(),
        [
            ("If-None-Match", "\"x\""),
            ("If-Modified-Since", "Sun, 22 Nov 2026 00:00:00 GMT")
        ]
    );
    let tls = place("https://h:8443").unwrap();
    assert_eq!(
        (tls.tls, tls.port, tls.path.as_str()),
        (true, 8443, "/dists/trixie/InRelease")
    );
    for uri in [
        "file:/srv/repo",
        "http://user:pass@h/",
        "http://h:x/",
        "ftp://h/",
        "http:///",
        "",
        "mirror+http://h/",
    ] {
        assert!(place(uri).is_err(), "{uri}");
    }
}

/// A server that gives these answers, one a connection, and tells what it was asked.
fn serve(answers: Vec<Vec<u8>>) -> (Place, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = place(&format!(
        "http://127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    ))
    .unwrap();
    let server = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut byte) = (Vec::new(), [0]);
            while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                text.push(byte[0]);
            }
            asked.push(String::from_utf8(text).unwrap());
            let _ = stream.write_all(&answer);
        }
        asked
    });
    (place, server)
}

#[test]
fn apt_is_told_to_look_when_the_repository_changed_and_not_before() {
    let is = |etag: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let (place, server) = serve(vec![
        is("\"1\"", "first"),
        b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        is("\"2\"", "first"),
        is("\"3\"", "second"),
        is("\"4\"", "")[..30].to_vec(),
        b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(),
    ]);
    let mut memory = Memory::default();
    let mut wanted = Vec::new();
    for now in 1000..1006 {
        let answer = place.ask(&memory.known(&place), b"").ok();
        wanted.push(memory.take(Some(&place), answer, now));
    }
    // A first look, nothing new, the same with another tag, another body, an answer that is cut off, none at all.
    assert_eq!(wanted, [true, false, false, true, false, false]);
    let asked = server.join().unwrap();
    assert!(!asked[0].contains("If-None-Match"));
    assert!(asked[1].contains("If-None-Match: \"1\"") && asked[5].contains("If-None-Match: \"3\""));
    // What cannot be asked is left to apt, now and then.
    assert!(!memory.take(None, None, 1003 + BLIND - 1));
    assert!(memory.take(None, None, 1003 + BLIND));
    assert!(!memory.take(None, None, 1004 + BLIND));
    // Another repository is new, whatever it says.
    let (elsewhere, server) = serve(vec![is("\"3\"", "second")]);
    assert_eq!(memory.known(&elsewhere), Validators::default());
    let answer = elsewhere.ask(&memory.known(&elsewhere), b"").ok();
    assert!(memory.take(Some(&elsewhere), answer, 9000));
    server.join().unwrap();
}

#[test]
fn an_answer_without_end_is_given_up() {
    let (place, server) = serve(vec![vec![b'x'; BOUNDS.most + 100_000]]);
    assert!(matches!(
        place.ask(&Validators::default(), b""),
        Err(AskError::Answer(_))
    ));
    drop(server);
}

proptest! {
    #[test]
    fn arbitrary_answers_are_read_or_refused(head in "(HTTP/1.[01] (200|304|500) [a-z]*\r\n)?([A-Za-z-]{1,12}: ?[ -~]{0,20}\r\n){0,4}(\r\n)?", body: Vec<u8>) {
        let mut bytes = head.into_bytes();
        bytes.extend(body);
        if let Ok(Answer::Is(validators)) = http::Answer::parse(bytes).map_err(AskError::from).and_then(|answer| Answer::read(&answer)) {
            // Nothing that was answered begins a line of the next request.
            prop_assert!(validators.fields().iter().all(|(_, value)| !value.contains(['\r', '\n'])));
        }
    }
}
