//! Who uses the memory of a node that has every role of the example, idle and under the example's load, within the 1 GB that it has.

use std::{
    collections::BTreeMap,
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use rolesmith_lab::OUTSIDE;
use rolesmith_tests::Fleet;
use serde_json::Value;

use super::{HOST, NODES};

const ASK: &str = include_str!("memory.sh");
const LOAD: &str = include_str!("load.lua");
/// It has all roles that the example has.
const NODE: &str = "app-1";
/// How long the load lasts, and when in it is looked.
const LASTS: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(40);

/// The memory of a unit's processes in KiB.
#[derive(Debug, Clone, Copy, Default)]
struct Used {
    pss: u64,
    processes: u64,
}

/// The table of docs/memory.md, as it is on this machine now; and nothing was swapped or killed.
pub fn is_enough(fleet: &Fleet) {
    let idle = used(fleet);
    fleet.must(
        OUTSIDE,
        &format!(
            "echo '10.77.0.2 {HOST}' >>/etc/hosts\ncat >/run/load.lua <<'END'\n{LOAD}END\n\
             systemd-run --quiet --unit=load --property=StandardOutput=file:/run/load.out \
             wrk --threads 2 --connections 16 --duration {}s --timeout 20s --script /run/load.lua https://{HOST}",
            LASTS.as_secs()
        ),
    );
    let begun = Instant::now();
    thread::sleep(LOOK);
    let busy = used(fleet);
    fleet.must(
        OUTSIDE,
        "timeout 60 sh -c 'while systemctl is-active --quiet load.service; do sleep 0.2; done'",
    );
    let told = fleet.must(OUTSIDE, "cat /run/load.out");
    let result: Value = told
        .lines()
        .next_back()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("{told}"));
    show(&idle, &busy);
    let mut error = std::io::stderr();
    let _ = writeln!(error, "    load of {:.0?}: {result}", begun.elapsed());
    let requests = result["requests"].as_u64().expect("a number");
    assert!(requests > 3000, "{told}");
    assert_eq!(
        (&result["failed"], &result["broken"]),
        (&0.into(), &0.into()),
        "{told}"
    );
    within(fleet);
}

fn used(fleet: &Fleet) -> BTreeMap<String, Used> {
    let told = fleet.must(NODE, ASK);
    let rows = told.lines().map(|line| {
        let cells: Vec<&str> = line.split(' ').collect();
        let [pss, swap, processes, unit] = cells[..] else {
            panic!("{line}");
        };
        let number = |cell: &str| cell.parse().expect("a number");
        assert_eq!(number(swap), 0, "{unit} was swapped out");
        let used = Used {
            pss: number(pss),
            processes: number(processes),
        };
        (unit.to_owned(), used)
    });
    let rows: BTreeMap<String, Used> = rows.collect();
    for unit in [
        "nginx.service",
        "rolesmith-service-shop.service",
        "rolesmith-redis.service",
    ] {
        assert!(rows.contains_key(unit), "{told}");
    }
    rows
}

fn show(idle: &BTreeMap<String, Used>, busy: &BTreeMap<String, Used>) {
    let of =
        |rows: &BTreeMap<String, Used>, unit: &str| rows.get(unit).copied().unwrap_or_default();
    let mut units: Vec<&String> = idle.keys().chain(busy.keys()).collect();
    units.sort_by_key(|unit| (std::cmp::Reverse(of(busy, unit).pss), *unit));
    units.dedup();
    let mib = |pss: u64| pss as f64 / 1024.0;
    let mut error = std::io::stderr();
    let _ = writeln!(
        error,
        "| unit | idle | load | processes |\n| --- | ---: | ---: | ---: |"
    );
    for unit in units {
        let (before, after) = (of(idle, unit), of(busy, unit));
        let _ = writeln!(
            error,
            "| {unit} | {:.1} | {:.1} | {} |",
            mib(before.pss),
            mib(after.pss),
            after.processes
        );
    }
    let sum = |rows: &BTreeMap<String, Used>| mib(rows.values().map(|used| used.pss).sum());
    let _ = writeln!(error, "| all | {:.1} | {:.1} | |", sum(idle), sum(busy));
}

/// What the kernel says of each node's group: its limit, the most that processes hold of it, and that nobody was killed.
fn within(fleet: &Fleet) {
    let output = fleet.run(&["lab", "status", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("status is JSON");
    let nodes = told["nodes"].as_array().expect("a list");
    assert_eq!(nodes.len(), NODES.len());
    for node in nodes {
        let memory = &node["memory"];
        let figure = |name: &str| {
            memory[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {node}"))
        };
        assert_eq!(figure("limit"), 1 << 30, "{node}");
        assert_eq!(figure("oom_kills"), 0, "{node}");
        let mut error = std::io::stderr();
        let _ = writeln!(
            error,
            "    {}: {} MiB held by processes, of {} in use and {} at most, page cache included",
            node["name"],
            figure("held") >> 20,
            figure("in_use") >> 20,
            figure("peak") >> 20
        );
        // What page cache cannot give way to has to leave some room.
        assert!(figure("held") < 700 << 20, "{node}");
    }
}
