//! The service: looks at what others have, and asks the authority when it is this edge's turn.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::bundle::{Bundle, Offer};
use super::challenge::{self, Challenges};
use super::install::{served, unserved};
use super::issue::issue;
use super::lease::{self, majority};
use super::peers::{self, Answer, Peers, Request, Status};
use super::plan::{Attempts, Candidate, Need, alone, better, need, turn};
use super::report::{Report, SiteReport};
use super::store::{self, Store};
use super::{Settings, Site};
use crate::edge;
use crate::files::{self, Access, Root, Seen};
use crate::net::limits::Jitter;
use crate::net::material::Stamps;
use crate::net::sessions::Machine;
use crate::net::{Event, Peer};
use crate::notify::Notifier;
use crate::program;
use crate::runtime::store::{boot, random};

/// A file whose change wakes what gives certificates to nginx (rolesmith-certificates-install.path).
pub const NEW: &str = "/run/rolesmith-certificates/new";

/// Between two looks while something is missing, and otherwise at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// How often systemd hears that the service lives.
const ALIVE: Duration = Duration::from_secs(10);
/// While there are no facts.
const WAIT: Duration = Duration::from_secs(1);

/// What the service is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the machine's files are.
    pub root: Root,
    /// The node's key, as systemd gives it to the service.
    pub key: PathBuf,
    /// Unix seconds.
    pub clock: fn() -> u64,
    /// Writes a line to the log.
    pub log: fn(&str),
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings.
    #[error("{0}")]
    Settings(String),
    /// The machine does not give what every process needs.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// This edge.
struct Node {
    setup: Setup,
    settings: Settings,
    store: Arc<Mutex<Store>>,
    peers: Arc<Peers>,
    /// Whether the load balancer is told to send requests here.
    ready: AtomicBool,
    /// There is something to look at.
    wake: Notify,
    report: Mutex<Report>,
}

/// Runs until it is ended.
///
/// # Errors
/// [`RunError`].
pub async fn run(setup: Setup) -> Result<(), RunError> {
    let notifier = Notifier::from_env();
    // At once: a maintainer script that starts this unit must not wait for the machine to be enrolled.
    notifier.send("READY=1");
    tokio::spawn(async {
        let notifier = Notifier::from_env();
        loop {
            notifier.send("WATCHDOG=1");
            sleep(ALIVE).await;
        }
    });
    let settings = Settings::load(&setup.root).map_err(RunError::Settings)?;
    let dir = setup.root.join(store::DIR);
    let mut store = Store::open(&dir, &settings);
    store.forget((setup.clock)());
    let machine = machine(&setup.root, &dir)?;
    let mut told = String::new();
    let (material, mut stamps) = loop {
        let stamps = Stamps::look(&setup.root, None);
        match peers::load(&setup.root, &settings, &setup.key) {
            Ok(material) => {
                let stamps = stamps.look_again(&setup.root, &material);
                break (material, stamps);
            }
            Err(why) => {
                let why = why.to_string();
                if why != told {
                    (setup.log)(&format!("waiting: {why}"));
                    told = why;
                }
                sleep(WAIT).await;
            }
        }
    };
    let (peers, events) = Peers::start(material, machine);
    let store = Arc::new(Mutex::new(store));
    let challenges = Challenges::new(
        setup.root.clone(),
        peers.clone(),
        store.clone(),
        setup.clock,
    );
    let challenges = Arc::new(challenges);
    let socket = setup.root.join(challenge::SOCKET);
    let mut serving = tokio::spawn(async move { challenges.serve(&socket).await });
    let node = Arc::new(Node {
        settings,
        store,
        peers,
        ready: AtomicBool::new(false),
        wake: Notify::new(),
        report: Mutex::default(),
        setup,
    });
    tokio::spawn(node.clone().serve(events));
    let mut jitter =
        Jitter::new(random().map_err(|error| RunError::System("/dev/urandom", error))?);
    let mut seen = false;
    loop {
        node.follow(&mut stamps);
        // Twice in a row, so that the load balancer has seen it too.
        let well = well(&node.setup.root).await;
        node.ready.store(well && seen, Ordering::Relaxed);
        seen = well;
        node.look().await;
        for line in node.peers.log() {
            (node.setup.log)(&line);
        }
        // A time that is due is kept; looks at others are spread.
        let pause = node.tell(&notifier).min(jitter.around(PAUSE.1));
        tokio::select! {
            () = sleep(pause) => {}
            () = node.wake.notified() => {}
            ended = &mut serving => {
                let error = match ended {
                    Ok(Ok(())) => io::ErrorKind::UnexpectedEof.into(),
                    Ok(Err(error)) => error,
                    Err(error) => io::Error::other(error),
                };
                return Err(RunError::System(challenge::SOCKET, error));
            }
        }
    }
}

/// This machine, by the random id of its first start here.
fn machine(root: &Root, dir: &Path) -> Result<Machine, RunError> {
    let path = dir.join("id.json");
    let incarnation = match files::read_json(&path) {
        Seen::Is(id) => id,
        _ => {
            let id = random().map_err(|error| RunError::System("/dev/urandom", error))?;
            files::write_json(&path, &id, Access::PRIVATE)
                .map_err(|error| RunError::System("the machine's id", error))?;
            id
        }
    };
    Ok(Machine {
        incarnation,
        boot: boot(root),
    })
}

/// Whether the load balancer is told to send requests here: the authority's come by way of it.
async fn well(root: &Root) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(root.join(edge::SOCKET)).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        io::Result::Ok(head)
    };
    matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(head)) if &head == b"HTTP/1.1 200")
}

impl Node {
    fn now(&self) -> u64 {
        (self.setup.clock)()
    }

    fn log(&self, line: &str) {
        (self.setup.log)(line);
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the others, and takes their answers.
    async fn serve(self: Arc<Self>, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Request { from, body, reply } => {
                    let answer = serde_json::from_slice(&body)
                        .ok()
                        .and_then(|request| self.answer(&from, &request))
                        .and_then(|answer| serde_json::to_vec(&answer).ok());
                    // Who asked may have gone; who asked what is not understood gets nothing.
                    let _ = reply.send(answer.unwrap_or_default());
                }
                Event::Response { number, result, .. } => {
                    self.peers.settle(number, result.map(|(_, body)| body));
                }
            }
        }
    }

    fn answer(&self, from: &Peer, request: &Request) -> Option<Answer> {
        Some(match request {
            Request::Status => Answer::Status(self.status()),
            Request::Fetch { site } => {
                let store = self.store();
                let pem = store.bundle(site).map(|bundle| bundle.pem.clone());
                Answer::Certificate { pem }
            }
            Request::Challenge { token } => Answer::Challenge {
                authorization: challenge::own(&self.setup.root, token),
            },
            Request::Lease => Answer::Lease {
                granted: self.promise(&from.name),
            },
            Request::Release => {
                self.release(&from.name);
                Answer::Done
            }
            Request::News => {
                self.wake.notify_one();
                Answer::Done
            }
        })
    }

    fn status(&self) -> Status {
        let store = self.store();
        let sites = || self.settings.sites.iter();
        let offer = |site: &Site| {
            let bundle = store.bundle(&site.name)?;
            Some((site.name.clone(), bundle.offer.clone()))
        };
        let turns: BTreeMap<_, _> = sites()
            .map(|site| (site.name.clone(), store.attempts(&site.name).turns()))
            .filter(|(_, turns)| *turns > 0)
            .collect();
        Status {
            ready: self.ready.load(Ordering::Relaxed),
            failing: turns.keys().cloned().collect(),
            turns,
            offers: sites().filter_map(offer).collect(),
            hosts: sites()
                .map(|site| (site.name.clone(), site.hosts.clone()))
                .collect(),
        }
    }

    /// Promises, durably, or not.
    fn promise(&self, who: &str) -> bool {
        let now = self.now();
        let mut store = self.store();
        let (promise, granted) = match lease::ask(store.promise(), who, now) {
            Ok(promise) => (promise, true),
            Err(other) => (other, false),
        };
        match store.promised(Some(promise)) {
            Ok(()) => granted,
            Err(error) => {
                self.log(&format!("a promise cannot be remembered: {error}"));
                false
            }
        }
    }

    fn release(&self, who: &str) {
        let now = self.now();
        let mut store = self.store();
        let promise = lease::release(store.promise(), who, now);
        // It runs out by itself.
        let _ = store.promised(promise);
    }

    /// Takes over other facts.
    fn follow(&self, stamps: &mut Stamps) {
        let now = Stamps::look(&self.setup.root, Some(&self.peers.material()));
        if now == *stamps {
            return;
        }
        // While a package is being unpacked they do not belong together; the next look finds them again.
        if let Ok(material) = peers::load(&self.setup.root, &self.settings, &self.setup.key) {
            *stamps = now.look_again(&self.setup.root, &material);
            self.peers.follow(material);
        }
    }

    /// Tells who gives certificates to nginx that there is something to look at.
    fn announce(&self) {
        let path = self.setup.root.join(NEW);
        if let Err(error) = files::write(&path, b"", Access::PUBLIC) {
            self.log(&format!("{NEW}: {error}"));
        }
    }

    /// One look: what others have, then what is missing.
    async fn look(self: &Arc<Self>) {
        let others = self.ask_status().await;
        self.take(&others).await;
        for site in &self.settings.sites {
            let problem = self.consider(site, &others).await.err();
            let mut report = self.report();
            let entry = report.sites.entry(site.name.clone()).or_default();
            entry.problem = problem;
        }
    }

    async fn ask_status(&self) -> BTreeMap<String, Status> {
        let mut others = BTreeMap::new();
        let mut answers = self.peers.ask_all(&Request::Status);
        while let Some((name, answer)) = answers.recv().await {
            if let Answer::Status(status) = answer {
                others.insert(name, status);
            }
        }
        others
    }

    /// Takes what others have and is better.
    async fn take(&self, others: &BTreeMap<String, Status>) {
        for site in &self.settings.sites {
            let own = self.store().bundle(&site.name).map(|b| b.offer.clone());
            let offers = others.iter().filter_map(|(name, status)| {
                let offer = status.offers.get(&site.name)?;
                Some((name.as_str(), offer))
            });
            // Who does not give what it offers is passed over: the next one may have the same, or the next best.
            for (from, offer) in better(own.as_ref(), offers, &site.hosts, self.now()) {
                match self.fetch(site, from, offer).await {
                    Ok(bundle) => {
                        let end = bundle.offer.not_after;
                        if self.keep(site, bundle) {
                            self.log(&format!(
                                "{}: took the certificate of {from}, good until {end}",
                                site.name
                            ));
                        }
                        break;
                    }
                    Err(why) => self.log(&format!("{}: what {from} has: {why}", site.name)),
                }
            }
        }
    }

    /// Has an edge give what it offers.
    async fn fetch(&self, site: &Site, from: &str, offer: &Offer) -> Result<Bundle, String> {
        let request = Request::Fetch {
            site: site.name.clone(),
        };
        let Some(Answer::Certificate { pem: Some(pem) }) = self.peers.ask(from, &request).await
        else {
            return Err("it does not give it".into());
        };
        let bundle = Bundle::parse(pem.as_bytes()).map_err(|error| error.to_string())?;
        if bundle.offer.print == offer.print {
            Ok(bundle)
        } else {
            Err("it gives another one than it offers".into())
        }
    }

    /// Keeps a certificate and has it given to nginx. Says whether it is better than what was there.
    fn keep(&self, site: &Site, bundle: Bundle) -> bool {
        let now = self.now();
        let kept = {
            let mut store = self.store();
            let kept = store.keep(site, bundle, now);
            // Whoever got it: it can be had.
            let _ = store.tried(&site.name, Attempts::default());
            kept
        };
        match kept {
            Ok(kept) => {
                if kept {
                    self.announce();
                }
                kept
            }
            Err(error) => {
                self.log(&format!(
                    "{}: the certificate cannot be kept: {error}",
                    site.name
                ));
                false
            }
        }
    }

    fn need(&self, site: &Site) -> Need {
        let store = self.store();
        let offer = store.bundle(&site.name).map(|bundle| &bundle.offer);
        need(offer, &site.hosts, self.settings.renew_days, self.now())
    }

    /// Since when a site has been without a certificate.
    fn missing_since(&self, site: &Site, need: Need) -> u64 {
        let now = self.now();
        let mut report = self.report();
        let entry = report.sites.entry(site.name.clone()).or_default();
        if need != Need::Missing {
            entry.missing_since = None;
            return now;
        }
        *entry.missing_since.get_or_insert(now)
    }

    /// Asks the authority, if a certificate is due, it is this edge's turn, and others promise that it is the only one.
    async fn consider(
        self: &Arc<Self>,
        site: &Site,
        others: &BTreeMap<String, Status>,
    ) -> Result<(), String> {
        let need = self.need(site);
        let missing_since = self.missing_since(site, need);
        if matches!(need, Need::Nothing { .. }) {
            return Ok(());
        }
        if !self.ready.load(Ordering::Relaxed) {
            return Err("the load balancer is told to send nobody here".into());
        }
        let attempts = self.store().attempts(&site.name);
        let material = self.peers.material();
        let me = Candidate {
            turns: attempts.turns(),
            name: &material.identity.node,
        };
        let candidates: Vec<_> = others
            .iter()
            .filter(|(_, status)| status.may_ask(&site.name, &site.hosts))
            .map(|(name, status)| Candidate {
                turns: status.turns.get(&site.name).copied().unwrap_or(0),
                name,
            })
            .collect();
        if !turn(&me, &candidates) {
            return Err("another edge asks for it".into());
        }
        if !attempts.may(self.now()) {
            let before = self
                .report()
                .sites
                .get(&site.name)
                .and_then(|s| s.problem.clone());
            return Err(before.unwrap_or_else(|| "the last attempt failed".into()));
        }
        // From before anybody is asked: what others promise lasts longer, whenever the question came to them.
        let deadline = Instant::now() + Duration::from_secs(lease::USE);
        let voters = material.others().count() + 1;
        let (granted, refused) = self.lease(me.name).await;
        let enough =
            granted >= majority(voters) || refused == 0 && alone(need, missing_since, self.now());
        let result = if enough {
            self.obtain(site, attempts, deadline).await
        } else {
            Err(format!(
                "{granted} of {voters} edges promise that no other one asks"
            ))
        };
        self.release(me.name);
        let mut answers = self.peers.ask_all(&Request::Release);
        while answers.recv().await.is_some() {}
        if result.is_ok() {
            let _ = self.peers.ask_all(&Request::News);
        }
        result
    }

    /// How many edges promise, this one included, and how many do not.
    async fn lease(&self, me: &str) -> (usize, usize) {
        let (mut granted, mut refused) = (0, 0);
        let mut count = |yes: bool| if yes { granted += 1 } else { refused += 1 };
        count(self.promise(me));
        let mut answers = self.peers.ask_all(&Request::Lease);
        while let Some((_, answer)) = answers.recv().await {
            if let Answer::Lease { granted } = answer {
                count(granted);
            }
        }
        (granted, refused)
    }

    /// With the lease: asks the authority, unless somebody had it just before.
    async fn obtain(
        self: &Arc<Self>,
        site: &Site,
        attempts: Attempts,
        deadline: Instant,
    ) -> Result<(), String> {
        let others = self.ask_status().await;
        self.take(&others).await;
        if matches!(self.need(site), Need::Nothing { .. }) {
            return Ok(());
        }
        self.log(&format!(
            "{}: asking {}",
            site.name, self.settings.directory
        ));
        let (node, wanted) = (self.clone(), site.clone());
        // It takes as long as the authority takes; others are answered meanwhile.
        let issued = tokio::task::spawn_blocking(move || {
            let root = &node.setup.root;
            let dir = root.join(store::DIR).join("acme");
            issue(
                &program::Machine,
                root,
                &dir,
                &node.settings,
                &wanted,
                deadline,
            )
        })
        .await;
        let (why, limited) = match issued {
            Ok(Ok(bundle)) => {
                let end = bundle.offer.not_after;
                if self.keep(site, bundle) {
                    self.log(&format!("{}: issued, good until {end}", site.name));
                    return Ok(());
                }
                (
                    "what the authority gave is not better than what was there, or not for now"
                        .to_owned(),
                    false,
                )
            }
            Ok(Err(error)) => (error.to_string(), error.limited()),
            Err(error) => (error.to_string(), false),
        };
        let failed = attempts.failed(self.now(), limited);
        if let Err(error) = self.store().tried(&site.name, failed) {
            self.log(&format!("an attempt cannot be remembered: {error}"));
        }
        self.log(&format!("{}: {why}", site.name));
        Err(last_line(&why))
    }

    /// Leaves the report, and says how long nothing is to be done.
    fn tell(&self, notifier: &Notifier) -> Duration {
        let now = self.now();
        let mut pause = PAUSE.1;
        let mut report = self.report();
        let (served, mut give) = (served(&self.setup.root), false);
        for site in &self.settings.sites {
            let wait = match self.need(site) {
                Need::Nothing { until } => Duration::from_secs(until.saturating_sub(now).max(1)),
                _ => PAUSE.0,
            };
            pause = pause.min(wait);
            let store = self.store();
            let bundle = store.bundle(&site.name);
            let entry: &mut SiteReport = report.sites.entry(site.name.clone()).or_default();
            entry.certificate = bundle.map(|bundle| bundle.offer.clone());
            let lacks = bundle.is_some_and(|bundle| {
                unserved(&bundle.offer, served.get(&site.name), &site.hosts, now)
            });
            let since = entry.unserved_since.unwrap_or(now);
            entry.unserved_since = lacks.then_some(since);
            give |= lacks;
            entry.ocsp = bundle.is_some_and(|bundle| bundle.ocsp);
        }
        if give {
            // At each look, until it has it: who is to give it may have been at work when it was told, or nginx was not ready.
            self.announce();
            pause = pause.min(PAUSE.0);
        }
        report.write(&self.setup.root);
        let text = report.lines();
        notifier.send(&format!("STATUS={}", text.trim_end().replace('\n', "; ")));
        pause
    }
}

/// What is shown on one line of a longer text: its end says why. The call itself is of no interest there.
fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.unwrap_or(text);
    let said = line.rsplit("uacme: ").next().unwrap_or(line);
    said.trim().chars().take(200).collect()
}
