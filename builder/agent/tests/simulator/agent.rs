//! The agents of the fleet: their lives, their steps, and the facts they take.

use rolesmith_agent::cluster::{
    ClusterFacts, Core, Durable, Effect, Incarnation, Reply, Step, Unreachable,
};

use crate::crashes::Stop;
use crate::world::{Event, Mutant, World};

impl World {
    /// Lets a core take a step and carries out what it asks for. Answers to the present request come back.
    pub fn step(&mut self, node: usize, step: impl FnOnce(&mut Core) -> Step) -> Vec<Reply> {
        let Some(core) = &mut self.nodes[node].core else {
            return Vec::new();
        };
        let version = core.durable().config.stamp;
        let watched = !self.watches.is_empty() || self.held.is_some();
        let before = watched.then(|| core.durable().clone());
        let step = step(core);
        let mut replies = Vec::new();
        let run = self.nodes[node].run;
        let acts = |effect: &Effect| matches!(effect, Effect::Act { .. });
        let weighty = step.persist.is_some() || step.effects.iter().any(acts);
        let cut = self.crash_in(node, weighty, step.effects.len());
        if cut == Some(Stop::BeforeDurable) {
            self.crash(node);
            return Vec::new();
        }
        if let Some(durable) = step.persist {
            self.check_persisted(node, &durable, version);
            let after = before.as_ref().map(|_| durable.clone());
            if self.mutant == Some(Mutant::NoFsync) {
                // The kernel writes it out some time.
                let before = self.nodes[node].cache.replace(*durable);
                if let Some(before) = before.filter(|_| self.rng.permille(400)) {
                    self.nodes[node].disk = Some(before);
                }
            } else {
                self.nodes[node].disk = Some(*durable);
            }
            if let (Some(before), Some(after)) = (before, after) {
                self.moments(node, &before, &after);
                if self.nodes[node].core.is_none() {
                    return Vec::new();
                }
            }
        }
        let mut left = match cut {
            Some(Stop::AfterEffects(effects)) => effects,
            _ => usize::MAX,
        };
        if !step.effects.is_empty()
            && let Some((effects, back)) = self.nodes[node].cut_step.take()
        {
            left = effects;
            let machine = self.nodes[node].machine;
            self.note(|| format!("n{} agent cut off after {effects} effects", node + 1));
            self.put(back, Event::AgentStart { node, machine });
        }
        for effect in step.effects {
            if left == 0 {
                break;
            }
            left -= usize::from(left != usize::MAX);
            match effect {
                Effect::Send {
                    to,
                    id,
                    envelope,
                    timeout,
                } => {
                    let to = self.index(&to);
                    let from = node;
                    let wait = timeout * 1000 / self.nodes[node].rate;
                    self.put(
                        wait,
                        Event::Response {
                            to: from,
                            from: to,
                            run,
                            id,
                            reply: Err(Unreachable),
                        },
                    );
                    self.deliver(node, to, |_| Event::Request {
                        to,
                        from,
                        run,
                        id,
                        envelope,
                    });
                }
                Effect::Reply(reply) => replies.push(*reply),
                Effect::Act { id, action } => self.begin(node, run, id, action),
                Effect::Abandon { id } => self.nodes[node].abandoned = Some((run, id)),
                Effect::Log(line) => self.note(|| format!("n{} {line}", node + 1)),
            }
        }
        if cut.is_some() {
            self.crash(node);
            return Vec::new();
        }
        if left != usize::MAX {
            self.kill_agent(node);
            return Vec::new();
        }
        self.plan_tick(node);
        replies
    }

    fn plan_tick(&mut self, node: usize) {
        let local = self.local(node);
        let Some(core) = &self.nodes[node].core else {
            return;
        };
        let wake = core.wake(local).saturating_sub(local);
        let at = self.now + (wake * 1000 / self.nodes[node].rate).max(1);
        let planned = self.nodes[node].tick_at;
        if planned == 0 || at + 5 < planned {
            self.nodes[node].tick_at = at;
            let run = self.nodes[node].run;
            self.put(at - self.now, Event::Tick { node, run });
        }
    }

    pub fn kill_agent(&mut self, node: usize) {
        self.nodes[node].core = None;
        self.nodes[node].run += 1;
        self.nodes[node].tick_at = 0;
    }

    pub fn boot(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        self.nodes[node].up = true;
        self.nodes[node].machine += 1;
        let machine = self.nodes[node].machine;
        let delay = self.rng.range(50, 400);
        self.put(delay, Event::AgentStart { node, machine });
    }

    pub fn start_agent(&mut self, node: usize, machine: u64) {
        let it = &self.nodes[node];
        if !it.up || it.machine != machine || it.core.is_some() {
            return;
        }
        // What was written survives the end of a process, synced or not.
        if let Some(cache) = self.nodes[node].cache.take() {
            self.nodes[node].disk = Some(cache);
        }
        let seed = self.rng.next();
        let id = seed >> 8;
        let number = self.nodes[node].number;
        let facts = self.published[self.nodes[node].facts].clone();
        let disk = &mut self.nodes[node].disk;
        // The random id is durable before anybody hears of it.
        let durable = disk
            .get_or_insert_with(|| Durable::fresh(Incarnation { number, id }))
            .clone();
        self.nodes[node].run += 1;
        self.nodes[node].tick_at = 0;
        let run = self.nodes[node].run;
        let now = self.local(node);
        let core = Core::new(
            self.names[node].clone(),
            facts,
            self.timing.clone(),
            durable,
            now,
            seed,
        )
        .sabotaged(self.core_mutation());
        self.nodes[node].core = Some(core);
        self.nodes[node].able_since = self.nodes[node].frozen.max(self.now);
        self.note(|| format!("n{} agent starts", node + 1));
        self.put(1, Event::Tick { node, run });
        self.put(20, Event::Look { node, run });
    }

    pub fn facts_arrive(&mut self, node: usize, version: usize) {
        if version <= self.nodes[node].facts && version != 0 {
            return;
        }
        self.nodes[node].facts = version;
        let facts = self.published[version].clone();
        let now = self.local(node);
        self.step(node, |core| core.facts(now, facts));
    }

    /// Publishes newer facts; nodes take them at different times, and some only a later version.
    pub fn publish(&mut self, change: impl FnOnce(&mut ClusterFacts)) {
        let mut facts = self.published.last().expect("the first facts").clone();
        facts.version += 1;
        change(&mut facts);
        self.published.push(facts);
        let version = self.published.len() - 1;
        for node in 0..self.nodes.len() {
            if self.attentive || self.rng.permille(850) {
                let delay = self.rng.range(10, 4_000);
                self.put(delay, Event::Facts { node, version });
            }
        }
    }

    /// How a node stands, for the trace of a failing run.
    pub fn describe(&self, node: usize) -> String {
        let it = &self.nodes[node];
        let seen = it.server.observe(&self.names, &self.rows);
        let directory = it.server.directory.as_ref();
        format!(
            "n{} up {} agent {} {:?}\n        history {:?} len {} conninfo {:?}, {seen:?}\n        {:?}",
            node + 1,
            it.up,
            it.core.is_some(),
            it.core
                .as_ref()
                .map(|core| core.status(self.local(node)).role),
            directory.map(|directory| &directory.history),
            directory.map_or(0, crate::postgres::Directory::len),
            it.server.conninfo,
            it.disk,
        )
    }
}
