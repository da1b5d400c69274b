//! The calling side: one link to each other member, which connects again by itself.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Duration, Instant, interval, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::frame::{Frame, FrameError, Kind};
use super::identity::{Refusal, Side};
use super::limits::Jitter;
use super::server::judge;
use super::stream::{self, Greeting, Stream, farewell};
use super::{Event, LinkStatus, Peer, Shared, Unreachable};

/// A request that is to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) number: u64,
    pub(super) body: Vec<u8>,
    pub(super) deadline: Instant,
}

type Called = Stream<tokio_rustls::client::TlsStream<TcpStream>>;

/// A connection to the member, introduced.
struct Connection {
    stream: Called,
    peer: Peer,
    facts: u64,
    address: IpAddr,
}

/// Keeps a connection to a member for as long as it is one, and sends what comes.
pub(super) async fn link(
    shared: Arc<Shared>,
    name: String,
    mut requests: mpsc::Receiver<Outgoing>,
) {
    let wake = shared.state().wake.get(&name).cloned().unwrap_or_default();
    let mut link = Link {
        retry: shared.limits.retry.0,
        jitter: Jitter::new(seed(&shared, &name)),
        waiting: VecDeque::new(),
        given_up: Vec::new(),
        problem: None,
        attempts: 0,
        shared,
        name,
        wake,
    };
    link.tell(None);
    while let Some(connection) = link.connect(&mut requests).await {
        link.tell(Some(connection.facts));
        link.problem = None;
        link.attempts = 0;
        link.shared.reached(&link.name, connection.address);
        let began = Instant::now();
        if !link.converse(connection, &mut requests).await {
            return;
        }
        link.tell(None);
        // A connection that stood for a while is made again at once, one that is closed as soon as it stands is not.
        if began.elapsed() >= link.shared.limits.retry.1 {
            link.retry = link.shared.limits.retry.0;
        } else if !link.pause(&mut requests).await {
            return;
        }
    }
}

fn seed(shared: &Shared, name: &str) -> u64 {
    name.bytes().fold(shared.machine.incarnation, |seed, byte| {
        (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Link {
    shared: Arc<Shared>,
    name: String,
    wake: Arc<Notify>,
    retry: Duration,
    jitter: Jitter,
    /// Requests that wait for a connection.
    waiting: VecDeque<Outgoing>,
    /// Requests whose outcome is known and not told yet.
    given_up: Vec<(u64, Unreachable)>,
    /// Why there is no connection.
    problem: Option<String>,
    /// Counts attempts to connect since there was a connection.
    attempts: usize,
}

impl Link {
    fn tell(&self, connected: Option<u64>) {
        let status = LinkStatus {
            name: self.name.clone(),
            connected: connected.is_some(),
            facts: connected,
            problem: self.problem.clone().filter(|_| connected.is_none()),
            addresses: Vec::new(),
        };
        let mut state = self.shared.state();
        state.links.insert(self.name.clone(), status);
        if connected.is_some() {
            state.away.remove(&self.name);
        } else {
            state
                .away
                .entry(self.name.clone())
                .or_insert_with(Instant::now);
        }
    }

    async fn outcome(&self, number: u64, result: Result<(Peer, Vec<u8>), Unreachable>) {
        let to = self.name.clone();
        // Without a receiver the service is ending.
        let _ = self
            .shared
            .events
            .send(Event::Response { to, number, result })
            .await;
    }

    /// Tries until there is a connection. Meanwhile requests wait, each until its time is up. Nothing when the member is
    /// none any more.
    async fn connect(&mut self, requests: &mut mpsc::Receiver<Outgoing>) -> Option<Connection> {
        loop {
            let (shared, name) = (self.shared.clone(), self.name.clone());
            let attempts = self.attempts;
            self.attempts = attempts.wrapping_add(1);
            let mut attempt = std::pin::pin!(async move {
                let limit = shared.limits.handshake;
                timeout(limit, open(&shared, &name, attempts))
                    .await
                    .unwrap_or_else(|_| Err("no answer to the attempt to connect".to_owned()))
            });
            let failed = loop {
                tokio::select! {
                    opened = &mut attempt => match opened {
                        Ok(connection) => return Some(connection),
                        Err(why) => break why,
                    },
                    alive = self.wait(requests) => {
                        self.tell_given_up().await;
                        if !alive {
                            return None;
                        }
                    }
                }
            };
            if self.problem.as_ref() != Some(&failed) {
                self.problem = Some(failed);
                self.tell(None);
            }
            if !self.pause(requests).await {
                return None;
            }
        }
    }

    /// Waits before the next attempt, each time longer, or until the member comes to us. Whether it is still one.
    async fn pause(&mut self, requests: &mut mpsc::Receiver<Outgoing>) -> bool {
        let end = Instant::now() + self.jitter.around(self.retry);
        self.retry = (self.retry * 2).min(self.shared.limits.retry.1);
        let wake = self.wake.clone();
        loop {
            tokio::select! {
                () = sleep_until(end) => return true,
                () = wake.notified() => return true,
                alive = self.wait(requests) => {
                    self.tell_given_up().await;
                    if !alive {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes one request to those that wait, or finds those whose time is over. Whether the member is still one. May be
    /// dropped before it is ready: nothing is awaited after something was taken.
    async fn wait(&mut self, requests: &mut mpsc::Receiver<Outgoing>) -> bool {
        let next = self.waiting.iter().map(|request| request.deadline).min();
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => self.waiting.push_back(request),
                None => return false,
            },
            () = until(next) => {
                let now = Instant::now();
                let (late, waiting) = self.waiting.drain(..).partition(|request| request.deadline <= now);
                self.waiting = waiting;
                let late: VecDeque<Outgoing> = late;
                self.given_up.extend(late.into_iter().map(|request| {
                    (request.number, Unreachable::TimedOut(self.problem.clone()))
                }));
            }
        }
        if self.waiting.len() > self.shared.limits.queue
            && let Some(oldest) = self.waiting.pop_front()
        {
            let why = Unreachable::NotSent("too many requests wait");
            self.given_up.push((oldest.number, why));
        }
        true
    }

    async fn tell_given_up(&mut self) {
        for (number, why) in std::mem::take(&mut self.given_up) {
            self.outcome(number, Err(why)).await;
        }
    }

    /// Sends requests and hands responses on until the connection ends. Whether the member is still one.
    async fn converse(
        &mut self,
        connection: Connection,
        requests: &mut mpsc::Receiver<Outgoing>,
    ) -> bool {
        let Connection { stream, peer, .. } = connection;
        let Stream {
            mut reader,
            writer,
            chain,
        } = stream;
        let mut material = self.shared.material.clone();
        let mut review = interval(self.shared.limits.review);
        let mut ping = interval(self.shared.limits.ping);
        // By the order of sending, which is a number of our own: those of the caller may repeat.
        let mut pending: BTreeMap<u64, (u64, Instant)> = BTreeMap::new();
        let mut sent = 0_u64;
        let mut heard = Instant::now();
        let mut send = |request: Outgoing, pending: &mut BTreeMap<u64, (u64, Instant)>| {
            sent += 1;
            pending.insert(sent, (request.number, request.deadline));
            writer.send(Frame {
                kind: Kind::Request,
                number: sent,
                body: request.body,
            })
        };
        let mut alive = true;
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(request) = waiting.pop_front() {
            if send(request, &mut pending).is_err() {
                break;
            }
        }
        self.waiting = waiting;
        let problem = loop {
            let next = pending.values().map(|(_, deadline)| *deadline).min();
            tokio::select! {
                // What has arrived counts before the time that ran out while this task could not run.
                biased;
                frame = reader.next() => {
                    let frame = match frame {
                        Ok(Some(frame)) => frame,
                        Ok(None) => break "it closed the connection".to_owned(),
                        Err(FrameError::Io(error)) => break error.to_string(),
                        Err(error) => break self.refuse(&Refusal::Malformed(error.to_string())),
                    };
                    heard = Instant::now();
                    self.shared.heard(&peer);
                    match frame.kind {
                        Kind::Response => {
                            // A response that came too late has had its outcome.
                            if let Some((number, _)) = pending.remove(&frame.number) {
                                self.outcome(number, Ok((peer.clone(), frame.body))).await;
                            }
                        }
                        Kind::Pong => {}
                        Kind::Farewell => break format!("it refuses this node: {}", farewell(&frame)),
                        _ => break self.refuse(&Refusal::Malformed("it does not keep to the protocol".to_owned())),
                    }
                }
                request = requests.recv() => match request {
                    Some(request) => if send(request, &mut pending).is_err() {
                        break "it does not read".to_owned();
                    },
                    None => {
                        alive = false;
                        break String::new();
                    }
                },
                () = until(next) => {
                    let now = Instant::now();
                    let late: Vec<u64> = pending
                        .iter()
                        .filter(|(_, (_, deadline))| *deadline <= now)
                        .map(|(sent, _)| *sent)
                        .collect();
                    for sent in late {
                        if let Some((number, _)) = pending.remove(&sent) {
                            self.outcome(number, Err(Unreachable::TimedOut(None))).await;
                        }
                    }
                    if heard.elapsed() >= self.shared.limits.stall {
                        break "it went silent".to_owned();
                    }
                }
                _ = ping.tick() => {
                    let silent = heard.elapsed();
                    if silent >= self.shared.limits.ping * 3 {
                        break "it went silent".to_owned();
                    }
                    if silent * 2 >= self.shared.limits.ping
                        && writer.send(Frame::bare(Kind::Ping, 0)).is_err()
                    {
                        break "it does not read".to_owned();
                    }
                }
                changed = material.changed() => {
                    if changed.is_err() {
                        alive = false;
                        break String::new();
                    }
                    if let Err(refusal) = judge(&self.shared, &chain, Side::Server, &peer) {
                        break self.refuse(&refusal);
                    }
                }
                _ = review.tick() => {
                    if let Err(refusal) = judge(&self.shared, &chain, Side::Server, &peer) {
                        break self.refuse(&refusal);
                    }
                }
            }
        };
        for (number, _) in pending.into_values() {
            self.outcome(number, Err(Unreachable::Broken)).await;
        }
        self.problem = Some(problem);
        alive
    }

    fn refuse(&self, refusal: &Refusal) -> String {
        self.shared.refuse(&self.name, refusal);
        refusal.to_string()
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Opens a connection; `attempt` counts those that were tried. The error says for people why there is none.
async fn open(shared: &Arc<Shared>, name: &str, attempt: usize) -> Result<Connection, String> {
    let material = shared.material();
    let candidates = shared.candidates(name);
    // One after the other: the first may be dead for ever.
    let Some(address) = candidates.get(attempt % candidates.len().max(1)) else {
        return Err(shared.nowhere(name));
    };
    let address = SocketAddr::new(*address, material.facts.agent_port);
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("{address}: {error}"))?;
    stream::prepare(&stream).map_err(|error| error.to_string())?;
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("{name:?} cannot be the name of a server"))?;
    let refuse = |refusal: &Refusal| {
        shared.refuse(&format!("{} ({name})", address.ip()), refusal);
        refusal.to_string()
    };
    let tls = TlsConnector::from(material.client.clone())
        .connect(server, stream)
        .await
        .map_err(|error| match Refusal::from_tls(&error) {
            Some(refusal) => refuse(&refusal),
            None => format!("{address}: {error}"),
        })?;
    let chain = tls
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .to_vec();
    let (has, number) = material
        .book
        .judge(&chain, Side::Server, UnixTime::now())
        .map_err(|refusal| refuse(&refusal))?;
    if has != name {
        let wanted = name.to_owned();
        return Err(refuse(&Refusal::OtherMember { has, wanted }));
    }
    let mut stream = Stream::new(tls, &chain);
    stream
        .writer
        .hello(&shared.hello())
        .map_err(|error| error.to_string())?;
    let hello = match stream.hello().await {
        Ok(hello) => hello,
        Err(Greeting::Lost(why)) => return Err(why),
        Err(Greeting::Refused(why)) => return Err(format!("it refuses this node: {why}")),
        Err(Greeting::Bad(refusal)) => return Err(refuse(&refusal)),
    };
    shared
        .admit(name, &hello.machine)
        .map_err(|refusal| refuse(&refusal))?;
    let peer = Peer {
        name: name.to_owned(),
        number,
        id: hello.machine.incarnation,
    };
    Ok(Connection {
        stream,
        peer,
        facts: hello.facts,
        address: address.ip(),
    })
}
