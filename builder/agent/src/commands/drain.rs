use std::thread::sleep;
use std::time::{Duration, Instant};

use rolesmith_model::ids::NodeName;
use rolesmith_model::status::{FleetStatus, PRIMARY};

use crate::cli::{End, now};
use crate::cluster::{Request, Response};
use crate::drain;
use crate::files::Root;
use crate::runtime::control;

/// How long the database may take to be handed over.
const HANDOVER: Duration = Duration::from_secs(60);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(500);

/// Take this node out of service (root)
///
/// `rolesmith-agent health` says no from now on, also after a boot, and so does whatever looks for
/// /var/lib/rolesmith/drained.json. A database that is primary here is handed over. Nothing is stopped. `undrain` ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Drain {}

/// Put this node into service again (root)
#[derive(Debug, clap::Args)]
pub(crate) struct Undrain {}

impl Drain {
    pub(crate) fn run(self) -> End {
        let root = Root::machine();
        // The mark first: who is asked to take over is not chosen among nodes that are marked, this one included.
        let word = match drain::mark(&root, now()) {
            Ok(true) => "drained",
            Ok(false) => "drained already",
            Err(error) => return End::Error(format!("{}: {error}", drain::FILE)),
        };
        match hand_over(&root) {
            Ok(None) => End::Good(format!("{word}\n")),
            Ok(Some(heir)) => End::Good(format!("{word}; the database is primary on {heir}\n")),
            Err(why) => End::Error(format!("{word}, but {why}")),
        }
    }
}

impl Undrain {
    pub(crate) fn run(self) -> End {
        match drain::unmark(&Root::machine()) {
            Ok(true) => End::Good("in service again\n".to_owned()),
            Ok(false) => End::Good("it was in service\n".to_owned()),
            Err(error) => End::Error(format!("{}: {error}", drain::FILE)),
        }
    }
}

/// Hands the database over if it is primary here. Gives the new primary.
fn hand_over(root: &Root) -> Result<Option<String>, String> {
    let status = control::fleet(root).map_err(|error| control::silent(&error))?;
    if !is_primary(&status) {
        return Ok(None);
    }
    let heir = heir(&status).ok_or(
        "the database stays primary here: no other node streams from it that is not drained itself. When one does, `rolesmith-agent \
         switchover NODE`",
    )?;
    let to = NodeName::new(heir.clone()).map_err(|error| format!("{heir:?} {error}"))?;
    let reply =
        control::ask(root, &Request::Switchover { to }).map_err(|error| control::silent(&error))?;
    if reply.response != Response::Ok {
        return Err(format!(
            "the database is not handed over to {heir} now: {:?}; try `rolesmith-agent switchover {heir}`",
            reply.response
        ));
    }
    let deadline = Instant::now() + HANDOVER;
    loop {
        sleep(LOOK);
        let status = control::fleet(root).map_err(|error| control::silent(&error))?;
        if let Some(primary) = status.primary()
            && primary.name != status.asked
        {
            return Ok(Some(primary.name.clone()));
        }
        if Instant::now() > deadline {
            return Err(format!(
                "after {} s the database is not primary on {heir} yet; `rolesmith-agent status --fleet` tells more",
                HANDOVER.as_secs()
            ));
        }
    }
}

fn is_primary(status: &FleetStatus) -> bool {
    status
        .member(&status.asked)
        .and_then(|member| member.database.as_ref())
        .is_some_and(|database| database.role == PRIMARY)
}

/// Who is to take over: of those that stream and are in service, the one that is least behind.
fn heir(status: &FleetStatus) -> Option<String> {
    let mut fit: Vec<_> = status
        .members
        .iter()
        .filter(|member| member.name != status.asked && member.machine_status.drained.is_none())
        .filter_map(|member| {
            let database = member.database.as_ref()?;
            let streams = database.streaming == Some(true) && database.role == "standby";
            streams.then_some((database.lag, &member.name))
        })
        .collect();
    fit.sort();
    fit.first().map(|(_, name)| (*name).clone())
}

#[cfg(test)]
mod tests {
    use rolesmith_model::status::{DatabaseStatus, MemberStatus};

    use super::*;

    fn member(name: &str, role: &str, streaming: Option<bool>, lag: u64) -> MemberStatus {
        MemberStatus {
            name: name.into(),
            reachable: true,
            database: Some(DatabaseStatus {
                role: role.into(),
                streaming,
                lag: Some(lag),
                ..DatabaseStatus::default()
            }),
            ..MemberStatus::default()
        }
    }

    #[test]
    fn the_heir_streams_is_in_service_and_is_least_behind() {
        let mut status = FleetStatus {
            asked: "n1".into(),
            members: vec![
                member("n1", "primary", None, 0),
                member("n2", "standby", Some(true), 900),
                member("n3", "standby", Some(true), 100),
                member("n4", "standby", Some(false), 0),
                member("n5", "learner", Some(true), 0),
            ],
            ..FleetStatus::default()
        };
        assert!(is_primary(&status));
        assert_eq!(heir(&status).as_deref(), Some("n3"));
        status.members[2].machine_status.drained = Some(1);
        assert_eq!(heir(&status).as_deref(), Some("n2"));
        status.members[1].machine_status.drained = Some(1);
        assert_eq!(heir(&status), None);
        status.asked = "n2".into();
        assert!(!is_primary(&status));
    }
}
