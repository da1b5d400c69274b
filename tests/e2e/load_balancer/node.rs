//! What stands where the fleet's nodes would be: it has their addresses in the lab's network, answers on their ports, and keeps
//! what the load balancer told it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
    thread,
};

use rolesmith_lab::Lab;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers 200.
    Well,
    /// It answers 503, as a node does that is drained.
    Sick,
    /// It takes connections and answers nothing, as a frozen node does.
    Silent,
}

/// A line of PROXY protocol, version 1: who connected to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
}

/// One of the fleet's nodes.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: &'static str,
    pub address: Ipv4Addr,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    health: Health,
    /// The last health check: its header and its request's lines.
    check: Option<(Header, Vec<String>)>,
    /// Those of everything else, by the port it came to.
    headers: Vec<(u16, Header)>,
}

impl Node {
    /// It listens when this returns, for as long as the program runs.
    pub fn start(lab: &Lab, name: &'static str, address: Ipv4Addr) -> Node {
        let node = Node {
            name,
            address,
            known: Arc::new(Mutex::new(Known {
                health: Health::Well,
                check: None,
                headers: Vec::new(),
            })),
        };
        node.plug(lab, true);
        let namespace = lab.status().expect("the lab's status").namespace;
        let (sender, receiver) = channel();
        for (port, serve) in [(80, Node::http as Serve), (443, Node::echo as Serve)] {
            let (node, namespace, sender) = (node.clone(), namespace.clone(), sender.clone());
            thread::spawn(move || node.listen(&namespace, port, serve, &sender));
        }
        for _ in 0..2 {
            receiver.recv().expect("it listens");
        }
        node
    }

    /// Gives it its address, or takes it away: then it is as silent as a machine without power.
    pub fn plug(&self, lab: &Lab, plugged: bool) {
        let action = if plugged { "add" } else { "del" };
        let address = format!("{}/24", self.address);
        let command = ["ip", "address", action, &address, "dev", "private"];
        let status = lab.client(&command).status().expect("nsenter starts");
        assert!(status.success(), "{command:?}");
    }

    pub fn set(&self, health: Health) {
        self.known.lock().expect("no panic").health = health;
    }

    fn health(&self) -> Health {
        self.known.lock().expect("no panic").health
    }

    /// The last health check: its header and its request's lines.
    pub fn check(&self) -> Option<(Header, Vec<String>)> {
        self.known.lock().expect("no panic").check.clone()
    }

    /// The headers of all connections to a port that were no health checks.
    pub fn headers(&self, port: u16) -> Vec<Header> {
        let known = self.known.lock().expect("no panic");
        let of_port = known.headers.iter().filter(|(to, _)| *to == port);
        of_port.map(|(_, header)| *header).collect()
    }

    fn listen(&self, namespace: &Path, port: u16, serve: Serve, ready: &Sender<()>) {
        let inside = File::open(namespace).expect("the lab's namespace");
        move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter it");
        let listener = TcpListener::bind((self.address, port)).expect("it can listen");
        ready.send(()).expect("somebody waits");
        for stream in listener.incoming().flatten() {
            let node = self.clone();
            // A client that goes away in the middle is its own affair.
            thread::spawn(move || serve(&node, &stream));
        }
    }

    /// Port 80: `/health`, and for all else the name.
    fn http(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let header = header(&mut reader)?;
        let mut request = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            request.push(line);
        }
        let checked = request
            .first()
            .is_some_and(|line| line.starts_with("GET /health "));
        let health = self.health();
        if health == Health::Silent {
            // Until the other side has had enough.
            return io::copy(&mut reader, &mut io::sink()).map(drop);
        }
        let mut known = self.known.lock().expect("no panic");
        if checked {
            known.check = Some((header, request));
        } else {
            known.headers.push((80, header));
        }
        drop(known);
        let status = match (checked, health) {
            (true, Health::Sick) => "503 Service Unavailable",
            _ => "200 OK",
        };
        write!(
            &mut &*stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}\n",
            self.name.len() + 1,
            self.name
        )
    }

    /// Port 443: the name, and then every byte back as it came.
    fn echo(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let header = header(&mut reader)?;
        if self.health() == Health::Silent {
            return io::copy(&mut reader, &mut io::sink()).map(drop);
        }
        self.known
            .lock()
            .expect("no panic")
            .headers
            .push((443, header));
        let mut writer = stream;
        writeln!(writer, "{}", self.name)?;
        io::copy(&mut reader, &mut writer).map(drop)
    }
}

type Serve = fn(&Node, &TcpStream) -> io::Result<()>;

/// Reads the header that stands before everything else.
fn header(reader: &mut impl io::BufRead) -> io::Result<Header> {
    let mut line = String::new();
    // The longest such line has 107 bytes (proxy-protocol.txt, 2.1).
    io::Read::take(&mut *reader, 107).read_line(&mut line)?;
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    let read = || {
        let ["PROXY", "TCP4", from, to, from_port, to_port] = words[..] else {
            return None;
        };
        Some(Header {
            from: SocketAddrV4::new(from.parse().ok()?, from_port.parse().ok()?),
            to: SocketAddrV4::new(to.parse().ok()?, to_port.parse().ok()?),
        })
    };
    read().ok_or_else(|| io::Error::other(format!("no PROXY header: {line:?}")))
}
