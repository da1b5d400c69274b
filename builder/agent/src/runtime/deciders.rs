//! The two seams of the loop: decisions on one side, the database on the other.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use rolesmith_model::facts::Facts;
use rolesmith_model::ids::NodeName;
use rolesmith_model::manifest::{ClusterKind, WITNESS_ROLE};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::cluster::{
    Action, ActionId, ClusterFacts, Core, Declared, Envelope, Failure, Observed, Outcome, Reply,
    RequestId, StatusReport, Step, SystemId, Unreachable,
};
use crate::files::{Root, Stamp, stamp};
use crate::postgres::Postgres;
use crate::postgres::follower::{self, Follower};
use crate::postgres::settings::{SETTINGS_FILE, Settings};

/// Decisions, as the cluster's core makes them. A trait, so that tests can watch the loop with decisions of their own.
pub trait Decide {
    /// This node's view of itself and its cluster.
    fn status(&self, now: u64) -> StatusReport;
    /// A request arrived from an authenticated member. The step holds one reply.
    fn request(&mut self, now: u64, from: &NodeName, envelope: Envelope) -> Step;
    /// What became of a request of ours.
    fn response(&mut self, now: u64, id: RequestId, answer: Result<Reply, Unreachable>) -> Step;
    /// The database was looked at.
    fn observed(&mut self, now: u64, observed: Observed) -> Step;
    /// An action came to its end.
    fn done(&mut self, now: u64, id: ActionId, result: Result<Outcome, Failure>) -> Step;
    /// New facts are in force.
    fn facts(&mut self, now: u64, facts: ClusterFacts) -> Step;
    /// Time passed.
    fn tick(&mut self, now: u64) -> Step;
    /// When to call [`Decide::tick`] if nothing happens before.
    fn wake(&self, now: u64) -> u64;
}

/// The database. Clones share everything.
pub trait Executor: Clone + 'static {
    /// Carries out an action. Actions of different lanes may run at the same time.
    fn perform(&self, action: Action) -> impl Future<Output = Result<Outcome, Failure>>;
    /// Lets the copy that is being made end soon, whole or not.
    fn abandon(&self);
    /// Looks at the database; bounded and total.
    fn observe(&self) -> impl Future<Output = Observed>;
    /// Comes back when something happened to it.
    fn disturbed(&self) -> impl Future<Output = ()>;
    /// New facts: where members are.
    fn facts(&self, facts: &Facts);
    /// Called every second: files that describe the database may have come or changed.
    fn refresh(&self);
    /// Whether programs of this machine reach the database through a pgbouncer beside which there is no server: nobody but
    /// the loop leads that one.
    fn follows(&self) -> bool;
}

impl Decide for Core {
    fn status(&self, now: u64) -> StatusReport {
        Self::status(self, now)
    }
    fn request(&mut self, now: u64, from: &NodeName, envelope: Envelope) -> Step {
        Self::request(self, now, from, envelope)
    }
    fn response(&mut self, now: u64, id: RequestId, answer: Result<Reply, Unreachable>) -> Step {
        Self::response(self, now, id, answer)
    }
    fn observed(&mut self, now: u64, observed: Observed) -> Step {
        Self::observed(self, now, observed)
    }
    fn done(&mut self, now: u64, id: ActionId, result: Result<Outcome, Failure>) -> Step {
        Self::done(self, now, id, result)
    }
    fn facts(&mut self, now: u64, facts: ClusterFacts) -> Step {
        Self::facts(self, now, facts)
    }
    fn tick(&mut self, now: u64) -> Step {
        Self::tick(self, now)
    }
    fn wake(&self, now: u64) -> u64 {
        Self::wake(self, now)
    }
}

/// The PostgreSQL of this machine, from the moment when its role has described it.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    /// The same for a pgbouncer.
    follower: PathBuf,
    now: RwLock<Described>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Described {
    database: Option<(Settings, Postgres)>,
    follower: Option<(follower::Settings, Follower)>,
    /// Members' addresses by the facts in force; settings were rendered with some that may be older.
    addresses: Vec<(NodeName, String)>,
    /// The database's roles that it has, if it needs them.
    roles: Option<Stamp>,
    renewing: bool,
}

impl Database {
    /// Of the machine whose files stand there.
    #[must_use]
    pub fn of(root: &Root) -> Self {
        let database = Self(Arc::new(Inner {
            file: root.join(SETTINGS_FILE),
            follower: root.join(follower::SETTINGS_FILE),
            now: RwLock::default(),
            changed: Notify::new(),
        }));
        database.read();
        database
    }

    /// Takes over what the roles rendered.
    fn read(&self) {
        let mut now = self.write();
        // A file that is being replaced is read the next time.
        if let Ok(settings) = Settings::load(&self.0.file)
            && now.database.as_ref().map(|(settings, _)| settings) != settings.as_ref()
        {
            now.database = settings.map(|settings| (settings.clone(), Postgres::new(settings)));
            now.roles = None;
            now.locate();
            self.0.changed.notify_one();
        }
        if let Ok(settings) = follower::Settings::load(&self.0.follower)
            && now.follower.as_ref().map(|(settings, _)| settings) != settings.as_ref()
        {
            now.follower = settings.map(|settings| (settings.clone(), Follower::new(settings)));
            now.locate();
        }
    }

    /// Lets the primary have other roles as soon as they come: nothing else happens to it for months.
    fn renew_roles(&self) {
        let mut now = self.write();
        let Some((settings, postgres)) = now.database.clone() else {
            return;
        };
        let wanted = stamp(&settings.roles());
        if now.renewing || now.roles.as_ref() == Some(&wanted) {
            return;
        }
        now.renewing = true;
        let database = self.clone();
        spawn_local(async move {
            let renewed = postgres.renew_roles().await;
            let mut now = database.write();
            now.renewing = false;
            if renewed.is_ok() {
                now.roles = Some(wanted);
            }
        });
    }

    fn write(&self) -> RwLockWriteGuard<'_, Described> {
        self.0.now.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Postgres> {
        let now = self.0.now.read().unwrap_or_else(PoisonError::into_inner);
        now.database.as_ref().map(|(_, postgres)| postgres.clone())
    }

    fn follower(&self) -> Option<Follower> {
        let now = self.0.now.read().unwrap_or_else(PoisonError::into_inner);
        now.follower.as_ref().map(|(_, follower)| follower.clone())
    }
}

impl Executor for Database {
    async fn perform(&self, action: Action) -> Result<Outcome, Failure> {
        match (self.current(), self.follower(), action) {
            (Some(postgres), _, action) => postgres.perform(action).await,
            (None, Some(follower), Action::Pooler { primary }) => {
                follower.follow(primary.as_ref()).await?;
                Ok(Outcome::Done)
            }
            _ => Err(Failure::Later(
                "the database's role is not applied yet".to_owned(),
            )),
        }
    }

    fn abandon(&self) {
        if let Some(postgres) = self.current() {
            postgres.abandon();
        }
    }

    async fn observe(&self) -> Observed {
        match self.current() {
            Some(postgres) => postgres.observe().await,
            None => Observed::default(),
        }
    }

    async fn disturbed(&self) {
        let happened = async {
            match self.current() {
                Some(postgres) => postgres.disturbed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = happened => {}
            () = self.0.changed.notified() => {}
        }
    }

    fn facts(&self, facts: &Facts) {
        let addresses = facts.members.iter().filter_map(|member| {
            Some((
                NodeName::new(member.name.clone()).ok()?,
                member.address.clone()?,
            ))
        });
        let mut now = self.write();
        now.addresses = addresses.collect();
        now.locate();
    }

    fn refresh(&self) {
        self.read();
        self.renew_roles();
    }

    fn follows(&self) -> bool {
        let now = self.0.now.read().unwrap_or_else(PoisonError::into_inner);
        now.database.is_none() && now.follower.is_some()
    }
}

impl Described {
    fn locate(&self) {
        for (name, address) in &self.addresses {
            if let Some((_, postgres)) = &self.database {
                postgres.locate(name.clone(), address.clone());
            }
            if let Some((_, follower)) = &self.follower {
                follower.locate(name.clone(), address.clone());
            }
        }
    }
}

/// No database: a witness, or a node without a part in the cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDatabase;

impl Executor for NoDatabase {
    async fn perform(&self, _: Action) -> Result<Outcome, Failure> {
        Err(Failure::Refused("there is no database here".to_owned()))
    }

    fn abandon(&self) {}

    async fn observe(&self) -> Observed {
        Observed::default()
    }

    async fn disturbed(&self) {
        std::future::pending().await
    }

    fn facts(&self, _: &Facts) {}

    fn refresh(&self) {}

    fn follows(&self) -> bool {
        false
    }
}

/// What facts propose for the database cluster. Nobody is a member of it where the databases stand each for itself.
#[must_use]
pub fn cluster_facts(facts: &Facts) -> ClusterFacts {
    let holds_data = |role: &String| facts.clusters.get(role) == Some(&ClusterKind::Postgresql);
    let formed = facts.clusters.keys().any(holds_data);
    let members = facts.members.iter().filter_map(|member| {
        let data = member.roles.iter().any(holds_data);
        let witness = formed && member.roles.iter().any(|role| role == WITNESS_ROLE);
        (data || witness).then_some(())?;
        let declared = Declared {
            incarnation: member.incarnation,
            data,
        };
        Some((NodeName::new(member.name.clone()).ok()?, declared))
    });
    ClusterFacts {
        version: facts.version,
        genesis: facts.genesis,
        system_id: facts
            .system_id
            .as_deref()
            .and_then(|id| id.parse().ok())
            .map(SystemId),
        members: members.collect(),
        // More than the members allow is no harm: the core asks for as many as there are.
        synchronous: usize::try_from(facts.synchronous).unwrap_or(usize::MAX),
    }
}
