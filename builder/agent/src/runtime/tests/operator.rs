//! What the operator asks on the machine itself.

use std::collections::BTreeMap;

use rolesmith_model::recovery::{Order, SignedOrder};
use rolesmith_model::status::FleetStatus;

use super::*;
use crate::cluster::{
    Config, Core, DataState, Epoch, Incarnation, Response, Stamp, SystemId, Timing,
};
use crate::drain;
use crate::net::testing::{Authority, fingerprint};
use crate::redis::state::{Report, report};

async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(ask).await.unwrap()
}

async fn fleet_of(place: &Place) -> FleetStatus {
    let root = place.root();
    blocking(move || control::fleet(&root)).await.unwrap()
}

#[test]
fn one_member_tells_how_all_are() {
    run_test(async {
        let mut fleet = fleet(207);
        fleet.add("n3");
        fleet.facts.members[2].address = Some("127.0.0.1".into());
        let (n1, n2) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n2"));
        drain::mark(&n2.root(), 7).unwrap();
        let running = Report::Running {
            role: "master".into(),
            master: Some("n2".into()),
            epoch: Some(1),
            sentinels: 2,
            voters: 2,
            replicas: Some(1),
            alarms: Vec::new(),
        };
        report(&n2.root(), "watch", &running).unwrap();
        let applied = crate::state::Report {
            phase: crate::state::Phase::Converged,
            facts_version: Some(1),
            ..Default::default()
        };
        n2.write(crate::state::REPORT_FILE, &json(&applied));
        let (first, second) = (n1.start(NoDatabase), n2.start(NoDatabase));
        let connected = |report: &ClusterReport| report.net.links.iter().any(|link| link.connected);
        n1.report(connected).await;
        let status = fleet_of(&n1).await;
        assert_eq!(
            (status.fleet.as_str(), status.asked.as_str(), status.facts),
            ("acme", "n1", 1)
        );
        let [own, peer, gone] = &status.members[..] else {
            panic!("{status:?}");
        };
        for (member, place) in [(own, &n1), (peer, &n2)] {
            let id = format!("{:016x}", place.incarnation().id);
            assert!(member.reachable, "{member:?}");
            assert_eq!(member.machine.as_ref(), Some(&id));
            assert_eq!(member.part.as_deref(), Some("data"));
            let database = member.database.as_ref().unwrap();
            assert_eq!(
                (database.role.as_str(), &database.formed),
                ("waiting", &None)
            );
        }
        for (member, applied) in [(own, None), (peer, Some(1))] {
            let machine = &member.machine_status;
            let certificate = fingerprint(&fleet.certificates[&member.name]);
            assert_eq!(machine.certificate, Some(certificate));
            assert_eq!(machine.authorities, [fingerprint(&fleet.authority.pem)]);
            assert_eq!(machine.applied, applied);
        }
        assert_eq!(peer.machine_status.drained, Some(7));
        let redis = peer.machine_status.redis.as_ref().unwrap();
        assert_eq!((redis.role.as_str(), redis.sentinels), ("master", 2));
        assert_eq!(own.machine_status.redis, None);
        assert!(!gone.reachable);
        assert!(
            gone.problem.as_ref().unwrap().contains("no answer"),
            "{gone:?}"
        );
        // Two at a time, each gets its own.
        let (one, other) = tokio::join!(fleet_of(&n1), fleet_of(&n2));
        assert_eq!((one.asked.as_str(), other.asked.as_str()), ("n1", "n2"));
        first.abort();
        second.abort();
    });
}

#[test]
fn an_answer_of_an_older_agent_is_one() {
    let (reply, answer) = oneshot::channel();
    let facts = fleet(208).facts;
    let mut survey = survey::Survey::new(&facts, "n1", 5, reply);
    let peer = Peer {
        name: "n2".into(),
        number: 1,
        id: 9,
    };
    survey.sent(1, "n2");
    let mut report = crate::net::testing::status("n2");
    report.alarms = vec!["no primary is heard".into()];
    let old = Reply {
        incarnation: Incarnation { number: 1, id: 9 },
        facts: 4,
        config: None,
        promised: Epoch(0),
        response: Response::Status(Box::new(report)),
    };
    assert!(!survey.is_complete());
    survey.heard(1, Ok((peer.clone(), json(&old))));
    // One of a version that answers in another way.
    survey.sent(2, "n1");
    survey.heard(2, Ok((peer, b"{\"response\":\"later\"}".to_vec())));
    assert!(survey.is_complete());
    survey.finish();
    let status: FleetStatus = serde_json::from_slice(&answer.blocking_recv().unwrap()).unwrap();
    let old = status.member("n2").unwrap();
    assert_eq!(
        (old.facts, old.machine_status.agent.as_ref()),
        (Some(4), None)
    );
    assert_eq!(old.machine_status.alarms, ["no primary is heard"]);
    let odd = status.member("n1").unwrap();
    assert!(odd.reachable && odd.problem.is_some());
    // What is said beside an answer is passed over by those who do not know it.
    let told = survey::Told {
        reply: Reply {
            response: Response::Ok,
            facts: 1,
            config: None,
            promised: Epoch(0),
            incarnation: Incarnation { number: 1, id: 1 },
        },
        machine: Some(Default::default()),
    };
    let read: Reply = serde_json::from_slice(&json(&told)).unwrap();
    assert_eq!(read, told.reply);
}

#[test]
fn a_signed_order_ends_a_lost_majority_once() {
    run_test(async {
        let fleet = fleet(209);
        let n1 = Place::new(&fleet, "n1");
        let machine = Incarnation {
            number: 1,
            id: 0xff,
        };
        let mut voters: BTreeMap<NodeName, Incarnation> = ["n2", "n3"]
            .map(|node| (name(node).unwrap(), Incarnation { number: 1, id: 1 }))
            .into();
        voters.insert(name("n1").unwrap(), machine);
        let config = Config {
            stamp: Stamp {
                epoch: Epoch(3),
                version: 6,
            },
            data: voters.keys().cloned().collect(),
            voters,
            k: 1,
            alone: None,
            system_id: SystemId(7),
            founder: None,
        };
        let durable = Durable {
            config: config.clone(),
            data: DataState::Complete,
            ..Durable::fresh(machine)
        };
        n1.write(store::FILE, &json(&durable));
        let setup = n1.setup();
        let node = spawn_local(async move {
            let make: MakeCore<Core> = Box::new(|me, facts, durable, now, seed| {
                Core::new(me, facts, Timing::default(), durable, now, seed)
            });
            run(setup, make, NoDatabase, std::future::pending()).await
        });
        n1.report(|report| report.cluster.is_some()).await;
        let order = Order {
            fleet: "acme".into(),
            survivor: "n1".into(),
            incarnation: 1,
            machine: "00000000000000ff".into(),
            epoch: 3,
            version: 6,
            system_id: "7".into(),
            issued: 1_800_000_000,
        };
        let give = async |signed: SignedOrder| {
            let root = n1.root();
            blocking(move || control::recover(&root, &signed))
                .await
                .unwrap()
        };
        // Nobody's order, and an order without a signature.
        let forged = give(Authority::new().order(order.clone()))
            .await
            .unwrap_err();
        assert!(forged.contains("did not sign"), "{forged}");
        let root = n1.root();
        let bare = Request::Recover {
            survivor: name("n1").unwrap(),
            replaces: config.stamp,
        };
        assert!(blocking(move || control::ask(&root, &bare)).await.is_err());
        let signed = fleet.authority.order(order);
        assert_eq!(give(signed.clone()).await, Ok(()));
        let alone = n1.report(|report| {
            report
                .cluster
                .as_ref()
                .is_some_and(|status| status.config.voters.len() == 1)
        });
        assert_eq!(alone.await.cluster.unwrap().config.system_id, SystemId(7));
        let again = give(signed).await.unwrap_err();
        assert!(again.contains("carried out before"), "{again}");
        node.abort();
    });
}
