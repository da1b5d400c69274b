//! A member more, and one less: fleet.toml is changed and published, and nothing else is done on any machine.

use std::fs;

use rolesmith_tests::{
    Fleet,
    bare::step,
    cluster::{await_whole, fleet_toml},
};

use super::{LIMIT, NODES, ROLES, tell};

const FOUR: [&str; 4] = ["one", "two", "three", "four"];

/// A fourth machine joins, is primary for a while as well as any other, and leaves again.
pub fn fourth(fleet: &Fleet, name: &str) {
    let declare = |nodes: &[&str]| {
        fs::write(
            fleet.dir.join("fleet.toml"),
            fleet_toml(name, "trixie", nodes, &ROLES),
        )
        .expect("fleet.toml can be written");
        fleet.run(&["publish"]);
    };
    let before = await_whole(fleet, name, &NODES, LIMIT).0;
    step("a fourth machine is declared and booted", || {
        declare(&FOUR);
        fleet.run(&["lab", "up", "four"]);
        let (whole, took) = await_whole(fleet, name, &FOUR, LIMIT);
        assert_eq!(whole, before);
        tell(&format!("a member {took:.1?} after `lab up`"));
    });
    step("replay that was halted on a standby goes on", || {
        let standby = FOUR
            .into_iter()
            .find(|node| *node != before.primary && *node != "four")
            .expect("another one");
        fleet.must(
            standby,
            "runuser -u postgres -- psql -qAtXc 'SELECT pg_wal_replay_pause()'",
        );
        let (whole, took) = await_whole(fleet, name, &FOUR, LIMIT);
        assert_eq!(whole, before);
        tell(&format!("whole again after {took:.1?}"));
    });
    // Its settings are those of a fleet of four, the others' servers were started in one of three.
    step("it is primary", || switchover(fleet, name, "four"));
    step("and hands back", || {
        switchover(fleet, name, &before.primary)
    });
    step("it is taken out of fleet.toml", || {
        declare(&NODES);
        // The machine runs on; nobody has told it to go.
        let (whole, took) = await_whole(fleet, name, &NODES, LIMIT * 2);
        assert_eq!(whole, before);
        tell(&format!("gone from every view after {took:.1?}"));
    });
}

fn switchover(fleet: &Fleet, name: &str, to: &str) {
    let from = await_whole(fleet, name, &FOUR, LIMIT).0.primary;
    fleet.must(&from, &format!("rolesmith-agent switchover {to}"));
    let begun = std::time::Instant::now();
    loop {
        let (whole, took) = await_whole(fleet, name, &FOUR, LIMIT);
        if whole.primary == to {
            tell(&format!("from {from} to {to}: whole after {took:.1?}"));
            is_reached(fleet, to);
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{from} is primary still");
    }
}

/// Programs on every machine reach it, also those whose pgbouncer was started before it was there.
fn is_reached(fleet: &Fleet, primary: &str) {
    fleet.must(
        primary,
        "psql() { runuser -u postgres -- psql -qAtX -v ON_ERROR_STOP=1 \"$@\"; }
        [ \"$(psql -c \"SELECT count(*) FROM pg_roles WHERE rolname = 'shop'\")\" = 1 ] ||
            psql -c \"CREATE ROLE shop LOGIN PASSWORD 'of these tests'\"",
    );
    for node in FOUR {
        let address = fleet.must(
            node,
            "PGPASSWORD='of these tests' PGCONNECT_TIMEOUT=10 psql -h 127.0.0.1 -p 6432 -U shop -d postgres -w -qAtX \
             -c \"SELECT coalesce(host(inet_server_addr()), 'here')\"",
        );
        let place = FOUR
            .iter()
            .position(|name| *name == primary)
            .expect("it is one of them");
        let there = format!("10.77.0.{}", 11 + place);
        let expected = if node == primary { "here" } else { &there };
        assert_eq!(address.trim(), expected, "{node} to {primary}");
    }
}
