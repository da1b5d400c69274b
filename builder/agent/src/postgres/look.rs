//! Looking at the server: one prepared statement on one kept connection.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use rolesmith_model::ids::NodeName;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::sync::watch;

use super::conf::{REWOUND, parse_synchronous};
use super::settings::conninfo_node;
use super::unit;
use super::wire::{Client, Reply, WireError};
use super::{ANSWER, CONNECT, Problem, Server};
use crate::cluster::{
    Access, Data, Epoch, EpochRow, Lsn, Observed, Position, Process, Receiver, StandbySeen,
    SystemId, Timeline, TimelineStart,
};
use crate::files::Stamp;

#[cfg(test)]
mod tests;

/// How long the look itself may take.
const LOOK: Duration = Duration::from_millis(1_500);

/// How often the server's files are looked at: apt brings new ones, and nothing waits for them.
const INPUTS_LOOK: Duration = Duration::from_secs(1);

/// Everything in one answer; the first column tells what a row is about. A prepared statement is planned once.
const PREPARE: &str = "PREPARE rolesmith_look AS
SELECT 'server' AS kind, pg_is_in_recovery()::text AS a, current_setting('primary_conninfo') AS b,
       current_setting('synchronous_standby_names') AS c,
       (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text AS d,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()::text
            ELSE pg_walfile_name(pg_current_wal_flush_lsn()) END AS e
UNION ALL
SELECT 'process', backend_type, wait_event, NULL, NULL, NULL FROM pg_stat_activity
WHERE backend_type IN ('startup', 'walreceiver')
UNION ALL
SELECT 'receiver', status, received_tli::text, conninfo, flushed_lsn::text, NULL FROM pg_stat_wal_receiver
UNION ALL
SELECT 'standby', application_name, state, flush_lsn::text, NULL, NULL FROM pg_stat_replication
UNION ALL
SELECT 'lost', slot_name, NULL, NULL, NULL, NULL FROM pg_replication_slots
WHERE wal_status = 'lost' AND NOT active AND slot_name LIKE 'rolesmith\\_%'
UNION ALL
(SELECT 'row', epoch::text, node, timeline::text, switch_lsn::text, NULL FROM rolesmith.epoch ORDER BY epoch DESC LIMIT 32)";

/// The startup process waits for more log: it has replayed all there is.
const REPLAYED: &str = "RecoveryRetrieveRetryInterval";

/// The startup process was told to replay nothing more, or cannot with the settings that it was started with.
const HALTED: &str = "RecoveryPause";

/// Tells when the postmaster ends.
///
/// A thread of its own waits for it: it costs nothing while it sleeps, ends with the postmaster or the agent, and needs
/// no trust in a file descriptor's owner.
#[derive(Debug, Clone)]
pub(super) struct Sentinel(watch::Receiver<()>);

impl Sentinel {
    /// For the postmaster that works in this data directory now.
    fn of(data: &Path) -> Option<Self> {
        let pid = unit::postmaster(data)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let (alive, receiver) = watch::channel(());
        let wait = move || {
            while let Err(Errno::INTR) = poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) {}
            drop(alive);
        };
        let thread = std::thread::Builder::new().name("postmaster".into());
        thread.spawn(wait).ok().map(|_| Self(receiver))
    }

    /// Comes back when it has ended.
    pub(super) async fn ended(mut self) {
        // Nothing is ever sent: the sender's end is the news.
        let _ = self.0.changed().await;
    }
}

/// What is kept between two looks.
#[derive(Debug, Default)]
pub(super) struct Watch {
    client: Option<Client>,
    sentinel: Option<Sentinel>,
    /// The timeline replayed up to this place, asked once a place: it takes a connection of its own.
    replayed: Option<(Lsn, Timeline)>,
    /// The role's files as the server has read them.
    inputs: Option<Vec<Stamp>>,
    /// When those were looked at.
    inputs_looked: Option<Instant>,
    /// The local log's timelines, read once a timeline.
    history: Option<(Timeline, Vec<TimelineStart>)>,
}

impl Watch {
    pub(super) fn sentinel(&self) -> Option<Sentinel> {
        self.sentinel.clone()
    }

    fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What pg_stat_wal_receiver shows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Stream {
    streaming: bool,
    timeline: Option<Timeline>,
    upstream: Option<NodeName>,
}

/// The answer to the look, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    in_recovery: bool,
    /// `primary_conninfo` in force; "" is none.
    conninfo: String,
    synchronous: String,
    /// Replayed on a standby, flushed on a primary.
    at: Option<Lsn>,
    /// Received on a standby.
    received: Option<Lsn>,
    /// Of a primary.
    timeline: Option<Timeline>,
    startup_waits: Option<String>,
    walreceiver: bool,
    receiver: Option<Stream>,
    standbys: BTreeMap<NodeName, StandbySeen>,
    slot_lost: bool,
    rows: Vec<EpochRow>,
}

/// The timeline in a log file's name.
pub(super) fn timeline_of_file(name: &str) -> Option<Timeline> {
    u32::from_str_radix(name.get(..8)?, 16).ok().map(Timeline)
}

/// Where a file of the log begins, by its name: timeline and number in hexadecimal, 16 MiB a file (pg_createcluster(1) asks
/// for no other size).
#[must_use]
pub(super) fn begin_of_file(name: &str) -> Option<Lsn> {
    let digits = name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let part = |at: usize| u64::from_str_radix(name.get(at..at + 8)?, 16).ok();
    digits
        .then(|| Some(Lsn((part(8)? << 32) | (part(16)? << 24))))
        .flatten()
}

/// Where the log begins that this server still has, on whichever timeline.
fn kept_from(data: &Path) -> Option<Lsn> {
    std::fs::read_dir(data.join("pg_wal"))
        .ok()?
        .flatten()
        .filter_map(|entry| begin_of_file(entry.file_name().to_str()?))
        .min()
}

/// The timelines up to this one, from the text of its `.history` file: lines of parent, switch point and reason.
#[must_use]
pub(super) fn history(timeline: Timeline, text: &str) -> Vec<TimelineStart> {
    let mut found = Vec::new();
    let mut begins = Lsn(0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let parent = words.next().and_then(|word| word.parse().ok());
        let switch = words.next().and_then(|word| word.parse().ok());
        if let (Some(parent), Some(switch)) = (parent, switch) {
            found.push(TimelineStart {
                timeline: Timeline(parent),
                begins,
            });
            begins = switch;
        }
    }
    found.push(TimelineStart { timeline, begins });
    found
}

/// Sorts the answer; a row that makes no sense is left out.
#[must_use]
pub(super) fn sort(reply: &Reply) -> Look {
    let mut look = Look::default();
    for row in &reply.rows {
        let text = |column: usize| row.get(column).and_then(|value| value.as_deref());
        let lsn = |column| text(column).and_then(|value| value.parse::<Lsn>().ok());
        let timeline = |column| {
            text(column)
                .and_then(|value| value.parse().ok())
                .map(Timeline)
        };
        match text(0) {
            Some("server") => {
                look.in_recovery = text(1) != Some("false");
                look.conninfo = text(2).unwrap_or_default().to_owned();
                look.synchronous = text(3).unwrap_or_default().to_owned();
                look.at = lsn(4);
                if look.in_recovery {
                    look.received = lsn(5);
                } else {
                    look.timeline = text(5).and_then(timeline_of_file);
                }
            }
            Some("process") if text(1) == Some("startup") => {
                look.startup_waits = text(2).map(str::to_owned);
            }
            Some("process") => look.walreceiver = true,
            Some("receiver") => {
                look.walreceiver = true;
                look.receiver = Some(Stream {
                    streaming: text(1) == Some("streaming"),
                    timeline: timeline(2),
                    upstream: text(3).and_then(conninfo_node),
                });
            }
            Some("standby") => {
                // pg_basebackup and the like have names that no node has.
                if let Some(name) = text(1).and_then(|name| NodeName::new(name).ok()) {
                    let seen = StandbySeen {
                        streaming: text(2) == Some("streaming"),
                        flush: lsn(3).unwrap_or_default(),
                    };
                    // A dead connection may linger beside the live one.
                    let known = look.standbys.entry(name).or_insert_with(|| seen.clone());
                    if seen.streaming && (!known.streaming || seen.flush > known.flush) {
                        *known = seen;
                    }
                }
            }
            Some("lost") => look.slot_lost = true,
            Some("row") => {
                let row = (|| {
                    Some(EpochRow {
                        epoch: Epoch(text(1)?.parse().ok()?),
                        node: NodeName::new(text(2)?).ok()?,
                        timeline: timeline(3)?,
                        switch: lsn(4)?,
                    })
                })();
                look.rows.extend(row);
            }
            _ => {}
        }
    }
    look.rows.sort();
    look
}

impl Look {
    /// Nothing can change the end of the log any more, and all of it was replayed (rule 3).
    pub(super) fn is_severed(&self) -> bool {
        self.in_recovery
            && self.conninfo.is_empty()
            && !self.walreceiver
            && self.startup_waits.as_deref() == Some(REPLAYED)
    }

    fn is_halted(&self) -> bool {
        self.in_recovery && self.startup_waits.as_deref() == Some(HALTED)
    }
}

impl Server {
    /// What the data directory is. An interrupted rewind is told by its mark, and a cluster that was only being made
    /// holds nothing. A copy is made beside it and changes nothing before it is whole.
    pub(super) fn data_state(&self) -> Data {
        let data = self.settings.data();
        if self.marked("making") {
            return Data::Absent;
        }
        self.bring_back_kept();
        if self.marked("rewinding") {
            return Data::Incomplete;
        }
        match system_id(&data) {
            Some(id) => Data::Complete(id),
            None if data.exists() || self.marked("cloning") => Data::Incomplete,
            None => Data::Absent,
        }
    }

    pub(super) async fn observe(&self, watch: &mut Watch) -> Observed {
        let data = self.settings.data();
        let mut seen = Observed {
            data: self.data_state(),
            conninfo: self.written_upstream(),
            access: self.written_access(),
            ..Observed::default()
        };
        match self.look(watch).await {
            Ok(look) => {
                seen.process = Process::Running;
                self.fill(&mut seen, &look, watch).await;
                if watch.sentinel.is_none() {
                    watch.sentinel = Sentinel::of(&data);
                }
            }
            Err(_) => {
                watch.forget();
                if unit::alive(&data).is_empty() {
                    seen.process = Process::Stopped;
                    seen.access = Access::Closed;
                } else {
                    seen.process = Process::Starting;
                    watch.sentinel = Sentinel::of(&data);
                }
            }
        }
        seen
    }

    /// One look; connects and prepares where that was not done.
    async fn look(&self, watch: &mut Watch) -> Result<Look, Problem> {
        let mut client = match watch.client.take() {
            Some(client) if client.is_idle() => client,
            _ => {
                let mut client = self.connect("postgres").await?;
                client.query(PREPARE, ANSWER).await?;
                client
            }
        };
        let due = watch
            .inputs_looked
            .is_none_or(|at| at.elapsed() >= INPUTS_LOOK);
        let inputs = due.then(|| self.inputs());
        // The copies for libpq come first. Where they cannot be made, the server is no worse than before, and the next look
        // tries again.
        if due && watch.inputs != inputs && self.prepare().is_ok() {
            // New settings or certificates, or a new agent that does not know what was read. What needs a restart waits for the
            // next one; connections stay.
            self.write_access(self.written_access())?;
            client.query("SELECT pg_reload_conf()", ANSWER).await?;
            watch.inputs = inputs;
        }
        if due {
            watch.inputs_looked = Some(Instant::now());
        }
        let reply = client.query("EXECUTE rolesmith_look", LOOK).await?;
        watch.client = Some(client);
        Ok(sort(&reply))
    }

    /// A look of its own, for an action.
    pub(super) async fn look_once(&self) -> Result<Look, Problem> {
        let mut client = self.connect("postgres").await?;
        client.query(PREPARE, ANSWER).await?;
        Ok(sort(&client.query("EXECUTE rolesmith_look", LOOK).await?))
    }

    async fn fill(&self, seen: &mut Observed, look: &Look, watch: &mut Watch) {
        seen.nameless = look.in_recovery && self.marked(REWOUND);
        seen.in_recovery = look.in_recovery;
        seen.halted = look.is_halted();
        seen.conninfo = seen
            .conninfo
            .take()
            .or_else(|| conninfo_node(&look.conninfo));
        seen.sync = parse_synchronous(&look.synchronous);
        seen.rows.clone_from(&look.rows);
        seen.standbys.clone_from(&look.standbys);
        let position = |timeline, lsn| Position { timeline, lsn };
        if !look.in_recovery {
            seen.position = look.timeline.zip(look.at).map(|(t, at)| position(t, at));
            seen.end_of_wal = seen.position;
            seen.kept_from = kept_from(&self.settings.data()).unwrap_or_default();
            seen.slot_lost = look.slot_lost;
        } else {
            let streamed = look.receiver.as_ref().and_then(|stream| stream.timeline);
            let replayed = look.at.unwrap_or_default();
            let timeline = match streamed {
                Some(timeline) => Some(timeline),
                None => self.replayed_timeline(replayed, watch).await.ok(),
            };
            let far = look
                .received
                .map_or(replayed, |received| received.max(replayed));
            seen.position = timeline.map(|timeline| position(timeline, far));
            if look.is_severed() {
                seen.end_of_wal = timeline.zip(look.at).map(|(t, at)| position(t, at));
            }
            if look.walreceiver {
                let stream = look.receiver.clone().unwrap_or_default();
                seen.receiver = Some(Receiver {
                    upstream: stream.upstream,
                    timeline: stream.timeline.unwrap_or_default(),
                    streaming: stream.streaming,
                });
            }
        }
        if look
            .receiver
            .as_ref()
            .is_some_and(|stream| stream.streaming)
        {
            self.forget_kept();
        }
        if let Some(position) = seen.position {
            seen.history = self.timelines(position.timeline, watch);
        }
    }

    /// The timeline that was replayed last. SQL does not tell it on a standby; the replication protocol does.
    async fn replayed_timeline(&self, at: Lsn, watch: &mut Watch) -> Result<Timeline, Problem> {
        if let Some((place, timeline)) = watch.replayed
            && place == at
        {
            return Ok(timeline);
        }
        let parameters = [
            ("user", "postgres"),
            ("replication", "true"),
            ("application_name", "rolesmith_agent"),
        ];
        let mut client = Client::connect(&self.settings.socket(), &parameters, CONNECT).await?;
        let reply = client.query("IDENTIFY_SYSTEM", ANSWER).await?;
        let timeline = reply
            .value(1)
            .and_then(|text| text.parse().ok())
            .map(Timeline)
            .ok_or_else(|| WireError::Protocol("no timeline".into()))?;
        watch.replayed = Some((at, timeline));
        Ok(timeline)
    }

    fn timelines(&self, timeline: Timeline, watch: &mut Watch) -> Vec<TimelineStart> {
        if let Some((known, list)) = &watch.history
            && *known == timeline
        {
            return list.clone();
        }
        let name = format!("pg_wal/{:08X}.history", timeline.0);
        let read = std::fs::read_to_string(self.settings.data().join(name));
        let list = match read {
            Ok(text) => history(timeline, &text),
            Err(_) if timeline == Timeline(1) => history(timeline, ""),
            // Received soon; the next look asks again.
            Err(_) => return Vec::new(),
        };
        watch.history = Some((timeline, list.clone()));
        list
    }
}

/// The system identifier in a data directory: the first eight bytes of `global/pg_control`, at that place in every
/// version (src/include/catalog/pg_control.h), in the machine's byte order.
#[must_use]
pub(super) fn system_id(data: &Path) -> Option<SystemId> {
    if !data.join("PG_VERSION").exists() {
        return None;
    }
    let bytes = std::fs::read(data.join("global/pg_control")).ok()?;
    let id = u64::from_ne_bytes(*bytes.first_chunk::<8>()?);
    (id != 0).then_some(SystemId(id))
}

/// Waits until a condition holds, looking every few milliseconds.
///
/// # Errors
/// [`Problem::Later`] with `what` when it does not hold within `limit`.
pub(super) async fn until<F>(what: &str, limit: Duration, mut holds: F) -> Result<(), Problem>
where
    F: AsyncFnMut() -> bool,
{
    let deadline = Instant::now() + limit;
    while !holds().await {
        if Instant::now() > deadline {
            return Err(Problem::Later(format!(
                "{what} did not happen within {} ms",
                limit.as_millis()
            )));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
