//! One run: a fleet from a seed, its faults, the heal, the verdict; and how a failing run is made smaller.

use std::collections::BTreeSet;

use rolesmith_agent::cluster::Timing;

use crate::crashes::Crash;
use crate::faults::{FIRST, Fault, Profile, schedule};
use crate::random::Rng;
use crate::world::{Event, Mutant, Stats, Violation, World, fleet};

/// After a heal a write has to be acknowledged within this time (ms).
pub const SERVICE: u64 = 30_000;
/// And within this time everybody is in his place.
const ORDER: u64 = 150_000;

/// Everything that determines a run.
#[derive(Debug, Clone)]
pub struct Setup {
    pub seed: u64,
    pub profile: Option<Profile>,
    pub shape: Option<(usize, usize, usize)>,
    pub mutant: Option<Mutant>,
    /// Only these faults of the schedule.
    pub keep: Option<BTreeSet<usize>>,
    pub trace: bool,
    /// These faults and no others.
    pub script: Option<Vec<(u64, Fault)>>,
    pub crash: Option<Crash>,
}

impl Setup {
    pub fn seed(seed: u64) -> Self {
        Self {
            seed,
            profile: None,
            shape: None,
            mutant: None,
            keep: None,
            trace: false,
            script: None,
            crash: None,
        }
    }
}

pub struct Verdict {
    pub violation: Option<Violation>,
    pub stats: Stats,
    pub faults: usize,
    pub trace: Vec<String>,
    /// How many effects each weighty step of each node had.
    pub weighty: Vec<Vec<usize>>,
}

/// Data members, witnesses, `ANY k`.
const SHAPES: &[(usize, usize, usize)] = &[
    (3, 0, 1),
    (3, 0, 1),
    (3, 0, 1),
    (3, 0, 1),
    (2, 1, 1),
    (2, 1, 1),
    (2, 1, 1),
    (3, 2, 1),
    (3, 2, 1),
    (4, 1, 1),
    (5, 0, 1),
    (5, 0, 2),
    (2, 3, 1),
    (4, 3, 2),
    (7, 0, 3),
    (3, 4, 1),
];

fn timing(rng: &mut Rng) -> Timing {
    let mut timing = Timing::default();
    // Safety rests on no duration, so some runs have odd ones.
    if rng.permille(300) {
        for value in [
            &mut timing.beat,
            &mut timing.answer,
            &mut timing.fresh,
            &mut timing.spread,
            &mut timing.again,
            &mut timing.fence,
            &mut timing.heartbeat,
            &mut timing.alone,
        ] {
            *value = *value * rng.range(60, 160) / 100;
        }
        timing.suspect = timing.fresh + 300;
    }
    timing
}

pub fn run(setup: &Setup) -> Verdict {
    let mut rng = Rng::new(setup.seed);
    let mut shape = *rng.pick(SHAPES);
    let profile = match rng.below(20) {
        0..=4 => Profile::Mixed,
        5 => Profile::Copies,
        6..=8 => Profile::Elections,
        9..=12 => Profile::Membership,
        13 => Profile::Genesis,
        14 => Profile::Duel,
        15 => Profile::Pendulum,
        16 if setup.shape.unwrap_or(shape).0 == 2 => Profile::Alone,
        16 | 17 => Profile::Growth,
        18 => Profile::Victim,
        _ => Profile::Alarm,
    };
    let profile = setup.profile.unwrap_or(profile);
    shape = setup.shape.unwrap_or(shape);
    let (data, witnesses, k) = shape;
    let count = data + witnesses;
    let undisturbed = matches!(profile, Profile::Victim | Profile::Alarm);
    // What must not be disturbed is measured in usual durations.
    let timing = match undisturbed {
        true => Timing::default(),
        false => timing(&mut rng),
    };
    let mut until = FIRST + rng.range(10_000, 30_000);
    let mut faults = schedule(&mut rng, profile, count, until);
    if let Some(script) = &setup.script {
        faults.clone_from(script);
        until = faults.last().map_or(FIRST, |(at, _)| *at) + 4_000;
    }
    let mut world = World::new(
        Rng::new(rng.next()),
        timing,
        fleet(data, witnesses, k),
        setup.mutant,
    );
    world.crash = setup.crash;
    world.attentive = undisturbed;
    world.trace = setup.trace.then(Vec::new);
    world.note(|| format!("{profile:?}, {data} data, {witnesses} witnesses, k {k}"));
    if !undisturbed && rng.permille(600) {
        world.loss = rng.below(30);
        world.slow = rng.below(40);
    }
    if profile == Profile::Genesis && rng.permille(700) {
        // Several founders at once, who hear half of what is said.
        world.timing.genesis = rng.range(50, 400);
        world.loss = rng.below(350);
        world.slow = rng.below(300);
    }
    for node in 0..count {
        let late = if rng.permille(60) { 12_000 } else { 1_500 };
        let delay = rng.below(late);
        world.put(delay, Event::Boot { node });
        world.put(delay, Event::Write { node });
    }
    world.put(3_000, Event::CloseGenesis);
    world.put(1, Event::ClientAsks);
    let planned = faults.len();
    for (index, (at, _)) in faults.iter().enumerate() {
        if setup.keep.as_ref().is_none_or(|keep| keep.contains(&index)) {
            world.put(*at, Event::Fault { index });
        }
    }
    world.faults = faults;
    world.put(until, Event::Heal);
    world.run(until + 1);
    finish(&mut world, until);
    Verdict {
        violation: world.violation,
        stats: world.stats,
        faults: planned,
        weighty: world.weighty,
        trace: world.trace.unwrap_or_default(),
    }
}

fn finish(world: &mut World, healed: u64) {
    let mut at = healed;
    while world.violation.is_none() {
        at += 500;
        world.run(at);
        let served = world.last_ack > healed;
        if !served && at > healed + SERVICE {
            let why = world.unhealthy().unwrap_or_default();
            world.fail(
                "no service",
                format!("nothing was acknowledged {SERVICE} ms after the heal: {why}"),
            );
        }
        if served && at > healed + 3_000 && world.healthy() && world.client_is_right() {
            break;
        }
        if at > healed + ORDER {
            let astray = || "a client's pooler does not follow the primary".to_owned();
            let why = world.unhealthy().unwrap_or_else(astray);
            world.fail("no order", format!("{ORDER} ms after the heal: {why}"));
        }
    }
    if world.violation.is_none()
        && let Some(primary) = world.primary()
    {
        world.check_nothing_lost(primary, u64::MAX, "the primary in the end");
    }
}

/// Takes faults away as long as the run still fails in the same way.
pub fn shrink(setup: &Setup, class: &str) -> Setup {
    let mut small = setup.clone();
    let faults = run(setup).faults;
    let mut keep: BTreeSet<usize> = setup.keep.clone().unwrap_or_else(|| (0..faults).collect());
    let mut chunk = keep.len().div_ceil(2).max(1);
    loop {
        let mut progress = false;
        let list: Vec<usize> = keep.iter().copied().collect();
        for part in list.chunks(chunk) {
            let mut fewer = keep.clone();
            for fault in part {
                fewer.remove(fault);
            }
            if fewer.len() == keep.len() {
                continue;
            }
            small.keep = Some(fewer.clone());
            if run(&small)
                .violation
                .is_some_and(|found| found.class == class)
            {
                keep = fewer;
                progress = true;
            }
        }
        if chunk == 1 && !progress {
            break;
        }
        chunk = (chunk / 2).max(1);
    }
    small.keep = Some(keep);
    small
}

/// How to see a failing run again.
pub fn replay(setup: &Setup) -> String {
    let keep = setup
        .keep
        .as_ref()
        .map(|keep| {
            let list: Vec<String> = keep.iter().map(ToString::to_string).collect();
            format!(" SIMULATOR_KEEP={}", list.join(","))
        })
        .unwrap_or_default();
    let profile = setup
        .profile
        .map(|profile| format!(" SIMULATOR_PROFILE={profile:?}"))
        .unwrap_or_default();
    let shape = setup
        .shape
        .map(|(data, witnesses, k)| format!(" SIMULATOR_SHAPE={data},{witnesses},{k}"))
        .unwrap_or_default();
    format!(
        "SIMULATOR_SEED={}{keep}{profile}{shape} cargo test -p rolesmith-agent --test simulator replay -- --ignored --nocapture",
        setup.seed
    )
}
