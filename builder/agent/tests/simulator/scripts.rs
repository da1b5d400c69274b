//! Directed faults: the kind of sequence that one rule closes, with everything in it that may vary left to chance.

use crate::faults::{FIRST, Fault, Moment, Profile};
use crate::random::Rng;

/// Writes one round from that time on and says how long it takes.
type Script = fn(&mut Rng, usize, &mut Round);

/// The faults of a round, with times from its beginning.
#[derive(Default)]
pub struct Round {
    faults: Vec<(u64, Fault)>,
}

impl Round {
    fn at(&mut self, time: u64, fault: Fault) {
        self.faults.push((time, fault));
    }

    fn watch(&mut self, moment: Moment, delay: u64, then: Fault) {
        let then = Box::new(then);
        self.at(
            0,
            Fault::Watch {
                moment,
                delay,
                then,
            },
        );
    }

    fn victim(&mut self, time: u64, pick: u64, then: Fault) {
        let then = Box::new(then);
        self.at(time, Fault::OnVictim { pick, then });
    }
}

/// The node is put in when the fault strikes.
const SOMEBODY: usize = 0;

pub fn of(profile: Profile) -> Option<Script> {
    Some(match profile {
        Profile::Duel => duel,
        Profile::Pendulum => pendulum,
        Profile::Alone => alone,
        Profile::Growth => growth,
        Profile::Victim => victim,
        Profile::Alarm => alarm,
        Profile::Copies => copies,
        _ => return None,
    })
}

/// Rounds, one after the other.
pub fn schedule(rng: &mut Rng, script: Script, nodes: usize, until: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let mut begin = FIRST + rng.below(2_000);
    while begin < until {
        let mut round = Round::default();
        script(rng, nodes, &mut round);
        let long = round.faults.iter().map(|(time, _)| *time).max();
        round.faults.sort_by_key(|(time, _)| *time);
        faults.extend(
            round
                .faults
                .into_iter()
                .map(|(time, fault)| (begin + time, fault)),
        );
        begin += long.unwrap_or(0) + rng.range(300, 3_000);
    }
    faults
}

/// Long enough for the fleet to be whole, and for most to have heard that genesis is over.
const SETTLED: u64 = 4_000;

fn stopped(rng: &mut Rng, longest: u64) -> Fault {
    let back = rng.range(300, longest);
    match rng.below(4) {
        0 | 1 => Fault::Power {
            node: SOMEBODY,
            back,
        },
        2 => Fault::Isolate { node: SOMEBODY },
        _ => Fault::Freeze {
            node: SOMEBODY,
            all: true,
            time: back,
        },
    }
}

/// The primary is away for less time than it takes to fence it; another one is promoted and struck; the old one is back.
fn duel(rng: &mut Rng, _: usize, round: &mut Round) {
    let away = rng.range(1_900, 5_200);
    if rng.permille(700) {
        round.at(0, Fault::IsolatePrimary);
    } else {
        round.at(
            0,
            Fault::FreezePrimary {
                all: rng.permille(300),
                time: away,
            },
        );
    }
    if rng.permille(800) {
        let delay = rng.below(300);
        let then = stopped(rng, 4_000);
        round.watch(Moment::Promoted, delay, then);
    }
    if rng.permille(600) {
        let delay = rng.below(160);
        let then = stopped(rng, 3_000);
        round.watch(Moment::Reaffirmed, delay, then);
    }
    let node = SOMEBODY;
    // The agent dies before it commits its row, or while it does; the server goes on without it for a while.
    for moment in [Moment::Promoted, Moment::Reaffirmed] {
        if rng.permille(350) {
            let (killed, back) = (rng.range(1, 60), rng.range(400, 2_500));
            round.watch(moment, killed, Fault::KillAgent { node, back });
            let (gone, back) = (killed + rng.range(150, 1_200), rng.range(1_500, 6_000));
            round.watch(moment, gone, Fault::Power { node, back });
        }
    }
    // A voter forgets all that it can forget.
    if rng.permille(300) {
        let (pick, back) = (rng.next(), rng.range(50, 700));
        let then = Box::new(Fault::Power { node, back });
        round.at(0, Fault::Spare);
        round.watch(
            Moment::Promoted,
            rng.range(1, 400),
            Fault::OnVictim { pick, then },
        );
    }
    // Both see the others, not each other.
    if rng.permille(350) {
        let delay = rng.range(1, 1_200);
        round.watch(Moment::Promoted, delay, Fault::Triangle { node });
    }
    round.at(away, Fault::ReconnectDeposed);
    if rng.permille(500) {
        round.at(away + rng.range(200, 3_000), Fault::Mend);
    }
    round.at(away + rng.range(2_500, 6_000), Fault::Mend);
}

/// A standby or witness is away; then it is back and the primary is away.
fn pendulum(rng: &mut Rng, nodes: usize, round: &mut Round) {
    let pick = rng.next();
    round.at(0, Fault::Spare);
    round.victim(0, pick, Fault::Isolate { node: SOMEBODY });
    if rng.permille(300) {
        round.at(rng.below(1_000), Fault::Add { data: true });
    }
    if rng.permille(200) {
        let node = rng.below(nodes as u64) as usize;
        round.at(rng.below(1_000), Fault::Remove { node });
    }
    let swing = rng.range(1_500, 8_000);
    if rng.permille(400) {
        let back = rng.range(200, 2_000);
        round.at(rng.below(swing), Fault::DestroyWitness { back });
    }
    round.victim(swing, pick, Fault::Reconnect { node: SOMEBODY });
    if rng.permille(700) {
        round.at(swing, Fault::IsolatePrimary);
    } else {
        let back = rng.range(500, 6_000);
        round.at(swing, Fault::KillPrimary { power: true, back });
    }
    round.at(swing + rng.range(2_500, 7_000), Fault::Mend);
}

/// One of two data members goes on alone, and is struck when it writes that, or writes that it no longer does.
fn alone(rng: &mut Rng, _: usize, round: &mut Round) {
    let pick = rng.next();
    round.at(0, Fault::Spare);
    if rng.permille(500) {
        round.victim(0, pick, Fault::Isolate { node: SOMEBODY });
    } else {
        let back = rng.range(500, 6_000);
        let node = SOMEBODY;
        round.victim(0, pick, Fault::Power { node, back });
    }
    if rng.permille(500) {
        let delay = if rng.permille(500) { 0 } else { rng.below(30) };
        // In this order: the one that went on is cut off, the other one is heard.
        let other = Fault::OnVictim {
            pick,
            then: Box::new(Fault::Reconnect { node: SOMEBODY }),
        };
        round.watch(Moment::Alone, delay, other);
        round.watch(Moment::Alone, delay, Fault::Isolate { node: SOMEBODY });
    }
    if rng.permille(700) {
        let delay = rng.below(25);
        let then = stopped(rng, 6_000);
        round.watch(Moment::Cleared, delay, then);
    }
    let back = rng.range(2_500, 8_000);
    round.at(back, Fault::Mend);
    round.at(back + rng.range(3_000, 7_000), Fault::Mend);
}

/// A few bits of many.
fn sparse(rng: &mut Rng) -> u64 {
    rng.next() & rng.next()
}

fn growth(rng: &mut Rng, nodes: usize, round: &mut Round) {
    let node = rng.below(nodes as u64) as usize;
    let (mask, somebody) = (sparse(rng), SOMEBODY);
    match rng.below(3) {
        // Two join while nobody can let them in; then the fleet parts.
        0 => {
            round.at(0, Fault::Add { data: true });
            let data = rng.permille(700);
            round.at(rng.below(300), Fault::Add { data });
            let over = rng.range(100, 2_500);
            let (to, back) = (rng.below(nodes as u64) as usize, rng.range(500, 4_000));
            let handed = rng.permille(500);
            let fault = match handed {
                true => Fault::Switchover { to },
                false => Fault::KillPrimary { power: true, back },
            };
            round.at(over, fault);
            let delay = if rng.permille(700) { 0 } else { rng.below(60) };
            let mask = if rng.permille(500) { 0 } else { mask };
            let then = Box::new(Fault::Split {
                node: somebody,
                mask,
            });
            let moment = Moment::VotersChanged;
            let watch = Fault::Watch {
                moment,
                delay,
                then,
            };
            round.at(over, watch);
            round.at(over + rng.range(11_000, 16_000), Fault::Mend);
        }
        // One leaves, and the primary is cut off together with it.
        1 => {
            round.at(0, Fault::Remove { node });
            let delay = rng.below(25);
            let node = somebody;
            round.watch(Moment::DataDropped, delay, Fault::Split { node, mask });
            round.at(rng.range(7_000, 12_000), Fault::Mend);
        }
        // A change is half made; the next primary does not know of it, and the one that made it comes back.
        _ => {
            let moment = *rng.pick(&[Moment::DataDropped, Moment::DataDropped, Moment::Raised]);
            if moment == Moment::DataDropped {
                round.at(0, Fault::Remove { node });
            }
            let back = rng.range(1_500, 5_000);
            round.watch(
                moment,
                0,
                Fault::Power {
                    node: somebody,
                    back,
                },
            );
            let mask = mask | 1 << node;
            let delay = rng.range(100, 2_000);
            let node = somebody;
            round.watch(Moment::Promoted, delay, Fault::Split { node, mask });
            round.at(rng.range(10_000, 14_000), Fault::Mend);
        }
    }
}

/// A primary is replaced for a while, so that its log has a tail; who brings it a new one is struck before it is whole.
fn copies(rng: &mut Rng, _: usize, round: &mut Round) {
    let node = SOMEBODY;
    let away = rng.range(2_200, 6_000);
    round.at(0, Fault::IsolatePrimary);
    let cut = rng.range(1, 500);
    round.watch(Moment::Copied, cut, Fault::WithPrimary { node });
    let secluded = cut + rng.range(20, 500);
    round.watch(Moment::Copied, secluded, Fault::Seclude);
    if rng.permille(300) {
        let (gone, back) = (rng.below(600), rng.range(300, 3_000));
        round.watch(Moment::Copied, gone, Fault::Power { node, back });
    }
    round.at(away, Fault::Mend);
    round.at(away + rng.range(4_000, 9_000), Fault::Mend);
}

/// One voter's cuts, freezes and deaths. The others have a majority and enough logs all the time.
fn victim(rng: &mut Rng, nodes: usize, round: &mut Round) {
    round.at(SETTLED, Fault::Hold);
    let pick = rng.next();
    for _ in 0..rng.range(4, 12) {
        let time = rng.range(SETTLED + 1, 16_000);
        let to = rng.below(nodes as u64) as usize;
        let (node, back) = (SOMEBODY, rng.range(300, 5_000));
        let then = match rng.below(9) {
            0 => Fault::Isolate { node },
            1 | 2 => Fault::Cut {
                from: node,
                to,
                both: false,
            },
            3 => Fault::Cut {
                from: node,
                to,
                both: true,
            },
            4 => Fault::Power { node, back },
            5 => Fault::Freeze {
                node,
                all: rng.permille(500),
                time: back,
            },
            6 => Fault::KillPostgres { node },
            7 => Fault::KillAgent { node, back },
            _ => Fault::Reconnect { node },
        };
        round.victim(time, pick, then);
    }
    // Only what comes to the victim is lost: its own view differs from everybody's.
    if rng.permille(500) {
        let time = rng.range(SETTLED + 1, 12_000);
        round.victim(time, pick, Fault::Deafen { node: SOMEBODY });
    }
    round.at(60_000, Fault::Mend);
}

/// The primary is away until somebody asked for an epoch, got promises, and died.
fn alarm(rng: &mut Rng, _: usize, round: &mut Round) {
    round.at(SETTLED, Fault::Hold);
    let back = rng.range(9_000, 15_000);
    let node = SOMEBODY;
    round.watch(
        Moment::Asking,
        rng.range(1, 18),
        Fault::Power { node, back },
    );
    // Not before the requests are sent: the primary would grant one itself, having lost its majority for a while.
    round.watch(Moment::Asking, rng.range(1, 150), Fault::ReconnectDeposed);
    round.at(SETTLED + 1, Fault::IsolatePrimary);
    round.at(SETTLED + rng.range(3_000, 3_400), Fault::ReconnectDeposed);
    round.at(60_000, Fault::Mend);
}
