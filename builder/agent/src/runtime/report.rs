//! What everybody on this machine may see: `/run/rolesmith-cluster/status.json`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cluster::{EpochRow, RoleWord, StatusReport};
use crate::files::{self, Access, Root, Seen};
use crate::net::material::Material;
use crate::net::{LinkStatus, NetStatus};

/// The report.
pub const FILE: &str = "/run/rolesmith-cluster/status.json";
/// Its format.
pub const FORMAT: u32 = 1;
/// Age in seconds from which on a report says nothing about now.
const OLD: u64 = 10;
/// Seconds for which somebody who was refused is worth an alarm.
const RECENT: u64 = 3600;

/// This node's part in the cluster and its connections.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterReport {
    /// [`FORMAT`].
    pub format: u32,
    /// When it was written (Unix seconds).
    pub at: u64,
    /// What has to come before anything can begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// This node.
    #[serde(default)]
    pub node: String,
    /// The random id of this machine's first start, in hexadecimal.
    #[serde(default)]
    pub machine: String,
    /// Version of the facts in force.
    #[serde(default)]
    pub facts: u64,
    /// Its part in the database cluster, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<StatusReport>,
    /// The primary, as a node without a part in the cluster knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<EpochRow>,
    /// Connections, and who was refused.
    #[serde(default)]
    pub net: NetStatus,
    /// What a person should look at.
    #[serde(default)]
    pub alarms: Vec<String>,
}

/// What a report is made of.
#[derive(Debug)]
pub struct Input<'a> {
    /// Unix seconds.
    pub now: u64,
    /// The facts in force.
    pub material: &'a Material,
    /// The random id of this machine's first start.
    pub incarnation: u64,
    /// Why newer files are not in force.
    pub stale: Option<&'a str>,
    /// What the core says.
    pub cluster: Option<StatusReport>,
    /// The primary, where this node has to ask for it.
    pub primary: Option<EpochRow>,
    /// Why programs of this machine do not reach it.
    pub pooler: Option<String>,
    /// The network.
    pub net: NetStatus,
    /// Why members that are lost cannot be looked for.
    pub discovery: Option<&'a str>,
}

impl ClusterReport {
    /// Before there is anything else to say.
    #[must_use]
    pub fn waiting(why: &str, now: u64) -> Self {
        Self {
            format: FORMAT,
            at: now,
            waiting: Some(why.to_owned()),
            ..Self::default()
        }
    }

    /// A report.
    #[must_use]
    pub fn new(input: Input<'_>) -> Self {
        let Input {
            now,
            material,
            incarnation,
            stale,
            cluster,
            primary,
            pooler,
            net,
            discovery,
        } = input;
        let mut alarms: Vec<String> = Vec::new();
        alarms.extend(stale.map(ToOwned::to_owned));
        if let Some(problem) = &material.problem {
            alarms.push(format!("other members will refuse this node: {problem}"));
        }
        alarms.extend(net.problem.clone());
        if knows_nobody(&net.links) {
            alarms.push(NOBODY.to_owned());
        }
        alarms.extend(discovery.map(ToOwned::to_owned));
        alarms.extend(refused_by_others(&net.links));
        for refused in &net.refused {
            if now.saturating_sub(refused.last) < RECENT {
                alarms.push(format!("refused {}: {}", refused.from, refused.why));
            }
        }
        if let Some(cluster) = &cluster {
            alarms.extend(cluster.alarms.iter().cloned());
        }
        alarms.extend(pooler);
        Self {
            format: FORMAT,
            at: now,
            waiting: None,
            node: material.identity.node.clone(),
            machine: format!("{incarnation:016x}"),
            facts: material.facts.version,
            cluster,
            primary,
            net,
            alarms,
        }
    }

    /// Writes it. A failure shows as an old report.
    pub fn write(&self, root: &Root) {
        let _ = files::write_json(&root.join(FILE), self, Access::PUBLIC);
    }

    /// Reads it; an old one is none. The alarm that belongs to it comes with it.
    #[must_use]
    pub fn read(root: &Root, now: u64) -> (Option<Self>, Option<String>) {
        match files::read_json::<Self>(&root.join(FILE)) {
            Seen::Is(report) if report.waiting.is_none() && report.at + OLD < now => {
                let age = now - report.at;
                let why = format!("rolesmith-cluster.service has said nothing for {age} s");
                (None, Some(why))
            }
            Seen::Is(report) => (Some(report), None),
            Seen::Absent => (None, None),
            Seen::Broken(why) => (None, Some(format!("{FILE}: {why}"))),
        }
    }

    /// In one line, for systemctl(1).
    #[must_use]
    pub fn line(&self) -> String {
        if let Some(why) = &self.waiting {
            return format!("waiting: {why}");
        }
        let connected = self.net.links.iter().filter(|link| link.connected).count();
        let mut links = format!("{connected} of {} members connected", self.net.links.len());
        if knows_nobody(&self.net.links) {
            links.push_str(", waiting for their addresses");
        }
        match (&self.cluster, &self.primary) {
            (Some(cluster), _) => format!("{}, {links}", describe(cluster)),
            (None, Some(row)) => format!("the primary is {}, {links}", row.node),
            (None, None) => links,
        }
    }

    /// Lines for a table of people: what each is about, and what there is to say.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("cluster", self.line())];
        if let Some(cluster) = &self.cluster {
            let config = &cluster.config;
            if config.stamp.version > 0 {
                let voters: Vec<_> = config.voters.keys().map(ToString::to_string).collect();
                lines.push((
                    "",
                    format!(
                        "configuration {}.{}: {}",
                        config.stamp.epoch,
                        config.stamp.version,
                        voters.join(" ")
                    ),
                ));
            }
            let end = cluster.position.map(|position| position.lsn);
            for (name, (streaming, flushed)) in &cluster.standbys {
                let state = if *streaming { "streams" } else { "connected" };
                let lag = end
                    .map(|end| format!(", {} bytes behind", end.0.saturating_sub(flushed.0)))
                    .unwrap_or_default();
                lines.push(("", format!("standby {name} {state}{lag}")));
            }
        }
        for link in self.net.links.iter().filter(|link| !link.connected) {
            let why = link.problem.as_deref().unwrap_or("not connected yet");
            let mut text = format!("{}: {why}", link.name);
            if link.addresses.len() > 1 {
                let places: Vec<_> = link.addresses.iter().map(ToString::to_string).collect();
                let _ = write!(text, " (looked for at {})", places.join(", "));
            }
            lines.push(("member", text));
        }
        lines
    }
}

/// What somebody has to do about [`knows_nobody`].
const NOBODY: &str = "no address of another member is known: this node waits until one is recorded (`rolesmith record NODE ADDRESS`, \
                      then publish), found by [discovery] of fleet.toml, or comes by itself";

/// Whether there is no member that could be called at all.
fn knows_nobody(links: &[LinkStatus]) -> bool {
    let unknown = |link: &LinkStatus| !link.connected && link.addresses.is_empty();
    !links.is_empty() && links.iter().all(unknown)
}

/// The members that refuse this node say so when they close the connection.
fn refused_by_others(links: &[LinkStatus]) -> Vec<String> {
    links
        .iter()
        .filter_map(|link| {
            let problem = link.problem.as_ref()?;
            problem
                .starts_with("it refuses")
                .then(|| format!("{}: {problem}", link.name))
        })
        .collect()
}

fn describe(cluster: &StatusReport) -> String {
    let word = match cluster.role {
        RoleWord::Waiting => "waiting for the cluster to be formed",
        RoleWord::Witness => "witness",
        RoleWord::Learner => "learner",
        RoleWord::Standby => "standby",
        RoleWord::Candidate => "candidate",
        RoleWord::Promoting => "becoming primary",
        RoleWord::Primary => "primary",
    };
    let mut text = word.to_owned();
    if let Some((epoch, _)) = &cluster.promised {
        // Writing to a String cannot fail.
        let _ = write!(text, ", epoch {epoch}");
    }
    if let Some((primary, age)) = &cluster.primary
        && cluster.role != RoleWord::Primary
    {
        let _ = write!(text, ", primary {primary} heard {age} ms ago");
    }
    text
}
