//! A node without data: its pooler follows what the members say (rule 13). Its questions and their answers overtake each other,
//! get lost and come late; chance of its own keeps the rest of a run as it is.

use std::collections::BTreeMap;

use rolesmith_agent::cluster::{EpochRow, Reply, Response, RoleWord};
use rolesmith_agent::runtime::watch::Watch;

use crate::postgres::Kind;
use crate::random::Rng;
use crate::world::{Event, Mutant, World};

pub struct Client {
    watch: Watch,
    /// The epochs that nodes say they hold (mutant).
    boasts: BTreeMap<usize, EpochRow>,
    rng: Rng,
    asked: u64,
    /// Whom the pooler follows.
    pub led: Option<EpochRow>,
}

impl Client {
    pub fn new(seed: u64) -> Self {
        Self {
            watch: Watch::default(),
            boasts: BTreeMap::new(),
            rng: Rng::new(seed),
            asked: 0,
            led: None,
        }
    }
}

impl World {
    /// Asks a member, whether or not it answered before.
    pub fn client_asks(&mut self) {
        let members = self.latest().members.clone();
        let names: Vec<_> = members.keys().cloned().collect();
        let now = self.now;
        let client = &mut self.client;
        client.watch.second(&members);
        client.asked += 1;
        let (id, name) = (client.asked, client.rng.pick(&names).clone());
        client.watch.ask(&name, id, now);
        let pause = client.rng.range(20, 250);
        let lost = client.rng.permille(100);
        let late = client.rng.permille(150);
        let delay = client.rng.range(1, if late { 2_500 } else { 25 });
        let node = self.index(&name);
        let local = self.local(node);
        let it = &self.nodes[node];
        let asked = it.core.as_ref().filter(|_| it.frozen <= now && !lost);
        let reply = asked.map(|core| {
            let report = core.status(local);
            Box::new(Reply {
                incarnation: core.durable().incarnation,
                facts: report.facts,
                config: None,
                promised: core.durable().promised(),
                response: Response::Status(Box::new(report)),
            })
        });
        self.put(delay, Event::ClientHears { node, id, reply });
        self.put(pause, Event::ClientAsks);
    }

    /// An answer comes, or the news that there is none; the pooler follows where the same is read on the server.
    pub fn client_hears(&mut self, node: usize, id: u64, reply: Option<Box<Reply>>) {
        let Some(row) = self.client_believes(node, id, reply.map(|reply| *reply)) else {
            return;
        };
        let before = self.client.led.as_ref().map(|row| row.epoch);
        if before == Some(row.epoch) {
            return;
        }
        if before > Some(row.epoch) {
            let text = format!("a client goes from epoch {before:?} back to {}", row.epoch);
            self.fail("backwards", text);
        }
        let node = self.index(&row.node);
        if !self.reads(node, &row) {
            return;
        }
        self.check_nothing_lost(node, row.epoch.0, "whom a client follows");
        self.stats.followed += 1;
        self.client.led = Some(row);
    }

    /// Who the primary is, as the client makes it of all answers.
    fn client_believes(&mut self, node: usize, id: u64, reply: Option<Reply>) -> Option<EpochRow> {
        let (now, name) = (self.now, self.names[node].clone());
        let credulous = self.mutant == Some(Mutant::Credulous);
        let Client { watch, boasts, .. } = &mut self.client;
        if credulous {
            boasts.remove(&node);
            if let Some(Reply {
                response: Response::Status(report),
                ..
            }) = &reply
                && report.role == RoleWord::Primary
            {
                boasts.extend(report.row.clone().map(|row| (node, row)));
            }
            return boasts.values().next().cloned();
        }
        watch.heard(&name, id, reply, now);
        watch.learn(None);
        watch.primary().cloned()
    }

    /// What the look at a server says: it is a primary, and has that row.
    fn reads(&self, node: usize, row: &EpochRow) -> bool {
        let server = &self.nodes[node].server;
        let wal = server.directory.iter().flat_map(|dir| &dir.wal);
        let mut rows = wal.filter_map(|record| match record.kind {
            Kind::Row(row) => Some(&self.rows[row]),
            _ => None,
        });
        server.is_primary() && rows.any(|other| other == row)
    }

    /// Whether the pooler leads to the primary.
    pub fn client_is_right(&self) -> bool {
        let Some(primary) = self.primary() else {
            return false;
        };
        let led = self.client.led.as_ref();
        led.is_some_and(|row| row.node == self.names[primary] && self.reads(primary, row))
    }
}
