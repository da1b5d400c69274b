//! What a drill consists of: values that say what is done to whom and what is waited for, and nothing of how.

use std::time::Duration;

/// A machine by the part it plays when the drill begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The primary of that moment, whatever becomes of it.
    Primary,
    /// One of its standbys, in the order of their names.
    Standby(usize),
    /// A voter without data.
    Witness(usize),
    /// The primary of this moment.
    NewPrimary,
    /// The node whose turn it is.
    InTurn,
}

/// Something that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing: the control as a drill of its own.
    Nothing,
    /// The machine's power is off.
    PowerOff(Who),
    /// All its processes are killed; its connections are closed.
    Crash(Who),
    /// Its power is on again.
    Start(Who),
    /// All machines that are off are started, one after the other, in an order by chance.
    StartAllOff,
    /// It stands still.
    Freeze(Who),
    /// It goes on.
    Thaw(Who),
    /// It is cut off from everybody.
    Cut(Who),
    /// It is cut off from another one.
    CutFrom(Who, Who),
    /// What it sends does not reach the other one.
    CutOneWay(Who, Who),
    /// Its cuts are mended.
    Mend(Who),
    /// A new machine takes its place.
    Replace(Who),
    /// The main process of a service on it is killed.
    KillService(Who, Service),
    /// It writes more log than it keeps for anybody who is away (`max_slot_wal_keep_size`).
    Outrun(Who),
    /// The operator asks for this standby to become the primary.
    Switchover(Who),
    /// The operator takes it out of service.
    Drain(Who),
    /// The operator puts it back.
    Undrain(Who),
    /// apt installs the newer build of every package of the fleet on it.
    Upgrade(Who),
    /// apt installs Debian's PostgreSQL on it again.
    Reinstall(Who),
}

/// A service of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// PostgreSQL's postmaster.
    Postmaster,
    /// pgbouncer.
    Pooler,
    /// The agent that decides about the cluster.
    Agent,
    /// repmgrd, which watches and decides nothing.
    Repmgrd,
}

impl Service {
    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Service::Postmaster => "rolesmith-postgresql.service",
            Service::Pooler => "rolesmith-pgbouncer.service",
            Service::Agent => "rolesmith-cluster.service",
            Service::Repmgrd => "rolesmith-repmgrd.service",
        }
    }
}

/// One step of a drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A fault. The first one ends the control.
    Fault(Act),
    /// Something broken is put right.
    Heal(Act),
    /// A server that was not the primary when the drill began acknowledges.
    AwaitNewPrimary,
    /// Something that was sent from now on is acknowledged, by whom ever.
    AwaitService,
    /// A program of this name runs on the machine.
    AwaitProgram(Who, &'static str),
    /// Every machine with data is replaced, the primary last, each when the fleet is whole; until then no other one may be.
    ReplaceEach,
    /// Nothing that is sent from now on is acknowledged for so long.
    Silence(Duration),
    /// Time passes.
    Hold(Duration),
    /// These steps for each node in turn, the primary last; each turn begins with a whole fleet.
    InTurn(&'static [Step]),
    /// The load balancer sends nobody there any more.
    AwaitOut(Who),
    /// The load balancer sends visitors there.
    AwaitIn(Who),
    /// A newer build of every package is published.
    PublishNewer,
}

impl Step {
    /// Whether a machine is replaced in it.
    pub fn replaces(&self) -> bool {
        matches!(
            self,
            Step::Fault(Act::Replace(_)) | Step::Heal(Act::Replace(_))
        )
    }
}

/// What visitors may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visits {
    /// There are none.
    None,
    /// Attempts fail that were sent to a node which something was done to, before the load balancer had it out; no others.
    Excused,
    /// No attempt fails.
    Undisturbed,
    /// Every request is answered at its second attempt at the latest, and who leaves says so first.
    Retried,
}

/// Whether another server has to become primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// It has to.
    Must,
    /// It must not.
    MustNot,
    /// Both are right.
    May,
}

/// A drill.
#[derive(Debug, Clone, Copy)]
pub struct Drill {
    /// What it is called.
    pub name: &'static str,
    /// What happens, in a line.
    pub about: &'static str,
    /// How many data nodes it takes.
    pub data: usize,
    /// How many voters without data it takes.
    pub witnesses: usize,
    /// What is done before writers and visitors are at work.
    pub before: &'static [Step],
    /// What is done, and waited for. In the end everything has to be healed.
    pub steps: &'static [Step],
    /// Whether another server has to become primary.
    pub promotion: Promotion,
    /// The longest interruption allowed, in milliseconds, where one is promised.
    pub must: Option<u64>,
    /// The one aimed at.
    pub aim: Option<u64>,
    /// The writers commit on their own server alone: rows have to be lost, or drills are blind.
    pub asynchronous: bool,
    /// What visitors may see, where there are any.
    pub visits: Visits,
}
