//! How agents speak to each other: mutual TLS between declared members, on the private address.
//!
//! Bytes only. What the requests mean is [`crate::cluster`]'s business; here stands who may say anything at all, how much
//! and how often.
//!
//! - [`identity`] judges a certificate by the facts: pure, and the one judge for both directions, for new connections and
//!   for open ones when facts change or time passes.
//! - [`sessions`] finds two machines under one name: pure.
//! - [`frame`] tells messages apart on a stream of bytes.
//! - [`credentials`] is for other services than the agents', such as PostgreSQL and Redis.
//! - [`material`] reads facts, certificates and the key into what TLS needs.
//! - [`discovery`] keeps the places where a member might be.
//! - [`server`] and [`client`] move frames; [`Net`] is their handle.
//!
//! A connection carries requests from the member that opened it, and their responses. It stays open, so that a request
//! costs one round trip. TLS 1.3 only, and without resumption: every connection shows its certificate anew.

pub mod client;
pub mod credentials;
pub mod discovery;
pub mod frame;
pub mod http;
pub mod identity;
pub mod limits;
pub mod material;
pub mod refusals;
pub mod repository;
pub mod server;
pub mod sessions;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};

use self::client::Outgoing;
use self::discovery::Located;
use self::identity::Refusal;
use self::limits::Limits;
use self::material::Material;
use self::refusals::{Refusals, RefusedPeer};
use self::sessions::{Machine, Sessions};

/// Version of what is said in frames; another one is refused.
pub const PROTOCOL: u32 = 1;

/// Who a request or a response came from: a member by the facts, one machine by what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The member's name.
    pub name: String,
    /// Which incarnation of that name, as certificate and facts say.
    pub number: u64,
    /// The random id of that machine's first start.
    pub id: u64,
}

/// What happened on the network.
#[derive(Debug)]
pub enum Event {
    /// A member asks. Dropping `reply` gives it an empty answer.
    Request {
        /// Who.
        from: Peer,
        /// What, as JSON.
        body: Vec<u8>,
        /// Where the answer goes, as JSON.
        reply: oneshot::Sender<Vec<u8>>,
    },
    /// What became of a request of ours; exactly one for each.
    Response {
        /// Whom it went to.
        to: String,
        /// The number that [`Net::send`] was given.
        number: u64,
        /// Who answered with what, as JSON; an empty answer is a refusal to give any.
        result: Result<(Peer, Vec<u8>), Unreachable>,
    },
}

/// Why there is no answer. Whether the member did what was asked is unknown in all cases but the first two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The facts know no such member.
    #[error("not a member")]
    NotAMember,
    /// Too many requests wait for that member already, or the request is too long.
    #[error("not sent: {0}")]
    NotSent(&'static str),
    /// No answer in time; with the reason why there is no connection, where there is none.
    #[error("no answer in time{}", .0.as_ref().map(|why| format!(" ({why})")).unwrap_or_default())]
    TimedOut(Option<String>),
    /// The connection broke before the answer came.
    #[error("the connection broke")]
    Broken,
}

/// What each side says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    #[serde(flatten)]
    machine: Machine,
    facts: u64,
}

/// What a peer is told before its connection is closed.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Farewell {
    why: String,
}

/// A link to a member, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The member.
    pub name: String,
    /// Whether a connection to it stands.
    pub connected: bool,
    /// Version of the facts that it told when it connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<u64>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Where it is looked for, while there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// The network, for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetStatus {
    /// Where this node listens; nothing while it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<String>,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Links to the other members.
    pub links: Vec<LinkStatus>,
    /// Who was refused since the service started.
    pub refused: Vec<RefusedPeer>,
}

/// What all tasks share.
struct Shared {
    material: watch::Receiver<Arc<Material>>,
    machine: Machine,
    limits: Limits,
    started: Instant,
    /// One question to the resolver at a time: it may take long, and the threads for that are few.
    resolver: Arc<Semaphore>,
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
}

#[derive(Default)]
struct State {
    sessions: Sessions,
    refusals: Refusals,
    /// Source addresses of members that came to us: where to find those whose address the facts do not know.
    hints: BTreeMap<String, IpAddr>,
    /// What others said of members that were looked for.
    located: BTreeMap<String, Located>,
    /// Since when there has been no connection to a member.
    away: BTreeMap<String, Instant>,
    links: BTreeMap<String, LinkStatus>,
    /// Wakes a link that waits before it tries again.
    wake: BTreeMap<String, Arc<Notify>>,
    inbound: BTreeMap<String, Vec<Arc<Notify>>>,
    listening: Option<String>,
    problem: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds it panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn material(&self) -> Arc<Material> {
        self.material.borrow().clone()
    }

    /// Milliseconds since the start, for limits and sessions.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            machine: self.machine.clone(),
            facts: self.material().book.version(),
        }
    }

    fn refuse(&self, from: &str, refusal: &Refusal) {
        let (now, unix) = (self.now(), UnixTime::now().as_secs());
        self.state().refusals.add(from, refusal, now, unix);
    }

    /// Lets a machine in under its name, or says that another one has it.
    fn admit(&self, name: &str, machine: &Machine) -> Result<(), Refusal> {
        let now = self.now();
        let mut state = self.state();
        state.sessions.admit(name, machine, now)?;
        state.refusals.welcome(name);
        Ok(())
    }

    fn heard(&self, peer: &Peer) {
        let now = self.now();
        self.state().sessions.heard(&peer.name, now);
    }
}

/// The handle. Dropping it ends all tasks.
pub struct Net {
    shared: Arc<Shared>,
    links: BTreeMap<String, (mpsc::Sender<Outgoing>, JoinHandle<()>)>,
    server: JoinHandle<()>,
    resolver: JoinHandle<()>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("links", &self.links.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Net {
    /// Begins to listen and to connect. Inside a tokio runtime. `material` gives the facts in force and whatever follows
    /// them; after each change [`Net::reconcile`] has to be called.
    #[must_use]
    pub fn start(
        material: watch::Receiver<Arc<Material>>,
        machine: Machine,
        limits: Limits,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(limits.events);
        let shared = Arc::new(Shared {
            material,
            machine,
            limits,
            started: Instant::now(),
            resolver: Arc::new(Semaphore::new(1)),
            state: Mutex::default(),
            events,
        });
        let server = tokio::spawn(server::listen(shared.clone()));
        let resolver = tokio::spawn(discovery::resolve(shared.clone()));
        let mut net = Self {
            shared,
            links: BTreeMap::new(),
            server,
            resolver,
        };
        net.reconcile();
        (net, receiver)
    }

    /// Makes links to new members, and ends those to members that are no more.
    pub fn reconcile(&mut self) {
        let material = self.shared.material();
        let members: BTreeSet<&str> = material.others().collect();
        let gone: Vec<String> = self
            .links
            .keys()
            .filter(|name| !members.contains(name.as_str()))
            .cloned()
            .collect();
        for name in gone {
            // Its task ends when the channel does.
            self.links.remove(&name);
            let mut state = self.shared.state();
            state.links.remove(&name);
            state.wake.remove(&name);
            state.away.remove(&name);
            state.located.remove(&name);
        }
        for name in members {
            if !self.links.contains_key(name) {
                let (sender, receiver) = mpsc::channel(self.shared.limits.queue);
                let wake = Arc::new(Notify::new());
                {
                    let mut state = self.shared.state();
                    state.wake.insert(name.to_owned(), wake);
                    state.away.insert(name.to_owned(), Instant::now());
                }
                let task =
                    tokio::spawn(client::link(self.shared.clone(), name.to_owned(), receiver));
                self.links.insert(name.to_owned(), (sender, task));
            }
        }
    }

    /// Sends a request to a member. Its outcome comes as one [`Event::Response`] with that number, after `limit` at the
    /// latest.
    pub fn send(&self, to: &str, number: u64, body: Vec<u8>, limit: Duration) {
        let problem = match self.links.get(to) {
            None => Unreachable::NotAMember,
            Some(_) if body.len() > frame::MAX_BODY => Unreachable::NotSent("too long"),
            Some((link, _)) => {
                let request = Outgoing {
                    number,
                    body,
                    deadline: Instant::now() + limit,
                };
                match link.try_send(request) {
                    Ok(()) => return,
                    Err(_) => Unreachable::NotSent("too many requests wait"),
                }
            }
        };
        let (events, to) = (self.shared.events.clone(), to.to_owned());
        // From a task: the caller may be the one who empties the channel.
        tokio::spawn(async move {
            let result = Err(problem);
            let _ = events.send(Event::Response { to, number, result }).await;
        });
    }

    /// Which machine has each name by the active configuration; it is preferred where two claim one name.
    pub fn expect(&self, machines: BTreeMap<String, u64>) {
        self.shared.state().sessions.expect(machines);
    }

    /// Members that are looked for: the facts do not say where they are, or they were not reached there for long.
    #[must_use]
    pub fn lost(&self) -> BTreeSet<String> {
        self.shared.lost()
    }

    /// Where members might be, as another service was told. Who is no member is passed over.
    pub fn told(&self, mut told: BTreeMap<String, Vec<IpAddr>>) {
        told.retain(|name, _| self.links.contains_key(name));
        self.shared.told(told);
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> NetStatus {
        let mut status = {
            let state = self.shared.state();
            NetStatus {
                listening: state.listening.clone(),
                problem: state.problem.clone(),
                links: state.links.values().cloned().collect(),
                refused: state.refusals.list(),
            }
        };
        for link in status.links.iter_mut().filter(|link| !link.connected) {
            link.addresses = self.shared.candidates(&link.name);
        }
        status
    }

    /// What is to be written to the log since the last call: refusals, at a bounded rate.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let now = self.shared.now();
        self.shared.state().refusals.log(now)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.server.abort();
        self.resolver.abort();
        for (_, task) in self.links.values() {
            task.abort();
        }
        // Connections of others end with their next look at this.
        for kill in self.shared.state().inbound.values().flatten() {
            kill.notify_one();
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
