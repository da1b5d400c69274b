//! A port scanner that lives in a network namespace: which ports of an address answer, and how.
//!
//! A packet that a firewall lets in is answered, by a service or by the kernel that has none there; one that it drops is not.

use std::{
    collections::BTreeMap,
    fs::File,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd as _, OwnedFd},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, send, socket_with, sockopt},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Sockets at once. Each has a port of its own, of which a namespace has 28,000.
const AT_ONCE: usize = 6000;

/// How a port answers. One that does not has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Something listens there.
    Open,
    /// Nothing listens there, and the kernel says so.
    Closed,
    /// A filter says that it does not let it in.
    Prohibited,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A connection is begun, and ended at once where it is made.
    Tcp,
    /// One byte is sent.
    Udp,
}

/// From where ports are scanned.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// The network namespace, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub namespace: PathBuf,
    /// An address of that namespace.
    pub address: IpAddr,
}

impl Scanner {
    /// Asks each port of `to` once, and waits `patience` for each answer; the kernel asks again after a second. A port that is
    /// named twice is asked twice, and one answer is told.
    ///
    /// # Panics
    /// Where the namespace or its addresses are not there.
    #[must_use]
    pub fn scan(
        &self,
        transport: Transport,
        to: IpAddr,
        ports: &[u16],
        patience: Duration,
    ) -> BTreeMap<u16, Answer> {
        self.answers(transport, to, ports, patience)
            .into_iter()
            .collect()
    }

    /// As [`Scanner::scan`], with every answer.
    ///
    /// # Panics
    /// Where the namespace or its addresses are not there.
    #[must_use]
    pub fn answers(
        &self,
        transport: Transport,
        to: IpAddr,
        ports: &[u16],
        patience: Duration,
    ) -> Vec<(u16, Answer)> {
        allow_sockets();
        inside(&self.namespace, || {
            ports
                .chunks(AT_ONCE)
                .flat_map(|ports| self.some(transport, to, ports, patience))
                .collect()
        })
    }

    fn some(
        &self,
        transport: Transport,
        to: IpAddr,
        ports: &[u16],
        patience: Duration,
    ) -> Vec<(u16, Answer)> {
        let mut answers = Vec::new();
        let mut waiting = Vec::new();
        for port in ports {
            let (socket, told) = self.ask(transport, SocketAddr::new(to, *port));
            match told {
                Some(answer) => answers.push((*port, answer)),
                None => waiting.push((*port, socket)),
            }
        }
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if waiting.is_empty() || left.is_zero() {
                return answers;
            }
            let heard = heard(transport, &waiting, left);
            let mut number = 0;
            waiting.retain(|(port, _)| {
                let answer = heard[number];
                number += 1;
                answers.extend(answer.map(|answer| (*port, answer)));
                answer.is_none()
            });
        }
    }

    /// Begins to ask; some answers are there at once.
    fn ask(&self, transport: Transport, to: SocketAddr) -> (OwnedFd, Option<Answer>) {
        let family = match to {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let kind = match transport {
            Transport::Tcp => SocketType::STREAM,
            Transport::Udp => SocketType::DGRAM,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, kind, flags, None).expect("a socket");
        bind(&socket, &SocketAddr::new(self.address, 0)).expect("the address is there");
        let begun = match transport {
            Transport::Tcp => {
                // Ends a connection by a reset, so that neither side remembers it.
                sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("an option");
                connect(&socket, &to)
            }
            Transport::Udp => connect(&socket, &to)
                .and_then(|()| send(&socket, b"?", rustix::net::SendFlags::empty()))
                .map(drop),
        };
        let answer = match (transport, begun) {
            (Transport::Tcp, Ok(())) => Some(Answer::Open),
            (Transport::Udp, Ok(())) => None,
            (_, Err(error)) => meaning(error),
        };
        (socket, answer)
    }
}

/// Does something in a network namespace. Sockets that are made there stay in it.
///
/// # Panics
/// Where the namespace is not there, or `work` panics.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    // Only a thread of its own can be in another namespace.
    let enter = || {
        let namespace = File::open(namespace).expect("the namespace is there");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter it");
        work()
    };
    thread::scope(|scope| scope.spawn(enter).join()).expect("the work ends")
}

/// What became of each of the sockets, once something did or the time is over.
fn heard(
    transport: Transport,
    waiting: &[(u16, OwnedFd)],
    patience: Duration,
) -> Vec<Option<Answer>> {
    let events = match transport {
        Transport::Tcp => PollFlags::OUT,
        Transport::Udp => PollFlags::IN,
    };
    let mut polled: Vec<PollFd<'_>> = waiting
        .iter()
        .map(|(_, socket)| PollFd::new(socket, events))
        .collect();
    let limit = Timespec::try_from(patience).expect("a short time");
    poll(&mut polled, Some(&limit)).expect("sockets can be waited for");
    polled
        .iter()
        .zip(waiting)
        .map(|(polled, (_, socket))| {
            if polled.revents().is_empty() {
                return None;
            }
            match sockopt::socket_error(socket).expect("a socket") {
                Ok(()) => Some(Answer::Open),
                Err(error) => meaning(error),
            }
        })
        .collect()
}

/// What an error of a connection says of the port.
fn meaning(error: Errno) -> Option<Answer> {
    match error {
        Errno::INPROGRESS => None,
        Errno::CONNREFUSED => Some(Answer::Closed),
        // The connection was made, and the other side ended it before this one looked.
        Errno::CONNRESET => Some(Answer::Open),
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::ACCESS => Some(Answer::Prohibited),
        other => panic!("a port cannot be asked: {other}"),
    }
}

fn allow_sockets() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).expect("a limit below the highest");
}
