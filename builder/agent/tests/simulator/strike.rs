//! Faults as they happen, the heal, and what "healthy" means.

use rolesmith_agent::cluster::Envelope;
use rolesmith_agent::cluster::{
    Access, DataState, Declared, Durable, Incarnation, Process, Request, RoleWord,
};
use rolesmith_model::facts::Genesis;
use rolesmith_model::ids::NodeName;

use crate::faults::Fault;
use crate::postgres::Server;
use crate::watch::aimed;
use crate::world::{Event, Mutant, World};

impl World {
    /// The open, confirmed primary.
    pub fn primary(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|&node| {
            let it = &self.nodes[node];
            it.core.as_ref().is_some_and(|core| {
                core.status(self.local(node)).role == RoleWord::Primary
                    && it.server.is_primary()
                    && it.server.access == Access::Open
            })
        })
    }

    /// Whether the cluster is what the newest facts say, with every member in its place.
    pub fn healthy(&self) -> bool {
        self.unhealthy().is_none()
    }

    pub fn unhealthy(&self) -> Option<String> {
        let Some(primary) = self.primary() else {
            return Some("no primary".to_owned());
        };
        let facts = self.latest();
        let it = &self.nodes[primary];
        let config = &it.core.as_ref().map(|core| core.durable().config.clone())?;
        let names: Vec<_> = config.voters.keys().collect();
        if names != facts.members.keys().collect::<Vec<_>>() {
            return Some(format!("voters are {names:?}"));
        }
        for (name, voter) in &config.voters {
            let other = &self.nodes[self.index(name)];
            let machine = other.core.as_ref().map(|core| core.durable().incarnation);
            if machine != Some(*voter) {
                return Some(format!("{name} votes as another machine"));
            }
        }
        let data = facts.members.values().filter(|member| member.data).count();
        if config.data.len() != data || config.alone.is_some() {
            return Some(format!(
                "data members {:?}, alone {:?}",
                config.data, config.alone
            ));
        }
        if config.k != facts.synchronous.min(((data - 1) / 2).max(1)).min(data - 1) {
            return Some(format!("k is {}", config.k));
        }
        for name in &config.data {
            let node = self.index(name);
            let other = &self.nodes[node];
            let whole = other
                .core
                .as_ref()
                .is_some_and(|core| core.durable().data == DataState::Complete);
            if !whole || node != primary && !it.server.standbys.contains_key(&node) {
                return Some(format!("{name} does not stream"));
            }
        }
        if it.server.sync != config.sync_of(&self.names[primary]) {
            return Some("synchronous_standby_names differ".to_owned());
        }
        None
    }

    pub fn strike(&mut self, index: usize) {
        if self.healed.is_some() {
            return;
        }
        let fault = self.faults[index].1.clone();
        self.note(|| format!("fault {index}: {fault:?}"));
        self.befall(fault);
    }

    /// A fault that waited for its moment.
    pub fn struck(&mut self, fault: Fault) {
        if self.healed.is_none() {
            self.note(|| format!("fault in time: {fault:?}"));
            self.befall(fault);
        }
    }

    pub fn befall(&mut self, fault: Fault) {
        match fault {
            Fault::KillAgent { node, back } => self.stop_agent(node, back),
            Fault::CutStep {
                node,
                effects,
                back,
            } => {
                self.nodes[node].cut_step = Some((effects, back));
            }
            Fault::KillPostgres { node } => self.kill_postgres(node),
            Fault::Power { node, back } => self.power(node, back),
            Fault::Freeze { node, all, time } => self.freeze(node, all, time),
            Fault::Cut { from, to, both } => {
                self.blocked[from][to] = true;
                self.blocked[to][from] |= both;
            }
            Fault::Partition { mask } => {
                for a in 0..self.nodes.len() {
                    for b in 0..self.nodes.len() {
                        if (mask >> (a % 60)) & 1 != (mask >> (b % 60)) & 1 {
                            self.blocked[a][b] = true;
                        }
                    }
                }
            }
            Fault::Isolate { node } => self.isolate(node),
            Fault::IsolatePrimary => self.on_primary(|world, node| {
                world.deposed = Some(node);
                world.isolate(node);
            }),
            Fault::KillPrimary { power, back } => self.on_primary(|world, node| {
                if power {
                    world.power(node, back);
                } else {
                    world.stop_agent(node, back);
                    world.kill_postgres(node);
                }
            }),
            Fault::FreezePrimary { all, time } => {
                self.on_primary(|world, node| {
                    world.deposed = Some(node);
                    world.freeze(node, all, time);
                });
            }
            Fault::KillPostgresOfPrimary => self.on_primary(Self::kill_postgres),
            Fault::Mend => self.mend(),
            Fault::Destroy {
                node,
                declared,
                back,
            } => self.destroy(node, declared, back),
            Fault::DestroyPrimary { back } => {
                self.on_primary(|world, node| world.destroy(node, false, back));
            }
            Fault::Switchover { to } => self.switchover(to),
            Fault::Add { data } => self.add(data),
            Fault::Remove { node } => self.remove(node),
            Fault::Watch {
                moment,
                delay,
                then,
            } => self.watches.push((moment, delay, *then)),
            Fault::OnVictim { pick, then } => self.on_victim(pick, *then),
            Fault::Spare => self.victim = None,
            Fault::Reconnect { node } => self.reconnect(node),
            Fault::ReconnectDeposed => {
                if let Some(node) = self.deposed {
                    self.reconnect(node);
                }
            }
            Fault::Deafen { node } => {
                for other in 0..self.nodes.len() {
                    self.blocked[other][node] = true;
                }
            }
            Fault::Triangle { node } => {
                if let Some(deposed) = self.deposed.filter(|deposed| *deposed != node) {
                    self.reconnect(deposed);
                    self.blocked[deposed][node] = true;
                    self.blocked[node][deposed] = true;
                }
            }
            Fault::WithPrimary { node } => {
                if let Some(primary) = self.primary() {
                    self.part(|at| at == node || at == primary);
                }
            }
            Fault::Seclude => {
                self.mend();
                self.on_primary(Self::isolate);
            }
            Fault::DestroyWitness { back } => self.destroy_witness(back),
            Fault::Split { node, mask } => self.split(node, mask),
            Fault::Hold => self.hold(),
            Fault::Blackout { back } => {
                for node in 0..self.nodes.len() {
                    let wait = back / 4 + self.rng.below(back);
                    self.power(node, wait);
                }
            }
        }
    }

    fn on_primary(&mut self, fault: impl FnOnce(&mut Self, usize)) {
        if let Some(node) = self.primary() {
            fault(self, node);
        }
    }

    fn on_victim(&mut self, pick: u64, fault: Fault) {
        let primary = self.primary();
        if self.victim.is_none() {
            let others: Vec<usize> = (0..self.nodes.len())
                .filter(|node| Some(*node) != primary)
                .collect();
            self.victim = Some(others[pick as usize % others.len()]);
        }
        if let Some(victim) = self.victim {
            self.befall(aimed(fault, victim, None));
        }
    }

    fn reconnect(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.blocked[node][other] = false;
            self.blocked[other][node] = false;
        }
    }

    fn split(&mut self, node: usize, mask: u64) {
        let grown = self.published[0].members.len();
        self.part(|at| at == node || at >= grown || mask >> (at % 60) & 1 == 1);
    }

    /// Nothing goes between one side and the other; all else does.
    fn part(&mut self, side: impl Fn(usize) -> bool) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                self.blocked[a][b] = side(a) != side(b);
            }
        }
    }

    fn stop_agent(&mut self, node: usize, back: u64) {
        if self.nodes[node].core.is_some() {
            self.kill_agent(node);
            let machine = self.nodes[node].machine;
            self.put(back, Event::AgentStart { node, machine });
        }
    }

    fn kill_postgres(&mut self, node: usize) {
        if self.nodes[node].server.process != Process::Stopped {
            self.end_server(node, false);
        }
    }

    pub fn power(&mut self, node: usize, back: u64) {
        if !self.nodes[node].up {
            return;
        }
        self.kill_agent(node);
        // Nobody hears of it: the standbys' and upstream's connections time out.
        self.nodes[node].server.dead(false);
        self.nodes[node].cache = None;
        self.nodes[node].up = false;
        self.nodes[node].frozen = 0;
        self.nodes[node].server_frozen = 0;
        self.put(back, Event::Boot { node });
    }

    fn freeze(&mut self, node: usize, all: bool, time: u64) {
        self.nodes[node].frozen = self.now + time;
        self.nodes[node].able_since = self.now + time;
        if all {
            self.nodes[node].server_frozen = self.now + time;
        }
    }

    fn isolate(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.blocked[node][other] = true;
            self.blocked[other][node] = true;
        }
    }

    fn mend(&mut self) {
        for row in &mut self.blocked {
            row.fill(false);
        }
    }

    pub fn settled(&self) -> bool {
        self.latest().genesis == Genesis::Closed && self.healthy()
    }

    fn destroy(&mut self, node: usize, declared: bool, back: u64) {
        if self.settled() {
            self.lose(node, declared, back);
        }
    }

    /// A witness holds no commits, so it may be lost at any time, unless another voter is lost.
    fn destroy_witness(&mut self, back: u64) {
        let newest = self.nodes.iter().filter_map(|node| node.disk.as_ref());
        let Some(config) = newest.map(|disk| &disk.config).max_by_key(|c| c.stamp) else {
            return;
        };
        let witness = |name: &&NodeName| !config.data.contains(*name);
        let known = config.voters.iter().all(|(name, machine)| {
            let disk = self.nodes[self.index(name)].disk.as_ref();
            disk.is_some_and(|disk| disk.incarnation == *machine)
        });
        let same = config.voters.keys().eq(self.latest().members.keys());
        let Some(name) = config.voters.keys().find(witness).filter(|_| known && same) else {
            return;
        };
        let node = self.index(name);
        if self.latest().genesis == Genesis::Closed {
            self.lose(node, false, back);
        }
    }

    fn lose(&mut self, node: usize, declared: bool, back: u64) {
        let name = self.names[node].clone();
        if !self.latest().members.contains_key(&name) {
            return;
        }
        let before = self.nodes[node].disk.as_ref().map(|disk| disk.incarnation);
        self.power(node, back);
        self.nodes[node].server = Server::default();
        self.nodes[node].disk = None;
        if self.mutant == Some(Mutant::Amnesia) {
            let incarnation = before.unwrap_or(Incarnation { number: 1, id: 1 });
            self.nodes[node].disk = Some(Durable::fresh(incarnation));
        }
        self.stats.replaced += 1;
        if declared {
            self.nodes[node].number += 1;
            let number = self.nodes[node].number;
            self.publish(|facts| {
                if let Some(member) = facts.members.get_mut(&name) {
                    member.incarnation = number;
                }
            });
        }
    }

    fn switchover(&mut self, to: usize) {
        let Some(node) = self.primary() else {
            return;
        };
        let Some(core) = &self.nodes[node].core else {
            return;
        };
        let envelope = Envelope {
            incarnation: core.durable().incarnation,
            facts: 0,
            config: core.durable().config.clone(),
            request: Request::Switchover {
                to: self.names[to].clone(),
            },
        };
        let now = self.local(node);
        let me = self.names[node].clone();
        self.step(node, |core| core.request(now, &me, envelope));
    }

    fn add(&mut self, data: bool) {
        if self.latest().genesis == Genesis::Open || self.latest().members.len() >= 7 {
            return;
        }
        let node = self.add_machine();
        let name = self.names[node].clone();
        self.publish(|facts| {
            let declared = Declared {
                incarnation: 1,
                data,
            };
            facts.members.insert(name, declared);
        });
        self.nodes[node].facts = self.published.len() - 1;
        let delay = self.rng.range(10, 3_000);
        self.put(delay, Event::Boot { node });
        self.put(delay, Event::Write { node });
    }

    fn remove(&mut self, node: usize) {
        let name = self.names[node].clone();
        let facts = self.latest();
        let data = facts.members.values().filter(|member| member.data).count();
        let Some(member) = facts.members.get(&name) else {
            return;
        };
        if facts.genesis == Genesis::Open || facts.members.len() <= 3 || member.data && data <= 2 {
            return;
        }
        self.publish(|facts| {
            facts.members.remove(&name);
        });
    }

    pub fn heal(&mut self) {
        self.check_gap();
        self.held = None;
        self.mend();
        self.loss = 0;
        self.slow = 0;
        self.healed = Some(self.now);
        self.note(|| "healed".to_owned());
        let version = self.published.len() - 1;
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_step = None;
            // What was frozen goes on; events of the frozen time come when they were put off to, at the latest.
            self.nodes[node].frozen = self.nodes[node].frozen.min(self.now);
            self.nodes[node].server_frozen = self.nodes[node].server_frozen.min(self.now);
            self.put(500, Event::Boot { node });
            self.put(1_000, Event::Facts { node, version });
        }
    }
}
