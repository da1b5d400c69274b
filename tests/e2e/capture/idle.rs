//! What an idle fleet uses: the agent's processes by themselves, and each machine as a whole.
//!
//! Two minutes; `ROLESMITH_IDLE_MINUTES=10` for figures to be quoted.

use std::{io::Write as _, thread};

use rolesmith_lab::Lab;
use rolesmith_tests::Fleet;
use serde_json::Value;

const NODES: [&str; 3] = ["app-1", "app-2", "app-3"];
const MIB: f64 = 1024.0 * 1024.0;
/// Aims for the process that votes: PSS in MiB, and percent of a processor.
const AIM: (f64, f64) = (15.0, 0.5);

fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "    {text}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// Measures all machines at the same time.
pub fn measure(fleet: &Fleet, name: &str) {
    let asked = std::env::var("ROLESMITH_IDLE_MINUTES").ok();
    let minutes: u64 = asked.map_or(2, |text| text.parse().expect("a number of minutes"));
    let script = include_str!("idle.py");
    for node in NODES {
        fleet.must(node, "rolesmith-agent wait --timeout 120");
        fleet.feed(node, "cat >/run/idle.py", script);
    }
    let seconds = minutes * 60;
    let said: Vec<(&str, Value)> = thread::scope(|scope| {
        let work = NODES.map(|node| {
            scope.spawn(move || {
                let said = fleet.must(node, &format!("python3 /run/idle.py {seconds}"));
                (node, serde_json::from_str(&said).expect("JSON"))
            })
        });
        work.map(|thread| thread.join().expect("measured")).into()
    });
    for (node, said) in &said {
        agent(node, said);
    }
    let lab = Lab::open(&fleet.lab_state(name)).expect("the lab is up");
    for node in lab.status().expect("a status").nodes {
        let memory = node.memory.expect("this kernel counts memory");
        let mib = |bytes: Option<u64>| bytes.map_or("?".into(), |bytes| (bytes >> 20).to_string());
        tell(&format!(
            "{}: {} MiB of {} in use, {} held by processes, peak {}, killed for memory: {}",
            node.name,
            memory.in_use >> 20,
            mib(memory.limit),
            mib(memory.held),
            mib(memory.peak),
            memory
                .oom_kills
                .map_or("?".into(), |kills| kills.to_string())
        ));
        assert_eq!(memory.limit, Some(1 << 30), "{}", node.name);
        assert_eq!(memory.oom_kills.unwrap_or(0), 0, "{}", node.name);
        // Half of a machine of 1 GiB is for the company's own programs.
        assert!(memory.held < Some(512 << 20), "{}: {memory:?}", node.name);
    }
}

fn agent(node: &str, said: &Value) {
    let mut together = number(&said["runs_percent"]);
    for (unit, used) in said["units"].as_object().expect("units") {
        tell(&format!(
            "{node}: {unit:<22} PSS {:>5.1} MiB, with children at most {:>5.1}, {:.2} % of a processor",
            number(&used["pss"]) / MIB,
            number(&used["peak"]) / MIB,
            number(&used["percent"])
        ));
        together += number(&used["percent"]);
    }
    let voter = &said["units"]["rolesmith-cluster"];
    let (memory, percent) = (number(&voter["pss"]) / MIB, number(&voter["percent"]));
    let reached = |is: bool| if is { "reached" } else { "MISSED" };
    tell(&format!(
        "{node}: who votes: {memory:.1} MiB (aim {}: {}), {percent:.2} % (aim {}: {}); all services together {together:.2} % over \
         {:.0} s, their health checks and {} runs that come and go among them",
        AIM.0,
        reached(memory < AIM.0),
        AIM.1,
        reached(percent < AIM.1),
        number(&said["seconds"]),
        said["runs"],
    ));
    // What would be a change of kind and not of degree.
    assert!(memory > 0.0 && memory < 1.5 * AIM.0, "{node}: {memory} MiB");
    assert!(
        percent > 0.0 && percent < 4.0 * AIM.1,
        "{node}: {percent} %"
    );
    assert!(together < 8.0 * AIM.1, "{node}: {together} %");
}
