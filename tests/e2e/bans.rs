//! Attacks and who is banned for them: requests through the load balancer and attempts to log in, from addresses of their own, beside a
//! client that does nothing wrong. On every machine the attackers are banned, all of them, and nobody else.
#![allow(clippy::print_stderr, reason = "a long test says what it measured")]

#[path = "bans/attacks.rs"]
mod attacks;
#[path = "bans/banned.rs"]
mod banned;
#[path = "bans/lines.rs"]
mod lines;

use std::net::Ipv4Addr;

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

/// The edges.
const NODES: [&str; 2] = ["one", "two"];
/// The load balancer, as nodes and as clients see it.
const BALANCER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(203, 0, 113, 2)];

/// An address of the public network that `outside` gets besides its own.
const fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, number)
}
/// Asks for pages and answers of the service all the time.
const INNOCENT: Ipv4Addr = client(60);
/// Tries to log in.
const GUESSER: Ipv4Addr = client(49);

fn fleet_toml(name: &str, suite: &str) -> String {
    format!(
        r#"
[fleet]
name = "{name}"
suite = "{suite}"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "{name}.internal"

[repository]
url = "http://apt.{name}.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
load_balancer = "{}"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@{name}.internal"]

[nodes.one]
roles = ["app", "edge"]
address = "10.77.0.11"

[nodes.two]
roles = ["app", "edge"]
address = "10.77.0.12"

# Fewer than anybody would choose, so that the test is short.
[settings.edge]
auth_failures = 5
limited_requests = 20

[[services]]
name = "door"
source = "door"
port = 3000
health = "/health"

[[sites]]
name = "shop"
hosts = ["{SHOP}"]
root = "site"

[[sites.routes]]
path = "/api/"
service = "door"

[[sites.routes]]
path = "/slow/"
service = "door"
rate = "1/s"
burst = 1
"#,
        BALANCER[0]
    )
}

/// The site.
const SHOP: &str = "shop.example";

/// A service that lets nobody into /api/private.
const DOOR: &str = r#"
const { createServer } = require("node:http");

createServer((request, response) => {
    response.writeHead(request.url.startsWith("/api/private") ? 401 : 200);
    response.end("door\n");
}).listen(Number(process.env.PORT), process.env.HOST);
"#;

#[test]
#[ignore = "needs root: boots real machines"]
fn bans_of_trixie() {
    bans_of("bans", "trixie");
}

#[test]
#[ignore = "needs root: boots real machines"]
fn bans_of_bookworm() {
    bans_of("bans-old", "bookworm");
}

fn bans_of(name: &str, suite: &str) {
    need_root();
    let fleet = Fleet::create(name, &fleet_toml(name, suite));
    let _guard = LabGuard(&fleet);
    write(&fleet);
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("lab up", || {
        fleet.run(&["lab", "up"]);
        NODES.iter().for_each(|node| healthy(&fleet, node));
    });
    step("what fail2ban reads of hostile lines", || {
        lines::are_read(&fleet, NODES[0]);
    });
    attacks::addresses(&fleet);
    attacks::innocent_begins(&fleet);
    step("nobody is banned", || banned::are(&fleet, &[], &[]));
    step("what looks like an attack and is none", || {
        attacks::mistaken(&fleet);
        banned::are(&fleet, &[], &[]);
    });

    let kinds = attacks::KINDS.iter().map(|kind| kind.from);
    let attackers: Vec<Ipv4Addr> = kinds.chain([attacks::GREEDY]).collect();
    step("attacks through the load balancer", || {
        attacks::KINDS.iter().for_each(|kind| kind.replay(&fleet));
        attacks::ask_too_much(&fleet);
        banned::become_so(&fleet, &attackers, &[]);
        banned::by_their_jails(&fleet);
        attackers.iter().for_each(|who| {
            assert_eq!(attacks::answers(&fleet, *who, 8), ["403"; 8], "{who}");
        });
    });
    step("100 attempts to log in at each machine", || {
        attacks::guess(&fleet, GUESSER, 100);
        banned::become_so(&fleet, &attackers, &[GUESSER]);
        for node in NODES {
            assert!(!attacks::ssh_answers(&fleet, GUESSER, node), "{node}");
            assert!(attacks::ssh_answers(&fleet, INNOCENT, node), "{node}");
        }
    });
    step("the load balancer itself is never banned", || {
        attacks::guess_inside(&fleet, 30);
        banned::pass_over(&fleet, BALANCER[0], &attackers, &[GUESSER]);
    });
    step("fail2ban is killed", || {
        banned::fail2ban_is_killed(&fleet, NODES[0]);
        banned::become_so(&fleet, &attackers, &[GUESSER]);
    });
    step("a machine goes down and comes back", || {
        fleet.run(&["lab", "kill", NODES[1]]);
        fleet.run(&["lab", "start", NODES[1]]);
        healthy(&fleet, NODES[1]);
        banned::become_so(&fleet, &attackers, &[GUESSER]);
    });
    step("who comes back is banned for longer", || {
        banned::grow(&fleet, NODES[0]);
    });
    step("an address is let in again", || {
        for node in NODES {
            for who in attackers.iter().chain([&GUESSER]) {
                fleet.must(node, &format!("fail2ban-client unban {who}"));
            }
        }
        banned::become_so(&fleet, &[], &[]);
        attackers.iter().for_each(|who| {
            assert_eq!(attacks::answers(&fleet, *who, 4), ["200"; 4], "{who}");
        });
        for node in NODES {
            assert!(attacks::ssh_answers(&fleet, GUESSER, node), "{node}");
        }
    });
    step("the innocent client noticed nothing", || {
        attacks::innocent_was_served(&fleet);
    });
}

/// The service and the site.
fn write(fleet: &Fleet) {
    let put = |path: &str, text: &str| {
        let path = fleet.dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, text).expect("written");
    };
    put(
        "door/package.json",
        "{ \"name\": \"door\", \"version\": \"1.0.0\", \"private\": true, \"main\": \"main.js\" }\n",
    );
    put("door/main.js", DOOR);
    put("site/index.html", "<!doctype html><title>shop</title>\n");
}

/// Waits until the node is converged and healthy, and the load balancer sends it clients.
fn healthy(fleet: &Fleet, node: &str) {
    fleet.must(node, "rolesmith-agent wait --timeout 120 || { rolesmith-agent status; journalctl -n 80 --no-pager; exit 1; }");
    fleet.must(
        OUTSIDE,
        "timeout 90 sh -c 'until [ \"$(curl -sk -o /dev/null -w %{http_code} http://203.0.113.2/health)\" = 200 ]; do sleep 0.2; done'",
    );
}
