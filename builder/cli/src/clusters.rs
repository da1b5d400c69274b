//! What is known of the fleet's clusters: read from cluster.lock, and learnt from what members say.

use std::fs;

use rolesmith_host::{
    build::read_lock,
    clusters::{self, ClusterLock, ClusterLockError, FILE},
    publish::Founded,
};
use rolesmith_model::{
    finding::{Finding, Findings, Place},
    manifest::ClusterKind,
    plan::Plan,
    source::SourceId,
    status::FleetStatus,
};

use crate::{
    app::App,
    report::{Failure, Outcome},
};

fn failure(error: ClusterLockError) -> Failure {
    let help = error.help();
    Failure::because(&error, help)
}

/// cluster.lock; where there is none, no cluster is known.
pub fn lock(app: &App) -> Outcome<ClusterLock> {
    clusters::read(&app.dir).map_err(failure)
}

/// What the next facts know of the database.
pub fn founded(app: &App, abandoned: Option<&str>) -> Outcome<Founded> {
    if let Some(id) = abandoned {
        return Ok(Founded::Abandoned(id.to_owned()));
    }
    Ok(match lock(app)?.database {
        Some(database) => Founded::Database(database.system_id),
        None => Founded::Nothing,
    })
}

/// Takes the whole lock away: with the database go the machines that held it, and their Redis. First of all, because a lock
/// that is left behind would close genesis again for a database that is gone.
pub fn forget_database(app: &App, id: &str) -> Outcome {
    let path = app.dir.join(FILE);
    match lock(app)?.database {
        Some(database) if database.system_id != id => Err(Failure::new(
            format!("{FILE} names the database {}, not {id}", database.system_id),
            "name the database that is gone for good",
        )),
        _ => match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
    }
}

/// Writes down what is new in what the members say, and says so.
pub fn learn(app: &App, status: &FleetStatus) -> Outcome {
    let known = lock(app)?;
    let learnt = known.learn(status, app.now).map_err(|error| {
        Failure::because(
            &error,
            "see whether these machines belong to this directory's fleet (a lab has a database of its own); `rolesmith publish \
             --abandon-database` is for a database that is gone for good",
        )
    })?;
    if learnt == known {
        return Ok(());
    }
    clusters::write(&app.dir, &learnt).map_err(failure)?;
    match &learnt.database {
        Some(database) if known.database.is_none() => app.say(format_args!(
            "{FILE} now names the database {}: commit it, and `rolesmith publish` closes genesis.",
            database.system_id
        )),
        _ => app.say(format_args!(
            "{FILE} now knows that Redis has begun: commit it and publish."
        )),
    }
    Ok(())
}

/// Whether there is something new in what the members say, or something that cannot be.
pub fn has_news(app: &App, status: &FleetStatus) -> Outcome<bool> {
    let known = lock(app)?;
    Ok(known.learn(status, app.now).as_ref() != Ok(&known))
}

/// What has to be done before machines that are all made anew can form what the lock says was formed; nothing where it says
/// nothing.
pub fn before_a_new_beginning(lock: &ClusterLock) -> Option<String> {
    match lock {
        ClusterLock {
            database: Some(database),
            ..
        } => Some(format!(
            "{FILE} names the database {0}: if it is gone for good, `rolesmith publish --abandon-database {0}`",
            database.system_id
        )),
        ClusterLock { redis: Some(_), .. } => Some(format!(
            "{FILE} says that Redis has begun: if its data are gone for good, delete {FILE} and publish"
        )),
        _ => None,
    }
}

/// Warns while genesis is open: once facts were built, machines may act upon them.
pub fn findings(app: &App, plan: &Plan, fleet: SourceId) -> Outcome<Vec<Finding>> {
    let clustered: Vec<_> = plan
        .roles
        .iter()
        .filter(|role| role.cluster == Some(ClusterKind::Postgresql))
        .map(|role| &role.name)
        .collect();
    let first = plan
        .nodes
        .iter()
        .find(|node| node.roles.iter().any(|role| clustered.contains(&role)));
    let built =
        read_lock(&app.dir).is_ok_and(|lock| lock.packages.contains_key(&plan.facts_package()));
    let (Some(node), None, true) = (first, lock(app)?.database, built) else {
        return Ok(Vec::new());
    };
    let mut findings = Findings::new();
    findings.warning(
        "fleet::genesis-open",
        Place::new(fleet, plan.fleet.nodes[&node.name].span.clone()),
        "genesis is open: the facts let a database be made from nothing".to_owned(),
        "a majority of machines made anew from their seeds would found a second, empty database",
        "once the fleet runs, `rolesmith status` (in the lab: `rolesmith lab status`) writes cluster.lock; commit it and publish again",
    );
    Ok(findings.into_sorted())
}
