//! One look at a role's health. Each has a limit of time, and none needs privileges.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use rolesmith_model::manifest::Probe;

use crate::program::{Call, Programs};

/// For connections and answers, see [`Probe`].
const NETWORK_LIMIT: Duration = Duration::from_secs(2);
/// For programs, see [`Probe`].
const COMMAND_LIMIT: Duration = Duration::from_secs(5);

/// Looks once.
///
/// # Errors
/// What was found instead, for people.
pub fn probe(programs: &impl Programs, probe: &Probe) -> Result<(), String> {
    match probe {
        Probe::Unit(unit) => units(programs, &[unit]).pop().unwrap_or(Ok(())),
        Probe::Tcp(address) => connect(address, Instant::now() + NETWORK_LIMIT).map(drop),
        Probe::Http(url) => http(url),
        Probe::Command(argv) => {
            let call = Call::new([])
                .args(argv.iter().map(String::as_str))
                .limit(COMMAND_LIMIT);
            programs
                .output(&call)
                .map(drop)
                .map_err(|error| error.to_string())
        }
    }
}

/// Looks at several units with one program: each start of systemctl(1) costs as much as all its questions.
///
/// In their order, as [`probe`] tells of one.
pub fn units(programs: &impl Programs, units: &[&str]) -> Vec<Result<(), String>> {
    let call = Call::new(["systemctl", "is-active", "--"])
        .args(units.iter().copied())
        .limit(COMMAND_LIMIT);
    let ended = match programs.run(&call) {
        Ok(ended) => ended,
        Err(error) => return units.iter().map(|_| Err(error.to_string())).collect(),
    };
    let mut states = ended.stdout.lines();
    let judge = |unit: &&str| match states.next().map(str::trim) {
        Some("active" | "reloading" | "refreshing") => Ok(()),
        None | Some("") => Err(format!("{unit}: {}", ended.tail())),
        Some(other) => Err(format!("{unit} is {other}")),
    };
    units.iter().map(judge).collect()
}

fn left(deadline: Instant) -> Result<Duration, String> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(format!("no answer within {} s", NETWORK_LIMIT.as_secs()))
    } else {
        Ok(left)
    }
}

/// Connects to the first address of a name that accepts.
fn connect(address: &str, deadline: Instant) -> Result<TcpStream, String> {
    let addresses: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| format!("{address}: {error}"))?
        .collect();
    let mut last = format!("{address}: no address");
    for candidate in addresses {
        match TcpStream::connect_timeout(&candidate, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{candidate}: {error}"),
        }
    }
    Err(last)
}

/// Asks for a URL in HTTP/1.1 (RFC 9112) and reads no further than the status line.
fn http(url: &str) -> Result<(), String> {
    let (authority, path) = parts(url).ok_or_else(|| format!("{url}: not a plain-HTTP URL"))?;
    let deadline = Instant::now() + NETWORK_LIMIT;
    let address = if has_port(authority) {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut stream = connect(&address, deadline)?;
    let text = |error: io::Error| format!("{url}: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: rolesmith-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream
        .set_write_timeout(Some(left(deadline)?))
        .map_err(text)?;
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 256];
    while !answer.contains(&b'\n') && answer.len() < 4096 {
        stream
            .set_read_timeout(Some(left(deadline)?))
            .map_err(text)?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(text(error)),
        }
    }
    let status = status_code(&answer).ok_or_else(|| format!("{url}: the answer is not HTTP"))?;
    if status < 400 {
        Ok(())
    } else {
        Err(format!("{url}: status {status}"))
    }
}

/// Host with port, and path with query, of a plain-HTTP URL.
fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    (!authority.is_empty() && !url.contains(['\r', '\n', ' ']))
        .then_some((authority, if path.is_empty() { "/" } else { path }))
}

/// Whether an authority ends with a port; the colons of an IPv6 address stand in brackets.
fn has_port(authority: &str) -> bool {
    authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()))
}

fn status_code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ');
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::program::Machine;

    #[test]
    fn urls_and_status_lines() {
        assert_eq!(
            parts("http://127.0.0.1:80/health?x=1"),
            Some(("127.0.0.1:80", "/health?x=1"))
        );
        assert_eq!(parts("http://localhost"), Some(("localhost", "/")));
        assert_eq!(parts("https://localhost/"), None);
        assert_eq!(parts("http://a/ b"), None);
        assert!(has_port("[::1]:80") && !has_port("[::1]") && !has_port("host"));
        assert_eq!(status_code(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status_code(b"SSH-2.0-OpenSSH\r\n"), None);
    }

    /// Serves one connection: reads a request, writes `answer`.
    fn serve(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            line
        });
        (address, thread)
    }

    #[test]
    fn http_is_asked_for_real() {
        let (address, server) = serve("HTTP/1.1 302 Found\r\n\r\n");
        assert_eq!(
            probe(&Machine, &Probe::Http(format!("http://{address}/health"))),
            Ok(())
        );
        assert_eq!(server.join().unwrap(), "GET /health HTTP/1.1\r\n");
        let (address, server) = serve("HTTP/1.1 503 Service Unavailable\r\n\r\n");
        let found = probe(&Machine, &Probe::Http(format!("http://{address}/")));
        assert_eq!(found, Err(format!("http://{address}/: status 503")));
        server.join().unwrap();
    }

    #[test]
    fn ports_and_programs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(probe(&Machine, &Probe::Tcp(address.clone())), Ok(()));
        drop(listener);
        assert!(
            probe(&Machine, &Probe::Tcp(address))
                .unwrap_err()
                .contains("refused")
        );
        assert_eq!(
            probe(&Machine, &Probe::Command(vec!["true".into()])),
            Ok(())
        );
        assert!(probe(&Machine, &Probe::Command(vec!["false".into()])).is_err());
        assert!(probe(&Machine, &Probe::Command(vec![])).is_err());
    }
}
