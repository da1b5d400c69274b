//! Three voters that say this and that, by hand and at random.

use proptest::prelude::*;

use super::*;
use crate::cluster::{DataState, Lsn, Timeline};

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn incarnation(id: u64) -> Incarnation {
    Incarnation { number: 1, id }
}

fn row(epoch: u64, node: &str) -> EpochRow {
    EpochRow {
        epoch: Epoch(epoch),
        node: name(node),
        timeline: Timeline(1),
        switch: Lsn(0),
    }
}

/// What a voter says: its name, its machine, what it is, whom it promised what, its newest row.
fn report(
    node: &str,
    role: RoleWord,
    promised: (u64, &str),
    newest: Option<EpochRow>,
) -> StatusReport {
    let config = Config {
        stamp: Stamp {
            epoch: Epoch(1),
            version: 1,
        },
        voters: [("n1", 1), ("n2", 2), ("n3", 3)]
            .map(|(node, id)| (name(node), incarnation(id)))
            .into(),
        system_id: SystemId(7),
        ..Config::default()
    };
    StatusReport {
        node: name(node),
        role,
        promised: Some((Epoch(promised.0), name(promised.1))),
        primary: None,
        row: newest,
        position: None,
        system_id: None,
        data: DataState::Complete,
        standbys: BTreeMap::new(),
        config,
        facts: 1,
        alarms: Vec::new(),
    }
}

fn reply(id: u64, report: StatusReport) -> Reply {
    Reply {
        incarnation: incarnation(id),
        facts: 1,
        config: None,
        promised: Epoch(0),
        response: Response::Status(Box::new(report)),
    }
}

/// A watch of three voters that asks and hears at once.
struct Story {
    watch: Watch,
    asked: RequestId,
}

impl Story {
    fn new() -> Self {
        let declared = Declared {
            incarnation: 1,
            data: true,
        };
        let members = ["n1", "n2", "n3"].map(|node| (name(node), declared.clone()));
        let mut watch = Watch::default();
        assert_eq!(watch.second(&members.into()).len(), 3);
        Self { watch, asked: 0 }
    }

    fn hears(&mut self, node: &str, id: u64, report: Option<StatusReport>) -> Option<EpochRow> {
        self.asked += 1;
        self.watch.ask(&name(node), self.asked, 0);
        let reply = report.map(|report| reply(id, report));
        self.watch.heard(&name(node), self.asked, reply, 0);
        self.watch.learn(None);
        self.watch.primary().cloned()
    }
}

#[test]
fn a_majority_and_the_primary_itself_have_to_say_so() {
    let mut story = Story::new();
    let standby =
        |node, epoch, to| report(node, RoleWord::Standby, (epoch, to), Some(row(4, "n1")));
    let primary = |node, epoch| {
        report(
            node,
            RoleWord::Primary,
            (epoch, node),
            Some(row(epoch, node)),
        )
    };
    assert_eq!(
        story.hears("n2", 2, Some(standby("n2", 4, "n1"))),
        None,
        "the primary has not spoken"
    );
    let first = Some(row(4, "n1"));
    assert_eq!(story.hears("n1", 1, Some(primary("n1", 4))), first);
    // Cut off, it still believes in itself; the others have gone on.
    story.hears("n2", 2, Some(standby("n2", 5, "n2")));
    assert_eq!(
        story.hears("n3", 3, Some(standby("n3", 5, "n2"))),
        first,
        "nobody else is one yet"
    );
    let second = Some(row(5, "n2"));
    assert_eq!(story.hears("n2", 2, Some(primary("n2", 5))), second);
    assert_eq!(story.hears("n2", 2, None), second, "too few say anything");
    // What was said before is heard again, late.
    story.hears("n3", 3, Some(standby("n3", 4, "n1")));
    assert_eq!(story.hears("n1", 1, Some(primary("n1", 4))), second);
}

#[test]
fn a_database_that_was_made_anew_begins_again_at_the_first_epoch() {
    let mut story = Story::new();
    let said = |node, system| {
        let role = if node == "n1" {
            RoleWord::Primary
        } else {
            RoleWord::Standby
        };
        let mut report = report(node, role, (system, "n1"), Some(row(system, "n1")));
        report.config.system_id = SystemId(system);
        // The configuration of the later database counts as little as its epochs.
        report.config.stamp.epoch = Epoch(system);
        report
    };
    for system in [9, 2] {
        for (node, id) in [("n1", 1), ("n2", 2), ("n3", 3)] {
            story.hears(node, id, Some(said(node, system)));
        }
        assert_eq!(story.watch.primary(), Some(&row(system, "n1")));
    }
}

#[test]
fn a_machine_that_has_no_vote_does_not_count() {
    let mut story = Story::new();
    let primary = report("n1", RoleWord::Primary, (4, "n1"), Some(row(4, "n1")));
    story.hears("n1", 1, Some(primary));
    let second = report("n2", RoleWord::Standby, (4, "n1"), None);
    assert_eq!(story.hears("n2", 9, Some(second)), None);
    // Nor does one that is primary without its own row being committed.
    let mut story = Story::new();
    for (node, id) in [("n1", 1), ("n2", 2), ("n3", 3)] {
        let role = match id {
            1 => RoleWord::Promoting,
            _ => RoleWord::Standby,
        };
        let said = report(node, role, (4, "n1"), Some(row(3, "n2")));
        assert_eq!(story.hears(node, id, Some(said)), None);
    }
}

#[test]
fn a_witness_counts_itself() {
    let mut story = Story::new();
    let primary = report("n1", RoleWord::Primary, (4, "n1"), Some(row(4, "n1")));
    assert_eq!(story.hears("n1", 1, Some(primary)), None);
    let own = |promised| report("n3", RoleWord::Witness, promised, None);
    story.watch.learn(Some((incarnation(3), own((3, "n2")))));
    assert_eq!(story.watch.primary(), None);
    story.watch.learn(Some((incarnation(3), own((4, "n1")))));
    assert_eq!(story.watch.primary(), Some(&row(4, "n1")));
}

#[test]
fn a_member_with_news_is_asked_again_at_once_and_one_that_keeps_no_questions_a_second_later() {
    let mut watch = Story::new().watch;
    let n1 = name("n1");
    let said = |epoch| {
        let report = report(
            "n1",
            RoleWord::Primary,
            (epoch, "n1"),
            Some(row(epoch, "n1")),
        );
        Some(reply(1, report))
    };
    assert_eq!(watch.ask(&n1, 1, 0), None, "nothing is known of it");
    assert!(watch.heard(&n1, 1, said(4), 3), "all is news");
    let unless = watch.ask(&n1, 2, 3).expect("it said something");
    assert!(unless.row == Some(row(4, "n1")) && unless.role == RoleWord::Primary);
    assert!(watch.heard(&n1, 2, said(4), 3 + HOLD), "it was kept");
    watch.ask(&n1, 3, 2_000);
    assert!(!watch.heard(&n1, 3, said(4), 2_010), "it was not kept");
    watch.ask(&n1, 4, 3_000);
    assert!(watch.heard(&n1, 4, said(5), 3_010), "there is news");
    // An answer to another question, or none, waits for the next second too.
    watch.ask(&n1, 5, 4_000);
    assert!(!watch.heard(&n1, 4, said(6), 4_010));
    assert!(!watch.heard(&n1, 5, None, 4_900));
    // News without end are heard of in time.
    let mut put = 0;
    while {
        put += 1;
        watch.ask(&n1, 100 + put, 5_000);
        watch.heard(&n1, 100 + put, said(put), 5_000)
    } {}
    assert!(put <= RequestId::from(BUDGET), "{put}");
}

#[test]
fn nobody_is_asked_twice_at_a_time_and_who_left_is_forgotten() {
    let mut watch = Story::new().watch;
    let declared = Declared {
        incarnation: 1,
        data: true,
    };
    let members: BTreeMap<_, _> = ["n1", "n2"]
        .map(|node| (name(node), declared.clone()))
        .into();
    watch.ask(&name("n1"), 1, 0);
    assert_eq!(watch.second(&members), [name("n2")]);
    assert!(!watch.heard(&name("n3"), 1, None, 0));
    watch.heard(&name("n1"), 1, None, 10);
    assert_eq!(watch.second(&members), [name("n1"), name("n2")]);
}

/// A voter's state at some time: what it promised, and whether it is the primary of that epoch.
fn any_voter() -> impl Strategy<Value = (usize, u64, bool, bool)> {
    (0..3_usize, 1..4_u64, any::<bool>(), any::<bool>())
}

proptest! {
    /// Voters whose promises never go back, and of whom one alone holds an epoch; heard in any order, with answers lost.
    #[test]
    fn whoever_is_followed_holds_a_majoritys_promise_and_no_epoch_goes_back(
        steps in prop::collection::vec(any_voter(), 1..60)
    ) {
        const NODES: [&str; 3] = ["n1", "n2", "n3"];
        // Who holds an epoch is the same for everybody.
        let holder = |epoch: u64| NODES[usize::try_from(epoch % 3).unwrap()];
        let mut promises = [0_u64; 3];
        let mut story = Story::new();
        let mut before = None;
        for (voter, epoch, primary, answers) in steps {
            promises[voter] = promises[voter].max(epoch);
            let (node, promised) = (NODES[voter], promises[voter]);
            let majority = promises.iter().filter(|own| **own >= promised).count() >= 2;
            // It is primary only of an epoch that it holds, by a majority.
            let primary = primary && holder(promised) == node && majority;
            let role = if primary { RoleWord::Primary } else { RoleWord::Standby };
            let newest = primary.then(|| row(promised, node));
            let said = report(node, role, (promised, holder(promised)), newest);
            let id = u64::try_from(voter).unwrap() + 1;
            let found = story.hears(node, id, answers.then_some(said));
            if let Some(row) = &found {
                prop_assert_eq!(row.node.as_str(), holder(row.epoch.0));
                let reached = promises.iter().filter(|own| **own >= row.epoch.0).count();
                prop_assert!(reached >= 2, "{:?} {:?}", row, promises);
            }
            prop_assert!(before <= found.as_ref().map(|row| row.epoch));
            before = found.map(|row| row.epoch);
        }
    }
}
