//! Drills that visitors see: they come through the load balancer, while the writers are at work as in every drill.

use super::{
    super::step::{
        Act::{
            Cut, Drain, Freeze, Mend, PowerOff, Reinstall, Replace, Start, Thaw, Undrain, Upgrade,
        },
        Drill,
        Promotion::{May, Must},
        Step::{self, AwaitIn, AwaitOut, Fault, Heal, Hold, InTurn as Turns, PublishNewer},
        Visits::{Excused, Retried, Undisturbed},
        Who::{InTurn, Primary},
    },
    PLAIN, seconds,
};

const KILL: &[Step] = &[
    Fault(PowerOff(InTurn)),
    AwaitOut(InTurn),
    Hold(seconds(5)),
    Heal(Start(InTurn)),
    AwaitIn(InTurn),
];

const FREEZE: &[Step] = &[
    Fault(Freeze(InTurn)),
    AwaitOut(InTurn),
    Hold(seconds(5)),
    Heal(Thaw(InTurn)),
    AwaitIn(InTurn),
];

const CUT: &[Step] = &[
    Fault(Cut(InTurn)),
    AwaitOut(InTurn),
    Hold(seconds(5)),
    Heal(Mend(InTurn)),
    AwaitIn(InTurn),
];

const REPLACE: &[Step] = &[Fault(Replace(InTurn)), AwaitIn(InTurn)];

const DRAIN: &[Step] = &[
    Fault(Drain(InTurn)),
    AwaitOut(InTurn),
    Hold(seconds(3)),
    Heal(Undrain(InTurn)),
    AwaitIn(InTurn),
];

const UPGRADE: &[Step] = &[Fault(Upgrade(InTurn)), AwaitIn(InTurn)];

/// All of them.
pub const WEB: &[Drill] = &[
    Drill {
        name: "web-kill",
        about: "under visitors, each machine in turn loses power, the primary's last",
        steps: &[Turns(KILL)],
        visits: Excused,
        must: Some(12_000),
        ..PLAIN
    },
    Drill {
        name: "web-freeze",
        about: "under visitors, each machine in turn stands still, the primary's last",
        steps: &[Turns(FREEZE)],
        visits: Excused,
        must: Some(12_000),
        ..PLAIN
    },
    Drill {
        name: "web-cut",
        about: "under visitors, each machine in turn is cut off from everybody, the primary's last",
        steps: &[Turns(CUT)],
        visits: Excused,
        must: Some(12_000),
        ..PLAIN
    },
    Drill {
        name: "web-replaced",
        about: "under visitors, each machine in turn is destroyed and replaced, the primary's last",
        steps: &[Turns(REPLACE)],
        visits: Excused,
        must: Some(12_000),
        ..PLAIN
    },
    Drill {
        name: "web-drain",
        about: "under visitors, each node in turn is taken out of service by hand and put back: no request fails",
        steps: &[Turns(DRAIN)],
        visits: Undisturbed,
        // For how long nobody writes is what `switchover` promises.
        promotion: Must,
        ..PLAIN
    },
    Drill {
        name: "upgrade",
        about: "under visitors, apt installs a newer build of every package of the fleet on each node in turn, the primary's last",
        before: &[PublishNewer],
        steps: &[Turns(UPGRADE)],
        visits: Retried,
        promotion: May,
        ..PLAIN
    },
    Drill {
        name: "postgresql-upgrade",
        about: "apt alone installs Debian's PostgreSQL again on the primary: nobody is primary without the fleet's word",
        steps: &[Fault(Reinstall(Primary)), Hold(seconds(10))],
        promotion: May,
        must: Some(2000),
        ..PLAIN
    },
];
