//! Three machines that are switched on one after the other.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rolesmith_tests::{
    Fleet,
    bare::step,
    cluster::{await_whole, look},
};

use super::{LIMIT, NODES, tell};

/// Boots them in this order. Nothing is founded before two are up, and then the third joins what there is.
pub fn boot(fleet: &Fleet, name: &str, order: [&str; 3]) {
    let [first, second, third] = order;
    step(&format!("{first} alone"), || {
        fleet.run(&["lab", "up", first]);
        let seen = look(fleet, name, first);
        assert_eq!(seen.identifier, "", "{first} founded a database alone");
        let config = &seen.status["cluster"]["cluster"]["config"];
        assert_eq!(config["stamp"]["version"], 0, "{}", seen.status);
        fleet.must(first, "test -z \"$(ls /var/lib/postgresql)\"");
    });
    let before = SystemTime::now();
    let identifier = step(&format!("{second} makes two of three"), || {
        fleet.run(&["lab", "up", second]);
        founded(fleet, name, [first, second])
    });
    // PostgreSQL takes the upper half of a system identifier from the clock.
    let made = UNIX_EPOCH + Duration::from_secs(identifier.parse::<u64>().expect("a number") >> 32);
    assert!(
        made + Duration::from_secs(1) >= before,
        "{identifier} was made at {made:?}, before {second} was switched on at {before:?}"
    );
    step(&format!("{third} joins"), || {
        fleet.run(&["lab", "up", third]);
        let (whole, took) = await_whole(fleet, name, &NODES, LIMIT);
        assert_eq!(whole.identifier, identifier);
        tell(&format!("whole {took:.1?} after `lab up`"));
    });
}

/// Waits until the two are primary and standby of one database, and gives its system identifier.
fn founded(fleet: &Fleet, name: &str, nodes: [&str; 2]) -> String {
    let begun = Instant::now();
    loop {
        let seen = nodes.map(|node| look(fleet, name, node));
        let identifiers: BTreeSet<&str> = seen.iter().map(|seen| &*seen.identifier).collect();
        let mut states = seen.each_ref().map(|seen| seen.said("recovery"));
        states.sort_unstable();
        if states == ["false", "true"] && identifiers.len() == 1 {
            tell(&format!(
                "one database {:.1?} after `lab up`",
                begun.elapsed()
            ));
            return seen[0].identifier.clone();
        }
        assert!(
            begun.elapsed() < LIMIT,
            "no cluster of two: {states:?}, {identifiers:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
