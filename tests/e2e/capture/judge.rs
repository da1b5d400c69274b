//! What a connection speaks, by every byte of it.

use std::collections::BTreeMap;

use super::pcap::{Capture, Connection, Stream};

/// What a connection turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speech {
    /// It carried nothing.
    Nothing,
    /// TLS from the first byte.
    Tls,
    /// A line of PROXY protocol, which says where the visitor is, then TLS.
    ProxiedTls,
    /// PostgreSQL's request for TLS in clear text, as its protocol begins, then TLS.
    Postgres,
    /// It was open before the capture began; TLS records from the first whole one on.
    OpenTls,
    /// The load balancer's health check, the one thing that a node answers in clear text.
    HealthCheck,
    /// Anything else, with what is to be seen of it.
    Clear(String),
}

/// The longest record that TLS allows, with its header (RFC 8446, 5.2; TLS 1.2 allows 2048 bytes on top).
const RECORD: usize = 5 + 16_384 + 2048;
/// PostgreSQL's SSLRequest: its length, and 1234 << 16 | 5679.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How many whole headers of TLS records these bytes are a chain of; the last record may be cut off.
fn records(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while let [kind, major, minor, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !(0x14..=0x17).contains(kind) || *major != 3 || *minor > 4 || length + 5 > RECORD {
            return None;
        }
        count += 1;
        bytes = rest.get(length..).unwrap_or_default();
    }
    match bytes {
        [] | [0x14..=0x17] | [0x14..=0x17, 3, ..] => Some(count),
        _ => None,
    }
}

fn is_tls(bytes: &[u8]) -> bool {
    bytes.is_empty() || records(bytes).is_some_and(|count| count > 0)
}

/// Of a stream whose beginning was not seen: a chain of records from some byte on, which the record that was cut precedes.
fn is_tls_somewhere(bytes: &[u8]) -> bool {
    bytes.is_empty()
        || (0..bytes.len().min(RECORD)).any(|at| records(&bytes[at..]).is_some_and(|n| n > 0))
}

fn end_of(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|part| part == mark)
}

/// What comes after a line of PROXY protocol, of at most 107 bytes (version 1, 2.1).
fn proxied(up: &[u8]) -> Option<&[u8]> {
    let line = &up[..up.len().min(107)];
    let end = end_of(line, b"\r\n")?;
    up.starts_with(b"PROXY TCP").then(|| &up[end + 2..])
}

/// One request for the health of a node and nothing more, with or without a line of PROXY protocol before it.
fn is_health_check(up: &[u8]) -> bool {
    let request = proxied(up).unwrap_or(up);
    request.starts_with(b"GET /health HTTP/1.1\r\n")
        && end_of(request, b"\r\n\r\n") == Some(request.len() - 4)
}

fn speech(connection: &Connection) -> Speech {
    let (up, up_whole) = connection.up.bytes();
    let (down, down_whole) = connection.down.bytes();
    if up.is_empty() && down.is_empty() {
        return Speech::Nothing;
    }
    let clear = || {
        let seen = |bytes: &[u8]| bytes[..bytes.len().min(48)].escape_ascii().to_string();
        Speech::Clear(format!("{} / {}", seen(&up), seen(&down)))
    };
    if !up_whole || !down_whole {
        return Speech::Clear("bytes are missing in the capture".into());
    }
    if connection.server.1 == 80 && is_health_check(&up) {
        return Speech::HealthCheck;
    }
    let begun = |stream: &Stream, bytes: &[u8]| stream.begun || bytes.is_empty();
    if begun(&connection.up, &up) && begun(&connection.down, &down) {
        if let (Some(up), [b'S', down @ ..]) = (up.strip_prefix(&SSL_REQUEST), &*down)
            && is_tls(up)
            && is_tls(down)
        {
            return Speech::Postgres;
        }
        if up == SSL_REQUEST && down.is_empty() {
            return Speech::Postgres;
        }
        if connection.server.1 == 443 && is_tls(&down) && proxied(&up).is_some_and(is_tls) {
            return Speech::ProxiedTls;
        }
        return if is_tls(&up) && is_tls(&down) {
            Speech::Tls
        } else {
            clear()
        };
    }
    if is_tls_somewhere(&up) && is_tls_somewhere(&down) {
        Speech::OpenTls
    } else {
        clear()
    }
}

/// How many connections to which port speak what.
#[must_use]
pub fn census(capture: &Capture) -> BTreeMap<(u16, Speech), usize> {
    let mut census = BTreeMap::new();
    for connection in &capture.connections {
        let key = (connection.server.1, speech(connection));
        *census.entry(key).or_default() += 1;
    }
    census
}

/// Where this text stands in clear, on whatever port or protocol.
#[must_use]
pub fn find(capture: &Capture, text: &str) -> Vec<String> {
    let has = |bytes: &[u8]| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    let mut places: Vec<String> = capture
        .connections
        .iter()
        .filter(|connection| has(&connection.up.bytes().0) || has(&connection.down.bytes().0))
        .map(|connection| format!("{:?} to {:?}", connection.client, connection.server))
        .collect();
    if capture.loose.iter().any(|bytes| has(bytes)) {
        places.push("a frame that is no TCP".into());
    }
    places
}

#[test]
fn a_health_check_is_that_and_nothing_more() {
    let check = "GET /health HTTP/1.1\r\nhost: 10.77.0.2\r\n\r\n";
    let header = "PROXY TCP4 10.77.0.2 10.77.0.11 40000 80\r\n";
    assert!(is_health_check(check.as_bytes()));
    assert!(is_health_check(format!("{header}{check}").as_bytes()));
    for other in [
        String::new(),
        header.to_owned(),
        "GET /health HTTP/1.1\r\n".to_owned(),
        format!("{check}GET /page HTTP/1.1\r\n\r\n"),
        format!("{header}GET /page HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        assert!(!is_health_check(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn records_are_told_from_everything_else() {
    let record = |kind: u8, length: usize| {
        let mut bytes = vec![kind, 3, 3];
        bytes.extend(u16::try_from(length).expect("short").to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xa5, length));
        bytes
    };
    let stream = [record(0x16, 300), record(0x14, 1), record(0x17, 5000)].concat();
    assert!(is_tls(&stream) && is_tls(&stream[..4000]) && is_tls(&stream[..306]));
    assert!(!is_tls(&stream[7..]) && is_tls_somewhere(&stream[7..]));
    let clear = b"*2\r\n$3\r\nGET\r\n$6\r\nmarker\r\n";
    assert!(!is_tls(clear) && !is_tls_somewhere(clear));
    // Clear text after a handshake, as a protocol that falls back would send it.
    assert!(!is_tls(&[&stream, &clear[..]].concat()));
    assert!(!is_tls_somewhere(&[&stream[7..], &clear[..]].concat()));
}
