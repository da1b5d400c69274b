//! Real Redis and Sentinel, started by the agent. No root: every node is a loopback address.
//!
//! They need the program of Debian's redis-tools and half a minute each, so they are left out of a plain test run.
#![allow(missing_docs, reason = "a test")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests run real tools"
)]

mod applications;
mod fleet;
mod roll_over;

use std::time::{Duration, Instant};

use fleet::{Fleet, PARTS, Part};
use rolesmith_agent::net::credentials::credentials;
use rolesmith_agent::perf::redis as perf;
use rolesmith_agent::redis::client::Client;
use rolesmith_agent::redis::resp::Value;
use rolesmith_agent::redis::settings::CONF_DIR;
use rolesmith_agent::redis::state::{Report, SENTINEL_DIR, SERVER_DIR};
use rolesmith_model::perf::Answer;

const MISSING: &str = "install redis-tools, or say builder/setup test";

/// The one master that all Sentinels name and that the other instances follow, every one of them fit to take its place.
fn settled(fleet: &Fleet) -> Option<usize> {
    let heards = fleet.heards();
    let size = fleet.nodes.len();
    let mut masters: Vec<&str> = heards
        .sentinels
        .values()
        .map(|heard| heard.view().map_or("", |view| view.master.as_str()))
        .collect();
    masters.dedup();
    let &[master] = &masters[..] else {
        return None;
    };
    let counted = heards.sentinels.values().all(|heard| {
        heard.view().is_some_and(|view| {
            view.others.len() + 1 == size && view.alive.len() + 1 == size && view.master_alive
        })
    });
    let followed = heards.instances.len() == size
        && heards.instances.values().filter(|one| one.master).count() == 1
        && heards.instances.values().all(|one| {
            one.master
                || (one.priority == Some(100)
                    && one.linked
                    && one.follows.as_deref() == Some(master))
        });
    let index = fleet.nodes.iter().position(|node| node.address == master)?;
    (counted && followed).then_some(index)
}

fn form(network: u8) -> Fleet {
    let mut fleet = Fleet::new(network, 3).expect(MISSING);
    fleet.choose("n2");
    for node in 0..3 {
        fleet.boot(node);
    }
    let took = fleet.until("three nodes are one cluster", 40, |fleet| {
        settled(fleet).is_some()
    });
    eprintln!("formed within {took:.1?}");
    assert_eq!(settled(&fleet), Some(1), "the founder is the first master");
    fleet
}

fn write(fleet: &mut Fleet, key: &str) -> Duration {
    let key = key.to_owned();
    fleet.until("a write is accepted", 30, |fleet| {
        (0..fleet.nodes.len()).any(|node| {
            fleet
                .set(node, &key, "kept")
                .is_ok_and(|reply| reply.text() == Some("OK"))
        })
    })
}

/// A write that every node has. Replication is asynchronous: one that its master alone has is lost with it (docs/redis.md),
/// which is no failure of the cluster's.
fn write_everywhere(fleet: &mut Fleet, key: &str) {
    write(fleet, key);
    fleet.until("the write is everywhere", 10, |fleet| {
        (0..fleet.nodes.len()).all(|node| fleet.get(node, key).as_deref() == Some("kept"))
    });
}

fn kept(fleet: &Fleet, key: &str) {
    for (n, node) in fleet.nodes.iter().enumerate() {
        assert_eq!(fleet.get(n, key).as_deref(), Some("kept"), "{}", node.name);
    }
}

#[test]
#[ignore = "half a minute, and redis-tools"]
fn a_lost_master_is_replaced_and_comes_back_as_a_replica() {
    let mut fleet = form(1);
    write_everywhere(&mut fleet, "before");
    fleet.crash(1);
    let took = write(&mut fleet, "after");
    eprintln!("writes again {took:.1?} after the loss of the master");
    assert!(took < Duration::from_secs(10), "{took:?}");
    fleet.nodes[1].reboot();
    fleet.boot(1);
    let took = fleet.until("the old master is a replica", 30, |fleet| {
        settled(fleet).is_some_and(|master| master != 1)
    });
    eprintln!("the old master is a replica after {took:.1?}");
    kept(&fleet, "before");
    kept(&fleet, "after");
}

/// Sentinel tells a master that was replaced to follow within MULTI, in which a full Redis refuses every command.
#[test]
#[ignore = "a minute, and redis-tools"]
fn a_full_master_that_was_replaced_follows() {
    let mut fleet = form(11);
    write_everywhere(&mut fleet, "before");
    let full = fleet
        .agent(1)
        .unwrap()
        .ask(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    assert_eq!(full.text(), Some("OK"));
    fleet.nodes[1].freeze(Part::Server);
    write(&mut fleet, "after");
    fleet.nodes[1].thaw(Part::Server);
    let took = fleet.until("the old master is a replica", 60, |fleet| {
        settled(fleet).is_some_and(|master| master != 1)
    });
    eprintln!("the full master is a replica after {took:.1?}");
    kept(&fleet, "before");
    kept(&fleet, "after");
}

#[test]
#[ignore = "half a minute, and redis-tools"]
fn a_process_that_dies_comes_back_as_what_it_was() {
    let mut fleet = form(7);
    write_everywhere(&mut fleet, "before");
    fleet.nodes[1].kill(Part::Server);
    // RestartSec= of the unit.
    std::thread::sleep(Duration::from_secs(1));
    fleet.start(1, Part::Server);
    let took = write(&mut fleet, "after") + Duration::from_secs(1);
    eprintln!("writes again {took:.1?} after the death of the master's process");
    fleet.until("three again", 30, |fleet| settled(fleet).is_some());
    assert_eq!(settled(&fleet), Some(1));
    let heards = fleet.heards();
    let mut views = heards.sentinels.values().filter_map(|heard| heard.view());
    assert!(views.all(|view| view.epoch == 0), "nobody was elected");
    kept(&fleet, "before");
    kept(&fleet, "after");
}

#[test]
#[ignore = "half a minute, and redis-tools"]
fn a_master_that_lost_its_data_does_not_wipe_the_others() {
    let mut fleet = form(2);
    write_everywhere(&mut fleet, "before");
    let begun = Instant::now();
    fleet.nodes[1].kill(Part::Server);
    fleet.nodes[1].wipe(SERVER_DIR);
    fleet.start(1, Part::Server);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "within down-after"
    );
    let took = write(&mut fleet, "after");
    eprintln!("writes again {took:.1?} after the wipe");
    fleet.until("the wiped one is a replica", 30, |fleet| {
        settled(fleet).is_some_and(|master| master != 1)
    });
    kept(&fleet, "before");
    kept(&fleet, "after");
}

#[test]
#[ignore = "a minute, and redis-tools"]
fn after_a_blackout_the_master_is_the_one_with_the_newest_data() {
    let mut fleet = form(3);
    write_everywhere(&mut fleet, "before");
    // Another master than the founder, so that nobody finds it by its name.
    fleet.crash(1);
    write(&mut fleet, "between");
    fleet.nodes[1].reboot();
    fleet.boot(1);
    fleet.until("three again", 30, |fleet| settled(fleet).is_some());
    let master = settled(&fleet).unwrap();
    assert_ne!(master, 1);
    // The last write reaches the master's log alone: its replicas hang, and have not for so long that it would refuse.
    for node in (0..3).filter(|&node| node != master) {
        fleet.nodes[node].freeze(Part::Server);
    }
    assert_eq!(
        fleet.set(master, "last", "kept").unwrap().text(),
        Some("OK")
    );
    for node in 0..3 {
        fleet.crash(node);
    }
    let order = [(master + 1) % 3, (master + 2) % 3, master];
    for node in order {
        fleet.nodes[node].reboot();
        fleet.boot(node);
        std::thread::sleep(Duration::from_secs(4));
    }
    let took = fleet.until("one cluster again", 60, |fleet| settled(fleet).is_some());
    eprintln!("healthy {took:.1?} after the last machine booted");
    assert_eq!(settled(&fleet), Some(master));
    for key in ["before", "between", "last"] {
        kept(&fleet, key);
    }
}

#[test]
#[ignore = "a minute, and redis-tools"]
fn a_replaced_machine_is_the_old_voter_under_a_new_address() {
    let mut fleet = form(4);
    write_everywhere(&mut fleet, "before");
    // The master's machine is destroyed. Its successor comes after the others have gone on.
    fleet.crash(1);
    write(&mut fleet, "between");
    drop(fleet.nodes.remove(1));
    fleet.add("n2", "127.77.4.22");
    fleet.publish(2, false);
    for node in [0, 1] {
        // What a changed file does to them.
        fleet.start(node, Part::Sentinel);
    }
    fleet.boot(2);
    fleet.until("three again, no ghost counted", 60, |fleet| {
        settled(fleet).is_some()
    });
    kept(&fleet, "before");
    // A replica's machine loses everything and keeps its address.
    let replica = (0..3).find(|&node| Some(node) != settled(&fleet)).unwrap();
    fleet.crash(replica);
    for dir in [SERVER_DIR, SENTINEL_DIR] {
        fleet.nodes[replica].wipe(dir);
    }
    fleet.boot(replica);
    fleet.until("three again, the same voters", 60, |fleet| {
        settled(fleet).is_some()
    });
    kept(&fleet, "between");
}

#[test]
#[ignore = "a minute, and redis-tools"]
fn machines_that_boot_one_by_one_become_one_cluster_too() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (n, order) in orders.into_iter().enumerate() {
        let network = 10 + u8::try_from(n).unwrap();
        let mut fleet = Fleet::new(network, 3).expect(MISSING);
        fleet.choose("n2");
        for node in order {
            fleet.boot(node);
            std::thread::sleep(Duration::from_millis(1_500));
        }
        let took = fleet.until("one cluster", 40, |fleet| settled(fleet).is_some());
        eprintln!("booted in the order {order:?}: formed {took:.1?} after the last");
        assert_eq!(settled(&fleet), Some(1));
    }
}

#[test]
#[ignore = "a quarter of a minute, and redis-tools"]
fn nobody_guesses() {
    let mut fleet = Fleet::new(5, 3).expect(MISSING);
    // All three are there, and nobody was chosen.
    for node in 0..3 {
        fleet.boot(node);
    }
    let waits = |fleet: &Fleet, node: usize, unit: &str, what: &str| matches!(fleet.nodes[node].report(unit), Some(Report::Waiting { why }) if why.contains(what));
    fleet.until("they say what they wait for", 10, |fleet| {
        (0..3).all(|node| waits(fleet, node, "sentinel", "has not chosen its founder yet"))
    });
    // One that is alone with a closed fleet is not a fleet of its own.
    for node in [1, 2] {
        fleet.crash(node);
    }
    fleet.publish(2, false);
    fleet.choose("n1");
    fleet.until("it says so", 10, |fleet| {
        waits(fleet, 0, "sentinel", "was formed before")
            && waits(fleet, 0, "server", "knows a master")
    });
    assert!(fleet.client(0).is_err());
}

#[test]
#[ignore = "a minute, and redis-tools"]
fn a_single_node_works_alone_and_grows() {
    let mut fleet = Fleet::new(6, 1).expect(MISSING);
    for part in PARTS {
        fleet.start(0, part);
    }
    let took = write(&mut fleet, "alone");
    eprintln!("alone: writes after {took:.1?}");
    fleet.until("one", 20, |fleet| settled(fleet).is_some());
    for n in [2, 3] {
        fleet.add(&format!("n{n}"), &format!("127.77.6.{n}"));
    }
    fleet.publish(2, false);
    for part in [Part::Server, Part::Sentinel] {
        fleet.start(0, part);
    }
    for node in [1, 2] {
        fleet.boot(node);
    }
    fleet.until("three", 60, |fleet| settled(fleet).is_some());
    kept(&fleet, "alone");
}

/// What asks for figures every minute is told them, over one connection or a new one, and may do nothing else.
#[test]
#[ignore = "half a minute, and redis-tools"]
fn the_monitor_is_told_figures_and_nothing_else() {
    let mut fleet = Fleet::new(8, 1).expect(MISSING);
    for part in PARTS {
        fleet.start(0, part);
    }
    write(&mut fleet, "secret");
    let node = &fleet.nodes[0];
    let text = std::fs::read_to_string(node.root.join(CONF_DIR).join("monitor.json")).unwrap();
    let mut settings: perf::Settings = serde_json::from_str(&text).unwrap();
    settings.address = node.address.clone();
    // As every program, with the certificate of its node's applications.
    let pair = fleet.authority.application(&node.name, &node.key());
    let [key, cert] = [&settings.key, &settings.cert].map(|path| node.root.join(path));
    std::fs::write(&key, pair.0).unwrap();
    std::fs::write(&cert, pair.1).unwrap();
    let mut asker = perf::Asker::new(&node.root, settings.clone(), &key);
    for _ in 0..2 {
        let answer = asker.ask();
        let told = answer.told().unwrap_or_else(|| panic!("{answer:?}"));
        assert_eq!((told.role.as_str(), told.keys), ("master", 1));
    }
    let tls = credentials(&key, &cert, &node.root.join(&settings.ca));
    let login = (settings.user.as_str(), settings.password.as_str());
    let limit = Duration::from_secs(5);
    let mut client = Client::connect(
        &tls.unwrap(),
        &settings.node,
        &settings.address,
        settings.port,
        login,
        limit,
    )
    .unwrap();
    for words in [
        &["GET", "secret"][..],
        &["SET", "a", "b"],
        &["CONFIG", "GET", "requirepass"],
        &["ACL", "LIST"],
        &["KEYS", "*"],
        &["CLIENT", "LIST"],
        &["SHUTDOWN"],
    ] {
        let reply = client.ask(words).unwrap();
        assert!(
            matches!(&reply, Value::Error(why) if why.starts_with("NOPERM")),
            "{words:?}: {reply:?}"
        );
    }
    assert!(matches!(client.ask(&["PING"]), Ok(Value::Text(_))));
    // A server that came back is asked anew; one that is away is said to be.
    fleet.nodes[0].kill(Part::Server);
    assert!(matches!(asker.ask(), Answer::Silent { .. }));
    fleet.start(0, Part::Server);
    let mut last = None;
    fleet.until("it tells again", 20, |_| {
        last = asker.ask().told().map(|told| told.keys);
        last.is_some()
    });
    assert_eq!(last, Some(1));
}
