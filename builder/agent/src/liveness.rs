//! Whether a service still answers at all, told to systemd, which ends one that does not (systemd.service(5), `WatchdogSec=`).
//!
//! A program that hangs is alive for systemd, and every instance may hang for the same reason, so that taking one out of service helps
//! nobody. Any answer counts, 503 as well: a program that says what it misses does not get it by being started again. The watchdog is
//! set by the first answer (sd_notify(3), `WATCHDOG_USEC=`), so a program may take as long as it likes to start.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::notify::Notifier;

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(10);
/// What an answer may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// Without an answer for so long, systemd ends the program and starts it again.
const HUNG: Duration = Duration::from_secs(60);

/// Where a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    address: SocketAddr,
    path: String,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form http://127.0.0.1:PORT/PATH");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let slash = rest.find('/').ok_or_else(wrong)?;
        let address: SocketAddr = rest[..slash].parse().map_err(|_| wrong())?;
        let path = &rest[slash..];
        if !address.ip().is_loopback() || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(wrong());
        }
        Ok(Self {
            address,
            path: path.to_owned(),
        })
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.address, self.path)
    }
}

impl Asked {
    /// Whether an answer of HTTP begins within `patience`, whatever it says.
    ///
    /// # Errors
    /// Why there is none.
    pub fn answers(&self, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        let mut stream = TcpStream::connect_timeout(&self.address, patience)?;
        stream.set_write_timeout(Some(patience))?;
        // In one piece: a program may answer before it has read all, and be gone.
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: rolesmith-agent\r\nConnection: close\r\n\r\n",
            self.path, self.address
        );
        stream.write_all(request.as_bytes())?;
        let mut head = [0; 7];
        let mut length = 0;
        while length < head.len() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut head[length..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length += read,
            }
        }
        if &head == b"HTTP/1." {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not an answer of HTTP",
            ))
        }
    }

    /// Asks as long as the program runs; systemd ends this with it. `tell` hears when answers stay out, and when they come again.
    pub fn watch(&self, notifier: &Notifier, mut tell: impl FnMut(&str)) -> ! {
        let mut watch = Watch::default();
        loop {
            for said in watch.step(self.answers(PATIENCE).is_ok()) {
                match said {
                    Said::Systemd(message) => notifier.send(&message),
                    Said::Journal(line) => tell(&line),
                }
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Systemd(String),
    Journal(String),
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Watch {
    set: bool,
    silent: bool,
}

impl Watch {
    fn step(&mut self, answered: bool) -> Vec<Said> {
        let mut said = Vec::new();
        match (answered, self.silent) {
            (true, silent) => {
                if !self.set {
                    said.push(Said::Systemd(format!("WATCHDOG_USEC={}", HUNG.as_micros())));
                }
                said.push(Said::Systemd("WATCHDOG=1".into()));
                if silent {
                    said.push(Said::Journal("it answers again".into()));
                }
                self.set = true;
            }
            (false, false) if self.set => said.push(Said::Journal(format!(
                "no answer within {} s; without one for {} s it is ended and started again",
                PATIENCE.as_secs(),
                HUNG.as_secs()
            ))),
            (false, _) => {}
        }
        self.silent = self.set && !answered;
        said
    }
}

/// Starts this program a second time to watch what this process is about to become. Outside a unit of systemd nobody would listen.
///
/// # Errors
/// execve(2)'s.
pub fn begin(asked: &Asked) -> io::Result<Option<Child>> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(None);
    }
    Command::new("/proc/self/exe")
        .args(["service", "--watch"])
        .arg(asked.to_string())
        .stdin(Stdio::null())
        .spawn()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_is_a_loopback_url() {
        let asked: Asked = "http://127.0.0.1:3000/health?full=1".parse().unwrap();
        assert_eq!(asked.to_string(), "http://127.0.0.1:3000/health?full=1");
        for wrong in [
            "127.0.0.1:3000/",
            "http://127.0.0.1:3000",
            "http://10.0.0.1:80/",
            "http://127.0.0.1:80/a b",
        ] {
            assert!(wrong.parse::<Asked>().is_err(), "{wrong}");
        }
    }

    fn server(answer: &'static [u8]) -> (Asked, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked = format!("http://{}/health", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /health HTTP/1.1\r\n"));
            stream.write_all(answer).unwrap();
        });
        (asked.parse().unwrap(), thread)
    }

    #[test]
    fn every_answer_counts() {
        let (asked, thread) = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        asked.answers(PATIENCE).unwrap();
        thread.join().unwrap();
        let (asked, thread) = server(b"-ERR unknown command");
        let error = asked.answers(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        thread.join().unwrap();
    }

    #[test]
    fn a_program_that_hangs_does_not_answer() {
        // The kernel takes the connection; nobody accepts it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asked: Asked = format!("http://{}/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        asked.answers(Duration::from_millis(50)).unwrap_err();
    }

    #[test]
    fn the_first_answer_sets_the_watchdog_and_silence_is_said_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.step(false), []);
        assert_eq!(
            watch.step(true),
            [
                Said::Systemd("WATCHDOG_USEC=60000000".into()),
                Said::Systemd("WATCHDOG=1".into())
            ]
        );
        assert_eq!(watch.step(true), [Said::Systemd("WATCHDOG=1".into())]);
        assert!(matches!(watch.step(false)[..], [Said::Journal(_)]));
        assert_eq!(watch.step(false), []);
        assert_eq!(
            watch.step(true),
            [
                Said::Systemd("WATCHDOG=1".into()),
                Said::Journal("it answers again".into())
            ]
        );
    }
}
