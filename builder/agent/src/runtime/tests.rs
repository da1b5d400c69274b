//! The loop with decisions of a test's own, over real TLS on loopback.

use std::fs;
use std::sync::Mutex;
use std::time::Duration as StdDuration;

use rolesmith_model::facts::{
    CA_FILE, FACTS_FILE, IDENTITY_FILE, Identity, KEY_FILE, NODES_DIR, Origin,
};
use tokio::time::timeout;

mod following;
mod unknown;
mod witness;

use super::*;
use crate::cluster::{
    Config, Epoch, EpochRow, Incarnation, Lsn, Promise, Response, StatusReport, Timeline,
};
use crate::net::Peer;
use crate::net::testing::Fleet;
use crate::program::{Call, Ended, ProgramError};

mod operator;

/// No program is run in these tests.
struct NoPrograms;

impl Programs for NoPrograms {
    fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
        Err(ProgramError::Start {
            program: call.name().to_owned(),
            error: io::ErrorKind::NotFound.into(),
        })
    }
}

/// What a test's core is asked, and how it answers.
type Script = Arc<Mutex<Scripted>>;

#[derive(Default)]
struct Scripted {
    /// Everything that came, in words.
    seen: Vec<String>,
    /// What to do at the next tick.
    tick: Step,
    /// What every grant is to be stored as before it is answered.
    promise: bool,
    /// What it says of itself, if not what a core does that knows nothing.
    status: Option<StatusReport>,
}

struct Fake {
    script: Script,
    durable: Durable,
}

impl Fake {
    fn note(&self, what: String) {
        self.script.lock().unwrap().seen.push(what);
    }
}

impl Decide for Fake {
    fn status(&self, _: u64) -> StatusReport {
        if let Some(status) = &self.script.lock().unwrap().status {
            return status.clone();
        }
        let core = crate::cluster::Core::new(
            name("n1").unwrap(),
            cluster_facts(&Fleet::new(&[]).facts),
            crate::cluster::Timing::default(),
            self.durable.clone(),
            0,
            0,
        );
        core.status(0)
    }
    fn request(&mut self, _: u64, from: &NodeName, envelope: Envelope) -> Step {
        let status = matches!(envelope.request, Request::Status);
        if !status {
            self.note(format!("request of {from}: {:?}", envelope.request));
        }
        let promise = self.script.lock().unwrap().promise && !status;
        if promise {
            self.durable.promise = Some(Promise {
                epoch: Epoch(3),
                holder: from.clone(),
            });
        }
        let reply = Reply {
            incarnation: self.durable.incarnation,
            facts: 1,
            config: None,
            promised: self.durable.promised(),
            response: if status {
                Response::Status(Box::new(self.status(0)))
            } else {
                Response::Ok
            },
        };
        Step {
            persist: promise.then(|| Box::new(self.durable.clone())),
            effects: vec![Effect::Reply(Box::new(reply))],
        }
    }
    fn response(&mut self, _: u64, id: RequestId, answer: Result<Reply, Unreachable>) -> Step {
        self.note(format!(
            "response {id}: {:?}",
            answer.map(|reply| reply.promised)
        ));
        Step::default()
    }
    fn observed(&mut self, _: u64, seen: Observed) -> Step {
        self.note(format!("observed {:?}", seen.row().map(|row| row.epoch)));
        Step::default()
    }
    fn done(&mut self, _: u64, id: ActionId, result: Result<Outcome, Failure>) -> Step {
        self.note(format!("done {id}: {result:?}"));
        Step::default()
    }
    fn facts(&mut self, _: u64, facts: ClusterFacts) -> Step {
        self.note(format!("facts {}", facts.version));
        Step::default()
    }
    fn tick(&mut self, _: u64) -> Step {
        std::mem::take(&mut self.script.lock().unwrap().tick)
    }
    fn wake(&self, now: u64) -> u64 {
        now + 5
    }
}

/// A machine's files.
struct Place {
    dir: tempfile::TempDir,
    script: Script,
}

impl Place {
    fn new(fleet: &Fleet, node: &str) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            script: Script::default(),
        };
        let identity = Identity {
            fleet: "acme".to_owned(),
            node: node.to_owned(),
            incarnation: 1,
            origin: Origin::Seed,
        };
        place.write(IDENTITY_FILE, &json(&identity));
        place.write(KEY_FILE, fleet.keys[node].serialize_pem().as_bytes());
        place.publish(fleet);
        place
    }

    fn root(&self) -> Root {
        Root::at(self.dir.path())
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        crate::files::write(&self.root().join(path), bytes, crate::files::Access::PUBLIC).unwrap();
    }

    fn publish(&self, fleet: &Fleet) {
        self.write(CA_FILE, fleet.authority.pem.as_bytes());
        for (name, pem) in &fleet.certificates {
            self.write(&format!("{NODES_DIR}/{name}/cert.pem"), pem.as_bytes());
        }
        self.write(FACTS_FILE, &json(&fleet.facts));
    }

    fn setup(&self) -> Setup<NoPrograms> {
        Setup {
            root: self.root(),
            programs: NoPrograms,
            limits: Limits::default(),
            period: StdDuration::from_millis(30),
            clock: || 1_800_000_000,
            log: |_| {},
        }
    }

    /// Runs the node until it fails or the value is dropped.
    fn start<E: Executor>(&self, executor: E) -> JoinHandle<Result<(), RuntimeError>> {
        let (setup, script) = (self.setup(), self.script.clone());
        spawn_local(async move {
            let make: MakeCore<Fake> = Box::new(move |_, _, durable, _, _| Fake {
                script: script.clone(),
                durable,
            });
            run(setup, make, executor, std::future::pending()).await
        })
    }

    async fn sees(&self, what: impl Fn(&str) -> bool) -> String {
        loop {
            let found = self
                .script
                .lock()
                .unwrap()
                .seen
                .iter()
                .find(|line| what(line))
                .cloned();
            if let Some(found) = found {
                return found;
            }
            sleep(StdDuration::from_millis(5)).await;
        }
    }

    fn tick(&self, step: Step) {
        self.script.lock().unwrap().tick = step;
    }

    fn incarnation(&self) -> Incarnation {
        let path = self.root().join(store::FILE);
        let durable: Durable = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        durable.incarnation
    }

    /// The network side of this machine alone.
    fn material(&self, fleet: &Fleet) -> (Net, mpsc::Receiver<Event>) {
        let node = fs::read(self.root().join(IDENTITY_FILE)).unwrap();
        let identity: Identity = serde_json::from_slice(&node).unwrap();
        let machine = Machine {
            incarnation: self.incarnation().id,
            boot: store::boot(&self.root()),
        };
        let (sender, receiver) = channel::channel(Arc::new(fleet.material(&identity.node)));
        // For as long as the process lives: a test.
        std::mem::forget(sender);
        Net::start(receiver, machine, Limits::default())
    }

    async fn report(&self, what: impl Fn(&ClusterReport) -> bool) -> ClusterReport {
        loop {
            if let (Some(report), _) = ClusterReport::read(&self.root(), 1_800_000_000)
                && what(&report)
            {
                return report;
            }
            sleep(StdDuration::from_millis(5)).await;
        }
    }
}

fn run_test(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(tokio::task::LocalSet::new().run_until(async {
            timeout(StdDuration::from_secs(30), test)
                .await
                .expect("the test hangs")
        }));
}

/// Two database nodes with addresses of their own.
fn fleet(net: u8) -> Fleet {
    let mut fleet = Fleet::new(&["n1", "n2"]);
    let base = format!("127.{}.{net}", std::process::id().to_be_bytes()[3].max(1));
    let probe = std::net::TcpListener::bind((format!("{base}.250"), 0)).unwrap();
    fleet.facts.agent_port = probe.local_addr().unwrap().port();
    for (number, member) in fleet.facts.members.iter_mut().enumerate() {
        member.address = Some(format!("{base}.{}", number + 1));
        member.roles = vec!["base".into(), "db-primary-capable".into()];
    }
    fleet
}

fn ask(from: &Place, to: &str, request: Request, number: RequestId) -> Step {
    let envelope = Envelope {
        incarnation: from.incarnation(),
        facts: 1,
        config: Config::default(),
        request,
    };
    Step {
        persist: None,
        effects: vec![Effect::Send {
            to: name(to).unwrap(),
            id: number,
            envelope: Box::new(envelope),
            timeout: 8_000,
        }],
    }
}

fn grant() -> Request {
    Request::HandOver {
        epoch: Epoch(2),
        end: None,
    }
}

#[test]
fn what_is_answered_was_made_durable_before() {
    run_test(async {
        let fleet = fleet(201);
        let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
        n2.script.lock().unwrap().promise = true;
        let (first, mut second) = (n1.start(NoDatabase), n2.start(NoDatabase));
        n1.report(|report| report.net.links.iter().all(|link| link.connected))
            .await;
        n1.tick(ask(&n1, "n2", grant(), 7));
        assert_eq!(
            n1.sees(|line| line.starts_with("response 7")).await,
            "response 7: Ok(Epoch(3))"
        );
        let kept = fs::read(n2.root().join(store::FILE)).unwrap();
        let kept: Durable = serde_json::from_slice(&kept).unwrap();
        assert_eq!(kept.promised(), Epoch(3));
        // A disk that does not take it: no answer, and the process ends.
        let path = n2.root().join(store::FILE);
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("in the way")).unwrap();
        n1.tick(ask(&n1, "n2", grant(), 8));
        let ended = (&mut second).await.unwrap();
        assert!(matches!(ended, Err(RuntimeError::Store(_))), "{ended:?}");
        assert_eq!(
            n1.sees(|line| line.starts_with("response 8")).await,
            "response 8: Err(Unreachable)"
        );
        first.abort();
    });
}

#[test]
fn orders_of_the_operator_come_over_no_network() {
    run_test(async {
        let fleet = fleet(202);
        let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
        let (first, second) = (n1.start(NoDatabase), n2.start(NoDatabase));
        n1.report(|report| report.net.links.iter().all(|link| link.connected))
            .await;
        let order = Request::Switchover {
            to: name("n2").unwrap(),
        };
        n1.tick(ask(&n1, "n2", order.clone(), 7));
        // From another machine than the one that is connected.
        let mut other = ask(&n1, "n2", grant(), 8);
        if let Some(Effect::Send { envelope, .. }) = other.effects.first_mut() {
            envelope.incarnation.id ^= 1;
        }
        n1.sees(|line| line == "response 7: Err(Unreachable)").await;
        n1.tick(other);
        n1.sees(|line| line == "response 8: Err(Unreachable)").await;
        n1.tick(ask(&n1, "n2", grant(), 9));
        n2.sees(|line| line.starts_with("request of n1: HandOver"))
            .await;
        assert_eq!(
            n2.script
                .lock()
                .unwrap()
                .seen
                .iter()
                .filter(|line| line.starts_with("request"))
                .count(),
            1
        );
        // On the machine itself they are heard.
        let root = n2.root();
        let reply = tokio::task::spawn_blocking(move || control::ask(&root, &order))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(reply.response, Response::Ok);
        n2.sees(|line| line.starts_with("request of n2: Switchover"))
            .await;
        first.abort();
        second.abort();
    });
}

/// A database whose state changes with the action, and whose looks take long.
#[derive(Clone, Default)]
struct Slow {
    promoted: Arc<AtomicU64>,
    begun: Arc<Notify>,
}

impl Executor for Slow {
    fn abandon(&self) {}

    async fn perform(&self, _: Action) -> Result<Outcome, Failure> {
        // A look that began before the change ends after it.
        self.begun.notified().await;
        self.promoted.store(1, Ordering::Relaxed);
        Ok(Outcome::Done)
    }
    async fn observe(&self) -> Observed {
        let epoch = self.promoted.load(Ordering::Relaxed);
        self.begun.notify_waiters();
        sleep(StdDuration::from_millis(50)).await;
        let row = EpochRow {
            epoch: Epoch(epoch),
            node: name("n1").unwrap(),
            timeline: Timeline(1),
            switch: Lsn(0),
        };
        Observed {
            rows: vec![row],
            ..Observed::default()
        }
    }
    async fn disturbed(&self) {
        std::future::pending().await
    }
    fn facts(&self, _: &Facts) {}
    fn refresh(&self) {}
    fn follows(&self) -> bool {
        false
    }
}

#[test]
fn a_look_that_began_before_an_action_ended_is_not_taken_for_one_after_it() {
    run_test(async {
        let fleet = fleet(203);
        let n1 = Place::new(&fleet, "n1");
        let node = n1.start(Slow::default());
        n1.sees(|line| line == "observed Some(Epoch(0))").await;
        n1.tick(Step {
            persist: None,
            effects: vec![Effect::Act {
                id: 4,
                action: Action::Promote,
            }],
        });
        n1.sees(|line| line == "observed Some(Epoch(1))").await;
        let seen = n1.script.lock().unwrap().seen.clone();
        let at = |what: &str| seen.iter().position(|line| line == what).unwrap();
        let done = at("done 4: Ok(Done)");
        assert!(
            seen[done..]
                .iter()
                .all(|line| line != "observed Some(Epoch(0))"),
            "{seen:?}"
        );
        node.abort();
    });
}

#[test]
fn facts_are_taken_over_while_running_and_older_ones_are_not() {
    run_test(async {
        let mut fleet = fleet(204);
        fleet.facts.version = 5;
        let n1 = Place::new(&fleet, "n1");
        let node = n1.start(NoDatabase);
        n1.report(|report| report.facts == 5 && report.net.links.len() == 1)
            .await;
        fleet.facts.version = 6;
        fleet.add("n3");
        fleet.facts.members[2].address = Some("127.0.0.1".into());
        n1.publish(&fleet);
        n1.sees(|line| line == "facts 6").await;
        n1.report(|report| report.facts == 6 && report.net.links.len() == 2)
            .await;
        fleet.facts.version = 4;
        n1.publish(&fleet);
        let old = |report: &ClusterReport| {
            let mut alarms = report.alarms.iter();
            alarms.any(|alarm| alarm.contains("older facts are refused"))
        };
        assert_eq!(n1.report(old).await.facts, 6);
        // Removed: certificates stay as they were, but the core is told.
        fleet.facts.version = 7;
        fleet.facts.members.remove(0);
        n1.publish(&fleet);
        n1.sees(|line| line == "facts 7").await;
        node.abort();
    });
}

#[test]
fn a_machine_waits_until_it_is_enrolled() {
    run_test(async {
        let fleet = fleet(205);
        let n1 = Place::new(&fleet, "n1");
        let identity = n1.root().join(IDENTITY_FILE);
        let aside = identity.with_extension("aside");
        fs::rename(&identity, &aside).unwrap();
        let node = n1.start(NoDatabase);
        let report = n1.report(|report| report.waiting.is_some()).await;
        assert_eq!(report.line(), "waiting: this machine is not enrolled");
        fs::rename(&aside, &identity).unwrap();
        let report = n1.report(|report| report.waiting.is_none()).await;
        assert_eq!(report.node, "n1");
        node.abort();
    });
}

#[test]
fn who_has_no_part_in_the_cluster_may_ask_how_things_are_and_nothing_else() {
    run_test(async {
        let mut fleet = fleet(206);
        fleet.facts.members[0].roles.pop();
        let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
        let (first, second) = (n1.start(NoDatabase), n2.start(NoDatabase));
        n1.report(|report| !report.node.is_empty()).await;
        first.abort();
        let _ = first.await;
        let (net, mut events) = n1.material(&fleet);
        let mut ask = async |request: Request, number| {
            let envelope = Envelope {
                incarnation: n1.incarnation(),
                facts: 1,
                config: Config::default(),
                request,
            };
            net.send("n2", number, json(&envelope), StdDuration::from_secs(8));
            loop {
                if let Some(Event::Response {
                    number: of, result, ..
                }) = events.recv().await
                    && of == number
                {
                    return result.unwrap().1;
                }
            }
        };
        assert_eq!(ask(grant(), 1).await, b"");
        let reply: Reply = serde_json::from_slice(&ask(Request::Status, 2).await).unwrap();
        assert!(matches!(reply.response, Response::Status(_)), "{reply:?}");
        second.abort();
    });
}

#[test]
fn databases_that_stand_each_for_itself_have_no_cluster() {
    let mut facts = Fleet::new(&["n1", "n2"]).facts;
    facts.members[0].roles = vec!["db-primary-capable".to_owned()];
    facts.members[1].roles = vec!["db-witness".to_owned()];
    let names: Vec<NodeName> = cluster_facts(&facts).members.into_keys().collect();
    assert_eq!(names, [name("n1").unwrap(), name("n2").unwrap()]);
    // So many copies as facts want; facts of older builders do not say.
    facts.synchronous = 2;
    assert_eq!(cluster_facts(&facts).synchronous, 2);
    let mut older: serde_json::Value = serde_json::to_value(&facts).unwrap();
    older.as_object_mut().unwrap().remove("synchronous");
    let older: Facts = serde_json::from_value(older).unwrap();
    assert_eq!(cluster_facts(&older).synchronous, 1);
    facts.clusters.clear();
    assert!(cluster_facts(&facts).members.is_empty());
}

#[test]
fn closed_facts_name_the_database_and_facts_of_older_builders_none() {
    let mut facts = Fleet::new(&["n1"]).facts;
    let old = serde_json::to_value(&facts).unwrap();
    assert!(old.get("system_id").is_none() && old.get("redis_genesis").is_none());
    assert_eq!(cluster_facts(&facts).system_id, None);
    facts.system_id = Some("18446744073709551615".to_owned());
    let text = serde_json::to_string(&facts).unwrap();
    let facts: Facts = serde_json::from_str(&text).unwrap();
    let id = cluster_facts(&facts).system_id;
    assert_eq!(id.map(|id| id.0), Some(u64::MAX));
}
