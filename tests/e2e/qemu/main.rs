//! Machines with kernels of their own, booted under qemu from a baked image: the fleet, and what survives when plugs are pulled.
//!
//! A machine of the lab shares the host's kernel: what its PostgreSQL wrote is in the host's memory whether it was synced or not, and
//! SIGKILL loses nothing of it. Here the guest's kernel is lost with its memory. What a machine has after that is what its virtual disk
//! was told to flush, in a qcow2 file whose own tables live in qemu's memory until that moment. What this does not try is the host's
//! power: its page cache stays.

#![allow(
    clippy::print_stdout,
    reason = "the harness shows what is printed where a test fails, or with --nocapture"
)]

mod writers;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rolesmith_bake::boot::{DataSource, Firmware, Fleet as Machines, FleetSpec, Running, Workshop};
use rolesmith_lab::drill::{Case, Question, Verdict, judge, parse_rows};
use rolesmith_tests::{
    Fleet,
    baked::{Node, guest, image, published, repository},
    bare::{say, step},
    cluster::fleet_toml,
    work_dir,
};
use writers::Writers;

/// The machines: they keep the database and do nothing else.
const NODES: [Node; 3] = [
    Node {
        name: "db-1",
        address: [10, 77, 0, 11],
        image: "db",
    },
    Node {
        name: "db-2",
        address: [10, 77, 0, 12],
        image: "db",
    },
    Node {
        name: "db-3",
        address: [10, 77, 0, 13],
        image: "db",
    },
];
/// Their image, which is the fleet's own.
const IMAGE: &str = "[image]\nsummary = \"database\"\nroles = [\"db-primary-capable\"]\n";

/// All boots together may take so long, without KVM and on a machine that does other things.
const LIMIT: Duration = Duration::from_secs(3600);
/// Acknowledged commits of each writer before a plug is pulled, and after service is back.
const COMMITS: usize = 30;

#[test]
#[ignore = "three machines under qemu: a quarter of an hour with KVM, hours without"]
fn no_acknowledged_commit_is_lost_with_a_machine_or_with_all_of_them() {
    let dir = work_dir().join("qemu");
    let workshop = Workshop::open(&dir).expect("a directory for the machines");
    let fleet = published(databases);
    let key = workshop.key().public();
    let nodes = NODES.map(|node| (image(&fleet, node), guest(&fleet, key, node)));
    let repository = repository(&fleet);
    let spec = FleetSpec {
        nodes: &nodes,
        firmware: Firmware::Bios,
        source: DataSource::ConfigDrive,
        repository: Some(&repository),
        limit: LIMIT,
    };
    let mut machines = Machines::switch_on(spec, &workshop).expect("qemu starts");
    let members = step("three machines form the fleet", || {
        machines
            .wait(&|text| say(format_args!("{text}")))
            .expect("they do")
    });
    for member in members {
        say(format_args!("{member:?}"));
    }
    let primary = formed(&machines);
    let password = "of-a-database-that-goes-with-its-machines";
    prepare(&machines.machines()[primary], password);

    let verdict = pulled(&mut machines, &[primary], password);
    // On a slow machine there may be more than one election.
    let servers: BTreeSet<&str> = verdict
        .reigns
        .iter()
        .map(|reign| reign.server.as_str())
        .collect();
    assert!(
        servers.len() > 1,
        "nobody followed the primary: {verdict:#?}"
    );
    let all: Vec<usize> = (0..NODES.len()).collect();
    pulled(&mut machines, &all, password);
}

/// Writes, pulls the plugs of these machines, switches them on again, and judges what is there.
fn pulled(machines: &mut Machines<'_>, victims: &[usize], password: &str) -> Verdict {
    let names: Vec<&str> = victims.iter().map(|number| NODES[*number].name).collect();
    let primary = formed(machines);
    sql(&machines.machines()[primary], "drill", "TRUNCATE ledger");
    let mut writers = Writers::start(machines.machines(), password);
    step("commits before", || {
        writers.wait(COMMITS, &BTreeSet::new(), LIMIT)
    });
    for victim in victims {
        machines.kill(*victim).expect("a plug can be pulled");
    }
    let begun = Instant::now();
    let survivors = victims.len() < NODES.len();
    if survivors {
        let gone: BTreeSet<&str> = names.iter().copied().collect();
        step("commits after the plug was pulled", || {
            writers.wait(COMMITS, &gone, LIMIT)
        });
    }
    let back = step(&format!("{names:?} are switched on again"), || {
        machines.again(victims).expect("they come up")
    });
    say(format_args!(
        "    healthy after {back:?} s, {:.0} s after the plug was pulled",
        begun.elapsed().as_secs_f64()
    ));
    if !survivors {
        writers = writers.again(machines.machines(), password);
        step("commits after all came back", || {
            writers.wait(COMMITS, &BTreeSet::new(), LIMIT)
        });
    }
    let entries = writers.stop();
    let primary = formed(machines);
    let rows = sql(
        &machines.machines()[primary],
        "drill",
        "SELECT number FROM ledger",
    );
    let rows = parse_rows(&rows).expect("rows are numbers");
    let verdict = judge(&Question {
        entries: &entries,
        events: &[],
        rows: &rows,
    });
    say(format_args!(
        "    {} attempts: {} acknowledged, {} refused, {} unknown; {} rows; lost {:?}",
        verdict.attempts,
        verdict.ok,
        verdict.failed,
        verdict.unknown,
        rows.len(),
        verdict.lost
    ));
    // How long clients may wait on a machine without KVM is not what this is about, so there is no control and no window of a fault.
    assert_ne!(verdict.case(), Case::Failed, "{verdict:#?}");
    assert!(verdict.ok >= COMMITS, "{verdict:#?}");
    verdict
}

/// The fleet of these machines.
fn databases() -> Fleet {
    let names = NODES.map(|node| node.name);
    let fleet = Fleet::create(
        "acme",
        &fleet_toml("acme", "trixie", &names, &["db-primary-capable"]),
    );
    let images = fleet.dir.join("images/db");
    std::fs::create_dir_all(&images).expect("a directory can be made");
    std::fs::write(images.join("image.toml"), IMAGE).expect("it can be written");
    fleet
}

/// Runs SQL as the superuser on a machine's own server.
fn sql(machine: &Running, database: &str, statement: &str) -> String {
    ask(machine, database, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
}

fn ask(machine: &Running, database: &str, statement: &str) -> Result<String, String> {
    let script = format!(
        "exec runuser -u postgres -- psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
         --host=/run/rolesmith-postgresql --dbname {database} <<'SQL'\n{statement};\nSQL\n"
    );
    machine
        .shell(&script, Duration::from_secs(120))
        .map_err(|error| error.to_string())
}

/// Waits until one server is primary and the others stream from it, and gives its number.
fn formed(machines: &Machines<'_>) -> usize {
    const STATE: &str = "SELECT NOT pg_is_in_recovery(), count(*) FILTER (WHERE state = 'streaming') FROM pg_stat_replication";
    let until = Instant::now() + LIMIT;
    loop {
        let said: Vec<_> = machines
            .machines()
            .iter()
            .map(|machine| ask(machine, "postgres", STATE))
            .collect();
        let whole = |answer: &Result<String, String>| answer.as_deref() == Ok("t|2");
        let others = said
            .iter()
            .filter(|answer| answer.as_deref() == Ok("f|0"))
            .count();
        if let (Some(primary), 2) = (said.iter().position(whole), others) {
            return primary;
        }
        assert!(Instant::now() < until, "no cluster: {said:?}");
        // Three visits by ssh are pause enough.
    }
}

/// Makes the database into which is written.
fn prepare(primary: &Running, password: &str) {
    sql(
        primary,
        "postgres",
        &format!("CREATE ROLE drill LOGIN PASSWORD '{password}'"),
    );
    sql(primary, "postgres", "CREATE DATABASE drill OWNER drill");
    // Without a key, so that a row that is there twice can be seen.
    sql(
        primary,
        "drill",
        "CREATE TABLE ledger (number bigint NOT NULL); ALTER TABLE ledger OWNER TO drill",
    );
}
