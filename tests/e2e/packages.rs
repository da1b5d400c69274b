//! The life of the packages on one real machine: installed before it is enrolled, enrolled, upgraded, configured twice, interrupted,
//! removed, purged and installed again. One machine goes through all of it in order, since that is what machines do.
//!
//! `ROLESMITH_LONG=1` holds dpkg's lock for a minute where 20 s are held otherwise.

#[path = "packages/first_install.rs"]
mod first_install;
#[path = "packages/inventory.rs"]
mod inventory;
#[path = "packages/kills.rs"]
mod kills;
#[path = "packages/purge.rs"]
mod purge;
#[path = "packages/upgrade.rs"]
mod upgrade;

use std::{fs, net::Ipv4Addr};

use rolesmith_tests::{Fleet, LabGuard, bare::step, need_root};

const NAME: &str = "pkg";
const NODE: &str = "one";
const FLEET: &str = r#"
[fleet]
name = "pkg"
suite = "trixie"
maintainer = "Fleet of Tests <fleet@example.org>"
domain = "pkg.internal"

[repository]
url = "http://apt.pkg.internal"
upstream = "mirror"

[network]
private = "10.77.0.0/24"
load_balancer = "10.77.0.2"
admin_ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVbg0rRyyWW1Yv0k0fXbpA9zWGfQ1kWc0AK9q3kK2dQ nobody@pkg.internal"]

[mail]
smarthost = "smtp.pkg.internal"
user = "pkg"
to = "ops@example.org"
from_domain = "example.org"

[nodes.one]
roles = ["app", "db-primary-capable", "redis", "edge", "log-server"]
address = "10.77.0.11"

[[services]]
name = "echo"
source = "services/echo"
command = ["python3", "serve.py"]
depends = ["python3"]
port = 3000
health = "/health"
database = true
redis = true

[[sites]]
name = "pages"
hosts = ["pages.pkg.internal"]
root = "sites/pages"

[[sites.routes]]
path = "/api/"
service = "echo"
"#;
/// Asks as the load balancer does, with PROXY protocol before TLS.
const VISITOR: &str = include_str!("packages/echo/visit.py");
const SERVICE: &str = include_str!("packages/echo/serve.py");

/// What apt installs by hand: the roles. The agent, the facts and the keyring come with them.
const ROLES: &str = "pkg-base pkg-app pkg-db-client pkg-db-primary-capable pkg-redis pkg-edge pkg-log-server pkg-mail pkg-service-echo pkg-site-pages";
/// All of ours that are installed then.
const OURS: &str = "pkg-base pkg-app pkg-db-client pkg-db-primary-capable pkg-redis pkg-edge pkg-log-server pkg-mail pkg-service-echo pkg-site-pages \
    pkg-facts pkg-archive-keyring rolesmith-agent";

#[test]
#[ignore = "needs root: boots a real machine"]
fn packages_live_and_die_well() {
    need_root();
    let fleet = Fleet::create(NAME, FLEET);
    let _guard = LabGuard(&fleet);
    write(&fleet, "services/echo/serve.py", SERVICE);
    write(
        &fleet,
        "sites/pages/index.html",
        "<!doctype html><title>pages</title>\n",
    );
    fleet.set_secret("mail-password", "not-for-everybody");
    step("mirror and publish", || {
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
    });
    step("boot a machine that knows apt's source alone", || {
        fleet.boot_bare(NAME, "trixie", NODE, Ipv4Addr::new(10, 77, 0, 11));
    });
    let before = step("look at it", || inventory::take(&fleet));

    step(
        "install while another apt holds the locks, before enrolment",
        || first_install::behind_a_lock(&fleet),
    );
    step("nothing of it takes effect before enrolment", || {
        first_install::is_harmless(&fleet)
    });
    step("enrol", || {
        fleet.give_identity(NODE);
        healthy(&fleet);
        first_install::is_enrolled(&fleet);
        serves(&fleet);
    });

    step("an upgrade restarts what changed, and nothing else", || {
        upgrade::restarts_what_changed(&fleet)
    });
    step(
        "an upgrade keeps a changed conffile and asks nobody",
        || upgrade::keeps_conffiles(&fleet),
    );
    step(
        "unattended-upgrades take Debian's fixes and leave ours",
        || upgrade::unattended(&fleet),
    );
    step("a unit moves from one package to another", || {
        upgrade::takes_a_unit_over(&fleet)
    });
    step("maintainer scripts run twice", || {
        upgrade::scripts_again(&fleet)
    });

    step("remove", || purge::remove(&fleet));
    step("purge in any order", || purge::purge(&fleet, &before));
    step(
        "install again over a kept database, killed again and again",
        || kills::install(&fleet),
    );
    step("upgrade, killed again and again", || kills::upgrade(&fleet));
}

fn write(fleet: &Fleet, path: &str, text: &str) {
    let path = fleet.dir.join(path);
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("a file");
}

/// Waits until the node is converged and healthy, then looks for what must never be.
fn healthy(fleet: &Fleet) {
    fleet.must(NODE, "rolesmith-agent wait --timeout 120 || { rolesmith-agent status; journalctl -n 60 --no-pager; exit 1; }");
    sound(fleet);
}

/// A visitor of the load balancer gets the page, and what the service says.
fn serves(fleet: &Fleet) {
    let told = fleet.must(NODE, &format!("exec python3 - <<'END'\n{VISITOR}END"));
    assert_eq!(told, "<!doctype html><title>pages</title>\necho\n");
}

/// No unit failed, and dpkg has nothing to complain about.
fn sound(fleet: &Fleet) {
    let failed = fleet.must(NODE, "systemctl list-units --failed --no-legend --plain");
    assert_eq!(failed, "", "failed units");
    assert_eq!(fleet.must(NODE, "dpkg --audit"), "");
    let jobs = fleet.must(NODE, "systemctl list-jobs --no-legend");
    assert!(!jobs.contains("waiting"), "jobs that wait for ever: {jobs}");
}

/// apt as an administrator's script calls it, never asking: standard input is /dev/null and there is no terminal. The time-out is
/// what makes a question fail the test.
fn apt(fleet: &Fleet, arguments: &str) -> String {
    fleet.must(
        NODE,
        &format!("timeout 300 apt-get -q -y {arguments} </dev/null"),
    )
}

/// The main process of each of these units, and 0 for one that does not run.
fn main_pids(fleet: &Fleet, units: &[&str]) -> Vec<String> {
    let pids = fleet.must(
        NODE,
        &format!(
            "for u in {}; do systemctl show --property MainPID --value $u; done",
            units.join(" ")
        ),
    );
    pids.lines().map(str::to_owned).collect()
}
