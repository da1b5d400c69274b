//! Virgin machines that begin at the same moment: again and again, and twenty of them.

use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

use rolesmith_tests::{Fleet, LabGuard, bare::step, cluster::await_whole};

use super::{LIMIT, NODES, published, tell};

/// How many runs, unless `ROLESMITH_TEST_RUNS` says otherwise.
const RUNS: usize = 20;

/// Takes everything away that makes the machines members, and starts all agents at once; as often as was asked for.
pub fn runs(fleet: &Fleet, name: &str) {
    let asked = std::env::var("ROLESMITH_TEST_RUNS").ok();
    let runs = asked.map_or(RUNS, |text| text.parse().expect("a number of runs"));
    let mut known = BTreeSet::new();
    let mut times = Vec::new();
    for run in 1..=runs {
        step(&format!("run {run}"), || {
            everywhere(
                fleet,
                "systemctl stop rolesmith-cluster.service rolesmith-repmgrd.service rolesmith-postgresql.service",
            );
            // When no agent is left that could give one a database again.
            everywhere(
                fleet,
                &format!(
                    "rm -rf /var/lib/postgresql/*/{name}* /etc/postgresql/*/{name} /var/lib/rolesmith/cluster \
                     /var/lib/rolesmith/db-primary-capable"
                ),
            );
            everywhere(fleet, "systemctl start rolesmith-cluster.service");
            let (whole, took) = await_whole(fleet, name, &NODES, LIMIT);
            assert!(known.insert(whole.identifier), "an old database is back");
            for node in NODES {
                fleet.must(
                    node,
                    &format!("test \"$(ls -d /var/lib/postgresql/*/* | wc -l)\" = 1 -a -d /var/lib/postgresql/*/{name}"),
                );
            }
            times.push(took);
        });
    }
    times.sort_unstable();
    if let (Some(least), Some(most)) = (times.first(), times.last()) {
        tell(&format!(
            "whole in all of {runs} runs, after {least:.1?} to {most:.1?}, median {:.1?}",
            times[times.len() / 2]
        ));
    }
}

/// Runs this on all machines at the same moment.
fn everywhere(fleet: &Fleet, script: &str) {
    thread::scope(|scope| {
        for node in NODES {
            scope.spawn(move || fleet.must(node, script));
        }
    });
}

/// How many inotify instances root may have on this machine; all nodes' systemds share them, and 128 are the kernel's default.
const INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";

/// More of them for as long as the value lives.
struct Instances(String);

impl Instances {
    fn enough() -> Self {
        let before = fs::read_to_string(INSTANCES).expect("a number");
        let now = before.trim().parse().unwrap_or(0).max(4096);
        fs::write(INSTANCES, now.to_string()).expect("root may");
        Self(before)
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        let _ = fs::write(INSTANCES, &self.0);
    }
}

/// Twenty machines that have nothing boot together.
pub fn twenty() {
    let name = "twenty";
    let nodes: Vec<String> = (1..=20).map(|number| format!("n{number:02}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let fleet = published(name, &nodes);
    let _guard = LabGuard(&fleet);
    let _instances = Instances::enough();
    let begun = Instant::now();
    step("twenty boot", || {
        // On two processors networkd's wait for an interface may end before it is up; what counts is what becomes of the machines.
        let words = ["lab", "up", "--timeout", "3000"];
        let output = fleet.command(&words).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let nodes: Vec<&str> = said.lines().filter(|line| line.starts_with('n')).collect();
        assert!(
            nodes.len() >= 20,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let complaining = nodes.iter().filter(|line| line.contains("with complaints"));
        tell(&format!(
            "{} nodes complain of their boot",
            complaining.count()
        ));
    });
    step("one cluster", || {
        // Each of the others copies the database, a handful at a time.
        let (whole, _) = await_whole(&fleet, name, &nodes, Duration::from_secs(900));
        tell(&format!(
            "whole {:.1?} after they were switched on; primary {}",
            begun.elapsed(),
            whole.primary
        ));
    });
    // What the machines decided, as each of them learnt it.
    let decided: BTreeSet<String> = nodes
        .iter()
        .flat_map(|node| {
            let lines = fleet.must(
                node,
                "journalctl --unit=rolesmith-cluster --output=cat | grep -o '[^ ]* founds the database [0-9]*' || :",
            );
            lines.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(decided.len(), 1, "{decided:?}");
}
