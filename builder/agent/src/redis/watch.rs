//! Looks after the running Redis: whether it may be promoted, which certificates it goes by, whom it should follow.

use std::thread::sleep;
use std::time::Duration;

use super::ask::{self, Heards};
use super::client::{Client, ClientError};
use super::decide::{Data, WatchAction, successor, watch};
use super::opinion::opinion;
use super::resp::Value;
use super::run::{Context, RunError};
use super::settings::{Declared, Settings};
use super::state::{self, Report};
use super::views::Instance;
use crate::files::{Root, Stamp};

/// How often the running Redis is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The whole cluster is looked at once in so many looks.
const WIDE: u32 = 10;
/// Sentinel tells a master that was replaced to follow every 10 s; after so many looks at the whole cluster with no effect it cannot.
const FUTILE: u32 = 3;
/// A replica that has not answered for longer does not count (seconds); min-replicas-max-lag of the role's redis.conf.
const MAX_LAG: u64 = 3;

/// Looks after this node's Redis, for ever.
///
/// # Errors
/// [`RunError`], at its start; later it says what is wrong and goes on.
pub fn look_after(root: &Root) -> Result<(), RunError> {
    let mut context = Context::new(root, "watch")?;
    context.notifier.send("READY=1");
    let mut connection: Option<Client> = None;
    let mut instance = None;
    let mut looks: u32 = 0;
    let mut shown = Shown::default();
    let mut replaced = Replaced::default();
    loop {
        context.refresh();
        let own = look(&context, &mut connection).ok();
        // Now and then where Redis has refused it, since it logs each time.
        let due = shown.refused.is_none() || looks == 0;
        if due && shown.stamps != Some(context.stamps) {
            connection = connection.and_then(|client| shown.tell(client, &context));
        }
        // At once where something has changed, else now and then.
        if looks == 0 || own.as_ref().map(whom) != instance.as_ref().map(whom) {
            let declared = Declared::load(root, &context.settings)?;
            let heards = ask::everybody(&context.tls, &context.settings, &declared);
            if looks == 0 && replaced.for_too_long(&context, &declared, &heards) {
                connection = connection.and_then(|client| replaced.follow(client, &context));
            }
            let report = running(&context, &declared, &heards, own.as_ref(), &shown);
            let status = summary(&report);
            context.tell(report, &status);
        }
        instance = own;
        looks = (looks + 1) % WIDE;
        context.notifier.send("WATCHDOG=1");
        sleep(LOOK);
    }
}

fn whom(instance: &Instance) -> (bool, Option<&str>, bool) {
    (
        instance.master,
        instance.follows.as_deref(),
        instance.linked,
    )
}

/// One look at the local Redis, with what follows from it.
fn look(context: &Context<'_>, connection: &mut Option<Client>) -> Result<Instance, ClientError> {
    // Where anything goes wrong the connection is not used again.
    let mut client = match connection.take() {
        Some(client) => client,
        None => {
            let (name, address) = (&context.settings.node, &context.settings.address);
            ask::connect(&context.tls, &context.settings, name, address)?
        }
    };
    let instance = ask::place(&mut client)?;
    let complete = state::data(context.root, &context.boot) != Data::Empty;
    for action in watch(complete, &instance) {
        match action {
            WatchAction::Complete => state::mark(context.root, &context.boot)?,
            WatchAction::Priority(priority) => {
                let priority = priority.to_string();
                let words = ["CONFIG", "SET", "replica-priority", &priority];
                if let Value::Error(error) = client.ask(&words)? {
                    return Err(ClientError::Refused(error));
                }
            }
        }
    }
    *connection = Some(client);
    Ok(instance)
}

/// Another master has taken the place of this node's Redis, which does not know it.
#[derive(Default)]
struct Replaced {
    /// By whom, in which epoch.
    by: Option<(String, u64)>,
    /// In how many looks at the whole cluster, one after the other, it was so.
    looks: u32,
}

impl Replaced {
    /// Takes note of what was seen.
    fn for_too_long(
        &mut self,
        context: &Context<'_>,
        declared: &Declared,
        heards: &Heards,
    ) -> bool {
        let Settings { fleet, node, .. } = &context.settings;
        let found = opinion(fleet, &heards.sentinels, declared.peers.len()).ok();
        let by = found.as_ref().and_then(|found| {
            let master = successor(node, declared, found, &heards.instances)?;
            Some((master.to_owned(), found.epoch))
        });
        self.looks = if by.is_some() && by == self.by {
            self.looks.saturating_add(1)
        } else {
            u32::from(by.is_some())
        };
        self.by = by;
        self.looks >= FUTILE
    }

    /// Says outside of MULTI what Sentinel could not. Gives the connection back where it is still good.
    fn follow(&mut self, mut client: Client, context: &Context<'_>) -> Option<Client> {
        let (master, _) = self.by.as_ref()?;
        let port = context.settings.port.to_string();
        // Refused or not, it shows in the next looks.
        client.ask(&["REPLICAOF", master, &port]).ok()?;
        Some(client)
    }
}

/// Which certificate and CAs Redis was told to go by.
#[derive(Default)]
struct Shown {
    stamps: Option<[Stamp; 3]>,
    refused: Option<String>,
}

impl Shown {
    /// Has Redis read all files of its TLS anew, by setting the path of one to what it is; connections stay as they are. At the
    /// start it is not known what Redis has read, so it is told once for nothing.
    /// Gives the connection back where it is still good.
    fn tell(&mut self, mut client: Client, context: &Context<'_>) -> Option<Client> {
        let authorities = context.files[2].to_string_lossy();
        let words = ["CONFIG", "SET", "tls-ca-cert-file", &*authorities];
        client.extend(LOOK);
        match client.ask(&words).ok()? {
            Value::Error(error) => self.refused = Some(error),
            _ => (self.stamps, self.refused) = (Some(context.stamps), None),
        }
        Some(client)
    }
}

/// How the cluster looks from here.
fn running(
    context: &Context<'_>,
    declared: &Declared,
    heards: &Heards,
    own: Option<&Instance>,
    shown: &Shown,
) -> Report {
    let total = declared.peers.len();
    let found = opinion(&context.settings.fleet, &heards.sentinels, total);
    let role = match own {
        None => "down",
        Some(own) if own.master => "master",
        Some(own) if own.linked && !own.copying => "replica",
        Some(_) => "copying",
    };
    let replicas = own.filter(|own| own.master).map(|own| {
        let fresh = own.replicas.iter().filter(|(_, lag)| *lag <= MAX_LAG);
        fresh.count()
    });
    let mut alarms = Vec::new();
    if let Err(why) = &found {
        alarms.push(why.to_string());
    }
    if replicas == Some(0) && total > 1 {
        alarms.push("no replica follows: Redis refuses writes".to_owned());
    }
    if let Some(why) = &shown.refused {
        alarms.push(format!(
            "Redis does not take the node's certificate or the fleet's CAs: {why}"
        ));
    }
    let voters = found.as_ref().map_or(total, |found| found.voters.len());
    if voters > total {
        alarms.push(format!(
            "Sentinels count {voters} of their own, and {total} members are declared"
        ));
    }
    let master = found.as_ref().ok().map(|found| {
        declared
            .at(&found.master)
            .map_or(found.master.clone(), |peer| peer.name.clone())
    });
    let views = heards.sentinels.values();
    Report::Running {
        role: role.to_owned(),
        master,
        epoch: found.as_ref().ok().map(|found| found.epoch),
        sentinels: views.filter(|heard| heard.view().is_some()).count(),
        voters,
        replicas,
        alarms,
    }
}

/// A line of it for systemd.
fn summary(report: &Report) -> String {
    match report {
        Report::Running {
            role,
            master,
            sentinels,
            voters,
            alarms,
            ..
        } => {
            let master = master.as_deref().unwrap_or("unknown");
            let alarms: String = alarms.iter().map(|alarm| format!("; {alarm}")).collect();
            format!("{role}, master {master}, {sentinels} of {voters} Sentinels{alarms}")
        }
        Report::Waiting { why } => format!("waiting: {why}"),
        Report::Started { how } => format!("started as {how}"),
    }
}
