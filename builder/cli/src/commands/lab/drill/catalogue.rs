//! All drills.

mod web;

use std::time::Duration;

use super::step::{
    Act::{
        Crash, Cut, CutFrom, CutOneWay, Freeze, KillService, Mend, Nothing, Outrun, PowerOff,
        Replace, Start, StartAllOff, Switchover, Thaw,
    },
    Drill,
    Promotion::{May, Must, MustNot},
    Service::{Agent, Pooler, Postmaster, Repmgrd},
    Step::{
        self, AwaitNewPrimary, AwaitProgram, AwaitService, Fault, Heal, Hold, ReplaceEach, Silence,
    },
    Visits,
    Who::{NewPrimary, Primary, Standby, Witness},
};
use web::WEB;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What most drills are.
const PLAIN: Drill = Drill {
    name: "",
    about: "",
    data: 3,
    witnesses: 0,
    before: &[],
    steps: &[],
    promotion: Must,
    must: None,
    aim: None,
    asynchronous: false,
    visits: Visits::None,
};

/// Long enough that another one is primary when the machine is back.
const PRIMARY_LOSES_POWER: &[Step] = &[
    Fault(PowerOff(Primary)),
    AwaitNewPrimary,
    Hold(seconds(3)),
    Heal(Start(Primary)),
];

/// All drills, in the order in which `--all` runs them: those that show that drills can see come first.
pub fn all() -> impl Iterator<Item = &'static Drill> {
    DRILLS.iter().chain(WEB)
}

/// Those of the database.
const DRILLS: &[Drill] = &[
    Drill {
        name: "control",
        about: "nothing happens",
        data: 1,
        steps: &[Fault(Nothing), Hold(seconds(5))],
        promotion: MustNot,
        must: Some(500),
        ..PLAIN
    },
    Drill {
        name: "asynchronous-control",
        about: "the primary is cut off while writers commit on it alone: rows have to be lost",
        steps: &[
            Fault(Cut(Primary)),
            AwaitNewPrimary,
            Hold(seconds(3)),
            Heal(Mend(Primary)),
        ],
        asynchronous: true,
        ..PLAIN
    },
    Drill {
        name: "primary-crash",
        about: "all processes of the primary's machine are killed",
        steps: &[
            Fault(Crash(Primary)),
            AwaitNewPrimary,
            Hold(seconds(3)),
            Heal(Start(Primary)),
        ],
        must: Some(8000),
        aim: Some(4000),
        ..PLAIN
    },
    Drill {
        name: "primary-power",
        about: "the primary's machine loses power",
        steps: PRIMARY_LOSES_POWER,
        must: Some(12_000),
        aim: Some(7000),
        ..PLAIN
    },
    Drill {
        name: "primary-reboot",
        about: "the primary's machine loses power and boots again at once, unattended",
        steps: &[Fault(PowerOff(Primary)), Heal(Start(Primary)), AwaitService],
        promotion: May,
        must: Some(12_000),
        aim: Some(7000),
        ..PLAIN
    },
    Drill {
        name: "primary-frozen",
        about: "the primary's machine stands still, and goes on when another one is primary",
        steps: &[
            Fault(Freeze(Primary)),
            AwaitNewPrimary,
            Hold(seconds(3)),
            Heal(Thaw(Primary)),
        ],
        must: Some(12_000),
        aim: Some(7000),
        ..PLAIN
    },
    Drill {
        name: "primary-cut",
        about: "the primary is cut off from everybody, with clients of its own beside it",
        steps: &[
            Fault(Cut(Primary)),
            AwaitNewPrimary,
            Hold(seconds(5)),
            Heal(Mend(Primary)),
        ],
        must: Some(12_000),
        aim: Some(7000),
        ..PLAIN
    },
    Drill {
        name: "postmaster-killed",
        about: "the primary's postmaster is killed",
        data: 1,
        steps: &[Fault(KillService(Primary, Postmaster)), AwaitService],
        promotion: May,
        must: Some(5000),
        aim: Some(2000),
        ..PLAIN
    },
    Drill {
        name: "switchover",
        about: "the operator moves the primary to a standby",
        steps: &[Fault(Switchover(Standby(0))), AwaitNewPrimary],
        must: Some(2000),
        aim: Some(1000),
        ..PLAIN
    },
    Drill {
        name: "standby-power",
        about: "a standby's machine loses power",
        steps: &[
            Fault(PowerOff(Standby(0))),
            Hold(seconds(10)),
            Heal(Start(Standby(0))),
        ],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "standby-cut",
        about: "a standby is cut off from everybody: no failover, no stall",
        steps: &[
            Fault(Cut(Standby(0))),
            Hold(seconds(10)),
            Heal(Mend(Standby(0))),
        ],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "one-way-cut",
        about: "what the primary sends does not reach a standby: no promotion",
        steps: &[
            Fault(CutOneWay(Primary, Standby(0))),
            Hold(seconds(10)),
            Heal(Mend(Primary)),
        ],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "link-cut",
        about: "primary and standby do not see each other, and everybody else sees both: no promotion",
        steps: &[
            Fault(CutFrom(Primary, Standby(0))),
            Hold(seconds(10)),
            Heal(Mend(Primary)),
        ],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "pooler-killed",
        about: "pgbouncer of a standby's machine is killed: clients on other machines do not notice",
        steps: &[Fault(KillService(Standby(0), Pooler)), Hold(seconds(5))],
        promotion: MustNot,
        must: Some(500),
        ..PLAIN
    },
    Drill {
        name: "agent-killed",
        about: "the agent on the primary is killed",
        data: 1,
        steps: &[Fault(KillService(Primary, Agent)), Hold(seconds(10))],
        promotion: May,
        must: Some(8000),
        ..PLAIN
    },
    Drill {
        name: "repmgrd-killed",
        about: "repmgrd on the primary is killed: it decides nothing, so nobody notices",
        data: 1,
        steps: &[Fault(KillService(Primary, Repmgrd)), Hold(seconds(5))],
        promotion: MustNot,
        must: Some(500),
        ..PLAIN
    },
    Drill {
        name: "standby-outrun",
        about: "a standby is away until the primary no longer keeps the log that it lacks: it is copied anew",
        steps: &[
            Fault(PowerOff(Standby(0))),
            Fault(Outrun(Primary)),
            Heal(Start(Standby(0))),
        ],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "second-failure",
        about: "the new primary fails before the old one is back: the last one refuses to go on alone",
        steps: &[
            Fault(PowerOff(Primary)),
            AwaitNewPrimary,
            Fault(PowerOff(NewPrimary)),
            Hold(seconds(2)),
            Silence(seconds(15)),
            Heal(StartAllOff),
            AwaitService,
        ],
        ..PLAIN
    },
    Drill {
        name: "blackout",
        about: "all machines lose power and boot again in any order: what is newest wins",
        steps: &[
            Fault(PowerOff(Standby(0))),
            Fault(PowerOff(Primary)),
            Fault(PowerOff(Standby(1))),
            Heal(StartAllOff),
            AwaitService,
        ],
        promotion: May,
        ..PLAIN
    },
    Drill {
        name: "standby-replaced",
        about: "a standby is destroyed, and a new machine takes its place",
        steps: &[Fault(Replace(Standby(0)))],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "primary-replaced",
        about: "the primary is destroyed, and a new machine takes its place",
        steps: &[
            Fault(Crash(Primary)),
            AwaitNewPrimary,
            Fault(Replace(Primary)),
        ],
        must: Some(8000),
        ..PLAIN
    },
    Drill {
        name: "all-replaced",
        about: "every machine is destroyed and replaced, one after the other: in the end none is left of those that began",
        steps: &[ReplaceEach],
        must: Some(12_000),
        ..PLAIN
    },
    Drill {
        name: "clone-killed",
        about: "a new machine loses power while it copies the database, and begins again",
        steps: &[
            Fault(Replace(Standby(0))),
            AwaitProgram(Standby(0), "pg_basebackup"),
            Fault(PowerOff(Standby(0))),
            Heal(Start(Standby(0))),
        ],
        promotion: MustNot,
        must: Some(1500),
        ..PLAIN
    },
    Drill {
        name: "false-alarm",
        about: "the primary is cut off until standbys let go of it, one of them dies, the cut is mended: the primary or the other one goes on",
        steps: &[
            Fault(Cut(Primary)),
            Hold(Duration::from_millis(2600)),
            Fault(PowerOff(Standby(0))),
            Heal(Mend(Primary)),
            AwaitService,
            Hold(seconds(3)),
            Heal(Start(Standby(0))),
        ],
        promotion: May,
        ..PLAIN
    },
    Drill {
        name: "cut-acker",
        about: "of five voters the primary dies and the only standby that has everything is cut off: the other one, with a majority, must wait",
        witnesses: 2,
        steps: &[
            Fault(Cut(Standby(1))),
            Hold(seconds(3)),
            Fault(Cut(Standby(0))),
            Fault(PowerOff(Primary)),
            Heal(Mend(Standby(1))),
            Silence(seconds(15)),
            Heal(Mend(Standby(0))),
            AwaitNewPrimary,
            Heal(Start(Primary)),
        ],
        ..PLAIN
    },
    Drill {
        name: "witness-cut",
        about: "a witness is cut off: nothing happens",
        witnesses: 1,
        data: 2,
        steps: &[
            Fault(Cut(Witness(0))),
            Hold(seconds(10)),
            Heal(Mend(Witness(0))),
        ],
        promotion: MustNot,
        must: Some(500),
        ..PLAIN
    },
    Drill {
        name: "pair-primary-power",
        about: "with a witness the primary's machine loses power: of two databases the other one takes over and goes on alone (genesis has to be closed)",
        data: 2,
        witnesses: 1,
        steps: PRIMARY_LOSES_POWER,
        must: Some(12_000),
        aim: Some(7000),
        ..PLAIN
    },
    Drill {
        name: "pair-standby-power",
        about: "with a witness a standby's machine loses power: of two databases the primary goes on alone, once the witness knows",
        data: 2,
        witnesses: 1,
        steps: &[
            Fault(PowerOff(Standby(0))),
            AwaitService,
            Hold(seconds(5)),
            Heal(Start(Standby(0))),
        ],
        promotion: MustNot,
        must: Some(12_000),
        ..PLAIN
    },
];

/// The drill of that name.
pub fn find(name: &str) -> Option<&'static Drill> {
    all().find(|drill| drill.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::commands::lab::drill::step::{Act, Step, Who};

    /// Its steps, those of turns once.
    fn flat(drill: &Drill) -> Vec<Step> {
        let mut flat = Vec::new();
        for step in drill.steps {
            match step {
                Step::InTurn(steps) => flat.extend_from_slice(steps),
                step => flat.push(*step),
            }
        }
        flat
    }

    #[test]
    fn names_are_unique_and_can_be_typed() {
        let names: BTreeSet<_> = all().map(|drill| drill.name).collect();
        assert_eq!(names.len(), all().count());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{name}"
            );
        }
    }

    /// A drill that leaves something broken would spoil the next one.
    #[test]
    fn everything_is_healed_in_the_end() {
        for drill in all() {
            let mut broken: Vec<(&str, Who)> = Vec::new();
            for step in flat(drill) {
                let (Step::Fault(act) | Step::Heal(act)) = step else {
                    continue;
                };
                match act {
                    Act::PowerOff(who) | Act::Crash(who) => broken.push(("power", who)),
                    Act::Freeze(who) => broken.push(("frozen", who)),
                    Act::Cut(who) | Act::CutFrom(who, _) | Act::CutOneWay(who, _) => {
                        broken.push(("cable", who));
                    }
                    Act::Start(who) | Act::Replace(who) => {
                        broken.retain(|(what, of)| *what != "power" || *of != who);
                    }
                    Act::StartAllOff => broken.retain(|(what, _)| *what != "power"),
                    Act::Thaw(who) => broken.retain(|broken| *broken != ("frozen", who)),
                    Act::Drain(who) => broken.push(("drained", who)),
                    Act::Undrain(who) => broken.retain(|broken| *broken != ("drained", who)),
                    Act::Mend(who) => broken.retain(|broken| *broken != ("cable", who)),
                    Act::KillService(..)
                    | Act::Outrun(_)
                    | Act::Switchover(_)
                    | Act::Upgrade(_)
                    | Act::Reinstall(_)
                    | Act::Nothing => {}
                }
            }
            assert_eq!(broken, [], "{}", drill.name);
        }
    }

    #[test]
    fn a_drill_has_a_fault_and_the_nodes_that_it_names() {
        for drill in all() {
            assert!(
                flat(drill)
                    .iter()
                    .any(|step| matches!(step, Step::Fault(_) | Step::ReplaceEach)),
                "{}",
                drill.name
            );
            let text = format!("{:?}", drill.steps);
            for number in 0..3 {
                if text.contains(&format!("Standby({number})")) {
                    assert!(drill.data >= number + 2, "{}", drill.name);
                }
                if text.contains(&format!("Witness({number})")) {
                    assert!(drill.witnesses > number, "{}", drill.name);
                }
            }
        }
    }

    #[test]
    fn what_is_aimed_at_is_better_than_what_must_be() {
        for drill in all() {
            if let (Some(aim), Some(must)) = (drill.aim, drill.must) {
                assert!(aim < must, "{}", drill.name);
            }
        }
    }
}
