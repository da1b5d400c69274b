//! Replication, clients, and the checks that belong to an acknowledgement.

use std::collections::BTreeSet;

use rolesmith_agent::cluster::{Access, Config, Durable, Outcome, Process, Stamp};

use crate::postgres::{Connected, Directory, Kind, Record, Who};
use crate::world::{Event, World};

/// `wal_sender_timeout`: how long a silent standby stays in the list (ms).
const SILENCE: u64 = 3_000;
/// How long it takes from the decision to stop a server until it is stopped (ms).
const STOPPED: u64 = 1_000;

impl World {
    /// Both machines are up and each hears the other.
    pub fn linked(&self, a: usize, b: usize) -> bool {
        a != b && self.nodes[a].up && self.nodes[b].up && !self.blocked[a][b] && !self.blocked[b][a]
    }

    /// The node's own connection to its upstream ends.
    pub fn disconnect(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if self.linked(node, other) {
                self.nodes[other].server.standbys.remove(&node);
            }
        }
    }

    pub fn ready(&mut self, node: usize, session: u64) {
        let server = &mut self.nodes[node].server;
        if server.session != session || server.process != Process::Starting {
            return;
        }
        if server
            .directory
            .as_ref()
            .is_some_and(|directory| directory.len() >= directory.consistent_at)
        {
            server.process = Process::Running;
        }
        self.put(1, Event::Pull { node, session });
    }

    pub fn pull(&mut self, node: usize, session: u64) {
        let server = &self.nodes[node].server;
        if server.session != session || server.process == Process::Stopped || !server.in_recovery {
            return;
        }
        let frozen = self.nodes[node].server_frozen;
        if frozen > self.now {
            self.put(frozen - self.now, Event::Pull { node, session });
            return;
        }
        let pause = self.rng.range(12, 30);
        self.put(pause, Event::Pull { node, session });
        let Some(up) = self.nodes[node].server.conninfo else {
            self.nodes[node].server.receiver = None;
            return;
        };
        let streams = self.fetch(node, up);
        self.nodes[node].server.receiver = Some((up, streams));
    }

    /// Asks the upstream for what is missing; whether the connection stands.
    fn fetch(&mut self, node: usize, up: usize) -> bool {
        if !self.linked(node, up) || self.nodes[up].server_frozen > self.now {
            return false;
        }
        let upstream = &self.nodes[up].server;
        let (Some(theirs), Some(mine)) = (&upstream.directory, &self.nodes[node].server.directory)
        else {
            return false;
        };
        if !upstream.running()
            || theirs.system_id != mine.system_id
            || !theirs.can_stream_to(mine.timeline(), mine.len())
        {
            return false;
        }
        let start = mine.len();
        let last = mine.wal.last().map(|record| record.id);
        if theirs.wal.get(start as usize - 1).map(|record| record.id) != last {
            let text = format!(
                "n{} streams from n{} at {start}, where their logs differ",
                node + 1,
                up + 1
            );
            self.fail("corruption", text);
            return false;
        }
        let end = theirs.wal.len().min(start as usize + 500);
        let records: Vec<Record> = theirs.wal[start as usize..end].to_vec();
        let history: Vec<(u32, u64)> = theirs.history.clone();
        let highest = theirs.highest_timeline;
        let session = self.nodes[node].server.session;
        let delay = self.rng.range(1, 8);
        if records.is_empty() {
            self.answer(node, up);
        } else {
            self.put(
                delay,
                Event::Arrive {
                    node,
                    from: up,
                    session,
                    start,
                    records,
                    history,
                    highest,
                },
            );
        }
        true
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one event")]
    pub fn arrive(
        &mut self,
        node: usize,
        from: usize,
        session: u64,
        start: u64,
        records: &[Record],
        history: &[(u32, u64)],
        highest: u32,
    ) {
        let linked = self.linked(node, from);
        let frozen = self.nodes[node].server_frozen > self.now;
        let server = &mut self.nodes[node].server;
        let alive = server.session == session
            && server.process != Process::Stopped
            && server.in_recovery
            && server.receiver.is_some_and(|receiver| receiver.0 == from);
        let Some(directory) = &mut server.directory else {
            return;
        };
        if !alive || !linked || frozen || directory.len() != start {
            return;
        }
        directory.extend_from(records, history, highest);
        if server.process == Process::Starting && directory.len() >= directory.consistent_at {
            server.process = Process::Running;
        }
        self.answer(node, from);
    }

    /// The standby tells its flush position.
    fn answer(&mut self, node: usize, up: usize) {
        let flush = self.nodes[node]
            .server
            .directory
            .as_ref()
            .map_or(0, Directory::len);
        let session = self.nodes[up].server.session;
        let delay = self.rng.range(1, 8);
        self.put(
            delay,
            Event::Ack {
                node: up,
                from: node,
                session,
                flush,
            },
        );
    }

    pub fn ack(&mut self, node: usize, from: usize, session: u64, flush: u64) {
        let frozen = self.nodes[node].server_frozen;
        if self.nodes[node].server.session != session || !self.linked(node, from) {
            return;
        }
        if frozen > self.now {
            self.put(
                frozen - self.now,
                Event::Ack {
                    node,
                    from,
                    session,
                    flush,
                },
            );
            return;
        }
        // An answer under way when its sender left for good does not list it again, but counts.
        let still = self.nodes[from].server.conninfo == Some(node);
        let heard = self.now;
        let before = self.nodes[node]
            .server
            .standbys
            .insert(from, Connected { flush, heard });
        self.released(node);
        if !still && before.is_none() {
            self.nodes[node].server.standbys.remove(&from);
        }
    }

    /// `wal_sender_timeout` needs nothing to happen.
    pub fn forget_silent(&mut self, node: usize) {
        let now = self.now;
        if self.nodes[node].server_frozen <= now {
            self.nodes[node]
                .server
                .standbys
                .retain(|_, standby| standby.heard + SILENCE > now);
        }
    }

    /// Lets go who waited long enough.
    pub fn released(&mut self, node: usize) {
        self.forget_silent(node);
        let names = std::mem::take(&mut self.names);
        let done = self.nodes[node].server.release(&names);
        self.names = names;
        for waiter in done {
            match waiter.who {
                Who::Client(number) => self.acknowledged(node, number, waiter.lsn),
                Who::Agent { session, action } => {
                    if let Some(row) = waiter.row {
                        let epoch = self.rows[row].epoch.0;
                        self.check_nothing_lost(node, epoch, "a confirmed primary");
                    }
                    self.put(
                        2,
                        Event::Done {
                            node,
                            run: session,
                            id: action,
                            result: Ok(Outcome::Done),
                        },
                    );
                }
            }
        }
    }

    pub fn write(&mut self, node: usize) {
        let pause = self.rng.range(30, 70);
        self.put(pause, Event::Write { node });
        let it = &self.nodes[node];
        if it.server_frozen > self.now
            || !it.server.is_primary()
            || it.server.access != Access::Open
        {
            return;
        }
        self.check_stale(node);
        self.next_number += 1;
        let number = self.next_number;
        self.written.push(self.now);
        self.commit(node, Kind::Number(number), Who::Client(number));
    }

    /// A primary that lost its majority has stopped its server in time (rule 10), unless its agent could not.
    fn check_stale(&mut self, node: usize) {
        let it = &self.nodes[node];
        let Some(directory) = &it.server.directory else {
            return;
        };
        let since = self.ack_epoch_since.max(it.able_since);
        let fence = self.timing.fence * 1000 / it.rate + STOPPED;
        let stale = self.row_before(node, directory.len()) < self.ack_epoch;
        if stale && it.server_frozen + STOPPED < self.now && self.now > since + fence {
            let text = format!(
                "n{} still serves {} ms after epoch {} acknowledged",
                node + 1,
                self.now - self.ack_epoch_since,
                self.ack_epoch
            );
            self.fail("stale", text);
        }
    }

    fn acknowledged(&mut self, node: usize, number: u64, lsn: u64) {
        let epoch = self.row_before(node, lsn);
        self.acked.push((number, epoch));
        self.stats.acked += 1;
        if let Some(healed) = self.healed
            && self.last_ack < healed
        {
            self.stats.recovery = self.now - healed;
        }
        self.check_gap();
        self.last_ack = self.now;
        // A machine that stood still may find, in its sockets, answers that standbys sent before they were severed, and
        // acknowledge late what the new primary holds as well. Nothing that was written since may be.
        if epoch < self.ack_epoch && self.written[number as usize] > self.ack_epoch_since {
            let text = format!(
                "n{} acknowledges in epoch {epoch} after one did in epoch {}",
                node + 1,
                self.ack_epoch
            );
            self.fail("two primaries", text);
        }
        if epoch > self.ack_epoch {
            self.ack_epoch = epoch;
            self.ack_epoch_since = self.now;
        }
    }

    fn row_before(&self, node: usize, lsn: u64) -> u64 {
        let Some(directory) = &self.nodes[node].server.directory else {
            return 0;
        };
        let upto = (lsn as usize).min(directory.wal.len());
        directory.wal[..upto]
            .iter()
            .filter_map(|record| match record.kind {
                Kind::Row(row) => Some(self.rows[row].epoch.0),
                _ => None,
            })
            .max()
            .unwrap_or(0)
    }

    /// Every number that was acknowledged up to that epoch is in the node's log. A holder that stood still may learn late
    /// that its row was confirmed; it cannot hold what later epochs acknowledged meanwhile, and confirms nothing more.
    pub fn check_nothing_lost(&mut self, node: usize, epoch: u64, who: &str) {
        let Some(directory) = &self.nodes[node].server.directory else {
            return;
        };
        let mut there = BTreeSet::new();
        for record in &directory.wal {
            if let Kind::Number(number) = record.kind {
                there.insert(number);
            }
        }
        let lost: Vec<u64> = self
            .acked
            .iter()
            .filter(|(number, acked_in)| *acked_in <= epoch && !there.contains(number))
            .map(|(number, _)| *number)
            .collect();
        if let Some(first) = lost.first() {
            let text = format!(
                "{} acknowledged commits, the first number {first}, are not on n{}, {who}",
                lost.len(),
                node + 1
            );
            self.fail("lost", text);
        }
    }

    /// What a node is about to remember.
    pub fn check_persisted(&mut self, node: usize, durable: &Durable, before: Stamp) {
        let config = &durable.config;
        if !config.formed() {
            return;
        }
        self.stats.genesis = true;
        if before.version != config.stamp.version {
            self.count_change(config);
        }
        let other = self.nodes.iter().find_map(|other| {
            let theirs = &other.disk.as_ref()?.config;
            (theirs.formed() && theirs.system_id != config.system_id).then_some(theirs.system_id)
        });
        if let Some(other) = other {
            let text = format!(
                "n{} joins the database {}, others {other}",
                node + 1,
                config.system_id
            );
            self.fail("two databases", text);
        }
    }

    /// Changes after the formation of the fleet, by whom they are about.
    fn count_change(&mut self, config: &Config) {
        if config.stamp <= self.newest {
            return;
        }
        self.newest = config.stamp;
        let declared = &self.published[0].members;
        let data = declared.values().filter(|member| member.data).count();
        if !self.complete {
            let whole = config.voters.len() == declared.len() && config.data.len() == data;
            self.complete = whole && config.alone.is_none();
            return;
        }
        self.stats.alone += u64::from(config.alone.is_some());
        let members = (config.voters.clone(), config.data.clone());
        if self.members.as_ref() != Some(&members) {
            self.stats.changes += u64::from(self.members.is_some());
            self.members = Some(members);
        }
    }
}
