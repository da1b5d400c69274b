//! The fleet as its members see it: what one member gathers from all others (`rolesmith-agent status --fleet --json`), and
//! what `rolesmith status` reads.
//!
//! Agents and builders of different versions read each other's: everything but names may be missing, and what is not known
//! is passed over.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Format of [`FleetStatus`].
pub const STATUS_FORMAT: u32 = 1;

/// The word for a confirmed primary in [`DatabaseStatus::role`].
pub const PRIMARY: &str = "primary";

/// All members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetStatus {
    /// [`STATUS_FORMAT`].
    pub format: u32,
    /// When it was asked (Unix seconds, by the clock of [`FleetStatus::asked`]).
    #[serde(default)]
    pub at: u64,
    /// The fleet.
    #[serde(default)]
    pub fleet: String,
    /// The member that asked the others.
    #[serde(default)]
    pub asked: String,
    /// Version of the facts in force there.
    #[serde(default)]
    pub facts: u64,
    /// The newest active configuration of the database cluster that any member told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Configuration>,
    /// Every member that those facts declare, by name.
    pub members: Vec<MemberStatus>,
}

/// An active configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// The epoch in which it was written.
    pub epoch: u64,
    /// Counts the changes.
    pub version: u64,
    /// Whose promises count: each with the random id of its machine's first start, in hexadecimal.
    #[serde(default)]
    pub voters: BTreeMap<String, String>,
    /// Those that hold data.
    #[serde(default)]
    pub data: Vec<String>,
    /// How many standbys confirm a commit.
    #[serde(default)]
    pub synchronous: u64,
    /// The one that goes on without a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<String>,
    /// The database's system identifier.
    #[serde(default)]
    pub system_id: String,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Which incarnation of the name facts declare.
    #[serde(default)]
    pub incarnation: u64,
    /// Its private address, where facts know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its roles by the facts.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Its part in the database cluster by the facts: `data`, `witness`, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// It answered.
    #[serde(default)]
    pub reachable: bool,
    /// Why there is no answer, or none that can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The random id of its machine's first start, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Version of the facts in force on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<u64>,
    /// Its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// What it says beside that; agents of older versions say nothing.
    #[serde(default, flatten)]
    pub machine_status: MachineStatus,
}

/// What a machine says about itself beside its part in the database cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Version of its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether every health check of its roles passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Since when it is drained (Unix seconds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<u64>,
    /// Version of the facts that everything on it goes by, its services included; nothing while something is left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// The certificate that it shows: SHA-256, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The CAs that it trusts: SHA-256 of their certificates, in hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<String>,
    /// Its Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStatus>,
    /// What a person should look at.
    #[serde(default)]
    pub alarms: Vec<String>,
}

/// A member's part in the database cluster, as itself sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// `primary`, `promoting`, `candidate`, `standby`, `learner`, `witness` or `waiting`.
    pub role: String,
    /// The highest epoch it promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The primary that it hears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// Epoch of the newest row in its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Its data directory: `empty`, `cloning`, `rewinding`, `copied`, `founding` or `complete`.
    #[serde(default)]
    pub data: String,
    /// System identifier of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// System identifier of the cluster that it knows to be formed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub formed: Option<String>,
    /// Epoch and version of the active configuration that it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<(u64, u64)>,
    /// Where its log ends, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How many bytes it is behind the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Whether it streams, as the primary sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
}

/// A member's Redis, as itself sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RedisStatus {
    /// `master`, `replica`, `copying`, `down`, `waiting` or `started`.
    pub role: String,
    /// The master, by name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master: Option<String>,
    /// The epoch of its election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Sentinels that answer with a master.
    #[serde(default)]
    pub sentinels: u64,
    /// Those whose majority elects.
    #[serde(default)]
    pub voters: u64,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

impl FleetStatus {
    /// The member of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&MemberStatus> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The confirmed primary: of those that say so, the one of the highest epoch.
    #[must_use]
    pub fn primary(&self) -> Option<&MemberStatus> {
        let mut primaries: Vec<_> = self
            .members
            .iter()
            .filter_map(|member| Some((member.database.as_ref()?, member)))
            .filter(|(database, _)| database.role == PRIMARY)
            .collect();
        primaries.sort_by_key(|(database, _)| database.epoch);
        primaries.last().map(|(_, member)| *member)
    }

    /// The voters of the active configuration that answer as the machines that vote.
    #[must_use]
    pub fn voters_heard(&self) -> Vec<&str> {
        let votes = |member: &&MemberStatus| {
            let machine = self
                .configuration
                .as_ref()
                .and_then(|configuration| configuration.voters.get(&member.name));
            member.reachable && machine.is_some() && member.machine.as_ref() == machine
        };
        let heard = self.members.iter().filter(votes);
        heard.map(|member| member.name.as_str()).collect()
    }

    /// Whether a majority of the voters answers.
    #[must_use]
    pub fn has_majority(&self) -> bool {
        let voters = self
            .configuration
            .as_ref()
            .map_or(0, |configuration| configuration.voters.len());
        voters > 0 && self.voters_heard().len() > voters / 2
    }

    /// Fills in how far each member is behind the primary. `standbys` is what the primary sees: streaming, and the end of
    /// what each has on disk.
    pub fn measure(&mut self, standbys: &BTreeMap<String, (bool, u64)>) {
        let Some((primary, end)) = self.primary().and_then(|member| {
            let position = member.database.as_ref()?.position?;
            Some((member.name.clone(), position))
        }) else {
            return;
        };
        for member in &mut self.members {
            let Some(database) = &mut member.database else {
                continue;
            };
            if member.name == primary {
                continue;
            }
            let seen = standbys.get(&member.name);
            database.streaming = seen.map(|(streaming, _)| *streaming);
            let own = database.position.filter(|_| database.data == "complete");
            let place = seen.map(|(_, flushed)| *flushed).or(own);
            database.lag = place.map(|place| end.saturating_sub(place));
        }
    }

    /// The system identifier of a formed and healthy database, with the members that told it: a majority of the declared
    /// members knows the same one, nobody another, and a confirmed primary serves it.
    #[must_use]
    pub fn formed_database(&self) -> Option<(String, Vec<String>)> {
        let declared = self.members.iter().filter(|member| member.part.is_some());
        let told: Vec<(&str, &str)> = self
            .members
            .iter()
            .filter_map(|member| {
                let formed = member.database.as_ref()?.formed.as_deref()?;
                Some((member.name.as_str(), formed))
            })
            .collect();
        let (_, id) = *told.first()?;
        let agree = told.iter().all(|(_, other)| *other == id);
        let serves = self
            .primary()
            .and_then(|member| member.database.as_ref()?.system_id.as_deref())
            == Some(id);
        let counted: Vec<String> = told
            .iter()
            .filter(|(name, _)| {
                self.member(name)
                    .is_some_and(|member| member.part.is_some())
            })
            .map(|(name, _)| (*name).to_owned())
            .collect();
        (agree && serves && counted.len() > declared.count() / 2).then(|| (id.to_owned(), counted))
    }

    /// The members that say that Redis has begun, where a majority of those with the role follows one master.
    #[must_use]
    pub fn formed_redis(&self) -> Option<Vec<String>> {
        let declared = self
            .members
            .iter()
            .filter(|member| member.roles.iter().any(|role| role == "redis"))
            .count();
        let mut by_master: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for member in &self.members {
            if let Some(redis) = &member.machine_status.redis
                && matches!(redis.role.as_str(), "master" | "replica")
                && redis.sentinels > redis.voters / 2
                && let Some(master) = &redis.master
            {
                let told = by_master.entry(master).or_default();
                told.push(member.name.clone());
            }
        }
        by_master
            .into_values()
            .find(|told| told.len() > declared / 2)
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut rows = vec![
            [
                "NODE", "DATABASE", "EPOCH", "LAG", "REDIS", "LOGS", "FACTS", "CONFIG", "STATE",
            ]
            .map(str::to_owned),
        ];
        rows.extend(self.members.iter().map(MemberStatus::row));
        let mut text = columns(&rows);
        // Writing to a String cannot fail.
        if let Some(configuration) = &self.configuration {
            let _ = writeln!(text, "{}", configuration.sentence(self));
        }
        for member in &self.members {
            for alarm in &member.machine_status.alarms {
                let _ = writeln!(text, "alarm: {}: {alarm}", member.name);
            }
        }
        text
    }
}

impl Configuration {
    fn sentence(&self, status: &FleetStatus) -> String {
        let voters: Vec<&str> = self.voters.keys().map(String::as_str).collect();
        let heard = status.voters_heard().len();
        let mut text = format!(
            "configuration {}.{}: voters {} ({heard} of {} answer{}), data on {}",
            self.epoch,
            self.version,
            voters.join(", "),
            voters.len(),
            if status.has_majority() {
                ""
            } else {
                ", NO MAJORITY"
            },
            self.data.join(", "),
        );
        match &self.alone {
            // Writing to a String cannot fail.
            Some(alone) => {
                let _ = write!(text, "; {alone} goes on without a copy");
            }
            None => {
                let _ = write!(
                    text,
                    "; commits wait for {} of the others",
                    self.synchronous
                );
            }
        }
        text
    }
}

impl MemberStatus {
    fn row(&self) -> [String; 9] {
        let dash = || "-".to_owned();
        let database = self.database.as_ref();
        let number = |value: Option<u64>| value.map_or_else(dash, |number| number.to_string());
        let role = match database {
            Some(database) if database.streaming == Some(false) => {
                format!("{}, not streaming", database.role)
            }
            Some(database) => database.role.clone(),
            None => dash(),
        };
        let redis = self.machine_status.redis.as_ref();
        let logs = self.roles.iter().any(|role| role == "log-server");
        [
            self.name.clone(),
            role,
            number(database.and_then(|database| database.epoch)),
            database
                .and_then(|database| database.lag)
                .map_or_else(dash, bytes),
            redis.map_or_else(dash, |redis| redis.role.clone()),
            if logs { "server".to_owned() } else { dash() },
            number(self.facts),
            database
                .and_then(|database| database.configuration)
                .map_or_else(dash, |(epoch, version)| format!("{epoch}.{version}")),
            self.state(),
        ]
    }

    fn state(&self) -> String {
        if !self.reachable {
            let why = self.problem.as_deref().unwrap_or("no answer");
            return format!("UNREACHABLE: {why}");
        }
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let mut words = Vec::new();
        if self.machine_status.drained.is_some() {
            words.push("drained");
        }
        match self.machine_status.healthy {
            Some(true) => words.push("healthy"),
            // A drained node is not healthy, on purpose.
            Some(false) if words.is_empty() => words.push("NOT healthy"),
            _ => {}
        }
        if words.is_empty() {
            words.push("reachable");
        }
        words.join(", ")
    }
}

/// A number of bytes for people.
fn bytes(number: u64) -> String {
    match number {
        0..1024 => format!("{number} B"),
        1024..1_048_576 => format!("{} KiB", number / 1024),
        _ => format!("{} MiB", number / 1_048_576),
    }
}

/// Rows as wide as their widest cells; the last column is not filled up.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
