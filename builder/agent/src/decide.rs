//! What is to be done, from what was seen. Total and pure: every [`Observed`] has exactly one [`Decision`].
//!
//! Actions stand in the order in which they have to happen, and each may be repeated: whoever carries them out remembers
//! one only after it was done, so a crash leads to the same decision again, or to the rest of it.

use std::collections::BTreeMap;

use rolesmith_model::facts::{FACTS_FORMAT, Facts, Identity, Member, NodeFacts, Origin};
use rolesmith_model::manifest::{Cluster, ManagedUnit, OnChange, RoleManifest, Start};

use crate::files::{Seen, digest};
use crate::guard::{GUARDED_ROLE, Guard, Step, is_guarded};
use crate::inputs::Missing;
use crate::state::{JoinResult, Memory, Phase, RolePhase, RoleReport};

#[cfg(test)]
mod tests;

/// What a file is or has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// SHA-256 of its bytes.
    pub digest: String,
    /// Permission bits.
    pub mode: u32,
    /// User and group by number.
    pub owner: (u32, u32),
}

/// A file that the facts list for a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedFile {
    /// Relative to the role's directory.
    pub path: String,
    /// What it has to be.
    pub wanted: Result<FileSpec, Missing>,
    /// What stands there.
    pub installed: Option<FileSpec>,
}

/// A unit as systemd sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitSeen {
    /// systemd knows it (LoadState is neither not-found nor masked).
    pub known: bool,
    /// An administrator forbids it (LoadState=masked).
    pub masked: bool,
    /// ActiveState is active, activating, reloading or refreshing.
    pub running: bool,
    /// It starts at boot by itself (UnitFileState).
    pub enabled: bool,
}

/// A role of this node, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSeen {
    /// Version of its package, once that is configured.
    pub configured: Option<String>,
    /// dpkg's word for its package while that is between two versions.
    pub unsettled: Option<String>,
    /// Its manifest.
    pub manifest: Seen<RoleManifest>,
    /// Its files.
    pub files: Vec<WantedFile>,
    /// Files in its directory that the facts do not list.
    pub strays: Vec<String>,
    /// Its units by name.
    pub units: BTreeMap<String, UnitSeen>,
}

/// What went wrong for a role in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work later.
    Later(String),
    /// Somebody has to look.
    Failed(String),
}

/// The machine, as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Who it is.
    pub identity: Seen<Identity>,
    /// The fleet's facts.
    pub facts: Seen<Facts>,
    /// dpkg's word for the facts package while that is between two states.
    pub facts_unsettled: Option<String>,
    /// What the facts say about this node.
    pub node: Seen<NodeFacts>,
    /// Its roles, and others that are configured.
    pub roles: BTreeMap<String, RoleSeen>,
    /// The guard of what can lock people out.
    pub guard: Guard,
    /// What was done before.
    pub memory: Memory,
    /// This boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// What went wrong in this run, by role.
    pub failures: BTreeMap<String, Failure>,
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// systemctl start, after reset-failed.
    Start,
    /// systemctl restart.
    Restart,
    /// systemctl reload-or-restart.
    Reload,
    /// Nothing, but it counts as up to date.
    Note,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Remember that these facts were seen; older ones are refused from now on.
    Accept {
        /// The fleet.
        fleet: String,
        /// The version.
        version: u64,
    },
    /// Forget a role whose package is gone.
    Forget {
        /// The role.
        role: String,
    },
    /// Put the guarded files in force.
    Guard {
        /// Fingerprint of the set.
        set: String,
        /// For good, or until it is confirmed.
        confirmed: bool,
    },
    /// Write a file of the role.
    Install {
        /// The role.
        role: String,
        /// The file.
        path: String,
        /// What it becomes.
        spec: FileSpec,
    },
    /// Delete a file that the facts do not list.
    Remove {
        /// The role.
        role: String,
        /// The file.
        path: String,
    },
    /// Run the role's join program.
    Join {
        /// The role.
        role: String,
        /// The program.
        program: String,
        /// The role's fingerprint.
        fingerprint: String,
    },
    /// Start, restart or reload a unit.
    Unit {
        /// The role.
        role: String,
        /// The unit.
        unit: String,
        /// What is done.
        verb: Verb,
        /// The role's fingerprint.
        fingerprint: String,
    },
}

impl Action {
    /// The role on whose account it happens.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::Accept { .. } => None,
            Self::Guard { .. } => Some(GUARDED_ROLE),
            Self::Forget { role }
            | Self::Install { role, .. }
            | Self::Remove { role, .. }
            | Self::Join { role, .. }
            | Self::Unit { role, .. } => Some(role),
        }
    }
}

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
        "the facts (version {version}) declare no node {node:?}: it was removed from the fleet, or never belonged to it"
    )]
    Undeclared {
        /// The identity's name.
        node: String,
        /// Version of the facts.
        version: u64,
    },
    /// Replaced by a newer machine.
    #[error(
        "this machine is incarnation {own} of {node:?}, and the fleet replaced it by incarnation {declared}"
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

/// A role's version and files as one value. Guarded files are not part of it: they have a life of their own.
fn fingerprint(role: &str, version: &str, files: &[(&str, &FileSpec)]) -> String {
    let mut text = format!("{role}\0{version}\0");
    for (path, spec) in files.iter().filter(|(path, _)| !is_guarded(role, path)) {
        text.push_str(&describe(path, spec));
    }
    digest(text.as_bytes())
}

/// The guarded files as one value.
#[must_use]
pub fn set_fingerprint(files: &[(&str, &FileSpec)]) -> String {
    digest(
        files
            .iter()
            .map(|(path, spec)| describe(path, spec))
            .collect::<String>()
            .as_bytes(),
    )
}

fn describe(path: &str, spec: &FileSpec) -> String {
    format!(
        "{path}\0{}\0{:o}\0{}:{}\0",
        spec.digest, spec.mode, spec.owner.0, spec.owner.1
    )
}

/// The work for one role.
struct Work<'a> {
    seen: &'a Observed,
    identity: &'a Identity,
    /// The roles before it, and whether others may build on them.
    before: &'a BTreeMap<&'a str, bool>,
    /// What keeps the role from being ready, though others may build on it.
    held: Option<RolePhase>,
    actions: Vec<Action>,
}

impl Work<'_> {
    /// Collects the role's actions, up to where something is missing; returns its fingerprint.
    fn role(&mut self, role: &str) -> Result<String, RolePhase> {
        let waiting = |why: String| RolePhase::Waiting { why };
        let failed = |what: String| RolePhase::Failed { what };
        match self.seen.failures.get(role) {
            Some(Failure::Later(why)) => return Err(waiting(why.clone())),
            Some(Failure::Failed(what)) => return Err(failed(what.clone())),
            None => {}
        }
        let Some((seen, version)) = self
            .seen
            .roles
            .get(role)
            .and_then(|seen| Some((seen, seen.configured.as_ref()?)))
        else {
            return Err(waiting("its package is not configured".to_owned()));
        };
        if let Some(word) = &seen.unsettled {
            return Err(waiting(format!("its package is {word}")));
        }
        let manifest = match &seen.manifest {
            Seen::Is(manifest) => manifest,
            Seen::Absent => return Err(failed("its package has no manifest".to_owned())),
            Seen::Broken(why) => return Err(failed(format!("its manifest cannot be read: {why}"))),
        };
        for required in &manifest.requires {
            match self.before.get(required.as_str()) {
                Some(true) => {}
                Some(false) => return Err(waiting(format!("the role {required} is not ready"))),
                None => {
                    return Err(failed(format!(
                        "the facts do not give this node the role {required} before it"
                    )));
                }
            }
        }
        let mut files = Vec::new();
        for file in &seen.files {
            match &file.wanted {
                Ok(spec) => files.push((file.path.as_str(), spec)),
                Err(missing) if missing.may_come() => {
                    return Err(waiting(format!("{}: {missing}", file.path)));
                }
                Err(missing) => return Err(failed(format!("{}: {missing}", file.path))),
            }
        }
        self.guard_before(role)?;
        if role == GUARDED_ROLE {
            // First: fail2ban's bans live in the sets that the rules declare.
            self.guard(seen, &files);
        }
        self.files(role, seen);
        let fingerprint = fingerprint(role, version, &files);
        self.join(role, manifest, &fingerprint);
        self.units(role, seen, manifest, &fingerprint)?;
        Ok(fingerprint)
    }

    /// Roles other than the base start nothing before one set of rules was confirmed on this machine: what they open
    /// would stand open to everybody if the first set were taken back.
    fn guard_before(&self, role: &str) -> Result<(), RolePhase> {
        let has_rules = self.seen.roles.get(GUARDED_ROLE).is_some_and(|base| {
            base.files
                .iter()
                .any(|file| is_guarded(GUARDED_ROLE, &file.path))
        });
        let trusted = self.identity.origin == Origin::Seed;
        if role == GUARDED_ROLE || !has_rules || trusted || self.seen.guard.confirmed.is_some() {
            return Ok(());
        }
        Err(RolePhase::Waiting {
            why: "no firewall rules were confirmed on this machine yet".to_owned(),
        })
    }

    fn files(&mut self, role: &str, seen: &RoleSeen) {
        let ordinary = |path: &str| !is_guarded(role, path);
        for file in seen.files.iter().filter(|file| ordinary(&file.path)) {
            if let Ok(spec) = &file.wanted
                && file.installed.as_ref() != Some(spec)
            {
                let (role, path) = (role.to_owned(), file.path.clone());
                self.actions.push(Action::Install {
                    role,
                    path,
                    spec: spec.clone(),
                });
            }
        }
        for path in seen.strays.iter().filter(|path| ordinary(path)) {
            self.actions.push(Action::Remove {
                role: role.to_owned(),
                path: path.clone(),
            });
        }
    }

    fn join(&mut self, role: &str, manifest: &RoleManifest, fingerprint: &str) {
        let Some(Cluster::Join(program)) = &manifest.cluster else {
            return;
        };
        let memory = self
            .seen
            .memory
            .roles
            .get(role)
            .and_then(|memory| memory.join.as_ref());
        let done = memory
            .is_some_and(|join| join.fingerprint == fingerprint && join.result == JoinResult::Done);
        if !done {
            let (role, program, fingerprint) =
                (role.to_owned(), program.clone(), fingerprint.to_owned());
            self.actions.push(Action::Join {
                role,
                program,
                fingerprint,
            });
        }
    }

    fn units(
        &mut self,
        role: &str,
        seen: &RoleSeen,
        manifest: &RoleManifest,
        fingerprint: &str,
    ) -> Result<(), RolePhase> {
        for unit in &manifest.units {
            let now = seen.units.get(&unit.name).cloned().unwrap_or_default();
            if now.masked {
                continue;
            }
            if !now.known {
                if unit.start != Start::Enrolled {
                    continue;
                }
                return Err(RolePhase::Failed {
                    what: format!("systemd does not know the unit {}", unit.name),
                });
            }
            if let Some(verb) = self.verb(role, unit, &now, fingerprint) {
                self.actions.push(Action::Unit {
                    role: role.to_owned(),
                    unit: unit.name.clone(),
                    verb,
                    fingerprint: fingerprint.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// What is done to a unit. One that is up to date and was stopped by somebody stays stopped.
    fn verb(
        &self,
        role: &str,
        unit: &ManagedUnit,
        now: &UnitSeen,
        fingerprint: &str,
    ) -> Option<Verb> {
        let memory = self
            .seen
            .memory
            .roles
            .get(role)
            .and_then(|memory| memory.units.get(&unit.name));
        let ours = unit.start == Start::Enrolled;
        if let Some(memory) = memory.filter(|memory| memory.fingerprint == fingerprint) {
            // What systemd does not start at boot is started here, once a boot.
            let missed = ours && !now.running && !now.enabled && memory.boot != self.seen.boot;
            return missed.then_some(Verb::Start);
        }
        Some(match (now.running, unit.on_change) {
            (false, _) if ours => Verb::Start,
            (false, _) | (true, OnChange::Nothing) => Verb::Note,
            (true, OnChange::Restart) => Verb::Restart,
            (true, OnChange::Reload) => Verb::Reload,
        })
    }

    fn guard(&mut self, seen: &RoleSeen, files: &[(&str, &FileSpec)]) {
        let set: Vec<_> = files
            .iter()
            .copied()
            .filter(|(path, _)| is_guarded(GUARDED_ROLE, path))
            .collect();
        let guard = &self.seen.guard;
        if set.is_empty() && *guard == Guard::default() {
            return;
        }
        let installed = seen
            .files
            .iter()
            .filter(|file| is_guarded(GUARDED_ROLE, &file.path))
            .all(|file| file.installed.as_ref() == file.wanted.as_ref().ok())
            && !seen
                .strays
                .iter()
                .any(|path| is_guarded(GUARDED_ROLE, path));
        let fingerprint = set_fingerprint(&set);
        let trusted = self.identity.origin == Origin::Seed;
        match guard.step(&fingerprint, installed, trusted) {
            Step::Nothing => {}
            Step::Activate => self.actions.push(Action::Guard {
                set: fingerprint,
                confirmed: true,
            }),
            Step::Try => self.actions.push(Action::Guard {
                set: fingerprint,
                confirmed: false,
            }),
            Step::AwaitConfirmation(_) => {
                let why = "firewall and ssh settings await `rolesmith-agent firewall confirm`, or are taken back";
                self.held = Some(RolePhase::Waiting {
                    why: why.to_owned(),
                });
            }
            Step::Rejected(rejected) => {
                let what = format!(
                    "firewall and ssh settings were taken back ({}); `rolesmith-agent firewall load` tries them again",
                    rejected.why
                );
                self.held = Some(RolePhase::Failed { what });
            }
        }
    }
}
