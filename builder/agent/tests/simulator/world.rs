//! A fleet as one value: machines, network, time. Everything happens in the order of one queue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use rolesmith_agent::cluster::{
    Action, ClusterFacts, Core, Declared, Durable, Envelope, EpochRow, Failure, Incarnation,
    Mutation, Outcome, Reply, RequestId, Stamp, Timing, Unreachable,
};
use rolesmith_model::facts::Genesis;
use rolesmith_model::ids::NodeName;

use crate::client::Client;
use crate::crashes::Crash;
use crate::faults::{Fault, Moment};
use crate::postgres::Server;
use crate::random::Rng;
use crate::watch::Held;

/// What was broken on purpose: a rule in the core, or what the core relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    Core(Mutation),
    /// Persisting does not wait for the disk.
    NoFsync,
    /// A rebuilt voter goes on under the incarnation of the lost one.
    Amnesia,
    /// A client believes whoever says that it is the primary.
    Credulous,
    /// "Severed" is said when the reload was sent, not when the walreceiver is gone.
    HastySever,
}

#[derive(Debug, Clone)]
pub enum Event {
    Boot {
        node: usize,
    },
    AgentStart {
        node: usize,
        machine: u64,
    },
    Tick {
        node: usize,
        run: u64,
    },
    Look {
        node: usize,
        run: u64,
    },
    Request {
        to: usize,
        from: usize,
        run: u64,
        id: RequestId,
        envelope: Box<Envelope>,
    },
    Response {
        to: usize,
        from: usize,
        run: u64,
        id: RequestId,
        reply: Result<Box<Reply>, Unreachable>,
    },
    /// The effect of an action on the server, then the word of it to the agent.
    Act {
        node: usize,
        run: u64,
        machine: u64,
        id: u64,
        action: Action,
        stage: u8,
        note: u64,
    },
    Done {
        node: usize,
        run: u64,
        id: u64,
        result: Result<Outcome, Failure>,
    },
    Ready {
        node: usize,
        session: u64,
    },
    Pull {
        node: usize,
        session: u64,
    },
    Arrive {
        node: usize,
        from: usize,
        session: u64,
        start: u64,
        records: Vec<crate::postgres::Record>,
        history: Vec<(u32, u64)>,
        highest: u32,
    },
    Ack {
        node: usize,
        from: usize,
        session: u64,
        flush: u64,
    },
    Write {
        node: usize,
    },
    Facts {
        node: usize,
        version: usize,
    },
    Fault {
        index: usize,
    },
    Struck {
        fault: Box<Fault>,
    },
    Heal,
    CloseGenesis,
    ClientAsks,
    ClientHears {
        node: usize,
        id: RequestId,
        reply: Option<Box<Reply>>,
    },
}

pub struct Node {
    pub up: bool,
    /// Counts lives of the machine, of the agent.
    pub machine: u64,
    pub run: u64,
    pub core: Option<Core>,
    pub disk: Option<Durable>,
    /// Written and not synced (mutant).
    pub cache: Option<Durable>,
    pub number: u64,
    pub frozen: u64,
    pub server_frozen: u64,
    /// Since when the agent runs and does not stand still.
    pub able_since: u64,
    pub server: Server,
    pub facts: usize,
    /// Per mille of true time, and what the clock showed at time 0.
    pub rate: u64,
    pub clock: u64,
    pub tick_at: u64,
    /// Effects that the next step with any still carries out before the agent dies, and when it is back.
    pub cut_step: Option<(usize, u64)>,
    /// The copy that was abandoned last: the agent's run and the action.
    pub abandoned: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub class: &'static str,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct Stats {
    pub acked: u64,
    pub promotions: u64,
    pub genesis: bool,
    pub changes: u64,
    pub replaced: u64,
    pub rewinds: u64,
    pub clones: u64,
    pub alone: u64,
    /// The run checked that nothing was disturbed.
    pub held: bool,
    /// How often the client's pooler was led to another epoch's primary.
    pub followed: u64,
    /// Longest time (ms) from the heal to the next acknowledgement.
    pub recovery: u64,
    pub steps: u64,
}

pub struct World {
    pub now: u64,
    pub queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    pub events: Vec<Option<Event>>,
    free: Vec<usize>,
    pub sequence: u64,
    pub rng: Rng,
    pub client: Client,
    pub names: Vec<NodeName>,
    pub nodes: Vec<Node>,
    pub blocked: Vec<Vec<bool>>,
    pub loss: u64,
    pub slow: u64,
    pub published: Vec<ClusterFacts>,
    pub faults: Vec<(u64, Fault)>,
    /// Steps of each node that made something durable or began an action, and the one in which it is to crash.
    pub weighty: Vec<Vec<usize>>,
    pub crash: Option<Crash>,
    /// Faults that wait for a moment, with the delay after it.
    pub watches: Vec<(Moment, u64, Fault)>,
    pub victim: Option<usize>,
    pub deposed: Option<usize>,
    pub held: Option<Held>,
    /// Every version of the facts reaches everybody.
    pub attentive: bool,
    /// The fleet stands as it was declared: what changes now is a change, not its formation.
    pub complete: bool,
    /// The newest configuration that anybody wrote, and its voters and data members.
    pub newest: Stamp,
    pub members: Option<(BTreeMap<NodeName, Incarnation>, BTreeSet<NodeName>)>,
    pub rows: Vec<EpochRow>,
    pub next_record: u64,
    pub next_number: u64,
    /// Acknowledged numbers, with the epoch of the server that acknowledged them.
    pub acked: Vec<(u64, u64)>,
    pub last_ack: u64,
    /// Newest epoch row of a server that acknowledged.
    pub ack_epoch: u64,
    pub ack_epoch_since: u64,
    /// When each number was written.
    pub written: Vec<u64>,
    pub healed: Option<u64>,
    pub violation: Option<Violation>,
    pub mutant: Option<Mutant>,
    pub timing: Timing,
    pub stats: Stats,
    pub trace: Option<Vec<String>>,
}

impl World {
    pub fn put(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.events[slot] = Some(event);
                slot
            }
            None => {
                self.events.push(Some(event));
                self.events.len() - 1
            }
        };
        self.queue
            .push(Reverse((self.now + delay, self.sequence, slot)));
    }

    pub fn new(rng: Rng, timing: Timing, facts: ClusterFacts, mutant: Option<Mutant>) -> Self {
        let names: Vec<NodeName> = (1..=64)
            .map(|n| NodeName::new(format!("n{n}")).expect("a valid name"))
            .collect();
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            client: Client::new(rng.clone().next()),
            rng,
            names,
            nodes: Vec::new(),
            blocked: vec![vec![false; 64]; 64],
            loss: 0,
            slow: 0,
            published: vec![facts.clone()],
            faults: Vec::new(),
            weighty: vec![Vec::new(); 64],
            crash: None,
            watches: Vec::new(),
            victim: None,
            deposed: None,
            held: None,
            attentive: false,
            complete: false,
            newest: Stamp::default(),
            members: None,
            rows: Vec::new(),
            next_record: 0,
            next_number: 0,
            acked: Vec::new(),
            last_ack: 0,
            ack_epoch: 0,
            ack_epoch_since: 0,
            written: vec![0],
            healed: None,
            violation: None,
            mutant,
            timing,
            stats: Stats::default(),
            trace: None,
        };
        for _ in facts.members.keys() {
            world.add_machine();
        }
        world
    }

    pub fn add_machine(&mut self) -> usize {
        let node = self.nodes.len();
        let rate = self.rng.range(930, 1070);
        let clock = self.rng.below(100_000);
        self.nodes.push(Node {
            up: false,
            machine: 0,
            run: 0,
            core: None,
            disk: None,
            cache: None,
            number: 1,
            frozen: 0,
            server_frozen: 0,
            able_since: 0,
            server: Server::default(),
            facts: 0,
            rate,
            clock,
            tick_at: 0,
            cut_step: None,
            abandoned: None,
        });
        node
    }

    pub fn index(&self, name: &NodeName) -> usize {
        name.as_str()[1..].parse::<usize>().map_or(0, |n| n - 1)
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line = format!("{:>7} {}", self.now, text());
            trace.push(line);
        }
    }

    pub fn fail(&mut self, class: &'static str, text: String) {
        if self.trace.is_some() {
            for node in 0..self.nodes.len() {
                let line = self.describe(node);
                self.note(|| line);
            }
        }
        self.note(|| format!("VIOLATION {class}: {text}"));
        if self.violation.is_none() {
            self.violation = Some(Violation { class, text });
        }
    }

    pub fn local(&self, node: usize) -> u64 {
        let node = &self.nodes[node];
        node.clock + self.now * node.rate / 1000
    }

    pub fn core_mutation(&self) -> Mutation {
        match self.mutant {
            Some(Mutant::Core(mutation)) => mutation,
            _ => Mutation::None,
        }
    }

    /// Runs until the time, the queue's end or a violation.
    pub fn run(&mut self, until: u64) {
        while self.violation.is_none() {
            let Some(&Reverse((at, _, slot))) = self.queue.peek() else {
                return;
            };
            if at > until {
                return;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            self.free.push(slot);
            let event = self.events[slot].take().expect("every slot is queued once");
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        self.stats.steps += 1;
        match event {
            Event::Boot { node } => self.boot(node),
            Event::AgentStart { node, machine } => self.start_agent(node, machine),
            Event::Tick { node, run } => {
                if !self.agent_ready(node, run, &event) {
                    return;
                }
                self.nodes[node].tick_at = 0;
                let now = self.local(node);
                self.step(node, |core| core.tick(now));
            }
            Event::Look { node, run } => {
                if self.agent_ready(node, run, &event) {
                    self.look(node);
                    let pause = self.rng.range(60, 120);
                    self.put(pause, Event::Look { node, run });
                }
            }
            Event::Request {
                to,
                from,
                run,
                id,
                envelope,
            } => self.request(to, from, run, id, envelope),
            Event::Response {
                to,
                from,
                run,
                id,
                reply,
            } => {
                if self.nodes[to].run != run || self.nodes[to].core.is_none() {
                    return;
                }
                if self.nodes[to].frozen > self.now {
                    let wait = self.nodes[to].frozen - self.now;
                    self.put(
                        wait,
                        Event::Response {
                            to,
                            from,
                            run,
                            id,
                            reply,
                        },
                    );
                    return;
                }
                let now = self.local(to);
                self.step(to, |core| core.response(now, id, reply.map(|reply| *reply)));
            }
            Event::Act {
                node,
                run,
                machine,
                id,
                action,
                stage,
                note,
            } => {
                self.perform(node, run, machine, id, action, stage, note);
            }
            Event::Done {
                node,
                run,
                id,
                ref result,
            } => {
                if self.agent_ready(node, run, &event) {
                    let now = self.local(node);
                    let result = result.clone();
                    self.step(node, |core| core.done(now, id, result));
                    self.put_look(node);
                }
            }
            Event::Ready { node, session } => self.ready(node, session),
            Event::Pull { node, session } => self.pull(node, session),
            Event::Arrive {
                node,
                from,
                session,
                start,
                records,
                history,
                highest,
            } => {
                self.arrive(node, from, session, start, &records, &history, highest);
            }
            Event::Ack {
                node,
                from,
                session,
                flush,
            } => self.ack(node, from, session, flush),
            Event::Write { node } => self.write(node),
            Event::Facts { node, version } => self.facts_arrive(node, version),
            Event::Fault { index } => self.strike(index),
            Event::Struck { fault } => self.struck(*fault),
            Event::Heal => self.heal(),
            Event::CloseGenesis => self.close_genesis(),
            Event::ClientAsks => self.client_asks(),
            Event::ClientHears { node, id, reply } => self.client_hears(node, id, reply),
        }
    }

    /// Whether the agent's run is alive and not frozen; a frozen one gets the event later.
    fn agent_ready(&mut self, node: usize, run: u64, event: &Event) -> bool {
        let alive = self.nodes[node].run == run && self.nodes[node].core.is_some();
        let frozen = self.nodes[node].frozen;
        if alive && frozen > self.now {
            let wait = frozen - self.now;
            self.put(wait, event.clone());
        }
        alive && frozen <= self.now
    }

    fn look(&mut self, node: usize) {
        self.forget_silent(node);
        let mut seen = self.nodes[node].server.observe(&self.names, &self.rows);
        if self.mutant == Some(Mutant::HastySever)
            && let Some(directory) = &self.nodes[node].server.directory
            && directory.conninfo.is_none()
        {
            seen.conninfo = None;
            seen.receiver = None;
            seen.end_of_wal = seen.position;
        }
        let now = self.local(node);
        self.step(node, |core| core.observed(now, seen));
    }

    /// A look soon after something changed, beside the regular ones.
    pub fn put_look(&mut self, node: usize) {
        if self.nodes[node].core.is_some() && self.nodes[node].frozen <= self.now {
            self.look(node);
        }
    }

    fn request(
        &mut self,
        to: usize,
        from: usize,
        run: u64,
        id: RequestId,
        envelope: Box<Envelope>,
    ) {
        if self.nodes[to].core.is_none() {
            return;
        }
        if self.nodes[to].frozen > self.now {
            let wait = self.nodes[to].frozen - self.now;
            self.put(
                wait,
                Event::Request {
                    to,
                    from,
                    run,
                    id,
                    envelope,
                },
            );
            return;
        }
        // The transport knows whose certificate facts declare.
        let known = self.published[self.nodes[to].facts]
            .members
            .get(&self.names[from])
            .is_none_or(|member| member.incarnation <= envelope.incarnation.number);
        if !known {
            return;
        }
        let now = self.local(to);
        let name = self.names[from].clone();
        let replies = self.step(to, |core| core.request(now, &name, *envelope));
        for reply in replies {
            self.deliver(to, from, |_| Event::Response {
                to: from,
                from: to,
                run,
                id,
                reply: Ok(Box::new(reply.clone())),
            });
        }
    }

    /// Sends one message, which may be lost or late.
    pub fn deliver(&mut self, from: usize, to: usize, event: impl FnOnce(u64) -> Event) {
        let loss = self.loss;
        if self.blocked[from][to] || self.rng.permille(loss) {
            return;
        }
        let slow = self.slow;
        let delay = if self.rng.permille(slow) {
            self.rng.range(50, 1_500)
        } else {
            self.rng.range(1, 12)
        };
        let event = event(delay);
        self.put(delay, event);
    }

    pub fn latest(&self) -> &ClusterFacts {
        self.published.last().expect("the first facts")
    }

    fn close_genesis(&mut self) {
        let formed = self.nodes.iter().find_map(|node| {
            let config = &node.core.as_ref()?.durable().config;
            config.formed().then_some(config.system_id)
        });
        match formed {
            Some(system_id) if self.last_ack > 0 => self.publish(|facts| {
                facts.genesis = Genesis::Closed;
                facts.system_id = Some(system_id);
            }),
            _ => self.put(500, Event::CloseGenesis),
        }
    }
}

/// Facts of a new fleet: data members first, then witnesses.
pub fn fleet(data: usize, witnesses: usize, synchronous: usize) -> ClusterFacts {
    let members: BTreeMap<NodeName, Declared> = (0..data + witnesses)
        .map(|n| {
            let name = NodeName::new(format!("n{}", n + 1)).expect("a valid name");
            let declared = Declared {
                incarnation: 1,
                data: n < data,
            };
            (name, declared)
        })
        .collect();
    ClusterFacts {
        version: 1,
        genesis: Genesis::Open,
        system_id: None,
        members,
        synchronous,
    }
}
