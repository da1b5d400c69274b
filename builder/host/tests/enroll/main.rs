//! Enrolling an existing machine: reading what it says about itself, naming what collides, and the programs that change it.
//!
//! `probes/` holds answers of real machines (Debian 13 in a container with its own init), with most packages and unit
//! files left out.

mod changes;
mod conflicts;
mod probes;
mod table;

use std::collections::BTreeMap;

use rolesmith_host::enroll::{Expectations, Probe, conflict::Listen};
use rolesmith_model::{ids::Suite, opening::OpenTo};

/// A machine with nothing but an ssh server.
const PLAIN: &str = include_str!("probes/plain.txt");
/// A machine that people have used for years.
const USED: &str = include_str!("probes/used.txt");

/// The clock of the plain machine when it was asked.
fn clock() -> u64 {
    Probe::parse(PLAIN).expect("a whole answer").time
}

/// The plain machine's answer with other bodies for some sections, each line without its indent.
fn plain_with(sections: &[(&str, &str)]) -> Probe {
    let mut bodies = BTreeMap::new();
    let mut order = Vec::new();
    for line in PLAIN.lines() {
        match line.strip_prefix("== ") {
            Some(name) => {
                order.push(name);
                bodies.insert(name, String::new());
            }
            None => {
                let body = order
                    .last()
                    .and_then(|name| bodies.get_mut(name))
                    .expect("begins with a section");
                *body += line;
                *body += "\n";
            }
        }
    }
    for (name, body) in sections {
        let own = bodies.get_mut(name).expect("a section");
        let indented =
            |text: &str| -> String { text.lines().map(|line| format!(" {line}\n")).collect() };
        // "+more" adds to what is there, "~old~new" replaces a part of it.
        if let Some(more) = body.strip_prefix('+') {
            *own += &indented(more);
        } else if let Some((old, new)) =
            body.strip_prefix('~').and_then(|rest| rest.split_once('~'))
        {
            assert!(own.contains(old), "{old:?} is not in {own:?}");
            *own = own.replace(old, new);
        } else {
            *own = indented(body);
        }
    }
    let text: String = order
        .iter()
        .map(|name| format!("== {name}\n{}", bodies[name]))
        .collect();
    Probe::parse(&text).expect("a whole answer")
}

/// A node with every built-in role, as the plain machine could be it.
fn wanted() -> Expectations {
    let listen = |name: &str, port, from| Listen {
        name: name.to_owned(),
        port,
        udp: false,
        from,
    };
    Expectations {
        fleet: "acme".to_owned(),
        node: "app-1".to_owned(),
        incarnation: 2,
        suite: Suite::Trixie,
        ssh_port: 22,
        address: Some("10.77.0.11".parse().expect("an address")),
        private: "10.77.0.0/24".parse().expect("a network"),
        private_interface: "host0".to_owned(),
        load_balancer: Some("10.77.0.2".parse().expect("an address")),
        listens: vec![
            listen("ssh", 22, Some(OpenTo::Public)),
            listen("http", 80, Some(OpenTo::LoadBalancer)),
            listen("https", 443, Some(OpenTo::LoadBalancer)),
            listen("postgresql", 5432, Some(OpenTo::Fleet)),
            listen("redis", 6380, Some(OpenTo::Fleet)),
            listen("sentinel", 26380, Some(OpenTo::Fleet)),
            listen("pgbouncer", 6432, None),
        ],
        database_port: Some(5432),
        redis_port: Some(6380),
        nginx: true,
        admin_keys: 1,
        memory: 1024,
        repository: "https://packages.example.com/acme".to_owned(),
        sources_file: "/etc/apt/sources.list.d/acme.sources".to_owned(),
        masked_units: vec![
            "redis-server.service".to_owned(),
            "pgbouncer.service".to_owned(),
        ],
        packages: ["chrony", "postfix", "rsyslog"].map(str::to_owned).into(),
        now: clock(),
    }
}
