//! What edges say to each other, and asking it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rolesmith_model::facts::{CA_FILE, NODES_DIR};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::bundle::{Offer, names};
use super::{ROLE, Settings};
use crate::files::{self, Root, Seen};
use crate::net::limits::Limits;
use crate::net::material::{Material, MaterialError, Parts};
use crate::net::sessions::Machine;
use crate::net::{Event, Net, Unreachable};
use crate::observe;

/// A question. Whoever does not know one gives an empty answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How are you, and what do you have?
    Status,
    /// Give me that site's certificate with its key.
    Fetch {
        /// The site.
        site: String,
    },
    /// What is the answer to this challenge (RFC 8555, 8.3)?
    Challenge {
        /// Its token.
        token: String,
    },
    /// Promise me that nobody else issues.
    Lease,
    /// I have issued, or given up.
    Release,
    /// There is a new certificate.
    News,
}

/// An answer. Not `Debug`: one of them is secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Fetch`]: PEM; nothing where there is none.
    Certificate {
        /// Key and certificates.
        pem: Option<String>,
    },
    /// To [`Request::Challenge`].
    Challenge {
        /// The key authorization; nothing where the token is unknown.
        authorization: Option<String>,
    },
    /// To [`Request::Lease`].
    Lease {
        /// Whether it was promised.
        granted: bool,
    },
    /// To the others.
    Done,
}

/// How an edge is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the load balancer is told to send requests to it.
    pub ready: bool,
    /// Sites for which it has failed lately. For agents of before, which know no [`Status::turns`].
    pub failing: Vec<String>,
    /// How often it has had its turn to ask for a site's certificate, and failed. What is not there was never tried.
    #[serde(default)]
    pub turns: BTreeMap<String, u32>,
    /// Its certificates by site.
    pub offers: BTreeMap<String, Offer>,
    /// The names that its settings have for each site. Agents of before say nothing.
    #[serde(default)]
    pub hosts: BTreeMap<String, Vec<String>>,
}

impl Status {
    /// Whether it may be the one that asks the authority for a certificate of that site with those names. One whose settings are older
    /// misses nothing, and would let the others wait for it; of one that does not say, nobody knows.
    #[must_use]
    pub fn may_ask(&self, site: &str, hosts: &[String]) -> bool {
        let same = |its: &Vec<String>| names(its) == names(hosts);
        self.ready && self.hosts.get(site).is_some_and(same)
    }
}

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(3);

/// The other edges.
pub struct Peers {
    net: Mutex<Net>,
    material: watch::Sender<Arc<Material>>,
    number: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Vec<u8>>>>,
}

impl Peers {
    /// Begins to listen and to connect. Requests of others come out of the channel, responses through [`Peers::settle`].
    #[must_use]
    pub fn start(material: Material, machine: Machine) -> (Arc<Self>, mpsc::Receiver<Event>) {
        let (sender, receiver) = watch::channel(Arc::new(material));
        let (net, events) = Net::start(receiver, machine, limits());
        let peers = Self {
            net: Mutex::new(net),
            material: sender,
            number: AtomicU64::new(0),
            waiting: Mutex::default(),
        };
        (Arc::new(peers), events)
    }

    /// Other facts are in force.
    pub fn follow(&self, material: Material) {
        self.material
            .send_modify(|now| *now = Arc::new(material.after(now)));
        self.net().reconcile();
    }

    /// The facts in force.
    #[must_use]
    pub fn material(&self) -> Arc<Material> {
        self.material.borrow().clone()
    }

    /// What is to be written to the log.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.net().log()
    }

    fn net(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Vec<u8>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A response has come, or will not come any more.
    pub fn settle(&self, number: u64, result: Result<Vec<u8>, Unreachable>) {
        let waiting = self.waiting().remove(&number);
        if let (Some(waiting), Ok(body)) = (waiting, result) {
            // Who asked may have gone.
            let _ = waiting.send(body);
        }
    }

    /// Asks one edge. Nothing if it does not answer in time, or not in a way that is understood.
    pub async fn ask(&self, to: &str, request: &Request) -> Option<Answer> {
        let body = serde_json::to_vec(request).ok()?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.waiting().insert(number, sender);
        // Exactly one response follows, whatever happens.
        self.net().send(to, number, body, LIMIT);
        serde_json::from_slice(&answer.await.ok()?).ok()
    }

    /// Asks all others at once: answers come one after the other, and the channel ends after the last one.
    pub fn ask_all(self: &Arc<Self>, request: &Request) -> mpsc::Receiver<(String, Answer)> {
        let others: Vec<String> = self.material().others().map(str::to_owned).collect();
        let (sender, receiver) = mpsc::channel(others.len().max(1));
        let mut asking = JoinSet::new();
        for name in others {
            let (peers, request, sender) = (self.clone(), request.clone(), sender.clone());
            asking.spawn(async move {
                if let Some(answer) = peers.ask(&name, &request).await {
                    let _ = sender.send((name, answer)).await;
                }
            });
        }
        asking.detach_all();
        receiver
    }
}

/// Links are idle most of the time, and nothing hangs on a member that is away being found at once.
fn limits() -> Limits {
    Limits {
        ping: Duration::from_secs(20),
        idle: Duration::from_secs(90),
        retry: (Duration::from_millis(200), Duration::from_secs(15)),
        ..Limits::default()
    }
}

/// Reads what connections need, for edges alone: whoever has not the role is nobody here. `key` is the node's key as systemd gives it
/// to the service.
///
/// # Errors
/// [`MaterialError`].
pub fn load(root: &Root, settings: &Settings, key: &Path) -> Result<Material, MaterialError> {
    let broken =
        |what: &str, why: &dyn std::fmt::Display| MaterialError::Broken(format!("{what}: {why}"));
    let waiting = |what: &str| MaterialError::Waiting(format!("{what} is not there yet"));
    let read = |path: &Path| {
        let name = path.to_string_lossy().into_owned();
        files::read(path)
            .map_err(|error| broken(&name, &error))?
            .ok_or_else(|| waiting(&name))
    };
    let identity = match observe::identity(root) {
        Seen::Is(identity) => identity,
        Seen::Absent => return Err(MaterialError::NotEnrolled),
        Seen::Broken(why) => return Err(broken("this node's identity", &why)),
    };
    let mut facts = match observe::facts(root) {
        Seen::Is(facts) => facts,
        Seen::Absent => return Err(waiting("the facts package")),
        Seen::Broken(why) => return Err(broken("the facts", &why)),
    };
    facts
        .members
        .retain(|member| member.name == identity.node || member.roles.iter().any(|r| r == ROLE));
    facts.agent_port = settings.port;
    let mut certificates = BTreeMap::new();
    for member in &facts.members {
        let path = root.join(NODES_DIR).join(&member.name).join("cert.pem");
        if let Ok(pem) = read(&path) {
            certificates.insert(member.name.clone(), pem);
        }
    }
    Material::new(Parts {
        authorities: read(&root.join(CA_FILE))?,
        key: read(key)?,
        identity,
        facts,
        certificates,
        address: settings.address.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn who_knows_other_names_is_not_waited_for() {
        let status = |ready, names: &[&str]| Status {
            ready,
            hosts: [("shop".to_owned(), hosts(names))].into(),
            ..Status::default()
        };
        let wanted = hosts(&["a.example.com", "b.example.com"]);
        for (status, may) in [
            (status(true, &["b.example.com", "A.example.com"]), true),
            (status(false, &["a.example.com", "b.example.com"]), false),
            (status(true, &["a.example.com"]), false),
        ] {
            assert_eq!(status.may_ask("shop", &wanted), may, "{status:?}");
            assert!(!status.may_ask("other", &wanted));
        }
    }

    #[test]
    fn agents_of_before_are_understood() {
        let text = r#"{"ready":true,"failing":["shop"],"offers":{}}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert!(status.ready && !status.may_ask("shop", &hosts(&["a.example.com"])));
    }
}
