//! The same run again and again, with a crash in every step of a node and between any two effects of it: what was not
//! made durable before is lost, what was begun may be done, half done or not done.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::faults::{Fault, Profile};
use crate::runs::{say, setting, threads};
use crate::scenario::{Setup, run};
use crate::world::{Event, World};

/// Where in a step it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// What the step would have made durable never was.
    BeforeDurable,
    /// So many effects of it happened.
    AfterEffects(usize),
}

/// One crash of one node.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    node: usize,
    /// Among the node's weighty steps.
    step: usize,
    stop: Stop,
    /// The machine loses power; else its agent alone dies.
    power: bool,
}

/// How long the agent or the machine is away (ms).
const AWAY: u64 = 400;

impl World {
    /// Whether the node crashes in this step, and where.
    pub fn crash_in(&mut self, node: usize, weighty: bool, effects: usize) -> Option<Stop> {
        if !weighty {
            return None;
        }
        self.weighty[node].push(effects);
        let step = self.weighty[node].len() - 1;
        let crash = self
            .crash
            .filter(|crash| crash.node == node && crash.step == step)?;
        self.note(|| format!("n{} crashes: {crash:?}", node + 1));
        Some(crash.stop)
    }

    pub fn crash(&mut self, node: usize) {
        let Some(crash) = self.crash.take() else {
            return;
        };
        if crash.power {
            self.power(node, AWAY);
        } else {
            self.kill_agent(node);
            let machine = self.nodes[node].machine;
            self.put(AWAY, Event::AgentStart { node, machine });
        }
    }
}

/// Everything that a fleet can go through, once: a switchover, a failover, one going on alone or a rewind, a copy, a
/// machine more, one less, a rebuilt one.
fn story() -> Vec<(u64, Fault)> {
    vec![
        (8_000, Fault::Switchover { to: 1 }),
        (
            12_000,
            Fault::KillPrimary {
                power: true,
                back: 4_000,
            },
        ),
        (22_000, Fault::Add { data: true }),
        (28_000, Fault::IsolatePrimary),
        (31_500, Fault::Mend),
        (38_000, Fault::DestroyPrimary { back: 1_000 }),
        (54_000, Fault::Remove { node: 2 }),
    ]
}

/// Runs every crash of a story, or every so manieth; how many there were.
fn crash_everywhere(shape: (usize, usize, usize), every: usize) -> usize {
    let setup = Setup {
        profile: Some(Profile::Calm),
        shape: Some(shape),
        script: Some(story()),
        ..Setup::seed(1)
    };
    let whole = run(&setup);
    assert_eq!(whole.violation, None);
    let saw = &whole.stats;
    assert!(
        saw.promotions > 2 && saw.rewinds > 0 && saw.replaced > 0 && saw.changes > 2,
        "the story leaves something out: {saw:?}"
    );
    let mut crashes = Vec::new();
    for (node, steps) in whole.weighty.iter().enumerate() {
        for (step, effects) in steps.iter().enumerate() {
            let cuts = (0..=*effects).map(Stop::AfterEffects);
            for stop in std::iter::once(Stop::BeforeDurable).chain(cuts) {
                let power = (crashes.len() + step) % 2 == 0;
                crashes.push(Crash {
                    node,
                    step,
                    stop,
                    power,
                });
            }
        }
    }
    let crashes: Vec<Crash> = crashes.into_iter().step_by(every).collect();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                while let Some(crash) = crashes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let setup = Setup {
                        crash: Some(*crash),
                        ..setup.clone()
                    };
                    if let Some(violation) = run(&setup).violation {
                        failed.lock().expect("no panic").push((*crash, violation));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic");
    if let Some((crash, _)) = failed.first()
        && setting("SIMULATOR_TRACE").is_some()
    {
        let setup = Setup {
            crash: Some(*crash),
            trace: true,
            ..setup
        };
        run(&setup).trace.iter().for_each(|line| say(line));
    }
    assert!(
        failed.is_empty(),
        "{} of {} crashes: {:#?}",
        failed.len(),
        crashes.len(),
        failed.first()
    );
    crashes.len()
}

const SHAPES: [(usize, usize, usize); 3] = [(2, 1, 1), (3, 0, 1), (4, 1, 2)];

#[test]
fn some_crashes_are_survived() {
    for shape in SHAPES {
        crash_everywhere(shape, 199);
    }
}

#[test]
#[ignore = "minutes; the full run"]
fn every_crash_is_survived() {
    for shape in SHAPES {
        let count = crash_everywhere(shape, 1);
        say(&format!("{shape:?}: {count} crashes survived"));
    }
}
