//! The writers: clients that insert a number, wait, and insert the next one, and write down what became of each.

use std::{
    fs::File,
    future::Future,
    io::{self, Write},
    net::Ipv4Addr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, NoTls, SimpleQueryMessage, Socket, error::Severity,
};

use super::ledger::{Entry, Moment, Outcome, Via};
use crate::error::{LabError, Result};

/// What one process of writers does; read as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterPlan {
    /// The node they run on.
    pub node: String,
    /// Its private address: what a server that was reached through a socket or the loopback interface is called.
    pub address: Ipv4Addr,
    /// Name of the database, and of the role that connects.
    pub database: String,
    /// The role's password.
    pub password: String,
    /// The table with the column `number`.
    pub table: String,
    /// `synchronous_commit` of each transaction; nothing for the server's own. Below `on` it is outside the promise, and rows are
    /// to be lost: how a drill shows that it can see that.
    pub synchronous_commit: Option<String>,
    /// From one attempt's begin to the next one's, in milliseconds; an attempt that takes longer is followed at once.
    pub every: u64,
    /// How long to wait for a connection, in milliseconds.
    pub connect_limit: u64,
    /// How long to wait for an answer, in milliseconds.
    pub answer_limit: u64,
    /// The writers.
    pub writers: Vec<WriterSpec>,
}

/// One writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterSpec {
    /// What it is called in the ledger.
    pub name: String,
    /// On which way it connects.
    pub via: Via,
    /// To which port of 127.0.0.1.
    pub port: u16,
    /// Its first number.
    pub first: u64,
    /// Where its ledger goes; appended to.
    pub ledger: PathBuf,
}

/// This moment.
pub fn now() -> Moment {
    let read = |clock| {
        let time = clock_gettime(clock);
        let part = |value| u64::try_from(value).unwrap_or(0);
        part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
    };
    Moment {
        monotonic: read(ClockId::Monotonic),
        realtime: read(ClockId::Realtime),
    }
}

/// Runs the writers until the process is ended, which may be done at any moment: an attempt is in the ledger before it is sent.
///
/// # Errors
/// A ledger that cannot be written. Whatever the database does is no error, but what this is about.
pub fn write(plan: &WriterPlan) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| LabError::Start {
            program: "the writers".to_owned(),
            source,
        })?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut tasks = tokio::task::JoinSet::new();
        for spec in &plan.writers {
            let ledger = File::options()
                .append(true)
                .create(true)
                .open(&spec.ledger)
                .map_err(LabError::file("open", &spec.ledger))?;
            let mut writer = Writer {
                plan: plan.clone(),
                spec: spec.clone(),
                ledger,
                session: None,
            };
            tasks.spawn_local(async move { writer.run().await });
        }
        match tasks.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            _ => Ok(()),
        }
    })
}

/// A connection, and the warnings that came on it.
struct Session {
    client: Client,
    warnings: Arc<Mutex<Vec<String>>>,
    driver: tokio::task::AbortHandle,
}

impl Drop for Session {
    /// Closes the socket at once; left to itself the driver would wait for what the server still owes.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Writer {
    plan: WriterPlan,
    spec: WriterSpec,
    ledger: File,
    session: Option<Session>,
}

/// What became of an attempt.
struct Answer {
    result: Outcome,
    error: Option<String>,
    server: Option<String>,
    timeline: Option<u32>,
}

impl Answer {
    fn without(result: Outcome, error: impl Into<String>) -> Answer {
        Answer {
            result,
            error: Some(error.into()),
            server: None,
            timeline: None,
        }
    }
}

impl Writer {
    async fn run(&mut self) -> Result<()> {
        let mut number = self.spec.first;
        loop {
            let begun = Instant::now();
            let mut entry = Entry {
                writer: self.spec.name.clone(),
                node: self.plan.node.clone(),
                via: self.spec.via,
                number,
                sent: now(),
                returned: None,
                result: Outcome::Sent,
                error: None,
                server: None,
                timeline: None,
            };
            self.put(&entry)?;
            let answer = self.attempt(number).await;
            entry.returned = Some(now());
            entry.result = answer.result;
            entry.error = answer.error;
            entry.server = answer.server;
            entry.timeline = answer.timeline;
            self.put(&entry)?;
            number += 1;
            tokio::time::sleep_until(begun + Duration::from_millis(self.plan.every)).await;
        }
    }

    /// One write(2), so that a killed writer leaves whole lines. They are in the kernel then, which outlives the nodes.
    fn put(&mut self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry)
            .map_err(|error| LabError::file("write", &self.spec.ledger)(io::Error::other(error)))?;
        line.push(b'\n');
        self.ledger
            .write_all(&line)
            .map_err(LabError::file("write", &self.spec.ledger))
    }

    async fn attempt(&mut self, number: u64) -> Answer {
        let session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => {
                let limit = Duration::from_millis(self.plan.connect_limit);
                match timeout(limit, self.connect()).await {
                    Ok(Ok(session)) => session,
                    // Nothing of the attempt was sent.
                    Ok(Err(error)) => {
                        return Answer::without(
                            Outcome::Failed,
                            format!("no connection: {}", tell(&error)),
                        );
                    }
                    Err(_) => {
                        return Answer::without(Outcome::Failed, "no connection within the limit");
                    }
                }
            }
        };
        lock(&session.warnings).clear();
        let limit = Duration::from_millis(self.plan.answer_limit);
        let asked = timeout(limit, session.client.simple_query(&self.statement(number))).await;
        let answer = match asked {
            // Whatever comes later comes to nobody: the connection is given up.
            Err(_) => return Answer::without(Outcome::Unknown, "no answer within the limit"),
            Ok(Err(error)) => {
                let answer = refused(&error);
                // A standby refuses every time; to connect anew each time would cost more than the drill. Within BEGIN the
                // connection is of no use any more.
                if answer.result == Outcome::Failed && self.plan.synchronous_commit.is_none() {
                    self.session = Some(session);
                }
                return answer;
            }
            Ok(Ok(messages)) => self.acknowledged(&messages),
        };
        let warnings = std::mem::take(&mut *lock(&session.warnings));
        self.session = Some(session);
        match warnings.first() {
            None => answer,
            // "canceling wait for synchronous replication": committed here, and perhaps nowhere else.
            Some(warning) => Answer {
                result: Outcome::Unknown,
                error: Some(warning.clone()),
                ..answer
            },
        }
    }

    /// In one simple query, whose answer is complete only when the transaction has ended, warnings of its COMMIT included; with the
    /// extended protocol the row is told before.
    fn statement(&self, number: u64) -> String {
        let insert = format!(
            "INSERT INTO {} (number) VALUES ({number}) \
             RETURNING coalesce(host(inet_server_addr()), ''), left(pg_walfile_name(pg_current_wal_lsn()), 8)",
            self.plan.table
        );
        match &self.plan.synchronous_commit {
            None => insert,
            Some(value) => {
                format!("BEGIN; SET LOCAL synchronous_commit = {value}; {insert}; COMMIT")
            }
        }
    }

    fn acknowledged(&self, messages: &[SimpleQueryMessage]) -> Answer {
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let Some(row) = row else {
            return Answer::without(Outcome::Unknown, "an answer without the row");
        };
        let server = match row.get(0) {
            // Through a socket, or the loopback interface: the server of this node.
            None | Some("" | "127.0.0.1" | "::1") => self.plan.address.to_string(),
            Some(address) => address.to_owned(),
        };
        Answer {
            result: Outcome::Ok,
            error: None,
            server: Some(server),
            timeline: row.get(1).and_then(|hex| u32::from_str_radix(hex, 16).ok()),
        }
    }

    async fn connect(&self) -> std::result::Result<Session, tokio_postgres::Error> {
        let limit = Duration::from_millis(self.plan.connect_limit);
        let (client, connection) = Config::new()
            .host("127.0.0.1")
            .port(self.spec.port)
            .user(&self.plan.database)
            .password(&self.plan.password)
            .dbname(&self.plan.database)
            .application_name(&self.spec.name)
            .connect_timeout(limit)
            .connect(NoTls)
            .await?;
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let drive = Drive {
            connection,
            warnings: Arc::clone(&warnings),
        };
        let driver = tokio::task::spawn_local(drive).abort_handle();
        Ok(Session {
            client,
            warnings,
            driver,
        })
    }
}

/// What an error says of the attempt.
fn refused(error: &tokio_postgres::Error) -> Answer {
    let aborted = error.as_db_error().is_some_and(|error| {
        // ERROR means that the transaction was aborted. FATAL means that the connection is, also when a pooler says so of a server
        // that it lost; class 08 is about connections too.
        error.parsed_severity() == Some(Severity::Error) && !error.code().code().starts_with("08")
    });
    let result = if aborted {
        Outcome::Failed
    } else {
        Outcome::Unknown
    };
    Answer::without(result, tell(error))
}

fn tell(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => {
            let cause = std::error::Error::source(error);
            cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
        }
    }
}

fn lock(warnings: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    warnings.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Drives a connection to its end, and keeps its warnings. They stand in the stream before the end of what they are about, so they
/// are here when that is known.
struct Drive {
    connection: Connection<Socket, tokio_postgres::tls::NoTlsStream>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.connection.poll_message(context) {
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => {
                    if notice.parsed_severity() == Some(Severity::Warning) {
                        let text = format!("{} {}", notice.code().code(), notice.message());
                        lock(&self.warnings).push(text);
                    }
                }
                Poll::Ready(Some(Ok(_))) => {}
                // Whoever waits for an answer is told by the client.
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
