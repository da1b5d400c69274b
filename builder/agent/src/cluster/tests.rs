//! Decisions as tables, where a simulated fleet would be an odd way to look at them.

use std::collections::BTreeSet;

use rolesmith_model::ids::NodeName;

use super::*;

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a valid name")
}

fn row(epoch: u64, name: &str, timeline: u32, switch: u64) -> EpochRow {
    EpochRow {
        epoch: Epoch(epoch),
        node: node(name),
        timeline: Timeline(timeline),
        switch: Lsn(switch),
    }
}

fn at(timeline: u32, lsn: u64) -> Position {
    Position {
        timeline: Timeline(timeline),
        lsn: Lsn(lsn),
    }
}

fn history(starts: &[(u32, u64)]) -> Vec<TimelineStart> {
    starts
        .iter()
        .map(|(timeline, begins)| TimelineStart {
            timeline: Timeline(*timeline),
            begins: Lsn(*begins),
        })
        .collect()
}

#[test]
fn a_log_is_followed_undone_or_copied() {
    use Relation::{Foreign, Prefix, Tail};
    let first = || row(1, "n1", 1, 0);
    let second = || row(2, "n2", 2, 50);
    let affirmed = || row(2, "n1", 1, 0);
    let third = || row(3, "n1", 2, 60);
    type Case = (
        &'static str,
        Vec<EpochRow>,
        Position,
        Vec<TimelineStart>,
        Option<u64>,
        Vec<EpochRow>,
        Relation,
    );
    let one = || history(&[(1, 0)]);
    let two = || history(&[(1, 0), (2, 50)]);
    let cases: Vec<Case> = vec![
        (
            "behind on one timeline",
            vec![first()],
            at(1, 40),
            one(),
            Some(1),
            vec![first()],
            Prefix,
        ),
        (
            "up to the switch",
            vec![first()],
            at(1, 50),
            one(),
            Some(1),
            vec![first(), second()],
            Prefix,
        ),
        (
            "one record past it",
            vec![first()],
            at(1, 51),
            one(),
            Some(1),
            vec![first(), second()],
            Tail,
        ),
        (
            "no row at all",
            vec![],
            at(1, 10),
            one(),
            None,
            vec![first()],
            Foreign,
        ),
        (
            "on the new timeline, its row not yet there",
            vec![first()],
            at(2, 55),
            two(),
            Some(2),
            vec![first(), second()],
            Prefix,
        ),
        (
            "a timeline of the same number and place, from an epoch that came to nothing",
            vec![first()],
            at(2, 55),
            two(),
            Some(9),
            vec![first(), second()],
            Foreign,
        ),
        (
            "the same number, another place",
            vec![first()],
            at(2, 65),
            two(),
            Some(2),
            vec![first(), third()],
            Foreign,
        ),
        (
            "a re-affirmed epoch goes on in the same log",
            vec![first()],
            at(1, 80),
            one(),
            Some(1),
            vec![first(), affirmed()],
            Prefix,
        ),
        (
            "past the switch after a re-affirmed epoch",
            vec![first(), affirmed()],
            at(1, 80),
            one(),
            Some(2),
            vec![first(), affirmed(), row(3, "n2", 2, 70)],
            Tail,
        ),
        (
            "a row of its own below the switch, which the primary lacks",
            vec![first(), row(2, "n1", 1, 0)],
            at(1, 40),
            one(),
            Some(2),
            vec![first(), row(3, "n2", 2, 50)],
            Foreign,
        ),
    ];
    for (what, rows, end, history, followed, lineage, expected) in cases {
        let local = Local {
            rows: &rows,
            end,
            history: &history,
            followed: followed.map(Epoch),
        };
        let starts = timelines(&lineage);
        assert_eq!(relation(&local, &lineage, &starts), expected, "{what}");
    }
}

/// Timelines of a primary of whose promotions each left its row.
fn timelines(lineage: &[EpochRow]) -> Vec<TimelineStart> {
    let mut starts: Vec<TimelineStart> = lineage
        .iter()
        .map(|row| TimelineStart {
            timeline: row.timeline,
            begins: row.switch,
        })
        .collect();
    starts.dedup();
    starts
}

#[test]
fn a_promotion_without_a_row_ends_a_timeline_too() {
    // n2 was promoted at 67, died before its row, and was promoted again at 68. What n1 wrote after 67 is its own.
    let lineage = [row(1, "n1", 2, 1), row(3, "n2", 4, 68)];
    let primary = history(&[(2, 1), (3, 67), (4, 68)]);
    let rows = [row(1, "n1", 2, 1)];
    let own = history(&[(1, 0), (2, 1)]);
    for (end, expected) in [(67, Relation::Prefix), (68, Relation::Tail)] {
        let local = Local {
            rows: &rows,
            end: at(2, end),
            history: &own,
            followed: Some(Epoch(1)),
        };
        assert_eq!(relation(&local, &lineage, &primary), expected, "{end}");
    }
}

fn config(data: &[&str], witnesses: &[&str], k: usize) -> Config {
    Config {
        stamp: Stamp {
            epoch: Epoch(1),
            version: 1,
        },
        voters: data
            .iter()
            .chain(witnesses)
            .map(|name| (node(name), Incarnation { number: 1, id: 1 }))
            .collect(),
        data: data.iter().map(|name| node(name)).collect(),
        k,
        alone: None,
        system_id: SystemId(1),
        founder: None,
    }
}

/// Every choice of `size` names.
fn choices(names: &[NodeName], size: usize) -> Vec<BTreeSet<NodeName>> {
    (0_u32..1 << names.len())
        .filter(|mask| mask.count_ones() as usize == size)
        .map(|mask| {
            names
                .iter()
                .enumerate()
                .filter(|(at, _)| mask & (1 << at) != 0)
                .map(|(_, name)| name.clone())
                .collect()
        })
        .collect()
}

#[test]
fn whatever_is_acknowledged_is_read_by_every_election() {
    let all = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
    for count in 1..=all.len() {
        for k in 0..count {
            let config = config(&all[..count], &["w1", "w2"], k);
            let names: Vec<NodeName> = config.data.iter().cloned().collect();
            for size in 0..=count {
                for readers in choices(&names, size) {
                    let missed = choices(&names, k + 1)
                        .iter()
                        .any(|ackers| ackers.is_disjoint(&readers));
                    assert_eq!(config.reads(&readers), !missed, "{count} {k} {readers:?}");
                }
            }
            let witnesses = [node("w1"), node("w2")];
            assert!(!config.reads(&witnesses), "witnesses have no log");
        }
    }
}

#[test]
fn a_step_of_the_configuration_loses_nothing() {
    let me = node("n1");
    let four = config(&["n1", "n2", "n3", "n4"], &[], 1);
    let three = config(&["n1", "n2", "n3"], &[], 1);
    let mut alone = config(&["n1", "n2"], &["w1"], 1);
    let two = alone.clone();
    alone.alone = Some(me.clone());
    // from, to, the setting that has to be in force, whether a commit has to prove it first
    let table: [(&Config, &Config, usize, &[&str], bool); 5] = [
        (&three, &four, 1, &["n2", "n3"], true),
        (&four, &three, 1, &["n2", "n3"], true),
        (&two, &alone, 1, &["n2"], false),
        (&alone, &two, 1, &["n2"], true),
        (&two, &three, 1, &["n2"], true),
    ];
    for (from, to, k, names, proof) in table {
        let sync = from.bridge(to, &me).expect("a bridge");
        let names: BTreeSet<NodeName> = names.iter().map(|name| node(name)).collect();
        assert_eq!(sync, SyncSetting { k, names }, "{from:?} {to:?}");
        assert!(to.covers(&me, &sync, true));
        assert_eq!(to.covers(&me, &sync, false), !proof);
    }
    // Commits that still count on the fourth are not enough for three.
    assert!(!three.covers(&me, &four.sync_of(&me), true));
}

#[test]
fn a_log_that_is_given_up_is_remembered_by_what_it_was_given_up_for() {
    use DataState::{Cloning, Complete, Copied, Empty, Rewinding};
    let of = |state: fn(Epoch) -> DataState, epoch| state(Epoch(epoch));
    // before, whether row 5 is confirmed, the state while a copy is made from the holder of epoch 5
    let table = [
        (Complete, true, Complete),
        (Complete, false, Complete),
        (Empty, true, of(Cloning, 5)),
        (Empty, false, Empty),
        (of(Rewinding, 3), true, of(Cloning, 3)),
        (of(Cloning, 3), false, of(Cloning, 3)),
        (of(Copied, 3), true, of(Cloning, 5)),
        (of(Copied, 3), false, Empty),
        (of(Copied, 5), true, of(Copied, 5)),
    ];
    for (before, confirmed, after) in table {
        assert_eq!(
            before.copying(Epoch(5), confirmed),
            after,
            "{before:?} {confirmed}"
        );
    }
    let attached = |state: DataState| state.given_up().map(|given_up| given_up.attached);
    assert_eq!(attached(of(Copied, 3)), Some(true));
    assert_eq!(attached(of(Rewinding, 3)), Some(false));
    assert_eq!(attached(Empty), None);
    assert_eq!(attached(Complete), None);
}

#[test]
fn a_position_is_written_as_postgresql_does() {
    let lsn = Lsn(0x1_0000_00A8);
    assert_eq!(lsn.to_string(), "1/A8");
    assert_eq!("1/A8".parse(), Ok(lsn));
    assert!("1/XYZ".parse::<Lsn>().is_err());
}

#[test]
fn the_durable_state_survives_its_file() {
    let mut durable = Durable::fresh(Incarnation {
        number: 1,
        id: u64::MAX,
    });
    durable.data = DataState::Copied(Epoch(7));
    durable.lineage.insert(Epoch(1), row(1, "n1", 1, 0));
    durable.config = config(&["n1", "n2"], &["w1"], 1);
    let text = serde_json::to_string(&durable).expect("it can be written");
    assert_eq!(
        serde_json::from_str::<Durable>(&text).expect("and read"),
        durable
    );
}

fn asked(core: &mut Core, now: u64, from: &str, config: &Config, request: Request) -> Response {
    let from = node(from);
    let envelope = Envelope {
        incarnation: Incarnation { number: 1, id: 1 },
        facts: 1,
        config: config.clone(),
        request,
    };
    let step = core.request(now, &from, envelope);
    let reply = step.effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(reply) => Some(reply.response),
        _ => None,
    });
    reply.expect("every request is answered")
}

/// Three members in epoch 3, and the facts that declare them.
fn three() -> (Config, ClusterFacts) {
    let mut config = config(&["n1", "n2", "n3"], &[], 1);
    config.stamp = Stamp {
        epoch: Epoch(3),
        version: 6,
    };
    let declared = config.voters.iter().map(|(name, machine)| {
        let declared = Declared {
            incarnation: machine.number,
            data: true,
        };
        (name.clone(), declared)
    });
    let facts = ClusterFacts {
        version: 1,
        genesis: rolesmith_model::facts::Genesis::Closed,
        system_id: Some(config.system_id),
        members: declared.collect(),
        synchronous: 1,
    };
    (config, facts)
}

#[test]
fn a_lost_majority_is_ended_once_and_never_beside_a_primary() {
    let (config, facts) = three();
    let durable = Durable {
        promise: Some(Promise {
            epoch: Epoch(3),
            holder: node("n2"),
        }),
        config: config.clone(),
        data: DataState::Complete,
        facts: 1,
        ..Durable::fresh(config.voters[&node("n1")])
    };
    let start = || {
        Core::new(
            node("n1"),
            facts.clone(),
            Timing::default(),
            durable.clone(),
            1000,
            1,
        )
    };
    let order = |stamp: Stamp| Request::Recover {
        survivor: node("n1"),
        replaces: stamp,
    };
    let refused = Response::Refused(Refusal::NotNow);

    // The primary is heard: its majority is not lost, and it would go on.
    let mut core = start();
    let beat = Request::Beat(Beat {
        epoch: Epoch(3),
        attach: true,
        confirmed: true,
        lineage: vec![row(3, "n2", 1, 0)],
        history: Vec::new(),
        kept_from: Lsn(0),
        sync: SyncSetting::default(),
        sent: 1,
    });
    let heard = asked(&mut core, 2000, "n2", &config, beat);
    assert!(matches!(heard, Response::Followed { .. }), "{heard:?}");
    let none = Config::default();
    assert_eq!(
        asked(&mut core, 2001, "n1", &none, order(config.stamp)),
        refused
    );
    // Long after it fell silent.
    let later = 2000 + 60_000;
    // Not this configuration, not by another node's word.
    let other = Stamp {
        version: 5,
        ..config.stamp
    };
    assert_eq!(asked(&mut core, later, "n1", &none, order(other)), refused);
    assert_eq!(
        asked(&mut core, later, "n2", &none, order(config.stamp)),
        refused
    );
    assert_eq!(
        asked(&mut core, later, "n1", &none, order(config.stamp)),
        Response::Ok
    );
    let alone = core.durable().config.clone();
    assert_eq!(alone.voters.len(), 1);
    assert!(alone.stamp.epoch > Epoch(1_000_000));
    // The same order again, now and after a restart.
    assert_eq!(
        asked(&mut core, later + 1, "n1", &none, order(config.stamp)),
        refused
    );
    let mut again = Core::new(
        node("n1"),
        facts.clone(),
        Timing::default(),
        core.durable().clone(),
        later + 2,
        2,
    );
    assert_eq!(
        asked(&mut again, later + 2, "n1", &none, order(config.stamp)),
        refused
    );
    // A copy that is not whole survives nothing.
    let mut empty = Core::new(
        node("n1"),
        facts,
        Timing::default(),
        Durable {
            data: DataState::Cloning(Epoch(3)),
            ..durable
        },
        1000,
        1,
    );
    assert_eq!(
        asked(&mut empty, later, "n1", &none, order(config.stamp)),
        refused
    );
}

/// A standby, n1, and what it does: told by whom it is led, and how its database looks.
struct Standby {
    core: Core,
    config: Config,
    now: u64,
}

impl Standby {
    fn new(data: DataState) -> Self {
        let (config, facts) = three();
        let durable = Durable {
            config: config.clone(),
            data,
            facts: 1,
            followed: Some(Epoch(3)),
            ..Durable::fresh(config.voters[&node("n1")])
        };
        let core = Core::new(node("n1"), facts, Timing::default(), durable, 1000, 1);
        Self {
            core,
            config,
            now: 1000,
        }
    }

    /// A beat of a confirmed holder.
    fn led(&mut self, holder: &str, epoch: u64) -> Vec<Effect> {
        self.now += 100;
        let beat = Beat {
            epoch: Epoch(epoch),
            attach: true,
            confirmed: true,
            lineage: vec![row(epoch, holder, 1, 0)],
            history: Vec::new(),
            kept_from: Lsn(0),
            sync: SyncSetting::default(),
            sent: self.now,
        };
        let envelope = Envelope {
            incarnation: self.config.voters[&node(holder)],
            facts: 1,
            config: self.config.clone(),
            request: Request::Beat(beat),
        };
        self.core.request(self.now, &node(holder), envelope).effects
    }

    fn sees(&mut self, seen: Observed) -> Vec<Effect> {
        self.now += 100;
        self.core.observed(self.now, seen).effects
    }
}

fn acts(effects: &[Effect]) -> Vec<&Action> {
    fn action(effect: &Effect) -> Option<&Action> {
        match effect {
            Effect::Act { action, .. } => Some(action),
            _ => None,
        }
    }
    effects.iter().filter_map(action).collect()
}

#[test]
fn a_copy_of_a_former_primary_is_abandoned() {
    let mut standby = Standby::new(DataState::Empty);
    standby.led("n2", 3);
    let effects = standby.sees(Observed::default());
    let copies = Action::Clone { from: node("n2") };
    assert_eq!(acts(&effects), [&copies]);
    let abandons = |effects: &[Effect]| {
        let abandon = |effect: &&Effect| matches!(effect, Effect::Abandon { .. });
        effects.iter().filter(abandon).count()
    };
    // As long as its source leads, however often it says so.
    assert_eq!(abandons(&standby.led("n2", 3)), 0);
    assert_eq!(abandons(&standby.led("n3", 4)), 1);
    // Not with each word of the new one's, but again where it did not help.
    assert_eq!(abandons(&standby.led("n3", 4)), 0);
    standby.now += Timing::default().retry;
    assert_eq!(abandons(&standby.led("n3", 4)), 1);
}

#[test]
fn a_rewound_standby_follows_under_its_own_name_once_it_is_consistent() {
    let mut standby = Standby::new(DataState::Copied(Epoch(3)));
    standby.led("n2", 3);
    let attached = |nameless| Observed {
        process: Process::Running,
        data: Data::Complete(standby.config.system_id),
        in_recovery: true,
        conninfo: Some(node("n2")),
        receiver: Some(Receiver {
            upstream: Some(node("n2")),
            timeline: Timeline(1),
            streaming: true,
        }),
        rows: vec![row(3, "n2", 1, 0)],
        position: Some(at(1, 10)),
        sync: standby.config.sync_of(&node("n1")),
        nameless,
        ..Observed::default()
    };
    let (nameless, named) = (attached(true), attached(false));
    let follows = Action::Follow { node: node("n2") };
    assert_eq!(acts(&standby.sees(named)), [] as [&Action; 0]);
    assert_eq!(acts(&standby.sees(nameless)), [&follows]);
}
