//! The health of the node's roles, as the unprivileged daemon sees it every [`INTERVAL`] seconds.

use std::thread;

use rolesmith_model::facts::{ADDRESS_PLACEHOLDER, NodeFacts};
use rolesmith_model::manifest::{HealthCheck, Probe};
use serde::{Deserialize, Serialize};

use crate::drain;
use crate::files::{self, Root, Seen};
use crate::observe;
use crate::probe;
use crate::program::Programs;

/// What the daemon writes.
pub const HEALTH_FILE: &str = "/run/rolesmith-agent/health.json";
/// Seconds between two looks.
pub const INTERVAL: u64 = 10;
/// The problem of a node that is well, and out of service.
pub const DRAINED: &str =
    "drained: its operator took it out of service; `rolesmith-agent undrain` ends that";
/// Seconds after which a look is too old to count; three looks in a row were missed.
pub const STALE: u64 = 3 * INTERVAL + 5;

/// One check and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The role.
    pub role: String,
    /// What is looked at.
    pub name: String,
    /// What was found instead; nothing when all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// [`HEALTH_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether this machine knows who it is.
    pub enrolled: bool,
    /// Whether it is enrolled and every check found all well.
    pub healthy: bool,
    /// When it was looked at (Unix seconds).
    pub at: u64,
    /// Why there are no checks, where that is so; or that the node is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Every check, by role.
    pub checks: Vec<Checked>,
}

impl Health {
    /// The last look; a machine without one, or with an old one, is not healthy.
    #[must_use]
    pub fn read(root: &Root, now: u64) -> Self {
        let none = |problem: &str| Self {
            enrolled: false,
            healthy: false,
            at: 0,
            problem: Some(problem.to_owned()),
            checks: Vec::new(),
        };
        match files::read_json::<Self>(&root.join(HEALTH_FILE)) {
            Seen::Is(health) if health.at.saturating_add(STALE) < now => {
                let problem = format!("last looked at {} s ago", now.saturating_sub(health.at));
                Self {
                    healthy: false,
                    problem: Some(problem),
                    ..health
                }
            }
            Seen::Is(health) => health,
            Seen::Absent => none("rolesmith-agent.service has not looked yet"),
            Seen::Broken(why) => none(&why),
        }
    }

    /// What keeps the machine from being healthy, a line each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let checks = self.checks.iter();
        let failing = checks.filter_map(|check| {
            Some(format!(
                "{}/{}: {}",
                check.role,
                check.name,
                check.problem.as_ref()?
            ))
        });
        self.problem.iter().cloned().chain(failing).collect()
    }
}

fn unit_of(check: &HealthCheck) -> Option<&str> {
    match &check.probe {
        Probe::Unit(unit) => Some(unit),
        _ => None,
    }
}

/// Looks at everything at once, so that one slow check delays no other.
pub fn look(root: &Root, programs: &(impl Programs + Sync), now: u64) -> Health {
    let none = |enrolled: bool, problem: &str| Health {
        enrolled,
        healthy: false,
        at: now,
        problem: Some(problem.to_owned()),
        checks: Vec::new(),
    };
    let identity = match observe::identity(root) {
        Seen::Is(identity) => identity,
        Seen::Absent => return none(false, "this machine is not enrolled"),
        Seen::Broken(why) => return none(false, &format!("its identity cannot be read: {why}")),
    };
    let node = match observe::node(root, &identity.node) {
        Seen::Is(node) => node,
        Seen::Absent => return none(true, "no facts about this node are installed"),
        Seen::Broken(why) => {
            return none(
                true,
                &format!("the facts about this node cannot be read: {why}"),
            );
        }
    };
    let checks = located(programs, node);
    let drained = drain::since(root).map(|_| DRAINED.to_owned());
    let names: Vec<&str> = checks
        .iter()
        .filter_map(|(_, check)| unit_of(check))
        .collect();
    let checks: Vec<Checked> = thread::scope(|scope| {
        let all_units = scope.spawn(|| match names.is_empty() {
            true => Vec::new(),
            false => probe::units(programs, &names),
        });
        let looks: Vec<_> = checks
            .iter()
            .map(|(_, check)| {
                unit_of(check)
                    .is_none()
                    .then(|| scope.spawn(|| probe::probe(programs, &check.probe).err()))
            })
            .collect();
        let broke = || Some("the check itself broke".to_owned());
        let mut of_units = all_units.join().unwrap_or_default().into_iter();
        let results = looks.into_iter().map(|look| match look {
            Some(look) => look.join().unwrap_or_else(|_| broke()),
            None => of_units.next().map_or_else(broke, Result::err),
        });
        let named = checks.iter().zip(results);
        named
            .map(|((role, check), problem)| Checked {
                role: role.clone(),
                name: check.name.clone(),
                problem,
            })
            .collect()
    });
    let healthy = drained.is_none() && checks.iter().all(|check| check.problem.is_none());
    Health {
        enrolled: true,
        healthy,
        at: now,
        problem: drained,
        checks,
    }
}

/// The node's checks with its private address in them where the builder did not know it.
fn located(programs: &impl Programs, node: NodeFacts) -> Vec<(String, HealthCheck)> {
    let mut checks: Vec<(String, HealthCheck)> = node
        .health
        .into_iter()
        .flat_map(|(role, checks)| checks.into_iter().map(move |check| (role.clone(), check)))
        .collect();
    let mut texts: Vec<&mut String> = checks
        .iter_mut()
        .flat_map(|(_, check)| match &mut check.probe {
            Probe::Unit(text) | Probe::Tcp(text) | Probe::Http(text) => vec![text],
            Probe::Command(argv) => argv.iter_mut().collect(),
        })
        .filter(|text| text.contains(ADDRESS_PLACEHOLDER))
        .collect();
    if !texts.is_empty()
        && let Some(address) = observe::address(programs, &node.private_interface)
    {
        for text in &mut texts {
            **text = text.replace(ADDRESS_PLACEHOLDER, &address);
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::program::Machine;

    fn write(root: &Root, path: &str, value: &serde_json::Value) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    }

    #[test]
    fn every_check_is_made_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert!(!look(&root, &Machine, 1).enrolled);
        let identity = json!({ "fleet": "acme", "node": "n1", "incarnation": 1, "origin": "seed" });
        write(&root, "/etc/rolesmith/node.json", &identity);
        assert!(look(&root, &Machine, 1).problems()[0].contains("no facts"));
        let check =
            |name: &str, argv: &[&str]| json!({ "name": name, "probe": { "command": argv } });
        let node = |second: &str| {
            let checks = json!({ "app": [check("one", &["true"]), check("two", &[second])] });
            json!({ "name": "n1", "files": [], "health": checks, "openings": [], "private_interface": "lo" })
        };
        write(
            &root,
            "/usr/lib/rolesmith/facts/nodes/n1/node.json",
            &node("false"),
        );
        let health = look(&root, &Machine, 1);
        assert_eq!(health.problems(), ["app/two: false exited with 1: "]);
        write(
            &root,
            "/usr/lib/rolesmith/facts/nodes/n1/node.json",
            &node("true"),
        );
        assert!(look(&root, &Machine, 1).healthy);
        drain::mark(&root, 1).unwrap();
        let drained = look(&root, &Machine, 2);
        assert_eq!((drained.healthy, drained.checks.len()), (false, 2));
        assert_eq!(drained.problems(), [DRAINED]);
        drain::unmark(&root).unwrap();
        assert!(look(&root, &Machine, 3).healthy);
    }

    #[test]
    fn an_old_look_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        assert!(!Health::read(&root, 100).healthy);
        write(
            &root,
            HEALTH_FILE,
            &json!({ "enrolled": true, "healthy": true, "at": 100, "checks": [] }),
        );
        assert!(Health::read(&root, 100 + STALE).healthy);
        let old = Health::read(&root, 101 + STALE);
        assert!(!old.healthy);
        assert_eq!(
            old.problems(),
            [format!("last looked at {} s ago", STALE + 1)]
        );
    }
}
