//! What the actions of an agent do to its server, how long that takes, and what remains of it when the agent dies.

use rolesmith_agent::cluster::{Access, Action, Failure, Outcome, Process, SyncSetting, SystemId};

use crate::faults::Moment;
use crate::postgres::{Directory, Kind, Record, Waiter, Who};
use crate::world::{Event, Mutant, World};

impl World {
    pub fn begin(&mut self, node: usize, run: u64, id: u64, action: Action) {
        self.note(|| format!("n{} {action:?}", node + 1));
        let delay = match &action {
            Action::CreateCluster => self.rng.range(100, 800),
            Action::Start { .. } => self.rng.range(30, 150),
            Action::Stop { .. } => self.rng.range(10, 120),
            Action::Sever => 0,
            Action::Promote => self.rng.range(30, 250),
            Action::Clone { .. } => self.rng.range(20, 200),
            Action::Rewind { .. } => 0,
            _ => self.rng.range(2, 60),
        };
        let machine = self.nodes[node].machine;
        self.put(
            delay,
            Event::Act {
                node,
                run,
                machine,
                id,
                action,
                stage: 0,
                note: 0,
            },
        );
    }

    pub fn record(&mut self, kind: Kind) -> Record {
        self.next_record += 1;
        Record {
            id: self.next_record,
            kind,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one event")]
    pub fn perform(
        &mut self,
        node: usize,
        run: u64,
        machine: u64,
        id: u64,
        action: Action,
        stage: u8,
        note: u64,
    ) {
        if !self.nodes[node].up || self.nodes[node].machine != machine {
            return;
        }
        if self.nodes[node].server_frozen > self.now {
            let wait = self.nodes[node].server_frozen - self.now;
            self.put(
                wait,
                Event::Act {
                    node,
                    run,
                    machine,
                    id,
                    action,
                    stage,
                    note,
                },
            );
            return;
        }
        let alive = self.nodes[node].run == run;
        // An agent that died leaves commands half done, or done without knowing.
        let slow = matches!(action, Action::Clone { .. } | Action::Rewind { .. });
        let begun = matches!(action, Action::Stop { .. }) && stage == 1;
        if !alive && !begun && (slow || self.rng.permille(500)) {
            if matches!(action, Action::Rewind { .. })
                && stage == 1
                && let Some(directory) = &mut self.nodes[node].server.directory
            {
                directory.broken = true;
            }
            return;
        }
        let later = |text: &str| Err(Failure::Later(text.to_owned()));
        let abandoned = self.nodes[node].abandoned == Some((run, id));
        let again = |stage, note, action| Event::Act {
            node,
            run,
            machine,
            id,
            action,
            stage,
            note,
        };
        let result = match action {
            Action::CreateCluster => Ok(Outcome::Created(self.create_cluster(node))),
            Action::Start { upstream } => {
                let upstream = upstream.map(|name| self.index(&name));
                self.start_server(node, upstream)
            }
            Action::Stop { immediate: true } => {
                self.end_server(node, false);
                Ok(Outcome::Done)
            }
            Action::Stop { immediate: false } => {
                if stage == 0 {
                    self.shut_down(node);
                    let deadline = self.now + 2_000;
                    self.put(5, again(1, deadline, action));
                    return;
                }
                let server = &self.nodes[node].server;
                let len = server.directory.as_ref().map_or(0, Directory::len);
                let behind = server.standbys.values().any(|standby| standby.flush < len);
                if server.process != Process::Stopped && behind && self.now < note {
                    self.put(10, again(1, note, action));
                    return;
                }
                let clean = server.running();
                self.end_server(node, clean);
                Ok(Outcome::Done)
            }
            Action::Sever => {
                if stage == 0 {
                    if let Some(directory) = &mut self.nodes[node].server.directory {
                        directory.conninfo = None;
                    }
                    let pause = self.rng.range(20, 300);
                    self.put(pause, again(1, 0, action));
                    if self.mutant != Some(Mutant::HastySever) {
                        return;
                    }
                } else {
                    self.nodes[node].server.conninfo = None;
                    self.nodes[node].server.receiver = None;
                    self.disconnect(node);
                }
                Ok(Outcome::Done)
            }
            Action::Follow { node: upstream } => {
                let upstream = self.index(&upstream);
                self.disconnect(node);
                let server = &mut self.nodes[node].server;
                match &mut server.directory {
                    Some(directory) if server.process != Process::Stopped && server.in_recovery => {
                        directory.conninfo = Some(upstream);
                        server.conninfo = Some(upstream);
                        server.receiver = None;
                        Ok(Outcome::Done)
                    }
                    _ => later("no standby runs"),
                }
            }
            Action::Promote => self.promote(node),
            Action::CommitEpoch { row } => {
                let known = self.nodes[node]
                    .server
                    .directory
                    .as_ref()
                    .is_some_and(|dir| {
                        dir.wal.iter().any(|record| match record.kind {
                            Kind::Row(at) => self.rows[at].epoch == row.epoch,
                            _ => false,
                        })
                    });
                if known {
                    Err(Failure::Refused("this epoch has a row".to_owned()))
                } else {
                    self.rows.push(row);
                    let at = self.rows.len() - 1;
                    if self.commit(
                        node,
                        Kind::Row(at),
                        Who::Agent {
                            session: run,
                            action: id,
                        },
                    ) {
                        return;
                    }
                    later("no primary runs")
                }
            }
            Action::Heartbeat => {
                if self.commit(
                    node,
                    Kind::Other,
                    Who::Agent {
                        session: run,
                        action: id,
                    },
                ) {
                    return;
                }
                later("no primary runs")
            }
            Action::Open | Action::Close => {
                let server = &mut self.nodes[node].server;
                server.access = Access::Closed;
                if action == Action::Open {
                    server.access = Access::Open;
                } else {
                    server
                        .waiters
                        .retain(|waiter| matches!(waiter.who, Who::Agent { .. }));
                }
                if server.running() {
                    Ok(Outcome::Done)
                } else {
                    later("it does not run")
                }
            }
            Action::Clone { ref from } => {
                let source = self.index(from);
                if !self.source_ready(node, source) {
                    later("the source does not answer")
                } else if stage == 0 {
                    let session = self.nodes[source].server.session;
                    let pause = self.rng.range(300, 4_000);
                    self.put(pause, again(1, session, action));
                    return;
                } else if abandoned || note != self.nodes[source].server.session {
                    later("the source went away")
                } else {
                    self.copy(node, source);
                    Ok(Outcome::Done)
                }
            }
            Action::Rewind { ref from } => {
                let source = self.index(from);
                let fit = self.nodes[node].server.process == Process::Stopped
                    && self.nodes[node]
                        .server
                        .directory
                        .as_ref()
                        .is_some_and(|directory| directory.clean);
                if stage == 0 {
                    if fit && self.source_ready(node, source) {
                        let session = self.nodes[source].server.session;
                        let pause = self.rng.range(100, 800);
                        self.put(pause, again(1, session, action));
                        return;
                    }
                    Err(Failure::Refused(
                        "not shut down cleanly, or no source".to_owned(),
                    ))
                } else if abandoned
                    || note != self.nodes[source].server.session
                    || !self.source_ready(node, source)
                {
                    if let Some(directory) = &mut self.nodes[node].server.directory {
                        directory.broken = true;
                    }
                    later("the source went away")
                } else {
                    self.rewind(node, source)
                }
            }
            Action::SetSync { sync } => {
                self.set_sync(node, sync);
                Ok(Outcome::Done)
            }
            Action::Reconcile { .. } | Action::Pooler { .. } => Ok(Outcome::Done),
        };
        self.put(
            1,
            Event::Done {
                node,
                run,
                id,
                result,
            },
        );
    }

    fn create_cluster(&mut self, node: usize) -> SystemId {
        let record = self.record(Kind::Other);
        let fresh = 1_000 + record.id;
        let directory = self.nodes[node]
            .server
            .directory
            .get_or_insert_with(|| Directory::created(fresh, record));
        SystemId(directory.system_id)
    }

    fn start_server(&mut self, node: usize, upstream: Option<usize>) -> Result<Outcome, Failure> {
        let pause = self.rng.range(50, 500);
        let server = &mut self.nodes[node].server;
        let Some(directory) = &mut server.directory else {
            return Err(Failure::Later("no data".to_owned()));
        };
        if directory.incomplete || server.process != Process::Stopped {
            return Err(Failure::Later("it cannot start".to_owned()));
        }
        if directory.broken {
            self.fail(
                "corruption",
                format!("n{} starts what a broken rewind left", node + 1),
            );
            return Ok(Outcome::Done);
        }
        directory.conninfo = upstream;
        server.conninfo = upstream;
        server.sync = directory.sync.clone();
        server.process = Process::Starting;
        server.in_recovery = true;
        server.access = Access::Closed;
        server.session += 1;
        let session = server.session;
        self.put(pause, Event::Ready { node, session });
        Ok(Outcome::Done)
    }

    /// The process is gone; its standbys and its upstream notice where they can.
    pub fn end_server(&mut self, node: usize, clean: bool) {
        self.disconnect(node);
        self.nodes[node].server.dead(clean);
    }

    fn shut_down(&mut self, node: usize) {
        let record = self.record(Kind::Other);
        let server = &mut self.nodes[node].server;
        if !server.running() {
            return;
        }
        if !server.in_recovery
            && let Some(directory) = &mut server.directory
        {
            directory.wal.push(record);
        }
        server.shutting_down = true;
        server.waiters.clear();
    }

    fn promote(&mut self, node: usize) -> Result<Outcome, Failure> {
        let record = self.record(Kind::Other);
        let server = &mut self.nodes[node].server;
        if !server.running() || !server.in_recovery {
            return Err(Failure::Later("no standby runs".to_owned()));
        }
        let Some(directory) = &mut server.directory else {
            return Err(Failure::Later("no data".to_owned()));
        };
        directory.highest_timeline += 1;
        let start = (directory.highest_timeline, directory.len());
        directory.history.push(start);
        directory.wal.push(record);
        directory.conninfo = None;
        server.conninfo = None;
        server.receiver = None;
        server.in_recovery = false;
        self.stats.promotions += 1;
        self.moment(Moment::Promoted, node, None);
        self.disconnect(node);
        Ok(Outcome::Done)
    }

    /// Writes a record and lets somebody wait for its acknowledgement.
    pub fn commit(&mut self, node: usize, kind: Kind, who: Who) -> bool {
        let record = self.record(kind);
        let server = &mut self.nodes[node].server;
        if !server.is_primary() {
            return false;
        }
        let Some(directory) = &mut server.directory else {
            return false;
        };
        directory.wal.push(record);
        let lsn = directory.len();
        let row = match kind {
            Kind::Row(row) => Some(row),
            _ => None,
        };
        server.waiters.push(Waiter { lsn, who, row });
        self.released(node);
        true
    }

    fn set_sync(&mut self, node: usize, sync: SyncSetting) {
        let server = &mut self.nodes[node].server;
        if let Some(directory) = &mut server.directory {
            directory.sync = sync.clone();
        }
        if server.running() {
            server.sync = sync;
            self.released(node);
        }
    }

    fn source_ready(&self, node: usize, source: usize) -> bool {
        self.linked(node, source)
            && self.nodes[source].server.is_primary()
            && self.nodes[source].server_frozen <= self.now
    }

    fn copy(&mut self, node: usize, source: usize) {
        self.stats.clones += 1;
        let Some(mut copy) = self.nodes[source].server.directory.clone() else {
            return;
        };
        copy.consistent_at = copy.len();
        // The backup holds what its own connection received until its end.
        let lost = self.rng.below(3).min(copy.len() - 1);
        for _ in 0..lost {
            let last = copy.len();
            if copy.history.last().is_some_and(|start| start.1 + 1 >= last) {
                break;
            }
            copy.wal.pop();
        }
        copy.sync = SyncSetting::default();
        copy.conninfo = None;
        copy.clean = true;
        self.nodes[node].server.directory = Some(copy);
    }

    fn rewind(&mut self, node: usize, source: usize) -> Result<Outcome, Failure> {
        let Some(theirs) = self.nodes[source].server.directory.clone() else {
            return Err(Failure::Later("no source".to_owned()));
        };
        let Some(mine) = &mut self.nodes[node].server.directory else {
            return Err(Failure::Later("no data".to_owned()));
        };
        let Some(parting) = mine.parting(&theirs) else {
            return Err(Failure::Refused("no common ancestor".to_owned()));
        };
        self.stats.rewinds += 1;
        if mine.timeline() == theirs.timeline() || mine.len() <= parting {
            // "no rewind required"
            return Ok(Outcome::Done);
        }
        mine.wal.truncate(parting as usize);
        mine.history
            .retain(|(_, begins)| *begins < parting || *begins == 0);
        mine.highest_timeline = mine.highest_timeline.max(theirs.highest_timeline);
        mine.consistent_at = theirs.len();
        Ok(Outcome::Done)
    }
}
