//! Nodes with a pgbouncer and without a database.

use super::*;
use crate::cluster::{RoleWord, Stamp};
use crate::net::testing;
use crate::runtime::watch::Stance;

/// n1 is the primary by its own word and the promises of these voters; of epoch 0 it is none yet.
fn primary(voters: &[(&str, Incarnation)], epoch: u64) -> StatusReport {
    let n1 = name("n1").unwrap();
    StatusReport {
        role: match epoch {
            0 => RoleWord::Candidate,
            _ => RoleWord::Primary,
        },
        row: Some(EpochRow {
            epoch: Epoch(epoch),
            node: n1.clone(),
            timeline: Timeline(1),
            switch: Lsn(0),
        }),
        promised: Some((Epoch(epoch), n1)),
        config: Config {
            stamp: Stamp {
                epoch: Epoch(1),
                version: 1,
            },
            voters: voters
                .iter()
                .map(|(node, incarnation)| (name(node).unwrap(), *incarnation))
                .collect(),
            ..Config::default()
        },
        ..testing::status("n1")
    }
}

/// A pgbouncer that remembers whom it was to follow, and fails as often as it is told to.
#[derive(Clone, Default)]
struct Pgbouncer {
    led: Arc<Mutex<Vec<u64>>>,
    fails: Arc<AtomicU64>,
}

impl Pgbouncer {
    async fn follows_epoch(&self, epoch: u64) {
        while self.led.lock().unwrap().last() != Some(&epoch) {
            sleep(StdDuration::from_millis(5)).await;
        }
    }
}

impl Executor for Pgbouncer {
    fn abandon(&self) {}
    async fn perform(&self, action: Action) -> Result<Outcome, Failure> {
        let Action::Pooler { primary: Some(row) } = action else {
            panic!("{action:?}");
        };
        let left = self.fails.load(Ordering::Relaxed);
        if left > 0 {
            self.fails.store(left - 1, Ordering::Relaxed);
            return Err(Failure::Later("it is no primary".to_owned()));
        }
        self.led.lock().unwrap().push(row.epoch.0);
        Ok(Outcome::Done)
    }
    async fn observe(&self) -> Observed {
        Observed::default()
    }
    async fn disturbed(&self) {
        std::future::pending().await
    }
    fn facts(&self, _: &Facts) {}
    fn refresh(&self) {}
    fn follows(&self) -> bool {
        true
    }
}

/// A node that is asked from outside, by the member n2.
struct Asker<'a> {
    net: Net,
    events: mpsc::Receiver<Event>,
    place: &'a Place,
}

impl Asker<'_> {
    /// "How are you?", unless that is so. Without it nothing is kept.
    fn ask(&self, number: RequestId, unless: Option<&StatusReport>) {
        let envelope = Envelope {
            incarnation: self.place.incarnation(),
            facts: 1,
            config: Config::default(),
            request: Request::Status,
        };
        let mut question = serde_json::to_value(&envelope).unwrap();
        if let Some(report) = unless {
            question["unless"] = serde_json::to_value(Stance::from(report)).unwrap();
        }
        let limit = StdDuration::from_secs(20);
        self.net.send("n1", number, json(&question), limit);
    }

    /// The next answer: to which question, and of which epoch it speaks.
    async fn answer(&mut self) -> (RequestId, u64) {
        loop {
            let Some(Event::Response { number, result, .. }) = self.events.recv().await else {
                continue;
            };
            let reply: Reply = serde_json::from_slice(&result.unwrap().1).unwrap();
            let Response::Status(report) = reply.response else {
                panic!("{reply:?}");
            };
            return (number, report.promised.unwrap().0.0);
        }
    }
}

#[test]
fn a_question_is_kept_until_there_is_news() {
    run_test(async {
        let mut fleet = fleet(209);
        fleet.facts.members[1].roles.pop();
        let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
        let says = |epoch| n1.script.lock().unwrap().status = Some(primary(&[], epoch));
        says(3);
        let (first, second) = (n1.start(NoDatabase), n2.start(NoDatabase));
        n2.report(|report| !report.node.is_empty()).await;
        second.abort();
        let _ = second.await;
        let (net, events) = n2.material(&fleet);
        let mut asker = Asker {
            net,
            events,
            place: &n2,
        };
        // Known, asked by an older agent, known otherwise.
        asker.ask(1, Some(&primary(&[], 3)));
        asker.ask(2, None);
        assert_eq!(asker.answer().await, (2, 3), "the first one is kept");
        asker.ask(3, Some(&primary(&[], 2)));
        assert_eq!(asker.answer().await, (3, 3), "and still is");
        says(4);
        assert_eq!(asker.answer().await, (1, 4), "there is news");
        // Not for ever.
        asker.ask(4, Some(&primary(&[], 4)));
        assert_eq!(asker.answer().await, (4, 4));
        first.abort();
    });
}

#[test]
fn pgbouncer_follows_where_there_is_no_database() {
    run_test(async {
        let mut fleet = fleet(210);
        fleet.facts.members[1].roles = vec!["base".into(), "db-client".into()];
        let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
        let pgbouncer = Pgbouncer::default();
        let (first, second) = (n1.start(NoDatabase), n2.start(pgbouncer.clone()));
        let unknown = |report: &ClusterReport| {
            let mut alarms = report.alarms.iter();
            alarms.any(|alarm| alarm.starts_with("no primary of the database is known"))
        };
        n2.report(unknown).await;
        n1.report(|report| !report.node.is_empty()).await;
        let voter = [("n1", n1.incarnation())];
        let says = |epoch| n1.script.lock().unwrap().status = Some(primary(&voter, epoch));
        says(3);
        pgbouncer.follows_epoch(3).await;
        n2.report(|report| report.alarms.is_empty() && report.primary.is_some())
            .await;
        // It lost its office, and wins another one; the look at it fails at first.
        pgbouncer.fails.store(2, Ordering::Relaxed);
        says(0);
        says(5);
        pgbouncer.follows_epoch(5).await;
        assert_eq!(*pgbouncer.led.lock().unwrap(), [3, 5], "each once");
        // For as long as it does not follow it says so.
        pgbouncer.fails.store(u64::MAX, Ordering::Relaxed);
        says(6);
        let why = "failing: pgbouncer does not follow n1: it is no primary";
        n2.report(|report| report.alarms.iter().any(|alarm| alarm == why))
            .await;
        first.abort();
        second.abort();
    });
}

#[test]
fn a_witness_leads_its_pgbouncer_too_and_a_data_node_leaves_it_to_its_core() {
    run_test(async {
        for (roles, follows) in [("db-witness", true), ("db-primary-capable", false)] {
            let mut fleet = fleet(211);
            fleet.facts.members[1].roles = vec!["base".into(), roles.into()];
            let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
            let pgbouncer = Pgbouncer::default();
            let (first, second) = (n1.start(NoDatabase), n2.start(pgbouncer.clone()));
            n1.report(|report| !report.node.is_empty()).await;
            n2.report(|report| report.net.links.iter().all(|link| link.connected))
                .await;
            // Two voters: without its own promise there is no majority.
            let voters = [("n1", n1.incarnation()), ("n2", n2.incarnation())];
            let said = primary(&voters, 3);
            n1.script.lock().unwrap().status = Some(said.clone());
            let own = StatusReport {
                role: RoleWord::Witness,
                row: None,
                node: name("n2").unwrap(),
                ..said
            };
            n2.script.lock().unwrap().status = Some(own);
            if follows {
                pgbouncer.follows_epoch(3).await;
            } else {
                // Longer than the other one took.
                sleep(StdDuration::from_millis(300)).await;
                assert_eq!(*pgbouncer.led.lock().unwrap(), Vec::<u64>::new());
            }
            first.abort();
            second.abort();
            let _ = (first.await, second.await);
        }
    });
}
