//! What there is to say about the node, for people and for programs.

use std::fmt::Write as _;

use rolesmith_model::facts::{Identity, Member};
use serde::Serialize;

use crate::alarms::queue;
use crate::files::{self, Root, Seen};
use crate::guard::Guard;
use crate::health::Health;
use crate::observe;
use crate::runtime::report::ClusterReport;
use crate::state::{Phase, REPORT_FILE, Report, RolePhase};

/// Everything that is known without privileges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether this machine knows who it is.
    pub enrolled: bool,
    /// Which incarnation of its name it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// What `apply` came to; nothing when it has not run since the machine started.
    pub report: Option<Report>,
    /// What the daemon saw last.
    pub health: Health,
    /// Firewall and ssh settings: "none", "active", "pending" or "taken-back".
    pub firewall: &'static str,
    /// The guard's whole state.
    pub guard: Guard,
    /// Its part in the clusters and its connections, while rolesmith-cluster.service tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterReport>,
    /// What somebody should look at.
    pub alarms: Vec<String>,
}

impl Status {
    /// Reads it.
    #[must_use]
    pub fn read(root: &Root, now: u64) -> Self {
        let (enrolled, incarnation) = match observe::identity(root) {
            Seen::Is(Identity { incarnation, .. }) => (true, Some(incarnation)),
            Seen::Broken(_) => (true, None),
            Seen::Absent => (false, None),
        };
        let health = Health::read(root, now);
        let mut alarms = Vec::new();
        let report = match files::read_json::<Report>(&root.join(REPORT_FILE)) {
            Seen::Is(report) => Some(report),
            Seen::Absent => None,
            Seen::Broken(why) => {
                alarms.push(format!("{REPORT_FILE}: {why}"));
                None
            }
        };
        let guard = Guard::load(root).unwrap_or_else(|why| {
            alarms.push(why);
            Guard::default()
        });
        if let Some(why) = &guard.fallback {
            alarms.push(format!(
                "the confirmed firewall rules could not be loaded when the machine was started, only ssh is open: {why}"
            ));
        }
        if let Some(Phase::Failed { what }) = report.as_ref().map(|report| &report.phase) {
            alarms.push(what.clone());
        }
        alarms.extend(certificate(root, now));
        alarms.extend(queue::alarm(root, now));
        let (cluster, silent) = ClusterReport::read(root, now);
        if enrolled {
            alarms.extend(silent);
            alarms.extend(cluster.iter().flat_map(|report| report.alarms.clone()));
        }
        if enrolled {
            alarms.extend(health.problems());
        }
        let firewall = match &guard {
            Guard {
                pending: Some(_), ..
            } => "pending",
            Guard {
                rejected: Some(_), ..
            } => "taken-back",
            Guard {
                confirmed: Some(_), ..
            } => "active",
            _ => "none",
        };
        Self {
            enrolled,
            incarnation,
            report,
            health,
            firewall,
            guard,
            cluster,
            alarms,
        }
    }

    /// What is missing until the node is converged and healthy; nothing when it is.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        if !self.enrolled {
            return vec!["this machine is not enrolled".to_owned()];
        }
        let Some(report) = &self.report else {
            return vec![
                "`rolesmith-agent apply` has not run since the machine started".to_owned(),
            ];
        };
        match &report.phase {
            Phase::NotEnrolled => return vec!["the identity was not applied yet".to_owned()],
            Phase::Waiting { why } => return vec![why.clone()],
            Phase::Failed { what } => return vec![what.clone()],
            Phase::Converged => {}
        }
        if self.health.healthy && self.health.at < report.changed {
            return vec!["health was not looked at since the last change".to_owned()];
        }
        if self.health.healthy {
            Vec::new()
        } else {
            self.health.problems()
        }
    }

    /// A table for people.
    #[must_use]
    pub fn table(&self, now: u64) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key:<10} {value}");
        };
        let report = self.report.clone().unwrap_or_default();
        match (&report.node, &report.fleet, self.enrolled) {
            (_, _, false) => line("node", "not enrolled"),
            (Some(node), Some(fleet), _) => {
                line(
                    "node",
                    &format!(
                        "{node} of {fleet}, incarnation {}",
                        self.incarnation.unwrap_or_default()
                    ),
                );
            }
            _ => line("node", "enrolled"),
        }
        match &self.report {
            None => line(
                "state",
                "unknown: `rolesmith-agent apply` has not run since the machine started",
            ),
            Some(report) => line("state", &phase(&report.phase)),
        }
        if let Some(version) = report.facts_version {
            line("facts", &format!("version {version}"));
        }
        line("firewall", &firewall(self.firewall, &self.guard, now));
        for role in &report.roles {
            let version = role.version.as_deref().unwrap_or("-");
            let cluster = role
                .cluster
                .as_ref()
                .map(|kind| format!(", cluster of kind {kind}"))
                .unwrap_or_default();
            line(
                "role",
                &format!(
                    "{:<24} {:<20} {}{cluster}",
                    role.name,
                    version,
                    role_phase(&role.phase)
                ),
            );
            if !role.units.is_empty() {
                line("", &format!("  units: {}", role.units.join(", ")));
            }
        }
        for (key, value) in self.cluster.iter().flat_map(ClusterReport::lines) {
            line(key, &value);
        }
        let checks = &self.health.checks;
        let good = checks
            .iter()
            .filter(|check| check.problem.is_none())
            .count();
        let word = if self.health.healthy {
            "healthy"
        } else {
            "NOT healthy"
        };
        line(
            "health",
            &format!("{word}, {good} of {} checks pass", checks.len()),
        );
        for alarm in &self.alarms {
            line("alarm", alarm);
        }
        text
    }
}

/// Days before the end of the node's certificate from which on somebody has to be told.
const CERTIFICATE_DAYS: u64 = 30;

/// What is to be said about the end of the node's certificate.
fn certificate(root: &Root, now: u64) -> Option<String> {
    let (Seen::Is(identity), Seen::Is(facts)) = (observe::identity(root), observe::facts(root))
    else {
        return None;
    };
    let own = |member: &&Member| member.name == identity.node;
    let end = facts.members.iter().find(own)?.certificate_expires?;
    let left = end.saturating_sub(now).div_ceil(24 * 60 * 60);
    let help = "publish a new one with `rolesmith publish`";
    match left {
        0 => Some(format!("the node's certificate has expired: {help}")),
        left if left <= CERTIFICATE_DAYS => Some(format!(
            "the node's certificate ends in {left} {}: {help}",
            if left == 1 { "day" } else { "days" }
        )),
        _ => None,
    }
}

fn phase(phase: &Phase) -> String {
    match phase {
        Phase::NotEnrolled => "not enrolled".to_owned(),
        Phase::Waiting { why } => format!("waiting: {why}"),
        Phase::Converged => "converged".to_owned(),
        Phase::Failed { what } => format!("FAILED: {what}"),
    }
}

fn role_phase(phase: &RolePhase) -> String {
    match phase {
        RolePhase::Ready => "ready".to_owned(),
        RolePhase::Applying => "being applied".to_owned(),
        RolePhase::Waiting { why } => format!("waiting: {why}"),
        RolePhase::Failed { what } => format!("FAILED: {what}"),
    }
}

/// The guard's state in words.
#[must_use]
pub fn firewall(word: &str, guard: &Guard, now: u64) -> String {
    match (&guard.pending, &guard.rejected) {
        (Some(pending), _) => {
            let left = pending.until.saturating_sub(now);
            format!(
                "pending: taken back in {left} s unless `rolesmith-agent firewall confirm` is called"
            )
        }
        (None, Some(rejected)) => format!("taken back: {}", rejected.why),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Status {
        Status {
            enrolled: true,
            incarnation: Some(1),
            report: Some(Report {
                phase: Phase::Converged,
                changed: 100,
                updated: 200,
                ..Report::default()
            }),
            health: Health {
                enrolled: true,
                healthy: true,
                at: 150,
                problem: None,
                checks: Vec::new(),
            },
            firewall: "active",
            guard: Guard::default(),
            cluster: None,
            alarms: Vec::new(),
        }
    }

    #[test]
    fn a_node_is_ready_when_nothing_is_missing() {
        type Change = fn(&mut Status);
        let cases: [(Change, Option<&str>); 7] = [
            (|_| {}, None),
            (|status| status.enrolled = false, Some("not enrolled")),
            (|status| status.report = None, Some("has not run")),
            (
                |status| {
                    status.report = Some(Report {
                        phase: Phase::Waiting { why: "x".into() },
                        ..Report::default()
                    })
                },
                Some("x"),
            ),
            (
                |status| {
                    status.report = Some(Report {
                        phase: Phase::Failed { what: "y".into() },
                        ..Report::default()
                    })
                },
                Some("y"),
            ),
            // Health as it was before the last change tells nothing.
            (
                |status| status.health.at = 99,
                Some("since the last change"),
            ),
            (
                |status| (status.health.healthy, status.health.problem) = (false, Some("z".into())),
                Some("z"),
            ),
        ];
        for (change, missing) in cases {
            let mut status = good();
            change(&mut status);
            let found = status.missing().join("; ");
            match missing {
                None => assert_eq!(found, ""),
                Some(text) => assert!(found.contains(text), "{text}: {found}"),
            }
        }
    }

    #[test]
    fn a_pending_set_says_what_to_do() {
        let guard = Guard::default().tried("a", 1000);
        assert!(
            firewall("pending", &guard, 1010).starts_with("pending: taken back in 110 s unless")
        );
        assert!(good().table(1010).contains("converged"));
    }
}
