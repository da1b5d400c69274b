//! Faults that wait for a moment, and what is watched beside safety.

use rolesmith_agent::cluster::{DataState, Durable};

use crate::faults::{Fault, Moment};
use crate::world::{Event, World};

/// While nothing gives a reason, service may stop no longer than this (ms): the time after which a primary without its
/// only standby goes on alone, or that of a false alarm.
const GAP: u64 = 8_000;
/// Candidates that ask within this time (ms) after each other do so for the same reason.
const TOGETHER: u64 = 1_500;

/// What a run must not notice, from [`Fault::Hold`] on.
#[derive(Debug, Clone)]
pub struct Held {
    pub primary: usize,
    asked: Option<(usize, u64)>,
}

impl World {
    /// What happened to the node's durable state, as moments.
    pub fn moments(&mut self, node: usize, before: &Durable, after: &Durable) {
        let copied = |durable: &Durable| matches!(durable.data, DataState::Copied(_));
        if copied(after) && !copied(before) {
            self.moment(Moment::Copied, node, None);
        }
        let me = &self.names[node];
        let own = |durable: &Durable| {
            let promise = durable.promise.clone();
            promise.filter(|promise| promise.holder == *me)
        };
        let Some(promise) = own(after) else {
            return;
        };
        let mut found = Vec::new();
        if own(before) != Some(promise.clone()) {
            found.push((Moment::Asking, None));
        }
        let won = after.followed == Some(promise.epoch) && before.followed != after.followed;
        if won && self.nodes[node].server.is_primary() {
            found.push((Moment::Reaffirmed, None));
        }
        let (old, new) = (&before.config, &after.config);
        if old.stamp.version != new.stamp.version && old.formed() {
            match (&old.alone, &new.alone) {
                (None, Some(_)) => found.push((Moment::Alone, None)),
                (Some(_), None) => found.push((Moment::Cleared, None)),
                _ => {}
            }
            let dropped = old.data.difference(&new.data).next();
            if let Some(dropped) = dropped {
                found.push((Moment::DataDropped, Some(self.index(dropped))));
            }
            if old.voters.len() != new.voters.len() {
                found.push((Moment::VotersChanged, None));
            }
            if new.k > old.k {
                found.push((Moment::Raised, None));
            }
        }
        for (moment, about) in found {
            self.moment(moment, node, about);
        }
    }

    /// Lets what waited for that moment strike.
    pub fn moment(&mut self, moment: Moment, node: usize, about: Option<usize>) {
        self.mind(moment, node);
        if self.healed.is_some() {
            return;
        }
        let (due, waiting) = std::mem::take(&mut self.watches)
            .into_iter()
            .partition(|(watched, ..)| *watched == moment);
        self.watches = waiting;
        let due: Vec<(Moment, u64, Fault)> = due;
        for (_, delay, fault) in due {
            let fault = aimed(fault, node, about);
            if delay == 0 && moment != Moment::Promoted {
                self.befall(fault);
            } else {
                let fault = Box::new(fault);
                self.put(delay.max(1), Event::Struck { fault });
            }
        }
    }

    /// Whether what happens has a reason.
    fn mind(&mut self, moment: Moment, node: usize) {
        let now = self.now;
        let Some(held) = &mut self.held else {
            return;
        };
        match (moment, held.asked) {
            // It may win another epoch, without promotion.
            (Moment::Asking, _) if node == held.primary => {}
            (Moment::Asking, None) => held.asked = Some((node, now)),
            // Two candidates of one alarm: the other one may win.
            (Moment::Asking, Some((first, at))) if first != node && now < at + TOGETHER => {
                self.held = None;
            }
            (Moment::Promoted, _) => {
                let text = format!(
                    "n{} is promoted although n{} was well",
                    node + 1,
                    held.primary + 1
                );
                self.fail("disturbed", text);
            }
            _ => {}
        }
    }

    /// From now on nobody has a reason to be promoted.
    pub fn hold(&mut self) {
        // While a primary has facts that leave genesis open, it lets nobody in before a copy is proven (rule 7).
        let newest = self.published.len() - 1;
        let told = self.nodes.iter().all(|node| node.facts == newest);
        if let Some(primary) = self.primary().filter(|_| told && self.settled()) {
            self.held = Some(Held {
                primary,
                asked: None,
            });
            self.stats.held = true;
        }
    }

    /// Whether service stopped for too long although nothing gave a reason.
    pub fn check_gap(&mut self) {
        let gap = self.now - self.last_ack;
        if self.held.is_some() && gap > GAP {
            self.fail("stalled", format!("nothing was acknowledged for {gap} ms"));
        }
    }
}

/// The fault with the node of its moment in it.
pub fn aimed(mut fault: Fault, at: usize, about: Option<usize>) -> Fault {
    match &mut fault {
        Fault::KillAgent { node, .. }
        | Fault::CutStep { node, .. }
        | Fault::KillPostgres { node }
        | Fault::Power { node, .. }
        | Fault::Freeze { node, .. }
        | Fault::Isolate { node }
        | Fault::Reconnect { node }
        | Fault::Deafen { node }
        | Fault::Triangle { node }
        | Fault::WithPrimary { node }
        | Fault::Cut { from: node, .. } => *node = at,
        Fault::Split { node, mask } => {
            *node = at;
            *mask |= about.map_or(0, |about| 1 << (about % 60));
        }
        _ => {}
    }
    fault
}
