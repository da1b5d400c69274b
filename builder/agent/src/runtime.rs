//! The loop that ties decisions, network and database together: it owns the core of this node, feeds it what happened,
//! and carries out what it asks for.
//!
//! One thread. A step is carried out in one piece: what it wants remembered is durable before anything of it can be
//! seen from outside, and nothing else happens in between. When a disk does not take it, the process ends: an agent that
//! cannot remember must not promise.
//!
//! - [`store`] keeps the durable state.
//! - [`report`] is what people see of it.
//! - [`watch`] finds the primary for nodes that have no part in the cluster, or no data; `following` asks and is asked for it.
//! - [`control`] hears the operator of this machine, `operator` answers.
//! - [`discovery`] looks for members that are lost.
//! - [`survey`] gathers how all members are.
//! - `talk` makes and takes what members say to each other.

pub mod control;
mod deciders;
pub mod discovery;
mod following;
mod observer;
mod operator;
pub mod report;
pub mod store;
pub mod survey;
mod talk;
pub mod watch;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rolesmith_model::facts::Facts;
use rolesmith_model::ids::NodeName;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, mpsc, oneshot, watch as channel};
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::cluster::{
    Action, ActionId, ClusterFacts, Durable, Effect, Envelope, Failure, Lane, Observed, Outcome,
    Reply, Request, RequestId, Step, Unreachable,
};
use crate::files::{self, Access, Root};
use crate::net::limits::Limits;
use crate::net::material::{Material, MaterialError, Stamps};
use crate::net::sessions::Machine;
use crate::net::{Event, Net};
use crate::notify::{Notifier, watchdog};
use crate::program::Programs;
use crate::redis::settings::FOUNDER_FILE;
pub use deciders::{Database, Decide, Executor, NoDatabase, cluster_facts};
use report::ClusterReport;
use store::{Store, StoreError};
use talk::{expected, json, name, understand};

/// How often files are looked at and the report is written, and how soon a member is asked again that did not answer
/// ([`Setup::period`]).
pub const SECOND: Duration = Duration::from_secs(1);
/// Numbers of requests that are the loop's own begin here; the core counts from below.
const OWN: RequestId = 1 << 62;

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The state could not be read or made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine does not give what every process needs.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Milliseconds since the machine started, suspension included; never compared between machines.
#[must_use]
pub fn boottime() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}

/// What the loop is started with.
pub struct Setup<P> {
    /// Where the machine's files are.
    pub root: Root,
    /// The machine's programs.
    pub programs: P,
    /// Bounds of the network.
    pub limits: Limits,
    /// [`SECOND`], but for tests.
    pub period: Duration,
    /// Unix seconds, for people.
    pub clock: fn() -> u64,
    /// Writes a line to the log.
    pub log: fn(&str),
}

/// Makes the core of this node: its name, the facts, its state, the time and a random seed.
pub type MakeCore<D> = Box<dyn FnMut(NodeName, ClusterFacts, Durable, u64, u64) -> D>;

/// Runs until `stop`. Inside a [`tokio::task::LocalSet`]: what the database does stays on this thread.
///
/// # Errors
/// [`RuntimeError`]; the service has to be started again.
pub async fn run<D: Decide, E: Executor, P: Programs>(
    setup: Setup<P>,
    make: MakeCore<D>,
    executor: E,
    stop: impl Future<Output = ()>,
) -> Result<(), RuntimeError> {
    let notifier = Notifier::from_env();
    // At once: a maintainer script that starts this unit must not wait for the machine to be enrolled.
    notifier.send("READY=1");
    let mut stop = std::pin::pin!(stop);
    let ended = tokio::select! {
        () = &mut stop => Ok(()),
        ended = live(&setup, make, executor, &notifier) => ended,
    };
    notifier.send("STOPPING=1");
    ended
}

async fn live<D: Decide, E: Executor, P: Programs>(
    setup: &Setup<P>,
    make: MakeCore<D>,
    executor: E,
    notifier: &Notifier,
) -> Result<(), RuntimeError> {
    let mut told = String::new();
    let (material, stamps) = loop {
        let stamps = Stamps::look(&setup.root, None);
        let seen = store::facts_seen(&setup.root);
        match Material::load(&setup.root, &setup.programs, seen) {
            Ok(material) => break (material, stamps),
            Err(why) => {
                let why = why.to_string();
                if why != told {
                    (setup.log)(&format!("waiting: {why}"));
                    ClusterReport::waiting(&why, (setup.clock)()).write(&setup.root);
                    told = why;
                }
                alive(notifier, &format!("waiting: {told}"));
                sleep(setup.period).await;
            }
        }
    };
    let (store, durable) = Store::open(&setup.root, material.identity.incarnation)?;
    let mut runtime = Runtime::new(setup, make, executor, material, stamps, store, durable)?;
    runtime.turn(notifier).await
}

fn alive(notifier: &Notifier, status: &str) {
    let watched = if watchdog().is_some() {
        "\nWATCHDOG=1"
    } else {
        ""
    };
    notifier.send(&format!("STATUS={}{watched}", status.replace('\n', " ")));
}

struct Runtime<'a, D, E, P> {
    setup: &'a Setup<P>,
    make: MakeCore<D>,
    core: Option<D>,
    executor: E,
    store: Store,
    /// While there is no core: what it will begin with.
    durable: Durable,
    me: NodeName,
    machine: Machine,
    /// Who has a part in the cluster, by the facts or by its configuration.
    members: BTreeSet<NodeName>,
    net: Net,
    events: mpsc::Receiver<Event>,
    material: channel::Sender<Arc<Material>>,
    stamps: Stamps,
    /// What was seen at the last look, to be taken over when it stays so for one more.
    fresh: Option<Stamps>,
    /// Why new facts were not taken over.
    stale: Option<String>,
    actions: JoinSet<(ActionId, Lane, Result<Outcome, Failure>)>,
    /// Counts database actions that came to their end: what was seen before one says nothing about after it.
    generation: Arc<AtomicU64>,
    nudge: Arc<Notify>,
    observer: JoinHandle<()>,
    observations: mpsc::Receiver<(u64, Observed)>,
    control: mpsc::Receiver<control::Asked>,
    _control: control::Control,
    watch: watch::Watch,
    following: following::Following,
    /// Questions of other nodes that are kept until there is news.
    kept: Vec<following::Kept>,
    requests: RequestId,
    surveys: Vec<survey::Survey>,
    said: operator::Said,
    discovery: discovery::Discovery,
}

impl<'a, D: Decide, E: Executor, P: Programs> Runtime<'a, D, E, P> {
    fn new(
        setup: &'a Setup<P>,
        make: MakeCore<D>,
        executor: E,
        material: Material,
        stamps: Stamps,
        store: Store,
        durable: Durable,
    ) -> Result<Self, RuntimeError> {
        let me = name(&material.identity.node).ok_or(RuntimeError::System(
            "this node's name",
            io::ErrorKind::InvalidData.into(),
        ))?;
        let machine = Machine {
            incarnation: durable.incarnation.id,
            boot: store::boot(&setup.root),
        };
        let stamps = stamps.look_again(&setup.root, &material);
        let (sender, receiver) = channel::channel(Arc::new(material));
        let (net, events) = Net::start(receiver, machine.clone(), setup.limits.clone());
        let (control, asked) = control::Control::listen(&setup.root)
            .map_err(|error| RuntimeError::System(control::SOCKET, error))?;
        let seed = store::random().map_err(StoreError::Random)?;
        let (generation, nudge) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let (seen, observations) = mpsc::channel(1);
        let observer =
            observer::observer(executor.clone(), seen, generation.clone(), nudge.clone());
        Ok(Self {
            setup,
            make,
            core: None,
            executor,
            store,
            durable,
            me,
            machine,
            members: BTreeSet::new(),
            net,
            events,
            material: sender,
            stamps,
            fresh: None,
            stale: None,
            actions: JoinSet::new(),
            generation,
            nudge,
            observer: spawn_local(observer),
            observations,
            control: asked,
            _control: control,
            watch: watch::Watch::default(),
            following: following::Following::default(),
            kept: Vec::new(),
            requests: OWN,
            surveys: Vec::new(),
            said: operator::Said::default(),
            discovery: discovery::Discovery::new(seed),
        })
    }

    async fn turn(&mut self, notifier: &Notifier) -> Result<(), RuntimeError> {
        let facts = self.material.borrow().facts.clone();
        self.facts(&facts)?;
        let mut second = interval(self.setup.period);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.answer_kept();
            let now = boottime();
            let wake = self.core.as_ref().map(|core| core.wake(now));
            let wake = wake.into_iter().chain(self.kept_until()).min();
            tokio::select! {
                // What came from outside counts before time that ran out while this thread was busy.
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.event(event)?,
                    None => return Ok(()),
                },
                Some((begun, seen)) = self.observations.recv() => self.observed(begun, seen)?,
                Some(ended) = self.actions.join_next(), if !self.actions.is_empty() => {
                    if let Ok((id, lane, result)) = ended {
                        self.done(id, lane, result)?;
                    }
                }
                Some(asked) = self.control.recv() => self.control(asked)?,
                _ = second.tick() => {
                    if !self.every_second()? {
                        return Ok(());
                    }
                    let status = self.report();
                    alive(notifier, &status);
                }
                () = until(wake, now) => {
                    if let Some(core) = &mut self.core {
                        let step = core.tick(boottime());
                        self.carry(step, None)?;
                    }
                }
            }
        }
    }

    /// Carries out a step. Returns its reply if nobody waits for it over the network.
    fn carry(
        &mut self,
        step: Step,
        reply: Option<oneshot::Sender<Vec<u8>>>,
    ) -> Result<Option<Reply>, RuntimeError> {
        if let Some(durable) = &step.persist {
            self.store.save(durable)?;
            self.net.expect(expected(&durable.config));
        }
        let mut reply = reply;
        let mut answer = None;
        for effect in step.effects {
            match effect {
                Effect::Send {
                    to,
                    id,
                    envelope,
                    timeout,
                } => self.send(&to, id, &envelope, timeout),
                Effect::Reply(body) => match reply.take() {
                    Some(waiting) => {
                        // Who asked may have gone.
                        let _ = waiting.send(json(&body));
                    }
                    None => answer = Some(*body),
                },
                Effect::Act { id, action } => self.act(id, action),
                // Actions that change the database exclude each other: it is the one that runs.
                Effect::Abandon { .. } => self.executor.abandon(),
                Effect::Log(line) => (self.setup.log)(&line),
            }
        }
        Ok(answer)
    }

    fn send(&self, to: &NodeName, id: RequestId, envelope: &Envelope, timeout: u64) {
        let limit = Duration::from_millis(timeout);
        self.net.send(to.as_str(), id, json(envelope), limit);
    }

    fn act(&mut self, id: ActionId, action: Action) {
        let (executor, lane, log) = (self.executor.clone(), action.lane(), self.setup.log);
        // A heartbeat a second is no news.
        let news = (action != Action::Heartbeat).then(|| action.to_string());
        self.actions.spawn_local(async move {
            let begun = Instant::now();
            let result = executor.perform(action).await;
            if let (Some(news), Ok(_)) = (news, &result) {
                log(&format!("{news} ({} ms)", begun.elapsed().as_millis()));
            }
            (id, lane, result)
        });
    }

    fn done(
        &mut self,
        id: ActionId,
        lane: Lane,
        result: Result<Outcome, Failure>,
    ) -> Result<(), RuntimeError> {
        if id >= OWN {
            self.followed(result);
            return Ok(());
        }
        if lane == Lane::Database {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        self.nudge.notify_one();
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        let step = core.done(boottime(), id, result);
        self.carry(step, None).map(drop)
    }

    fn observed(&mut self, begun: u64, seen: Observed) -> Result<(), RuntimeError> {
        if begun != self.generation.load(Ordering::Relaxed) {
            self.nudge.notify_one();
            return Ok(());
        }
        let Some(core) = &mut self.core else {
            return Ok(());
        };
        let step = core.observed(boottime(), seen);
        self.carry(step, None).map(drop)
    }

    fn event(&mut self, event: Event) -> Result<(), RuntimeError> {
        match event {
            Event::Request { from, body, reply } => {
                let Some((from, envelope)) = self.admissible(&from, &body) else {
                    return Ok(());
                };
                let status = matches!(envelope.request, Request::Status);
                let Some(reply) = self.keep(status, &body, reply) else {
                    return Ok(());
                };
                match &mut self.core {
                    Some(core) if !status => {
                        let step = core.request(boottime(), &from, envelope);
                        self.carry(step, Some(reply))?;
                    }
                    core => {
                        let answer = match core {
                            Some(core) => {
                                let step = core.request(boottime(), &from, envelope);
                                self.carry(step, None)?
                            }
                            None => Some(self.bystander()),
                        };
                        if let Some(answer) = answer {
                            let _ = reply.send(json(&self.told(answer)));
                        }
                    }
                }
            }
            Event::Response { to, number, result } => {
                let Some(result) = self.surveyed(number, result) else {
                    return Ok(());
                };
                let answer = result
                    .ok()
                    .and_then(|(peer, body)| understand(&peer, &body));
                let Some(name) = name(&to) else {
                    return Ok(());
                };
                if number >= OWN {
                    self.member_said(&name, number, answer);
                } else if let Some(core) = &mut self.core {
                    let step = core.response(boottime(), number, answer.ok_or(Unreachable));
                    self.carry(step, None)?;
                }
            }
        }
        Ok(())
    }

    /// Takes facts over. A core is made when they give this node a part in the cluster, and stays until the service
    /// ends: that it has none any more is for the core to deal with.
    fn facts(&mut self, facts: &Facts) -> Result<(), RuntimeError> {
        let proposed = cluster_facts(facts);
        self.members = proposed.members.keys().cloned().collect();
        if let Some(core) = &self.core {
            // Whoever has a vote is heard until the cluster has taken it away.
            let voters = core.status(boottime()).config.voters;
            self.members.extend(voters.into_keys());
        }
        self.executor.facts(facts);
        let now = boottime();
        match &mut self.core {
            Some(core) => {
                let step = core.facts(now, proposed);
                self.carry(step, None)?;
            }
            None if proposed.members.contains_key(&self.me) => {
                let seed = store::random().map_err(StoreError::Random)?;
                let durable = self.durable.clone();
                self.net.expect(expected(&durable.config));
                let mut core = (self.make)(self.me.clone(), proposed, durable, now, seed);
                let step = core.tick(now);
                self.core = Some(core);
                self.carry(step, None)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Whether to go on: another identity needs another process.
    fn every_second(&mut self) -> Result<bool, RuntimeError> {
        for line in self.net.log() {
            (self.setup.log)(&line);
        }
        self.executor.refresh();
        let current = self.material.borrow().clone();
        let stamps = Stamps::look(&self.setup.root, Some(&current));
        let changed = stamps != self.stamps;
        // Packages are unpacked file by file; what stays as it is for a second is whole.
        if current.listen.is_none() || (changed && self.fresh.as_ref() == Some(&stamps)) {
            if !self.take_over(&current)? {
                return Ok(false);
            }
            self.stamps = stamps;
            self.fresh = None;
        } else {
            self.fresh = changed.then_some(stamps);
        }
        self.ask_members();
        self.tell_founder();
        let facts = &self.material.borrow().facts;
        let (root, lost) = (&self.setup.root, self.net.lost());
        self.net
            .told(self.discovery.look(root, facts, &lost, boottime()));
        Ok(true)
    }

    fn take_over(&mut self, current: &Material) -> Result<bool, RuntimeError> {
        let seen = current
            .facts
            .version
            .max(store::facts_seen(&self.setup.root));
        match Material::load(&self.setup.root, &self.setup.programs, seen) {
            Ok(material) if material.identity != current.identity => {
                (self.setup.log)("this machine has another identity now: starting again");
                return Ok(false);
            }
            Ok(material) => {
                self.stale = None;
                let material = Arc::new(material.after(current));
                let facts = material.facts.clone();
                self.material.send_replace(material);
                self.net.reconcile();
                if facts != current.facts {
                    (self.setup.log)(&format!("facts of version {} are in force", facts.version));
                    self.facts(&facts)?;
                }
            }
            Err(why) => {
                let text = why.to_string();
                if self.stale.as_ref() != Some(&text) {
                    (self.setup.log)(&text);
                    self.stale = Some(text);
                }
                // Certificates cannot be taken over, but who is a member is known: this node may be none any more.
                if let MaterialError::NotDeclared { .. } = why
                    && let crate::files::Seen::Is(facts) = crate::observe::facts(&self.setup.root)
                {
                    self.facts(&facts)?;
                }
            }
        }
        Ok(true)
    }

    /// Who founded the database is Redis's first master too (rule 15). Said once a boot, since it never changes.
    fn tell_founder(&self) {
        let Some(core) = &self.core else {
            return;
        };
        let file = self.setup.root.join(FOUNDER_FILE);
        if file.exists() {
            return;
        }
        if let Some(founder) = core.status(boottime()).config.founder {
            // A failure is made good a second later.
            let _ = files::write(&file, format!("{founder}\n").as_bytes(), Access::PUBLIC);
        }
    }

    /// Writes the report; its one line is returned.
    fn report(&self) -> String {
        let material = self.material.borrow().clone();
        let report = ClusterReport::new(report::Input {
            now: (self.setup.clock)(),
            material: &material,
            incarnation: self.machine.incarnation,
            stale: self.stale.as_deref(),
            cluster: self.core.as_ref().map(|core| core.status(boottime())),
            primary: self.watch.primary().cloned(),
            pooler: self.following.alarm(self.watch.primary()),
            net: self.net.status(),
            discovery: self.discovery.problem(),
        });
        report.write(&self.setup.root);
        report.line()
    }
}

impl<D, E, P> Drop for Runtime<'_, D, E, P> {
    fn drop(&mut self) {
        self.observer.abort();
    }
}

async fn until(wake: Option<u64>, now: u64) {
    match wake {
        // Never without a pause, whatever the core asks for.
        Some(at) => {
            let pause = Duration::from_millis(at.saturating_sub(now).max(1));
            sleep_until(Instant::now() + pause).await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
