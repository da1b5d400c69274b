use proptest::prelude::*;

use super::super::settings::Peer;
use super::super::views::View;
use super::*;

const FLEET: &str = "acme";
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn address(name: &str) -> String {
    let n = NAMES.iter().position(|other| *other == name).unwrap_or(9) + 1;
    format!("10.0.0.{n}")
}

fn declared(names: &[&str], open: bool) -> Declared {
    Declared {
        peers: names
            .iter()
            .map(|name| Peer {
                name: (*name).to_owned(),
                address: Some(address(name)),
            })
            .collect(),
        open,
        database: false,
        version: 1,
    }
}

/// How a Sentinel of a fleet of `all` sees things when `me` is asked.
fn sees(me: &str, all: &[&str], master: &str, epoch: u64) -> Heard {
    let others = all
        .iter()
        .filter(|name| **name != me)
        .map(|name| (sentinel_id(FLEET, name), address(name)))
        .collect();
    Heard::Names(View {
        master: address(master),
        epoch,
        others,
        replicas: all
            .iter()
            .filter(|name| **name != master)
            .map(|name| address(name))
            .collect(),
        alive: std::collections::BTreeSet::new(),
        master_alive: true,
    })
}

fn heard(answers: &[(&str, Heard)]) -> BTreeMap<String, Heard> {
    answers
        .iter()
        .map(|(name, heard)| ((*name).to_owned(), heard.clone()))
        .collect()
}

fn silent() -> Heard {
    Heard::Silent("timed out".to_owned())
}

fn edit(mut heard: Heard, change: impl FnOnce(&mut View)) -> Heard {
    if let Heard::Names(view) = &mut heard {
        change(view);
    }
    heard
}

fn leads() -> Instance {
    Instance {
        master: true,
        ..Instance::default()
    }
}

const ABC: &[&str] = &["a", "b", "c"];
const WHOLE: Data = Data::Complete { same_boot: true };
const CRASHED: Data = Data::Complete { same_boot: false };

fn seen<'a>(
    declared: &'a Declared,
    heard: &'a BTreeMap<String, Heard>,
    instances: &'a BTreeMap<String, Instance>,
    data: Data,
) -> ServerSeen<'a> {
    ServerSeen {
        fleet: FLEET,
        me: "a",
        declared,
        founder: Some("a"),
        data,
        heard,
        instances,
        waited: 0,
    }
}

#[test]
fn a_starting_redis() {
    let (abc, none) = (declared(ABC, false), BTreeMap::new());
    let b_leads: BTreeMap<_, _> = [("b".to_owned(), leads())].into();
    let names = |master: &str| {
        heard(&[
            ("b", sees("b", ABC, master, 3)),
            ("c", sees("c", ABC, master, 3)),
            ("a", silent()),
        ])
    };
    let start =
        |heard: &BTreeMap<String, Heard>, instances: &BTreeMap<String, Instance>, data, waited| {
            server(&ServerSeen {
                waited,
                ..seen(&abc, heard, instances, data)
            })
        };
    let waits = |start: ServerStart, text: &str| match start {
        ServerStart::Wait(why) => assert!(why.to_string().contains(text), "{why}"),
        other => panic!("{other:?} instead of waiting: {text}"),
    };
    let replica = ServerStart::Replica(address("b"));

    // Named, with its data.
    assert_eq!(start(&names("a"), &none, WHOLE, 0), ServerStart::Master);
    // Named, and wiped: fault 21.
    waits(start(&names("a"), &none, Data::Empty, 0), "has no data");
    waits(
        start(&names("a"), &none, Data::Empty, u64::MAX),
        "has no data",
    );
    // Named, and the machine crashed: replicas that live may know more, replicas that do not, cannot be waited for.
    waits(start(&names("a"), &none, CRASHED, 0), "crashed");
    assert_eq!(
        start(&names("a"), &none, CRASHED, 2 * DOWN_AFTER),
        ServerStart::Master
    );
    let mut lively = names("a");
    for heard in lively.values_mut() {
        *heard = edit(heard.clone(), |view| view.alive = view.replicas.clone());
    }
    waits(start(&lively, &none, CRASHED, 2 * DOWN_AFTER), "crashed");
    assert_eq!(
        start(&lively, &none, CRASHED, FAILOVER_WAIT),
        ServerStart::Master
    );

    // Another is named.
    assert_eq!(start(&names("b"), &b_leads, WHOLE, 0), replica);
    assert_eq!(start(&names("b"), &b_leads, Data::Empty, 0), replica);
    waits(
        start(&names("b"), &none, WHOLE, MASTER_GRACE - 1),
        "b is named",
    );
    assert_eq!(start(&names("b"), &none, WHOLE, MASTER_GRACE), replica);
    waits(
        start(&names("b"), &none, Data::Empty, u64::MAX),
        "b is named",
    );
    waits(
        start(&names("e"), &none, WHOLE, u64::MAX),
        "no address of a member",
    );

    // Too few answer.
    let one = heard(&[
        ("a", sees("a", ABC, "a", 3)),
        ("b", silent()),
        ("c", Heard::Blank),
    ]);
    waits(start(&one, &none, WHOLE, u64::MAX), "1 of 3 Sentinels");
    waits(
        start(&none_heard(), &none, WHOLE, u64::MAX),
        "no Sentinel that answers",
    );
}

fn none_heard() -> BTreeMap<String, Heard> {
    heard(&[("a", silent()), ("b", Heard::Blank), ("c", silent())])
}

#[test]
fn the_highest_epoch_that_a_majority_knows_counts() {
    let old = sees("a", ABC, "a", 3);
    let new = sees("c", ABC, "c", 4);
    let both = heard(&[("a", old.clone()), ("c", new)]);
    let found = opinion(FLEET, &both, 3).unwrap();
    assert_eq!((found.master, found.epoch), (address("c"), 4));
    let split = heard(&[("a", old), ("b", sees("b", ABC, "b", 3))]);
    assert!(matches!(
        opinion(FLEET, &split, 3),
        Err(Undecided::Disagree { epoch: 3, .. })
    ));
}

#[test]
fn declared_members_have_a_vote_once_sentinels_count_them() {
    // A single node whose fleet grows goes on, and the new ones learn from it.
    let alone = heard(&[
        ("a", sees("a", &["a"], "a", 0)),
        ("b", silent()),
        ("c", silent()),
    ]);
    let found = opinion(FLEET, &alone, 3).unwrap();
    assert_eq!(found.voters.len(), 1);
    // One that was just told of the others is no majority by itself.
    let told = heard(&[
        ("a", sees("a", ABC, "a", 0)),
        ("b", silent()),
        ("c", silent()),
    ]);
    assert!(matches!(
        opinion(FLEET, &told, 3),
        Err(Undecided::Majority {
            heard: 1,
            voters: 3,
            needed: 2
        })
    ));
    // Nor does an answer count that comes from nobody's voter.
    let stranger = heard(&[("a", sees("a", ABC, "a", 3)), ("d", sees("d", ABC, "a", 2))]);
    assert!(matches!(
        opinion(FLEET, &stranger, 4),
        Err(Undecided::Majority { heard: 1, .. })
    ));
}

/// Every condition of the one case in which an empty instance leads is needed.
#[test]
fn an_empty_instance_leads_once_in_the_life_of_a_fleet() {
    let virgin = |name: &str| edit(sees(name, ABC, "a", 0), |view| view.replicas.clear());
    let answers = heard(&[("a", virgin("a")), ("b", virgin("b")), ("c", silent())]);
    let (open, closed, none) = (declared(ABC, true), declared(ABC, false), BTreeMap::new());
    let founds =
        |declared: &Declared, heard: &BTreeMap<_, _>, instances: &BTreeMap<_, _>, founder| {
            server(&ServerSeen {
                founder,
                ..seen(declared, heard, instances, Data::Empty)
            }) == ServerStart::Master
        };
    assert!(founds(&open, &answers, &none, Some("a")));
    assert!(
        !founds(&closed, &answers, &none, Some("a")),
        "the fleet was formed"
    );
    assert!(
        !founds(&open, &answers, &none, Some("b")),
        "another is the founder"
    );
    assert!(
        !founds(&open, &answers, &none, None),
        "nobody knows the founder"
    );
    let elected = heard(&[
        ("a", virgin("a")),
        ("b", edit(virgin("b"), |view| view.epoch = 1)),
    ]);
    assert!(
        !founds(&open, &elected, &none, Some("a")),
        "there was an election"
    );
    let copied = heard(&[("a", virgin("a")), ("b", sees("b", ABC, "a", 0))]);
    assert!(
        !founds(&open, &copied, &none, Some("a")),
        "somebody has copied its data"
    );
    let running: BTreeMap<_, _> = [("c".to_owned(), Instance::default())].into();
    assert!(
        !founds(&open, &answers, &running, Some("a")),
        "somebody may hold data"
    );
    let minority = heard(&[("a", virgin("a")), ("b", silent())]);
    assert!(!founds(&open, &minority, &none, Some("a")), "no majority");
}

#[test]
fn the_founder_is_the_first_master_where_it_has_redis() {
    let abc = declared(ABC, true);
    assert_eq!(first_master(Some("b"), &abc), Some("b"));
    assert_eq!(first_master(Some("database-1"), &abc), Some("a"));
    assert_eq!(first_master(None, &abc), None);
    assert_eq!(first_master(Some("b"), &declared(&[], true)), None);
}

#[test]
fn a_single_member_leads() {
    let (one, none, instances) = (declared(&["a"], false), BTreeMap::new(), BTreeMap::new());
    for data in [Data::Empty, WHOLE, CRASHED] {
        assert_eq!(
            server(&seen(&one, &none, &instances, data)),
            ServerStart::Master
        );
    }
    // A member without an address is a member.
    let mut two = declared(&["a", "b"], false);
    two.peers[1].address = None;
    assert!(matches!(
        server(&seen(&two, &none, &instances, WHOLE)),
        ServerStart::Wait(_)
    ));
}

fn state(master: &str) -> SentinelState {
    SentinelState {
        master: address(master),
        config_epoch: 3,
        leader_epoch: 3,
        current_epoch: 3,
        replicas: Vec::new(),
        others: BTreeMap::new(),
    }
}

#[test]
fn a_starting_sentinel() {
    let (open, closed) = (declared(ABC, true), declared(ABC, false));
    let start =
        |declared: &Declared, own: Option<&SentinelState>, heard: &BTreeMap<_, _>, founder| {
            sentinel(&SentinelSeen {
                fleet: FLEET,
                me: "a",
                declared,
                founder,
                own,
                heard,
            })
        };
    let nothing = none_heard();
    let ids = |names: &[&str]| -> BTreeMap<String, String> {
        names
            .iter()
            .map(|name| (sentinel_id(FLEET, name), address(name)))
            .collect()
    };
    let own = state("b");
    assert_eq!(
        start(&closed, Some(&own), &nothing, None),
        SentinelStart::Resume
    );
    // New here.
    let majority = heard(&[("b", sees("b", ABC, "c", 5)), ("c", sees("c", ABC, "c", 5))]);
    let joins = SentinelStart::Join {
        master: address("c"),
        epoch: 5,
        others: ids(&["b", "c"]),
    };
    assert_eq!(start(&closed, None, &majority, Some("a")), joins);
    assert_eq!(start(&open, None, &majority, Some("a")), joins);
    // One of two voters that know something is not enough, whoever the founder was.
    let minority = heard(&[("b", sees("b", ABC, "c", 5)), ("c", silent())]);
    assert!(matches!(
        start(&open, None, &minority, Some("a")),
        SentinelStart::Wait(_)
    ));
    // Some have begun to watch the founder, and this one makes them a majority.
    let begun = |change: fn(&mut View)| {
        let virgin = edit(sees("b", ABC, "b", 0), |view| view.replicas.clear());
        heard(&[("b", edit(virgin, change)), ("c", silent())])
    };
    let begins = |declared, heard: &BTreeMap<_, _>, founder| {
        matches!(
            start(declared, None, heard, founder),
            SentinelStart::Found { .. }
        )
    };
    assert!(begins(&open, &begun(|_| {}), Some("b")));
    assert!(!begins(&closed, &begun(|_| {}), Some("b")));
    assert!(!begins(&open, &begun(|_| {}), Some("c")), "another founder");
    assert!(!begins(&open, &begun(|_| {}), None));
    let elected = begun(|view| view.epoch = 1);
    assert!(!begins(&open, &elected, Some("b")), "there was an election");
    let copied = begun(|view| view.replicas = [address("c")].into());
    assert!(!begins(&open, &copied, Some("b")), "its data were copied");
    // Nobody knows anything.
    let founds = SentinelStart::Found {
        master: address("b"),
        others: ids(&["b", "c"]),
    };
    assert_eq!(start(&open, None, &nothing, Some("b")), founds);
    assert_eq!(
        start(&open, None, &nothing, None),
        SentinelStart::Wait(Why::Founder)
    );
    assert!(matches!(
        start(&closed, None, &nothing, Some("b")),
        SentinelStart::Wait(Why::Forgotten { .. })
    ));
    let mut unknown = declared(ABC, true);
    unknown.peers[2].address = None;
    assert_eq!(
        start(&unknown, None, &nothing, Some("b")),
        SentinelStart::Wait(Why::Address("c".to_owned()))
    );
    // The last one of a fleet watches itself.
    let one = declared(&["a"], false);
    let alone = SentinelStart::Found {
        master: address("a"),
        others: BTreeMap::new(),
    };
    assert_eq!(start(&one, None, &nothing, None), alone);
    assert_eq!(start(&one, Some(&own), &nothing, None), alone);
    assert_eq!(
        start(&one, Some(&state("a")), &nothing, None),
        SentinelStart::Resume
    );
}

#[test]
fn a_master_that_was_replaced_is_told_by_whom() {
    let declared = declared(&["a", "b", "c"], true);
    let found = |master| Opinion {
        master: address(master),
        epoch: 2,
        voters: BTreeMap::new(),
        alive: Vec::new(),
        had_replicas: true,
    };
    let follows = || Instance {
        linked: true,
        ..Instance::default()
    };
    let followed = || Instance {
        replicas: vec![(address("c"), 0)],
        ..leads()
    };
    let seen = |a: Option<Instance>, b: Option<Instance>, master| {
        let all = [("a", a), ("b", b)];
        let instances = all
            .into_iter()
            .filter_map(|(name, one)| Some((name.to_owned(), one?)))
            .collect();
        successor("a", &declared, &found(master), &instances).map(str::to_owned)
    };
    assert_eq!(
        seen(Some(leads()), Some(followed()), "b"),
        Some(address("b"))
    );
    assert_eq!(seen(Some(leads()), Some(leads()), "a"), None);
    assert_eq!(seen(Some(follows()), Some(followed()), "b"), None);
    // Whom another follows may be the master of an election that has not got about.
    assert_eq!(seen(Some(followed()), Some(leads()), "b"), None);
    // Named, and not there or not yet the master.
    assert_eq!(seen(Some(leads()), None, "b"), None);
    assert_eq!(seen(Some(leads()), Some(follows()), "b"), None);
    assert_eq!(seen(None, Some(leads()), "b"), None);
    // No member of the fleet.
    assert_eq!(seen(Some(leads()), Some(leads()), "e"), None);
}

#[test]
fn a_copy_counts_once_it_is_whole() {
    let replica = |linked, copying, priority| Instance {
        linked,
        copying,
        priority: Some(priority),
        ..Instance::default()
    };
    use WatchAction::{Complete, Priority};
    assert_eq!(watch(false, &replica(false, true, 0)), []);
    assert_eq!(watch(false, &replica(false, false, 0)), []);
    assert_eq!(
        watch(false, &replica(true, false, 0)),
        [Complete, Priority(ELIGIBLE)]
    );
    assert_eq!(watch(true, &replica(true, false, 100)), []);
    // Its master is gone: this is what it is there for.
    assert_eq!(watch(true, &replica(false, false, 100)), []);
    // It is copying again, and may have thrown away what it had.
    assert_eq!(watch(true, &replica(false, true, 100)), [Priority(0)]);
    assert_eq!(watch(true, &replica(true, false, 0)), [Priority(ELIGIBLE)]);
    // A master says nothing of its priority.
    assert_eq!(watch(true, &leads()), []);
    assert_eq!(watch(false, &leads()), [Complete]);
}

fn any_heard(me: &'static str) -> impl Strategy<Value = Heard> {
    prop_oneof![
        1 => Just(silent()),
        1 => Just(Heard::Blank),
        4 => (0..5usize, 0..3u64, proptest::sample::subsequence(&NAMES[..], 0..=5), any::<bool>()).prop_map(
            move |(master, epoch, all, copied)| {
                edit(sees(me, &all, NAMES[master], epoch), |view| {
                    if !copied {
                        view.replicas.clear();
                    }
                })
            }
        ),
    ]
}

fn any_answers() -> impl Strategy<Value = BTreeMap<String, Heard>> {
    (
        any_heard("a"),
        any_heard("b"),
        any_heard("c"),
        any_heard("d"),
        any_heard("e"),
    )
        .prop_map(|(a, b, c, d, e)| heard(&[("a", a), ("b", b), ("c", c), ("d", d), ("e", e)]))
}

proptest! {
    /// Whatever is answered: who leads is named by the highest epoch that anybody has, a majority of those who count was
    /// heard, and there are data, or it is the first master of an open fleet in which nobody has seen a replica.
    #[test]
    fn nobody_leads_without_cause(
        answers in any_answers(),
        size in 2..=5usize,
        open in any::<bool>(),
        data in prop_oneof![Just(Data::Empty), Just(WHOLE), Just(CRASHED)],
        founder in proptest::option::of(0..5usize),
        waited in prop_oneof![Just(0), Just(10_000), Just(u64::MAX)],
    ) {
        let declared = declared(&NAMES[..size], open);
        let instances = BTreeMap::new();
        let seen = ServerSeen {
            founder: founder.map(|n| NAMES[n]),
            waited,
            ..seen(&declared, &answers, &instances, data)
        };
        let views: Vec<&View> = answers.values().filter_map(Heard::view).collect();
        let highest = views.iter().map(|view| view.epoch).max();
        match server(&seen) {
            ServerStart::Master => {
                let newest: Vec<_> = views.iter().filter(|view| Some(view.epoch) == highest).collect();
                prop_assert!(newest.iter().all(|view| view.master == address("a")));
                prop_assert!(newest.iter().all(|view| views.len() * 2 > view.others.len() + 1));
                if data == Data::Empty {
                    prop_assert!(open && highest == Some(0) && founder.is_some());
                    prop_assert!(newest.iter().all(|view| view.replicas.is_empty()));
                }
            }
            ServerStart::Replica(of) => {
                prop_assert!(of != address("a"));
                prop_assert!(data != Data::Empty, "nobody was seen to lead");
            }
            ServerStart::Wait(_) => {}
        }
    }

    /// A Sentinel that knows nothing never contradicts one that knows something.
    #[test]
    fn nobody_founds_beside_a_fleet(
        answers in any_answers(),
        open in any::<bool>(),
        founder in proptest::option::of(0..5usize),
    ) {
        let declared = declared(&NAMES, open);
        let mut answers = answers;
        answers.remove("a");
        let start = sentinel(&SentinelSeen {
            fleet: FLEET,
            me: "a",
            declared: &declared,
            founder: founder.map(|n| NAMES[n]),
            own: None,
            heard: &answers,
        });
        let known = answers.values().any(|heard| heard.view().is_some());
        match start {
            SentinelStart::Found { master, .. } => {
                prop_assert!(open && founder.is_some());
                let mut views = answers.values().filter_map(Heard::view);
                let first = views.all(|view| {
                    view.epoch == 0 && view.master == master && view.replicas.is_empty()
                });
                prop_assert!(first, "somebody knows more");
            }
            SentinelStart::Join { others, .. } => {
                prop_assert!(known);
                prop_assert!(!others.contains_key(&sentinel_id(FLEET, "a")));
            }
            SentinelStart::Resume => prop_assert!(false, "there is nothing to resume"),
            SentinelStart::Wait(_) => {}
        }
    }
}
