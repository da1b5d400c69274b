//! The work for one role.

use std::collections::BTreeMap;

use rolesmith_model::facts::{Facts, Identity, Origin};
use rolesmith_model::manifest::{Cluster, ManagedUnit, OnChange, RoleManifest, Start};

use super::{Action, Failure, FileSpec, Observed, RoleSeen, UnitSeen, Verb};
use crate::files::{Seen, digest};
use crate::guard::{GUARDED_ROLE, Guard, Step, Trust, is_guarded};
use crate::state::{JoinResult, RolePhase};

/// A role's version and files as one value. Guarded files are not part of it: they have a life of their own.
pub(super) fn fingerprint(role: &str, version: &str, files: &[(&str, &FileSpec)]) -> String {
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
pub(super) struct Work<'a> {
    pub(super) seen: &'a Observed,
    pub(super) identity: &'a Identity,
    pub(super) facts: &'a Facts,
    /// The roles before it, and whether others may build on them.
    pub(super) before: &'a BTreeMap<&'a str, bool>,
    /// What keeps the role from being ready, though others may build on it.
    pub(super) held: Option<RolePhase>,
    pub(super) actions: Vec<Action>,
}

impl Work<'_> {
    /// Collects the role's actions, up to where something is missing; returns its fingerprint.
    pub(super) fn role(&mut self, role: &str) -> Result<String, RolePhase> {
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
            // Before what starts and wants it. It is no part of what the package's version decides.
            self.application_key();
        }
        let fingerprint = fingerprint(role, version, &files);
        if let Some(why) = self.mismatch(role, version) {
            // Files of one version under programs of the other were never tried together, so nothing else happens until
            // apt has brought both. What runs goes on, and others may build on it; what never ran does not begin so.
            let applied = self
                .seen
                .memory
                .roles
                .get(role)
                .is_some_and(|memory| memory.applied.is_some());
            if !applied {
                return Err(waiting(why));
            }
            self.held = Some(waiting(why));
            return Ok(fingerprint);
        }
        self.files(role, seen);
        self.join(role, manifest, &fingerprint);
        self.units(role, seen, manifest, &fingerprint)?;
        Ok(fingerprint)
    }

    /// Why the role's package and the facts do not belong together, where the facts say so.
    fn mismatch(&self, role: &str, version: &str) -> Option<String> {
        let package = format!("{}-{role}", self.identity.fleet);
        let named = self.facts.packages.get(&package)?;
        (named != version).then(|| {
            format!(
                "{package} {version} is installed, and the facts (version {}) belong to its version {named}: apt has to bring both",
                self.facts.version
            )
        })
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

    /// Units that do without it go on where it cannot be made.
    fn application_key(&mut self) {
        let Some(file) = &self.seen.application_key else {
            return;
        };
        match &file.wanted {
            Ok(spec) if file.installed.as_ref() != Some(spec) => {
                let spec = spec.clone();
                self.actions.push(Action::ApplicationKey { spec });
            }
            Ok(_) => {}
            Err(missing) => {
                let what = format!("{} cannot be made: {missing}", file.path);
                self.held.get_or_insert(RolePhase::Failed { what });
            }
        }
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
                    own: unit.own,
                    fingerprint: fingerprint.to_owned(),
                    certificates: self.seen.certificates.clone(),
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
        let current = memory.filter(|memory| memory.fingerprint == fingerprint);
        let renewed = unit.on_certificate != OnChange::Nothing
            && memory.is_none_or(|memory| {
                memory.certificates.as_deref() != Some(&*self.seen.certificates)
            });
        // What systemd does not start at boot is started here, once a boot.
        let first_look =
            current.is_some_and(|memory| ours && !now.enabled && memory.boot != self.seen.boot);
        if current.is_some() && !renewed {
            let verb = if now.running { Verb::Note } else { Verb::Start };
            return first_look.then_some(verb);
        }
        if !now.running {
            // It reads new certificates when it starts.
            let starts = ours && (current.is_none() || first_look);
            return Some(if starts { Verb::Start } else { Verb::Note });
        }
        // A unit of the role's that was started before the role did anything: it came from another role, and runs with that
        // one's files, which a reload would read again.
        let inherited = memory.is_none() && unit.own && ours && unit.on_change == OnChange::Reload;
        let changed = current.is_none().then_some(if inherited {
            OnChange::Restart
        } else {
            unit.on_change
        });
        let renewed = renewed.then_some(unit.on_certificate);
        let asked = |wanted| changed == Some(wanted) || renewed == Some(wanted);
        // A restart reads all that a reload reads.
        Some(if asked(OnChange::Restart) {
            Verb::Restart
        } else if asked(OnChange::Reload) {
            Verb::Reload
        } else {
            Verb::Note
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
        let trust = match self.identity.origin {
            Origin::Seed => Trust::Machine,
            _ if self.seen.keeps_way_in => Trust::WayIn,
            _ => Trust::Nothing,
        };
        match guard.step(&fingerprint, installed, trust) {
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
