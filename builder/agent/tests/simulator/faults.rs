//! What goes wrong in a run: made from the seed before it begins, so that a failing run can be tried with less of it.

use crate::random::Rng;
use crate::scripts;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The agent's process is killed; systemd starts it again after so many ms.
    KillAgent {
        node: usize,
        back: u64,
    },
    /// The agent is killed in the middle of a step, after so many of its effects.
    CutStep {
        node: usize,
        effects: usize,
        back: u64,
    },
    /// kill -9 of the postmaster.
    KillPostgres {
        node: usize,
    },
    /// Power lost.
    Power {
        node: usize,
        back: u64,
    },
    /// The agent alone, or all of the machine, stands still.
    Freeze {
        node: usize,
        all: bool,
        time: u64,
    },
    /// Messages from one to the other are lost.
    Cut {
        from: usize,
        to: usize,
        both: bool,
    },
    /// Nothing goes between the halves; bit n of the mask says in which one node n is.
    Partition {
        mask: u64,
    },
    /// One node is cut from all.
    Isolate {
        node: usize,
    },
    /// The same for whoever is primary then.
    IsolatePrimary,
    KillPrimary {
        power: bool,
        back: u64,
    },
    FreezePrimary {
        all: bool,
        time: u64,
    },
    KillPostgresOfPrimary,
    /// All cuts end.
    Mend,
    /// A machine is lost with its disk and rebuilt, if the cluster is healthy; with `declared` facts say so.
    Destroy {
        node: usize,
        declared: bool,
        back: u64,
    },
    DestroyPrimary {
        back: u64,
    },
    /// A planned switchover to that node.
    Switchover {
        to: usize,
    },
    /// Facts declare one member more, or one less.
    Add {
        data: bool,
    },
    Remove {
        node: usize,
    },
    /// All machines at once.
    Blackout {
        back: u64,
    },
    /// A fault waits for its moment, and strikes whoever brings that about; without delay before a word of it is sent.
    Watch {
        moment: Moment,
        delay: u64,
        then: Box<Fault>,
    },
    /// A fault strikes the run's victim: a voter that is not primary when it is chosen.
    OnVictim {
        pick: u64,
        then: Box<Fault>,
    },
    /// Another victim is chosen from now on.
    Spare,
    /// One node is cut from nobody any more.
    Reconnect {
        node: usize,
    },
    /// The same for the primary that was isolated or frozen last.
    ReconnectDeposed,
    /// One node hears nobody, but is heard.
    Deafen {
        node: usize,
    },
    /// The primary that was isolated last is back, but neither hears that node nor is heard by it.
    Triangle {
        node: usize,
    },
    /// The node and the primary are cut from the others.
    WithPrimary {
        node: usize,
    },
    /// Everything is mended but the primary, which is isolated.
    Seclude,
    /// A witness is lost with its disk, and rebuilt.
    DestroyWitness {
        back: u64,
    },
    /// The node, whom its change of the configuration was about, and machines that were added are cut from the others;
    /// bit n of the mask puts node n on their side.
    Split {
        node: usize,
        mask: u64,
    },
    /// From now on nobody may be promoted, and service may not stop: what follows gives no reason.
    Hold,
}

/// What a [`Fault::Watch`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A node promised itself an epoch.
    Asking,
    /// A running primary won another epoch.
    Reaffirmed,
    /// A copy or rewind came to its end.
    Copied,
    /// A server was promoted.
    Promoted,
    /// A primary wrote that it goes on alone; that it no longer does.
    Alone,
    Cleared,
    /// A primary made a configuration with another number of voters; without one of the data members; with a higher k.
    VotersChanged,
    DataDropped,
    Raised,
}

/// What kind of run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Mixed,
    /// Partitions and false alarms.
    Elections,
    /// Members come, go and are replaced.
    Membership,
    /// During the very first seconds.
    Genesis,
    /// Nothing at all.
    Calm,
    /// Two primaries follow each other closely, and each is struck at a bad moment.
    Duel,
    /// One node is away while the others go on, then the primary instead of it.
    Pendulum,
    /// Two data members, of whom one goes on alone.
    Alone,
    /// The fleet grows or shrinks while it breaks apart.
    Growth,
    /// One voter misbehaves; the others must not notice.
    Victim,
    /// Members that were rewound or copied are struck, and so is the primary they came from.
    Copies,
    /// A candidate dies with the promises it got; the primary has to go on.
    Alarm,
}

pub const FIRST: u64 = 6_000;

/// The faults of a run, with their times (ms).
pub fn schedule(rng: &mut Rng, profile: Profile, nodes: usize, until: u64) -> Vec<(u64, Fault)> {
    if let Some(script) = scripts::of(profile) {
        return scripts::schedule(rng, script, nodes, until);
    }
    let (count, from) = match profile {
        Profile::Mixed => (rng.range(3, 14), FIRST),
        Profile::Elections => (rng.range(8, 24), FIRST),
        Profile::Membership => (rng.range(5, 14), FIRST),
        Profile::Genesis => (rng.range(3, 10), 0),
        _ => (0, 0),
    };
    let until = if profile == Profile::Genesis {
        12_000
    } else {
        until
    };
    let mut faults: Vec<(u64, Fault)> = (0..count)
        .map(|_| (rng.range(from, until), fault(rng, profile, nodes)))
        .collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn fault(rng: &mut Rng, profile: Profile, nodes: usize) -> Fault {
    let node = rng.below(nodes as u64) as usize;
    let to = rng.below(nodes as u64) as usize;
    let back = rng.range(300, 8_000);
    let time = rng.range(500, 9_000);
    let choice = match profile {
        Profile::Genesis => rng.below(12),
        Profile::Elections => *rng.pick(&[
            2, 5, 6, 7, 8, 8, 9, 10, 10, 11, 12, 13, 13, 14, 15, 0, 1, 20, 20, 4, 3,
        ]),
        Profile::Membership => *rng.pick(&[
            16, 17, 17, 18, 18, 19, 19, 21, 21, 22, 22, 0, 1, 3, 5, 9, 10, 12, 8, 8,
        ]),
        _ => rng.below(24),
    };
    match choice {
        0 => Fault::KillAgent {
            node,
            back: back / 4,
        },
        1 => Fault::CutStep {
            node,
            effects: rng.below(4) as usize,
            back: back / 4,
        },
        2 => Fault::KillPostgres { node },
        3 => Fault::Power { node, back },
        4 => Fault::Freeze {
            node,
            all: rng.permille(500),
            time,
        },
        5 => Fault::Cut {
            from: node,
            to,
            both: rng.permille(500),
        },
        6 => Fault::Partition { mask: rng.next() },
        7 => Fault::Isolate { node },
        8 | 23 => Fault::Mend,
        9 => Fault::KillAgent { node, back: 100 },
        10 => Fault::IsolatePrimary,
        11 => Fault::Cut {
            from: node,
            to,
            both: true,
        },
        12 => Fault::KillPrimary {
            power: rng.permille(500),
            back,
        },
        13 => Fault::FreezePrimary {
            all: rng.permille(300),
            time,
        },
        14 => Fault::KillPostgresOfPrimary,
        15 => Fault::Blackout { back },
        16 => Fault::DestroyPrimary { back },
        17 | 18 => Fault::Destroy {
            node,
            declared: rng.permille(500),
            back,
        },
        19 => Fault::Remove { node },
        20 => Fault::Switchover { to },
        _ => Fault::Add {
            data: rng.permille(600),
        },
    }
}
