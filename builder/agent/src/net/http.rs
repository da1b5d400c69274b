//! One HTTP request a connection, with a bound for everything that a server could use up.
//!
//! HTTP/1.0 (RFC 9112, appendix C): the answer ends with the connection, in one piece, and nothing has to be put together.
//! Redirections are not followed: who asks knows where the answer is, and a token must not be shown to anybody else.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

/// Debian's bundle of authorities (package ca-certificates), which apt uses too.
pub const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Over TLS 1.3.
    pub tls: bool,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// How much of an answer is read, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes, head and body.
    pub most: usize,
    /// From the first byte to the last.
    pub limit: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The host is no name that a certificate could have.
    #[error("the host is no name")]
    Host,
    /// An answer that says nothing.
    #[error("the answer is of no use: {0}")]
    Answer(&'static str),
}

impl Server {
    /// Asks for a path. Blocks; `roots` is the text of [`AUTHORITIES`]. The fields are sent as they stand: they hold no line
    /// breaks.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn get(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        roots: &[u8],
        bounds: Bounds,
    ) -> Result<Answer, HttpError> {
        let deadline = Instant::now() + bounds.limit;
        let mut socket = self.connect(bounds.limit / 2)?;
        let request = self.request(path, fields);
        let bytes = if self.tls {
            let name = ServerName::try_from(self.host.clone()).map_err(|_| HttpError::Host)?;
            let mut session =
                ClientConnection::new(trust(roots)?, name).map_err(io::Error::other)?;
            limit(&socket, deadline)?;
            let mut stream = Stream::new(&mut session, &mut socket);
            stream.write_all(&request)?;
            read(&mut stream, deadline, bounds.most, |stream| {
                limit(stream.sock, deadline)
            })?
        } else {
            limit(&socket, deadline)?;
            socket.write_all(&request)?;
            read(&mut socket, deadline, bounds.most, |socket| {
                limit(socket, deadline)
            })?
        };
        Answer::parse(bytes)
    }

    /// The first of its addresses that answers: a machine may have no way to those of one family.
    fn connect(&self, limit: Duration) -> io::Result<TcpStream> {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        let end = Instant::now() + limit;
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(&address, left) {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn request(&self, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut text = format!("GET {path} HTTP/1.0\r\nHost: {}", self.host);
        if self.port != if self.tls { 443 } else { 80 } {
            text.push_str(&format!(":{}", self.port));
        }
        text.push_str("\r\nUser-Agent: rolesmith-agent\r\nAccept: */*\r\n");
        for (name, value) in fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

fn limit(socket: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket.set_read_timeout(Some(left))?;
    socket.set_write_timeout(Some(left))
}

/// Reads to the end, which must not come late nor be far.
fn read<S: Read>(
    stream: &mut S,
    deadline: Instant,
    most: usize,
    mut renew: impl FnMut(&mut S) -> io::Result<()>,
) -> Result<Vec<u8>, HttpError> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    while Instant::now() < deadline {
        renew(stream)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            // Many servers end TLS without saying so; the length that they told is checked instead.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if bytes.len() > most {
            return Err(HttpError::Answer("too long"));
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut).into())
}

fn trust(roots: &[u8]) -> Result<Arc<ClientConfig>, HttpError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(roots).filter_map(Result::ok));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    head: String,
    /// What came after the head.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads a whole answer.
    ///
    /// # Errors
    /// [`HttpError::Answer`].
    pub fn parse(mut bytes: Vec<u8>) -> Result<Self, HttpError> {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .ok_or(HttpError::Answer("it is cut off"))?;
        let body = bytes.split_off(end + 4);
        bytes.truncate(end);
        let head = String::from_utf8(bytes).map_err(|_| HttpError::Answer("not a text"))?;
        let status = head
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or(HttpError::Answer("not HTTP"))?;
        let answer = Self { status, head, body };
        if status == 200 {
            let told = answer.field("Content-Length");
            let told = told.and_then(|length| length.parse::<usize>().ok());
            if told.is_some_and(|told| told != answer.body.len()) {
                return Err(HttpError::Answer("it is cut off"));
            }
            // No server may do this to a client of HTTP/1.0 (RFC 9112, section 6.1).
            if answer.field("Transfer-Encoding").is_some() {
                return Err(HttpError::Answer("it comes in pieces"));
            }
        }
        Ok(answer)
    }

    /// A field of the head: of reasonable length, and without anything that could not be sent in a field of ours.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            let value = value.trim();
            let sound = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            (key.eq_ignore_ascii_case(name) && sound && value.len() <= 200).then_some(value)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_request_is_what_other_servers_read() {
        let server = |tls, port| Server {
            tls,
            host: "apt.example.com".into(),
            port,
        };
        let fields = [("If-None-Match", "\"x\"")];
        let text = |server: Server| String::from_utf8(server.request("/x", &fields)).unwrap();
        assert_eq!(
            text(server(false, 80)),
            "GET /x HTTP/1.0\r\nHost: apt.example.com\r\nUser-Agent: rolesmith-agent\r\nAccept: */*\r\n\
             If-None-Match: \"x\"\r\n\r\n"
        );
        assert!(text(server(true, 443)).contains("Host: apt.example.com\r\n"));
        assert!(text(server(true, 80)).contains("Host: apt.example.com:80\r\n"));
    }

    #[test]
    fn a_server_that_keeps_one_waiting_is_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A byte now and then, for ever.
            while stream.write_all(b"H").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let slow = Server {
            tls: false,
            host: "127.0.0.1".into(),
            port,
        };
        let bounds = Bounds {
            most: 1000,
            limit: Duration::from_millis(200),
        };
        let began = Instant::now();
        assert!(slow.get("/", &[], b"", bounds).is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
        server.join().unwrap();
    }

    #[test]
    fn answers_that_are_cut_off_or_in_pieces_are_refused() {
        let parse = |text: &str| Answer::parse(text.as_bytes().to_vec());
        let whole = parse("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!((whole.status, whole.body.as_slice()), (200, &b"{}"[..]));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "SSH-2.0-OpenSSH_10.0\r\n\r\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let other = parse("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\n\r\n").unwrap();
        assert_eq!((other.status, other.field("retry-after")), (429, Some("7")));
    }
}
