//! When a booted fleet is one: its database has all its copies, Redis its master and replicas, and log servers hold lines of
//! every node.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use rolesmith_lab::{BackendStatus, Lab};
use rolesmith_model::status::{FleetStatus, MemberStatus};

use super::{lab_failure, members};
use crate::{progress::Steps, report::Outcome};

/// How often is asked.
const LOOK: Duration = Duration::from_millis(250);
/// For how long nothing may change before it is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A part of the fleet that is whole or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Database,
    Redis,
    Logs,
    Health,
    Balancer,
}

const PARTS: [Part; 5] = [
    Part::Database,
    Part::Redis,
    Part::Logs,
    Part::Health,
    Part::Balancer,
];

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Database => "database",
            Self::Redis => "redis",
            Self::Logs => "logs",
            Self::Health => "health",
            Self::Balancer => "load balancer",
        })
    }
}

/// When each part was whole, counted from when the nodes were started.
#[derive(Debug, Default)]
pub struct Whole {
    /// By the name of the part, in the order in which they came to be.
    pub since: Vec<(String, Duration)>,
    /// What is missing still.
    pub missing: Option<String>,
}

/// Waits until nothing is missing. A fleet without the agent has nobody to ask, and nothing is missing in it.
pub fn wait(lab: &Lab, begun: Instant, steps: &Steps) -> Outcome<Whole> {
    let mut whole = Whole::default();
    let mut open = PARTS.to_vec();
    let mut last = (String::new(), Instant::now());
    loop {
        let Some(told) = members::ask(lab)? else {
            if !has_agent(lab)? || last.1.elapsed() > PATIENCE {
                return Ok(whole);
            }
            whole.missing = Some("no agent answers".to_owned());
            thread::sleep(LOOK);
            continue;
        };
        let mut missing = String::new();
        open.retain(|part| match lacks(*part, &told.status, lab) {
            None => {
                whole.since.push((part.to_string(), begun.elapsed()));
                false
            }
            Some(what) => {
                if missing.is_empty() {
                    missing = format!("{part}: {what}");
                }
                true
            }
        });
        if open.is_empty() {
            whole.missing = None;
            return Ok(whole);
        }
        if missing != last.0 {
            steps.say("", &format!("waiting for the fleet: {missing}"));
            last = (missing.clone(), Instant::now());
        }
        whole.missing = Some(missing);
        if last.1.elapsed() > PATIENCE {
            return Ok(whole);
        }
        thread::sleep(LOOK);
    }
}

/// Whether a node has anybody to ask.
fn has_agent(lab: &Lab) -> Outcome<bool> {
    let nodes = lab.status().map_err(lab_failure)?.nodes;
    Ok(nodes.iter().any(|node| {
        let there = lab.output(&node.name, &["test", "-x", "/usr/bin/rolesmith-agent"]);
        there.is_ok_and(|output| output.code == 0)
    }))
}

fn lacks(part: Part, status: &FleetStatus, lab: &Lab) -> Option<String> {
    match part {
        Part::Database => database(status),
        Part::Redis => redis(status),
        Part::Logs => logs(status, lab),
        Part::Health => status
            .members
            .iter()
            .find(|member| member.machine_status.healthy != Some(true))
            .map(|member| format!("{} is not healthy", member.name)),
        Part::Balancer => balancer(&lab.backends().ok()?),
    }
}

/// Every node behind the load balancer was checked and gets connections; before its first check one counts as up.
fn balancer(backends: &[BackendStatus]) -> Option<String> {
    let out = backends
        .iter()
        .filter(|backend| backend.check.is_some())
        .find(|backend| backend.state != "UP" || backend.check.as_deref() == Some("INI"));
    out.map(|backend| format!("{} is {} there", backend.node, backend.state))
}

/// One primary, and every other data member streams and counts.
fn database(status: &FleetStatus) -> Option<String> {
    let with = |part: &str| -> Vec<&MemberStatus> {
        let members = status.members.iter();
        members
            .filter(|member| member.part.as_deref() == Some(part))
            .collect()
    };
    let (data, witnesses) = (with("data"), with("witness"));
    if data.is_empty() {
        return None;
    }
    let Some(primary) = status.primary() else {
        return Some("no primary yet".into());
    };
    let late = data.iter().find(|member| {
        let database = member.database.as_ref();
        member.name != primary.name
            && database.is_none_or(|database| database.streaming != Some(true))
    });
    if let Some(late) = late {
        return Some(format!("{} does not stream yet", late.name));
    }
    let configuration = status.configuration.as_ref()?;
    if configuration.data.len() < data.len()
        || configuration.voters.len() < data.len() + witnesses.len()
    {
        return Some(format!(
            "{} of {} members count",
            configuration.voters.len(),
            data.len() + witnesses.len()
        ));
    }
    (data.len() > 1 && configuration.synchronous == 0)
        .then(|| "commits wait for no copy yet".to_owned())
}

/// One master, all others copies of it, and every Sentinel knows.
fn redis(status: &FleetStatus) -> Option<String> {
    let declared: Vec<_> = status
        .members
        .iter()
        .filter(|member| member.roles.iter().any(|role| role == "redis"))
        .collect();
    let mut masters = 0;
    for member in &declared {
        let redis = member.machine_status.redis.as_ref();
        let role = redis.map_or("not there", |redis| redis.role.as_str());
        match role {
            "master" => masters += 1,
            "replica" => {}
            other => return Some(format!("that of {} is {other}", member.name)),
        }
        let sentinels = redis.map_or(0, |redis| redis.sentinels);
        if sentinels < declared.len() as u64 {
            return Some(format!(
                "{} hears {sentinels} of {} Sentinels",
                member.name,
                declared.len()
            ));
        }
    }
    (!declared.is_empty() && masters != 1).then(|| format!("{masters} masters"))
}

/// Every log server holds lines of every node.
fn logs(status: &FleetStatus, lab: &Lab) -> Option<String> {
    let servers = status
        .members
        .iter()
        .filter(|member| member.roles.iter().any(|role| role == "log-server"));
    for server in servers {
        for member in &status.members {
            let file = format!("/var/log/rolesmith/hosts/{}.log", member.name);
            let there = lab.output(&server.name, &["test", "-s", &file]);
            if there.map_or(true, |output| output.code != 0) {
                return Some(format!(
                    "no line of {} is on {} yet",
                    member.name, server.name
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> FleetStatus {
        serde_json::from_str(text).expect("a status")
    }

    #[test]
    fn a_database_is_whole_when_every_copy_streams_and_counts() {
        let with = |streaming: bool, data: &str, k: u64| {
            status(&format!(
                r#"{{"format": 1, "configuration": {{"epoch": 1, "version": 4, "voters": {{"a": "1", "b": "2"}}, "data": {data},
                "synchronous": {k}}}, "members": [
                {{"name": "a", "part": "data", "database": {{"role": "primary", "epoch": 1}}}},
                {{"name": "b", "part": "data", "database": {{"role": "standby", "streaming": {streaming}}}}}]}}"#
            ))
        };
        assert_eq!(database(&with(true, r#"["a", "b"]"#, 1)), None);
        for (lacking, what) in [
            (with(false, r#"["a", "b"]"#, 1), "b does not stream"),
            (with(true, r#"["a"]"#, 1), "members count"),
            (with(true, r#"["a", "b"]"#, 0), "no copy"),
        ] {
            let told = database(&lacking).expect(what);
            assert!(told.contains(what), "{told}");
        }
        assert_eq!(database(&status(r#"{"format": 1, "members": []}"#)), None);
    }

    #[test]
    fn the_load_balancer_has_checked_every_node_and_sends_to_each() {
        let with = |state: &str, check: Option<&str>| BackendStatus {
            service: "http".into(),
            node: "a".into(),
            state: state.into(),
            since: 0,
            check: check.map(Into::into),
            code: None,
            connections: 0,
            total: 0,
        };
        // The other port has no check of its own.
        assert_eq!(
            balancer(&[with("UP", Some("L7OK")), with("DOWN", None)]),
            None
        );
        for lacking in [
            with("UP", Some("INI")),
            with("DOWN 1/2", Some("L7OK")),
            with("DOWN", Some("L4CON")),
            with("UP 1/2", Some("L7STS")),
        ] {
            assert!(balancer(&[with("UP", Some("L7OK")), lacking]).is_some());
        }
    }

    #[test]
    fn redis_is_whole_with_one_master_whom_every_sentinel_knows() {
        let with = |role: &str, sentinels: u64| {
            status(&format!(
                r#"{{"format": 1, "members": [
                {{"name": "a", "roles": ["redis"], "redis": {{"role": "master", "sentinels": 2}}}},
                {{"name": "b", "roles": ["redis"], "redis": {{"role": "{role}", "sentinels": {sentinels}}}}}]}}"#
            ))
        };
        assert_eq!(redis(&with("replica", 2)), None);
        for (lacking, what) in [
            (with("copying", 2), "that of b is copying"),
            (with("replica", 1), "b hears 1 of 2"),
            (with("master", 2), "2 masters"),
        ] {
            assert_eq!(redis(&lacking).map(|told| told.contains(what)), Some(true));
        }
    }
}
