//! The way from this machine's loopback address to the load balancer.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::{Duration, Instant},
};

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::Fleet;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The port that leads to 443 unless it is taken.
pub const HTTPS: u16 = 8443;
/// How long an answer may take; longer than the load balancer tries a node that is not there.
const LIMIT: Duration = Duration::from_secs(5);

/// The ports at 127.0.0.1.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    pub https: u16,
    pub http: u16,
}

impl Way {
    /// As `lab status --json` tells it.
    pub fn of(status: &Value) -> Self {
        let forwards = status["outside"]["forwards"].as_array().expect("a list");
        let port = |to: &str| {
            let forward = forwards.iter().find(|forward| forward["to"] == to);
            let port = forward.and_then(|forward| forward["port"].as_u64());
            u16::try_from(port.expect("it leads there")).expect("a port")
        };
        Self {
            https: port("203.0.113.2:443"),
            http: port("203.0.113.2:80"),
        }
    }

    fn connect(port: u16) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
        stream.set_read_timeout(Some(LIMIT)).expect("settable");
        stream
    }

    /// A connection to 443, and the node that answers it.
    pub fn open(&self) -> (String, TcpStream) {
        let mut stream = Self::connect(self.https);
        let mut name = Vec::new();
        // Byte by byte: what follows is the caller's.
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            match byte {
                [b'\n'] => break,
                [other] => name.push(other),
            }
        }
        (String::from_utf8(name).expect("a name"), stream)
    }

    /// What 80 answers: head and body.
    pub fn get(&self, path: &str) -> (String, String) {
        let mut stream = Self::connect(self.http);
        write!(stream, "GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n").expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    /// Whether a node answers within two seconds.
    pub fn answers(&self) -> bool {
        let stream = Self::connect(self.https);
        let limit = Some(Duration::from_secs(2));
        stream.set_read_timeout(limit).expect("settable");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && !line.is_empty()
    }

    /// The process that forwards is started again when the lab is brought up, on the same ports.
    pub fn returns(&self, fleet: &Fleet) {
        let [pid] = forwarders(fleet)[..] else {
            panic!("one forwarder: {:?}", forwarders(fleet));
        };
        let process = Pid::from_raw(pid).expect("a process");
        kill_process(process, Signal::KILL).expect("it runs");
        let begun = Instant::now();
        while !forwarders(fleet).is_empty() {
            assert!(begun.elapsed() < LIMIT, "it ends");
        }
        self.assert_closed();
        let told = fleet.run(&["lab", "status", "--json"]);
        let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
        assert_eq!(told["outside"]["forwards"], Value::Array(vec![]));
        fleet.run(&["lab", "up", OUTSIDE]);
        assert!(self.answers());
        assert_eq!(forwarders(fleet).len(), 1);
    }

    /// Nobody listens.
    pub fn assert_closed(&self) {
        for port in [self.https, self.http] {
            let error = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect_err("closed");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
    }
}

/// The processes that lead into this fleet's lab.
fn forwarders(fleet: &Fleet) -> Vec<i32> {
    let told = fleet.run(&["lab", "status", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).expect("JSON");
    let namespace = told["namespace"].as_str().expect("a path").to_owned();
    let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_string_lossy().parse().ok()?;
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let words: Vec<&str> = line.split('\0').collect();
            (words.contains(&"__forward") && words.contains(&namespace.as_str())).then_some(pid)
        })
        .collect()
}
