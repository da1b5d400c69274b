//! What `plan --firewall` says, held against two real machines: every port of each is asked from the public side, from the load
//! balancer's place, from the other member and from a stranger in the private network, over IPv4 and over IPv6.

#[path = "firewall/matrix.rs"]
mod matrix;
#[path = "firewall/places.rs"]
mod places;
#[path = "firewall/rules.rs"]
mod rules;

use std::fs;

use rolesmith_lab::Lab;
use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

use self::places::Places;

const NAME: &str = "walled";

/// A node with what the web needs, one with the data, and both with ports that nobody serves: what is let in there, the kernel
/// itself answers.
const FLEET: &str = r#"
[fleet]
name = "walled"
suite = "trixie"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "walled.internal"

[repository]
url = "http://apt.walled.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
load_balancer = "10.77.0.2"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@walled.internal"]

[nodes.web-1]
roles = ["app", "db-client", "edge", "unserved"]
address = "10.77.0.11"

[nodes.data-1]
roles = ["db-primary-capable", "redis", "log-server", "unserved"]
address = "10.77.0.12"
"#;

const UNSERVED: &str = r#"
[role]
summary = "ports that nobody serves"
description = "Opens a port to each of those whom a firewall tells apart."

[[firewall]]
name = "to everybody"
port = 4001
from = "public"

[[firewall]]
name = "to members"
port = 4002
from = "fleet"

[[firewall]]
name = "to the load balancer"
port = 4003
from = "load-balancer"

[[firewall]]
name = "to the web"
port = 4004
from = ["role:app"]

[[firewall]]
name = "to the data"
port = 4005
from = ["role:redis", "role:log-server"]

[[firewall]]
name = "to everybody"
port = 4001
protocol = "udp"
from = "public"

[[firewall]]
name = "to the web"
port = 4004
protocol = "udp"
from = ["role:app"]
"#;

#[test]
#[ignore = "needs root: boots real machines"]
fn what_answers_is_what_the_plan_says() {
    need_root();
    let fleet = Fleet::create(NAME, FLEET);
    let role = fleet.dir.join("roles/unserved");
    fs::create_dir_all(&role).expect("a directory");
    fs::write(role.join("role.toml"), UNSERVED).expect("a file");
    let _guard = LabGuard(&fleet);
    step("mirror, publish, lab up", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        fleet.run(&["lab", "up"]);
    });
    step("every node is healthy", || {
        for node in places::NODES {
            fleet.must(
                node.name,
                "rolesmith-agent wait --timeout 180 || { rolesmith-agent status; exit 1; }",
            );
        }
    });
    let lab = Lab::open(&fleet.lab_state(NAME)).expect("the lab is up");
    let places = step("addresses for those who ask", || Places::prepare(&lab));
    step("every TCP port, from everywhere", || {
        matrix::tcp(&fleet, &places);
    });
    step("UDP ports, from everywhere", || {
        matrix::udp(&fleet, &places)
    });
    step("pings, and the size of a path", || {
        rules::icmp(&fleet, &lab)
    });
    step("private addresses on the public side", || {
        rules::spoofed(&fleet, &lab, &places);
    });
    step("too many connections to sshd", || {
        rules::limited(&lab, &places)
    });
    step("the metadata service", || {
        rules::metadata(&fleet, &lab, &places)
    });
}
