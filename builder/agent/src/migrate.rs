//! Brings a service's database up to date: once for each release, by one instance at a time, before the first one of it starts.
//!
//! Every instance runs this before its program. One whose release is known needs no lock, so that an instance of the former release starts
//! again however long the next one's migration takes. The lock is a transaction-level advisory lock (PostgreSQL's manual, "Explicit Locking"), held
//! on the primary through the pooler, which lends one server connection for the length of a transaction. So the lock lives and dies with the
//! session on the primary: when the primary is lost, or the pooler moves on, the connection ends, and the command is killed
//! before it is tried again on the next one. What a former primary still accepted is not confirmed by a standby
//! and is gone. The command has to bear being cut off anywhere and run again; a transaction around each of its steps does that.

use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::postgres::wire::literal;

/// How long a connection may take; the pooler answers at once, and makes a client wait by itself.
const CONNECT: Duration = Duration::from_secs(5);
/// What is waited after the first attempt, and at most after one: nothing tells a program on a node that the database has come, and
/// each attempt is a line in the pooler's log.
const PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A migration of a service.
#[derive(Debug, Clone)]
pub struct Migration {
    /// The service.
    pub service: String,
    /// The release: which program this is.
    pub release: String,
    /// This node, for whoever reads the table.
    pub node: String,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// A file with the database's URL and password.
    pub url: PathBuf,
}

/// What it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command ran, and its end is recorded.
    Ran,
    /// Some instance of this release did it before.
    Known,
}

/// Why the database is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The file with the URL.
    #[error("{}: {error}", path.display())]
    Url {
        /// Which.
        path: PathBuf,
        /// What is wrong, without what stands in it.
        error: String,
    },
    /// The database is away, or went away. It is tried again.
    #[error("the database: {0}")]
    Database(String),
    /// The command could not be started.
    #[error("{program}: {error}")]
    Start {
        /// The program.
        program: String,
        /// What execve(2) said.
        error: io::Error,
    },
    /// The command failed.
    #[error("the migration of {service} {how}; what it said stands above")]
    Failed {
        /// The service.
        service: String,
        /// How it ended.
        how: String,
    },
}

/// Errors of the database, without the statement and without the connection's parameters.
fn database(error: tokio_postgres::Error) -> MigrateError {
    let text = match error.as_db_error() {
        Some(answer) => format!(
            "{} {}: {}",
            answer.severity(),
            answer.code().code(),
            answer.message()
        ),
        None => error.to_string(),
    };
    MigrateError::Database(text)
}

type Lost = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Migration {
    /// Waits for the database, however long it takes, and brings it up to date. `tell` hears what is waited for.
    ///
    /// # Errors
    /// [`MigrateError::Url`], [`MigrateError::Start`], [`MigrateError::Failed`].
    pub async fn run(&self, mut tell: impl FnMut(&str)) -> Result<Outcome, MigrateError> {
        let mut last = String::new();
        let mut pause = PAUSE;
        loop {
            match self.attempt().await {
                Err(MigrateError::Database(why)) => {
                    if why != last {
                        tell(&format!("waiting for the database: {why}"));
                        last = why;
                    }
                }
                ended => return ended,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn config(&self) -> Result<Config, MigrateError> {
        let wrong = |error: String| MigrateError::Url {
            path: self.url.clone(),
            error,
        };
        let text = std::fs::read_to_string(&self.url).map_err(|error| wrong(error.to_string()))?;
        let mut config: Config = text
            .trim()
            .parse()
            .map_err(|_| wrong("is not a URL of a PostgreSQL database".into()))?;
        config
            .application_name("rolesmith-migrate")
            .connect_timeout(CONNECT);
        Ok(config)
    }

    async fn connect(&self) -> Result<(Client, Lost), MigrateError> {
        let config = self.config()?;
        let connecting = tokio::time::timeout(CONNECT, config.connect(NoTls)).await;
        let late = || MigrateError::Database(format!("no answer within {} s", CONNECT.as_secs()));
        let (client, connection) = connecting.map_err(|_| late())?.map_err(database)?;
        // The connection has to be driven, and it ends when the server is gone.
        let driven = tokio::spawn(async move {
            let _ = connection.await;
        });
        let lost = Box::pin(async move {
            let _ = driven.await;
        });
        Ok((client, lost))
    }

    /// Whether the table has this release. There is none before the first migration, and no schema for it.
    async fn known(&self, client: &Client) -> Result<bool, MigrateError> {
        let release = literal(&self.release);
        let found = client
            .simple_query(&format!(
                "SELECT 1 FROM rolesmith_service.releases WHERE release = {release}"
            ))
            .await;
        match found {
            Ok(found) => Ok(found
                .iter()
                .any(|m| matches!(m, SimpleQueryMessage::Row(_)))),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(false),
            Err(error) => Err(database(error)),
        }
    }

    async fn attempt(&self) -> Result<Outcome, MigrateError> {
        let (client, mut lost) = self.connect().await?;
        // Without the lock: while another node brings the database to a newer release, instances of this one may start again.
        if self.known(&client).await? {
            return Ok(Outcome::Known);
        }
        let gone = || MigrateError::Database("the connection that holds the lock is gone".into());
        // Each query gives up when the connection does; tokio-postgres tells both.
        client
            .batch_execute(
                "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0; \
                 SET LOCAL lock_timeout = 0",
            )
            .await
            .map_err(database)?;
        client
            .simple_query("SELECT pg_advisory_xact_lock(hashtextextended('rolesmith migrate', 0))")
            .await
            .map_err(database)?;
        client
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS rolesmith_service; \
                 CREATE TABLE IF NOT EXISTS rolesmith_service.releases (release text PRIMARY KEY, \
                 node text NOT NULL, migrated_at timestamptz NOT NULL DEFAULT clock_timestamp())",
            )
            .await
            .map_err(database)?;
        // Whoever had the lock before may have done it.
        if self.known(&client).await? {
            client.batch_execute("COMMIT").await.map_err(database)?;
            return Ok(Outcome::Known);
        }
        let mut child = self.start()?;
        let status = tokio::select! {
            status = child.wait() => status,
            () = &mut lost => {
                end(&mut child).await;
                return Err(gone());
            }
        };
        let status = status.map_err(|error| MigrateError::Start {
            program: self.command.first().cloned().unwrap_or_default(),
            error,
        })?;
        if !status.success() {
            return Err(MigrateError::Failed {
                service: self.service.clone(),
                how: match (status.code(), status.signal()) {
                    (Some(code), _) => format!("exited with {code}"),
                    (None, Some(signal)) => format!("was ended by signal {signal}"),
                    (None, None) => "ended".into(),
                },
            });
        }
        client
            .batch_execute(&format!(
                "INSERT INTO rolesmith_service.releases (release, node) VALUES ({}, {}); COMMIT",
                literal(&self.release),
                literal(&self.node)
            ))
            .await
            .map_err(database)?;
        Ok(Outcome::Ran)
    }

    /// The command, in a process group of its own, with this program's environment, directory and output.
    fn start(&self) -> Result<Child, MigrateError> {
        let program = self.command.first().map_or("", String::as_str);
        Command::new(program)
            .args(self.command.iter().skip(1))
            .process_group(0)
            .kill_on_drop(true)
            .stdin(std::process::Stdio::null())
            .spawn()
            .map_err(|error| MigrateError::Start {
                program: program.to_owned(),
                error,
            })
    }
}

/// Kills the command with all that it started. It was not waited for yet, so its number is still its own.
async fn end(child: &mut Child) {
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait().await;
}

/// Where systemd put the service's credentials (systemd.exec(5), LoadCredential=).
#[must_use]
pub fn credential(directory: &Path) -> PathBuf {
    directory.join("database-url")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A message of the server (PostgreSQL's manual, "Message Formats").
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend((u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn done() -> Vec<u8> {
        [message(b'C', b"DONE\0"), message(b'Z', b"T")].concat()
    }

    /// The answer to a search for the release.
    fn found() -> Vec<u8> {
        // A column without a table, of int4; then a row with "1".
        let column = b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
        let row = b"\0\x01\0\0\0\x011";
        [message(b'T', column), message(b'D', row), done()].concat()
    }

    fn no_table() -> Vec<u8> {
        let notice = b"SERROR\0VERROR\0C42P01\0Mrelation does not exist\0\0";
        [message(b'E', notice), message(b'Z', b"I")].concat()
    }

    async fn part(stream: &mut TcpStream) -> Vec<u8> {
        let length = stream.read_u32().await.unwrap();
        let mut body = vec![0; length as usize - 4];
        stream.read_exact(&mut body).await.unwrap();
        body
    }

    /// A server that answers queries with these bytes, and one for which there are none never. Tells what it was asked.
    async fn serve(listener: TcpListener, answers: Vec<Vec<u8>>) -> Vec<String> {
        let (mut stream, _) = listener.accept().await.unwrap();
        part(&mut stream).await;
        let ready = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
        stream.write_all(&ready).await.unwrap();
        let mut answers = answers.into_iter();
        let mut asked = Vec::new();
        // Until the client hangs up, which it says.
        while stream.read_u8().await.is_ok_and(|kind| kind == b'Q') {
            let query = part(&mut stream).await;
            asked.push(String::from_utf8(query).unwrap());
            if let Some(answer) = answers.next() {
                stream.write_all(&answer).await.unwrap();
            }
        }
        asked
    }

    /// An attempt against such a server, and what that was asked.
    async fn attempt(answers: Vec<Vec<u8>>, command: &str) -> (Outcome, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = dir.path().join("url");
        std::fs::write(&url, format!("postgresql://shop:x@127.0.0.1:{port}/shop")).unwrap();
        let migration = Migration {
            service: "shop".into(),
            release: "2".into(),
            node: "one".into(),
            command: vec![command.into()],
            url,
        };
        let server = tokio::spawn(serve(listener, answers));
        let outcome = timeout(LIMIT, migration.attempt()).await.expect("in time");
        let asked = timeout(LIMIT, server).await.expect("it hangs up").unwrap();
        (outcome.unwrap(), asked)
    }

    /// Which of the queries this is.
    fn kind(query: &str) -> &'static str {
        let kinds = [
            ("SELECT 1 FROM", "look"),
            ("BEGIN", "begin"),
            ("SELECT pg_advisory_xact_lock", "lock"),
            ("CREATE", "create"),
            ("INSERT", "record"),
            ("COMMIT", "end"),
        ];
        let found = kinds.iter().find(|(start, _)| query.starts_with(start));
        found.map_or("other", |(_, kind)| kind)
    }

    #[tokio::test]
    async fn a_known_release_starts_while_somebody_holds_the_lock() {
        // Whatever is asked after the first look waits for ever.
        let (outcome, asked) = attempt(vec![found()], "false").await;
        assert_eq!(outcome, Outcome::Known);
        assert_eq!(asked.iter().map(|q| kind(q)).collect::<Vec<_>>(), ["look"]);
    }

    #[tokio::test]
    async fn an_unknown_release_is_looked_for_again_with_the_lock() {
        let before = [no_table(), done(), done(), done()];
        let steps = ["look", "begin", "lock", "create", "look"];

        let answers = [&before[..], &[found(), done()]].concat();
        let (outcome, asked) = attempt(answers, "false").await;
        assert_eq!(outcome, Outcome::Known);
        let kinds: Vec<_> = asked.iter().map(|q| kind(q)).collect();
        assert_eq!(kinds, [&steps[..], &["end"]].concat());

        let answers = [&before[..], &[done(), done()]].concat();
        let (outcome, asked) = attempt(answers, "true").await;
        assert_eq!(outcome, Outcome::Ran);
        let kinds: Vec<_> = asked.iter().map(|q| kind(q)).collect();
        assert_eq!(kinds, [&steps[..], &["record"]].concat());
    }
}
