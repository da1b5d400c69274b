//! PostgreSQL of this node: what the cluster's core sees of it, and the steps with which the core changes it.
//!
//! [`Postgres::observe`] looks through the server's own Unix socket and keeps one connection, so that looking four times
//! a second costs next to nothing. [`Postgres::perform`] carries out one [`Action`]; each is idempotent, leaves a state
//! from which it can be done again wherever it is cut off, and makes files durable before anything relies on them.
//! Nothing is decided here.
//!
//! Debian's layout is kept: the cluster is `<major>/<fleet>` of pg_createcluster(1), with `disabled` in start.conf so
//! that pg_ctlcluster(1) refuses to start it, and runs in the unit [`settings::UNIT`].

mod clone;
mod commit;
mod conf;
mod create;
pub mod databases;
pub mod follower;
mod look;
mod pooler;
mod remote;
mod repmgr;
mod rewind;
mod role;
pub mod settings;
mod unit;
pub mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rolesmith_model::ids::NodeName;
use tokio::sync::Mutex;

use crate::cluster::{Action, Failure, Lane, Observed, Outcome};
use crate::program::{Call, Interrupt, Machine, ProgramError, Programs as _};
use settings::Settings;
use wire::{Client, WireError};

/// How long the server may take to accept the agent's own connection.
const CONNECT: Duration = Duration::from_millis(1_500);
/// How long an ordinary question may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Why a step did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The server did not do as asked.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A program did not do as asked.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system calls said.
        error: std::io::Error,
    },
    /// Trying again may help.
    #[error("{0}")]
    Later(String),
    /// Trying again does not help.
    #[error("{0}")]
    Refused(String),
}

impl Problem {
    fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Refused(why) => Self::Refused(why),
            other => Self::Later(other.to_string()),
        }
    }
}

/// Runs a program beside everything else.
async fn run(call: Call) -> Result<String, Problem> {
    without_secrets(tokio::task::spawn_blocking(move || Machine.output(&call)).await)
}

/// The same, for one that may take very long, and may be in vain.
async fn run_until(call: Call, interrupt: Interrupt) -> Result<String, Problem> {
    let run = move || Machine.output_until(&call, &interrupt);
    without_secrets(tokio::task::spawn_blocking(run).await)
}

fn without_secrets(
    ended: Result<Result<String, ProgramError>, tokio::task::JoinError>,
) -> Result<String, Problem> {
    match ended {
        Ok(Err(ProgramError::Failed { program, how, tail })) => {
            // Without what comes before every program, and without its connection strings.
            let program = program.rsplit(" -- ").next().unwrap_or_default();
            let program = program.split(' ').next().unwrap_or_default().to_owned();
            Err(ProgramError::Failed { program, how, tail }.into())
        }
        Ok(output) => Ok(output?),
        Err(error) => Err(Problem::Later(error.to_string())),
    }
}

/// What all parts share.
#[derive(Debug)]
struct Server {
    settings: Settings,
    /// Ends the copy that is being made.
    interrupt: std::sync::Mutex<Option<Interrupt>>,
    /// Addresses that facts or discovery know, by name.
    addresses: RwLock<BTreeMap<NodeName, String>>,
    /// One change of PostgreSQL's roles at a time.
    roles: Mutex<()>,
}

impl Server {
    fn address(&self, node: &NodeName) -> Result<String, Problem> {
        self.addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)
            .cloned()
            .ok_or_else(|| Problem::Later(format!("the address of {node} is not known yet")))
    }

    /// All that are known.
    fn addresses(&self) -> BTreeMap<NodeName, String> {
        let addresses = self.addresses.read();
        addresses.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on [`Postgres::abandon`] ends what the result is given to.
    fn interruptible(&self) -> Result<Interrupt, Problem> {
        let interrupt = Interrupt::new().map_err(|error| Problem::Later(error.to_string()))?;
        *self
            .interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(interrupt.clone());
        Ok(interrupt)
    }

    /// A new connection as superuser. What the agent itself changes is never waited for to be replicated, unless it
    /// says so.
    async fn connect(&self, database: &str) -> Result<Client, Problem> {
        let parameters = [
            ("user", "postgres"),
            ("database", database),
            ("application_name", "rolesmith-agent"),
            ("synchronous_commit", "local"),
            ("log_min_duration_statement", "-1"),
            ("log_statement", "none"),
            // An error, or a wait for a lock, would log the statement, and one of them holds a password.
            ("log_min_error_statement", "panic"),
        ];
        Ok(Client::connect(&self.settings.socket(), &parameters, CONNECT).await?)
    }

    /// A program run as postgres, which dies with the agent.
    fn as_postgres<const N: usize>(&self, argv: [&str; N]) -> Call {
        let head = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--pdeathsig=KILL",
            "--",
        ];
        let mut call = Call::new(head).args(argv);
        call.env.push(("HOME".into(), "/var/lib/postgresql".into()));
        call
    }
}

/// PostgreSQL and pgbouncer of this node. Clones share everything.
#[derive(Debug, Clone)]
pub struct Postgres {
    server: Arc<Server>,
    watch: Arc<Mutex<look::Watch>>,
    committer: Arc<Mutex<commit::Committer>>,
    /// One change of pgbouncer's at a time.
    pooler: Arc<Mutex<()>>,
}

impl Postgres {
    /// The database of the node that these settings describe. Touches nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let addresses = settings
            .members
            .iter()
            .filter_map(|peer| Some((peer.name.clone(), peer.address.clone()?)))
            .collect();
        Self {
            server: Arc::new(Server {
                settings,
                interrupt: std::sync::Mutex::default(),
                addresses: RwLock::new(addresses),
                roles: Mutex::default(),
            }),
            watch: Arc::default(),
            committer: Arc::default(),
            pooler: Arc::default(),
        }
    }

    /// Tells where a member is now. Takes effect with the next action that names it.
    pub fn locate(&self, node: NodeName, address: String) {
        self.server
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, address);
    }

    /// Makes the server's roles those of [`Settings::roles`], where it is the primary. A server that becomes one gets them
    /// before that.
    ///
    /// # Errors
    /// The server does not answer, or does not take them. Trying again may help.
    pub async fn renew_roles(&self) -> Result<(), Problem> {
        self.server.renew_roles().await
    }

    /// Looks at the server. Bounded, and total: what cannot be seen is told as the less favourable case.
    pub async fn observe(&self) -> Observed {
        let mut watch = self.watch.lock().await;
        let mut seen = self.server.observe(&mut watch).await;
        drop(watch);
        seen.pooler = pooler::target();
        seen
    }

    /// Lets a copy or a rewind that runs end as soon as it can: its source is not the primary any more.
    pub fn abandon(&self) {
        let interrupt = &self.server.interrupt;
        if let Some(interrupt) = &*interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
            interrupt.raise();
        }
    }

    /// Comes back as soon as the connection that [`Postgres::observe`] keeps has something to say, which is the
    /// server's end. Without such a connection it waits for ever. The caller looks again, then waits again.
    pub async fn disturbed(&self) {
        let socket = self.watch.lock().await.sentinel();
        match socket {
            Some(socket) => socket.ended().await,
            None => std::future::pending().await,
        }
    }

    /// Carries out an action. Actions of different lanes may run at the same time ([`Action::lane`]).
    ///
    /// # Errors
    /// [`Failure`]; the same action may then be asked for again, or another one.
    pub async fn perform(&self, action: Action) -> Result<Outcome, Failure> {
        let server = &self.server;
        if action.lane() != Lane::Commit {
            // A commit is the server's alone, and one comes every second.
            server.prepare()?;
        }
        match action {
            Action::CreateCluster => {
                let made = server.create().await?;
                return Ok(Outcome::Created(made));
            }
            Action::Start { upstream } => server.start(upstream.as_ref()).await?,
            Action::Stop { immediate } => server.stop(immediate).await?,
            Action::Sever => server.sever().await?,
            Action::Follow { node } => server.follow(&node).await?,
            Action::Promote => server.promote().await?,
            Action::CommitEpoch { row } => self.committer.lock().await.epoch(server, &row).await?,
            Action::Heartbeat => self.committer.lock().await.heartbeat(server).await?,
            Action::Open => server.open().await?,
            Action::Close => server.close().await?,
            Action::Clone { from } => server.copy(&from).await?,
            Action::Rewind { from } => server.rewind(&from).await?,
            Action::SetSync { sync } => server.set_sync(&sync).await?,
            Action::Reconcile { members, primary } => {
                let members: Vec<_> = members.into_keys().collect();
                server.reconcile(&members, &primary).await?;
            }
            Action::Pooler { primary } => {
                let _turn = self.pooler.lock().await;
                server.point_pooler(primary.as_ref()).await?;
            }
        }
        Ok(Outcome::Done)
    }
}
