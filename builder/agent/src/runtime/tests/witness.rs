//! A witness with the real core and without any database.

use super::*;
use crate::cluster::{Beat, Core, DataState, RoleWord, Stamp, SyncSetting, SystemId, Timing};

/// n1 and n2 hold data, n3 is the witness.
fn with_witness(net: u8) -> Fleet {
    let mut fleet = super::fleet(net);
    fleet.add("n3");
    let first = fleet.facts.members[0].address.clone().unwrap();
    let base = first.strip_suffix('1').unwrap();
    fleet.facts.members[2].address = Some(format!("{base}3"));
    fleet.facts.members[2].roles = vec!["base".into(), "db-witness".into()];
    fleet
}

fn start_witness(place: &Place) -> JoinHandle<Result<(), RuntimeError>> {
    let setup = place.setup();
    let database = Database::of(&place.root());
    spawn_local(async move {
        let make: MakeCore<Core> = Box::new(|me, facts, durable, now, seed| {
            Core::new(me, facts, Timing::default(), durable, now, seed)
        });
        run(setup, make, database, std::future::pending()).await
    })
}

#[test]
fn a_witness_votes_makes_no_database_and_reports_nothing_amiss() {
    run_test(async {
        let fleet = with_witness(207);
        let (n1, n3) = (Place::new(&fleet, "n1"), Place::new(&fleet, "n3"));
        let witness = start_witness(&n3);
        let waiting = n3.report(|report| report.cluster.is_some()).await;
        let word = waiting.cluster.unwrap().role;
        assert_eq!(word, RoleWord::Waiting, "no cluster is formed yet");

        // n1 is primary, by a configuration in which both of them vote.
        let first = n1.start(NoDatabase);
        n1.report(|report| report.net.links.iter().any(|link| link.connected))
            .await;
        let row = EpochRow {
            epoch: Epoch(1),
            node: name("n1").unwrap(),
            timeline: Timeline(1),
            switch: Lsn(0),
        };
        let config = Config {
            stamp: Stamp {
                epoch: Epoch(1),
                version: 1,
            },
            voters: [
                (name("n1").unwrap(), n1.incarnation()),
                (name("n3").unwrap(), n3.incarnation()),
            ]
            .into(),
            data: [name("n1").unwrap()].into(),
            k: 0,
            alone: None,
            system_id: SystemId(7),
            ..Config::default()
        };
        let beat = Beat {
            epoch: Epoch(1),
            attach: true,
            confirmed: true,
            lineage: vec![row],
            history: Vec::new(),
            kept_from: Lsn(0),
            sync: SyncSetting::default(),
            sent: 5,
        };
        let mut step = ask(&n1, "n3", Request::Beat(beat), 7);
        if let Some(Effect::Send { envelope, .. }) = step.effects.first_mut() {
            envelope.config = config;
        }
        n1.tick(step);
        assert_eq!(
            n1.sees(|line| line.starts_with("response 7")).await,
            "response 7: Ok(Epoch(1))"
        );
        let is_witness = |report: &ClusterReport| {
            let cluster = report.cluster.as_ref();
            cluster.is_some_and(|cluster| cluster.role == RoleWord::Witness)
        };
        let report = n3.report(is_witness).await;
        assert!(
            report.line().starts_with("witness, epoch 1, primary n1"),
            "{}",
            report.line()
        );
        // Longer than any action of the core would take to fail.
        sleep(StdDuration::from_millis(300)).await;
        let cluster = n3.report(is_witness).await.cluster.unwrap();
        assert_eq!(cluster.data, DataState::Empty);
        let failing = |alarm: &&String| alarm.starts_with("failing");
        assert_eq!(cluster.alarms.iter().find(failing), None);
        first.abort();
        witness.abort();
    });
}
