//! Whether the fleet's repository has changed: one conditional request (RFC 9110, section 13), and no apt.
//!
//! Asked by the unprivileged daemon, with everything that comes back taken for a hint: when something seems new, another
//! unit lets apt fetch it and verify the signature. Where this program cannot ask - a proxy, another scheme than http and
//! https, a server without TLS 1.3 - apt is asked to look now and then.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};
use serde::{Deserialize, Serialize};

use crate::files::digest;

/// Debian's bundle of authorities (package ca-certificates), which apt uses too.
pub const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Between two questions, on average.
pub const PERIOD: Duration = Duration::from_secs(60);
/// How often apt has to look itself while this program cannot ask (seconds).
pub const BLIND: u64 = 900;

/// Bytes of an answer at most; a fleet's InRelease has a few thousand.
const MOST: usize = 1024 * 1024;
/// From the first byte to the last.
const LIMIT: Duration = Duration::from_secs(20);

/// Where the repository's InRelease is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Why nothing is known about the repository.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Where it is cannot be told from the sources.
    #[error("{0}")]
    Place(&'static str),
    /// No answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// An answer that says nothing.
    #[error("the answer is of no use: {0}")]
    Answer(String),
}

impl Place {
    /// From the text of the repository's .sources file (deb822 style, sources.list(5)); its first URI and suite.
    ///
    /// # Errors
    /// [`AskError::Place`].
    pub fn from_sources(text: &str) -> Result<Self, AskError> {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.split_whitespace().next())
                    .flatten()
            })
        };
        let (uri, suite) = field("URIs")
            .zip(field("Suites"))
            .ok_or(AskError::Place("the sources name no URI or no suite"))?;
        let (tls, rest) = match uri.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(AskError::Place("the repository is reached by apt alone")),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') || authority.starts_with('[') {
            return Err(AskError::Place("the repository is reached by apt alone"));
        }
        let default = if tls { 443 } else { 80 };
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (
                host,
                port.parse()
                    .map_err(|_| AskError::Place("the repository's port is no number"))?,
            ),
            None => (authority, default),
        };
        let path = match path.trim_end_matches('/') {
            "" => format!("/dists/{suite}/InRelease"),
            path => format!("/{path}/dists/{suite}/InRelease"),
        };
        let sound =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !sound(host) || !sound(&path) {
            return Err(AskError::Place("the repository's URI is not one"));
        }
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            path,
        })
    }

    /// Asks whether it is another one than that of these validators. Blocks; `roots` is the text of [`AUTHORITIES`].
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ask(&self, known: &Validators, roots: &[u8]) -> Result<Answer, AskError> {
        let deadline = Instant::now() + LIMIT;
        let address = (self.host.as_str(), self.port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mut socket = TcpStream::connect_timeout(&address, LIMIT / 2)?;
        let request = self.request(known);
        let bytes = if self.tls {
            let mut session = ClientConnection::new(
                trust(roots)?,
                ServerName::try_from(self.host.clone())
                    .map_err(|_| AskError::Place("the repository's host is no name"))?,
            )
            .map_err(io::Error::other)?;
            limit(&socket, deadline)?;
            let mut stream = Stream::new(&mut session, &mut socket);
            stream.write_all(&request)?;
            read(&mut stream, deadline, |stream| limit(stream.sock, deadline))?
        } else {
            limit(&socket, deadline)?;
            socket.write_all(&request)?;
            read(&mut socket, deadline, |socket| limit(socket, deadline))?
        };
        Answer::parse(&bytes)
    }

    /// HTTP/1.0: the answer ends with the connection, in one piece.
    fn request(&self, known: &Validators) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.0\r\nHost: {}", self.path, self.host);
        if self.port != if self.tls { 443 } else { 80 } {
            text.push_str(&format!(":{}", self.port));
        }
        text.push_str("\r\nUser-Agent: rolesmith-agent\r\nAccept: */*\r\n");
        if let Some(tag) = &known.etag {
            text.push_str(&format!("If-None-Match: {tag}\r\n"));
        }
        if let Some(date) = &known.modified {
            text.push_str(&format!("If-Modified-Since: {date}\r\n"));
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
    mut renew: impl FnMut(&mut S) -> io::Result<()>,
) -> Result<Vec<u8>, AskError> {
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
        if bytes.len() > MOST {
            return Err(AskError::Answer("too long".to_owned()));
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut).into())
}

fn trust(roots: &[u8]) -> Result<Arc<ClientConfig>, AskError> {
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

/// What a server said about the version that was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// SHA-256 of the body, for servers that give neither or that give new ones for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is the one that is known.
    Same,
    /// This is what it is.
    Is(Validators),
}

impl Answer {
    /// Reads a whole answer.
    ///
    /// # Errors
    /// [`AskError::Answer`].
    pub fn parse(bytes: &[u8]) -> Result<Self, AskError> {
        let refuse = |why: &str| AskError::Answer(why.to_owned());
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .ok_or_else(|| refuse("it is cut off"))?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| refuse("not a text"))?;
        let body = &bytes[end + 4..];
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1))
            .ok_or_else(|| refuse("not HTTP"))?;
        let field = |name: &str| {
            head.lines().skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                let value = value.trim();
                // It is sent back in a header of ours.
                let sound = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                (key.eq_ignore_ascii_case(name) && sound && value.len() <= 200)
                    .then(|| value.to_owned())
            })
        };
        match status {
            "304" => Ok(Self::Same),
            "200" => {
                let told = field("Content-Length").and_then(|length| length.parse().ok());
                if told.is_some_and(|told: usize| told != body.len()) {
                    return Err(refuse("it is cut off"));
                }
                if field("Transfer-Encoding").is_some() {
                    return Err(refuse("it comes in pieces"));
                }
                Ok(Self::Is(Validators {
                    etag: field("ETag"),
                    modified: field("Last-Modified"),
                    digest: Some(digest(body)),
                }))
            }
            status => Err(AskError::Answer(format!("status {status}"))),
        }
    }
}

/// What is remembered of the repository until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Where it was; another place is another repository.
    place: Option<Place>,
    known: Validators,
    /// When apt was last told to look (Unix seconds).
    wanted: u64,
}

impl Memory {
    /// Validators to ask with.
    #[must_use]
    pub fn known(&self, place: &Place) -> Validators {
        if self.place.as_ref() == Some(place) {
            self.known.clone()
        } else {
            Validators::default()
        }
    }

    /// Takes an answer in (`None`: this program cannot ask, or got none), and says whether apt has to look.
    #[must_use]
    pub fn take(&mut self, place: Option<&Place>, answer: Option<Answer>, now: u64) -> bool {
        let wanted = match answer {
            Some(Answer::Same) => false,
            Some(Answer::Is(found)) => {
                let new = self.place.as_ref() != place || self.known.digest != found.digest;
                self.known = found;
                self.place = place.cloned();
                new
            }
            // A clock that went back must not keep apt from looking for ever.
            None => now.abs_diff(self.wanted) >= BLIND,
        };
        if wanted {
            self.wanted = now;
        }
        wanted
    }
}

#[cfg(test)]
mod tests;
