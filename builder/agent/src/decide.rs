//! What is to be done, from what was seen. Total and pure: every [`Observed`] has exactly one [`Decision`].
//!
//! Actions stand in the order in which they have to happen, and each may be repeated: whoever carries them out remembers
//! one only after it was done, so a crash leads to the same decision again, or to the rest of it.

use std::collections::BTreeMap;

use rolesmith_model::facts::{FACTS_FORMAT, Facts, Identity, Member};
use rolesmith_model::manifest::Cluster;

use crate::files::Seen;
use crate::state::{Phase, RolePhase, RoleReport};

#[cfg(test)]
pub(crate) mod tests;
mod types;
mod work;

pub use types::{Action, Failure, FileSpec, Observed, RoleSeen, UnitSeen, Verb, WantedFile};
use work::Work;
pub use work::set_fingerprint;

/// What is to be done, and where the machine stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// In the order in which they have to happen; empty when nothing more can be done now.
    pub actions: Vec<Action>,
    /// Where the machine as a whole stands.
    pub phase: Phase,
    /// Where each role stands, in the order in which they are applied.
    pub roles: Vec<RoleReport>,
    /// Roles for which everything was done, with the fingerprint at which it was.
    pub ready: BTreeMap<String, String>,
    /// Facts that are in force.
    pub facts_version: Option<u64>,
}

impl Decision {
    fn idle(phase: Phase) -> Self {
        Self {
            actions: Vec::new(),
            phase,
            roles: Vec::new(),
            ready: BTreeMap::new(),
            facts_version: None,
        }
    }
}

/// Why identity and facts do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Facts of another fleet.
    #[error(
        "the installed facts are those of the fleet {facts:?}, and this machine belongs to {identity:?}"
    )]
    OtherFleet {
        /// The fleet of the facts.
        facts: String,
        /// The fleet of the identity.
        identity: String,
    },
    /// A format that this agent does not know.
    #[error(
        "the facts have format {0}, and this agent knows {FACTS_FORMAT}: upgrade rolesmith-agent"
    )]
    Format(u32),
    /// Replayed facts.
    #[error(
        "the installed facts have version {installed}, but version {seen} was seen before: older facts are refused"
    )]
    Older {
        /// Version of the installed facts.
        installed: u64,
        /// Highest version seen.
        seen: u64,
    },
    /// Not a member.
    #[error(
        "the facts (version {version}) declare no node {node:?}: it was removed from the fleet, or never belonged to it; its services are left alone"
    )]
    Undeclared {
        /// The identity's name.
        node: String,
        /// Version of the facts.
        version: u64,
    },
    /// Replaced by a newer machine.
    #[error(
        "this machine is incarnation {own} of {node:?}, and the fleet replaced it by incarnation {declared}; its services are left alone: take it off the network"
    )]
    Superseded {
        /// The node.
        node: String,
        /// This machine's incarnation.
        own: u64,
        /// The fleet's.
        declared: u64,
    },
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed) -> Decision {
    match belongs(seen) {
        Ok((identity, facts, member)) => decide_member(seen, identity, facts, member),
        Err(phase) => Decision::idle(phase),
    }
}

/// Whether this machine is a member of the fleet whose facts are installed.
fn belongs(seen: &Observed) -> Result<(&Identity, &Facts, &Member), Phase> {
    let waiting = |why: String| Phase::Waiting { why };
    let failed = |what: String| Phase::Failed { what };
    let identity = match &seen.identity {
        Seen::Absent => return Err(Phase::NotEnrolled),
        Seen::Broken(why) => {
            return Err(failed(format!("the node's identity cannot be read: {why}")));
        }
        Seen::Is(identity) => identity,
    };
    if let Some(word) = &seen.facts_unsettled {
        return Err(waiting(format!(
            "the package {}-facts is {word}",
            identity.fleet
        )));
    }
    let facts = match &seen.facts {
        Seen::Absent => {
            return Err(waiting(format!(
                "the package {}-facts is not installed",
                identity.fleet
            )));
        }
        Seen::Broken(why) => return Err(failed(format!("the facts cannot be read: {why}"))),
        Seen::Is(facts) => facts,
    };
    let refused = |refusal: Refusal| failed(refusal.to_string());
    if facts.format > FACTS_FORMAT {
        return Err(refused(Refusal::Format(facts.format)));
    }
    if facts.fleet != identity.fleet {
        return Err(refused(Refusal::OtherFleet {
            facts: facts.fleet.clone(),
            identity: identity.fleet.clone(),
        }));
    }
    let seen_version = seen.memory.facts_version;
    if seen.memory.fleet.as_ref() == Some(&facts.fleet) && facts.version < seen_version {
        return Err(refused(Refusal::Older {
            installed: facts.version,
            seen: seen_version,
        }));
    }
    let Some(member) = facts
        .members
        .iter()
        .find(|member| member.name == identity.node)
    else {
        return Err(refused(Refusal::Undeclared {
            node: identity.node.clone(),
            version: facts.version,
        }));
    };
    if member.incarnation > identity.incarnation {
        return Err(refused(Refusal::Superseded {
            node: identity.node.clone(),
            own: identity.incarnation,
            declared: member.incarnation,
        }));
    }
    if member.incarnation < identity.incarnation {
        return Err(waiting(format!(
            "the facts (version {}) do not know incarnation {} of {:?} yet",
            facts.version, identity.incarnation, identity.node
        )));
    }
    match &seen.node {
        Seen::Is(node) if node.name == identity.node => Ok((identity, facts, member)),
        Seen::Is(node) => Err(failed(format!(
            "the facts for {:?} speak of {:?}",
            identity.node, node.name
        ))),
        Seen::Broken(why) => Err(failed(format!(
            "the facts for {:?} cannot be read: {why}",
            identity.node
        ))),
        Seen::Absent => Err(failed(format!(
            "the facts hold nothing for {:?}",
            identity.node
        ))),
    }
}

fn decide_member(seen: &Observed, identity: &Identity, facts: &Facts, member: &Member) -> Decision {
    let mut decision = Decision::idle(Phase::Converged);
    decision.facts_version = Some(facts.version);
    if seen.memory.fleet.as_ref() != Some(&facts.fleet) || seen.memory.facts_version < facts.version
    {
        decision.actions.push(Action::Accept {
            fleet: facts.fleet.clone(),
            version: facts.version,
        });
    }
    let gone = |role: &&String| {
        seen.roles
            .get(*role)
            .is_none_or(|role| role.configured.is_none())
    };
    for role in seen.memory.roles.keys().filter(gone) {
        decision.actions.push(Action::Forget { role: role.clone() });
    }
    let mut usable = BTreeMap::new();
    for role in &member.roles {
        let mut work = Work {
            seen,
            identity,
            facts,
            before: &usable,
            held: None,
            actions: Vec::new(),
        };
        let outcome = work.role(role);
        let (held, actions) = (work.held, work.actions);
        usable.insert(role.as_str(), outcome.is_ok());
        let phase = match (outcome, held) {
            (Err(phase), _) | (Ok(_), Some(phase)) => phase,
            (Ok(_), None) if !actions.is_empty() => RolePhase::Applying,
            (Ok(fingerprint), None) => {
                decision.ready.insert(role.clone(), fingerprint);
                RolePhase::Ready
            }
        };
        decision.actions.extend(actions);
        decision.roles.push(report(seen, role, phase));
    }
    // Somebody's database may be behind it, and a slip in fleet.toml is no reason to stop one: it is told, not done.
    for role in seen
        .roles
        .keys()
        .filter(|role| !member.roles.contains(role) && !gone(role))
    {
        let what = format!(
            "it is installed, but the facts (version {}) do not give it to this node; its services are left alone: give it back in fleet.toml, or `apt purge {}-{role}`",
            facts.version, facts.fleet
        );
        decision
            .roles
            .push(report(seen, role, RolePhase::Failed { what }));
    }
    decision.phase = overall(&decision);
    decision
}

/// Where the machine stands, from where its roles stand.
fn overall(decision: &Decision) -> Phase {
    if !decision.actions.is_empty() {
        return Phase::Waiting {
            why: "changes are being applied".to_owned(),
        };
    }
    let list = |pick: fn(&RolePhase) -> Option<&str>| {
        let texts: Vec<String> = decision
            .roles
            .iter()
            .filter_map(|role| Some(format!("{}: {}", role.name, pick(&role.phase)?)))
            .collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    let failed = list(|phase| match phase {
        RolePhase::Failed { what } => Some(what),
        _ => None,
    });
    let waiting = list(|phase| match phase {
        RolePhase::Waiting { why } => Some(why),
        _ => None,
    });
    match (failed, waiting) {
        (Some(what), _) => Phase::Failed { what },
        (None, Some(why)) => Phase::Waiting { why },
        (None, None) => Phase::Converged,
    }
}

fn report(seen: &Observed, role: &str, phase: RolePhase) -> RoleReport {
    let role_seen = seen.roles.get(role);
    let manifest = role_seen.and_then(|role| match &role.manifest {
        Seen::Is(manifest) => Some(manifest),
        _ => None,
    });
    let memory = seen.memory.roles.get(role);
    RoleReport {
        name: role.to_owned(),
        version: role_seen.and_then(|role| role.configured.clone()),
        phase,
        join: memory
            .and_then(|memory| memory.join.as_ref())
            .map(|join| join.result.clone()),
        cluster: manifest.and_then(|manifest| match &manifest.cluster {
            Some(Cluster::Kind(kind)) => Some(format!("{kind:?}").to_lowercase()),
            _ => None,
        }),
        units: manifest
            .map(|manifest| {
                manifest
                    .units
                    .iter()
                    .map(|unit| unit.name.clone())
                    .collect()
            })
            .unwrap_or_default(),
    }
}
