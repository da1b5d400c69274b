//! Carries out one [`Action`] and remembers it.

use std::collections::BTreeMap;
use std::time::Duration;

use rolesmith_model::facts::{APPLICATION_KEY_FILE, Identity};
use rolesmith_model::manifest::CONF_DIR;

use crate::application;
use crate::decide::{Action, Failure, FileSpec, Verb};
use crate::files::{self, Access, Root};
use crate::firewall::Firewall;
use crate::inputs::redact;
use crate::observe::Contents;
use crate::program::{Call, EX_TEMPFAIL, Ended, ProgramError, Programs};
use crate::state::{JoinMemory, JoinResult, Memory, UnitMemory};

/// How long a unit may take to start before the agent goes on; its job goes on too.
const UNIT_LIMIT: Duration = Duration::from_secs(180);
/// How long a join program may take.
const JOIN_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What an action came to, where that has to be remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// A join ended.
    Joined(JoinResult),
    /// It could not be done; nothing is remembered.
    Failed(Failure),
    /// A unit's job was begun and takes its time: remembered as done, so that it is not begun anew.
    Begun(Failure),
}

impl Outcome {
    /// What the role has to show for it.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Done | Self::Joined(JoinResult::Done) => None,
            Self::Joined(JoinResult::Later { output }) => {
                Some(Failure::Later(format!("its join waits: {output}")))
            }
            Self::Joined(JoinResult::Failed { output }) => {
                Some(Failure::Failed(format!("its join failed: {output}")))
            }
            Self::Failed(failure) | Self::Begun(failure) => Some(failure.clone()),
        }
    }
}

/// Remembers an action. Pure, so that the tests of decisions use the same memory.
pub fn remember(memory: &mut Memory, action: &Action, outcome: &Outcome, boot: &str) {
    if matches!(outcome, Outcome::Failed(_)) {
        return;
    }
    match action {
        Action::Accept { fleet, version } => {
            if memory.fleet.as_ref() != Some(fleet) {
                *memory = Memory {
                    fleet: Some(fleet.clone()),
                    ..Memory::default()
                };
            }
            memory.facts_version = *version;
        }
        Action::Forget { role } => {
            memory.roles.remove(role);
        }
        Action::Join {
            role, fingerprint, ..
        } => {
            if let Outcome::Joined(result) = outcome {
                memory.roles.entry(role.clone()).or_default().join = Some(JoinMemory {
                    fingerprint: fingerprint.clone(),
                    result: result.clone(),
                });
            }
        }
        Action::Unit {
            role,
            unit,
            fingerprint,
            certificates,
            ..
        } => {
            let unit_memory = UnitMemory {
                fingerprint: fingerprint.clone(),
                boot: boot.to_owned(),
                certificates: Some(certificates.clone()),
            };
            memory
                .roles
                .entry(role.clone())
                .or_default()
                .units
                .insert(unit.clone(), unit_memory);
        }
        // What they did is seen on the disk.
        Action::Guard { .. }
        | Action::ApplicationKey { .. }
        | Action::Install { .. }
        | Action::Remove { .. } => {}
    }
}

/// Whoever carries out actions.
#[derive(Debug)]
pub struct Actor<'a, P> {
    /// Where files stand.
    pub root: &'a Root,
    /// The machine's programs.
    pub programs: &'a P,
    /// What files to install hold.
    pub contents: &'a Contents,
    /// The guarded files that are wanted.
    pub guarded: &'a BTreeMap<String, FileSpec>,
    /// Who this machine is.
    pub identity: &'a Identity,
    /// Secrets, to keep them out of what is reported.
    pub secrets: &'a BTreeMap<String, Vec<u8>>,
    /// Unix seconds.
    pub now: u64,
}

impl<P: Programs> Actor<'_, P> {
    /// Carries out one action.
    #[must_use]
    pub fn carry_out(&self, action: &Action) -> Outcome {
        let failed = |what: String| Outcome::Failed(Failure::Failed(what));
        match action {
            Action::Accept { .. } | Action::Forget { .. } => Outcome::Done,
            Action::Guard { set, confirmed } => match self.guard(set, *confirmed) {
                Ok(()) => Outcome::Done,
                Err(what) => failed(what),
            },
            Action::ApplicationKey { spec } => match self.application_key(spec) {
                Ok(()) => Outcome::Done,
                Err(why) => failed(format!("{APPLICATION_KEY_FILE}: {why}")),
            },
            Action::Install { role, path, spec } => {
                let target = self.root.join(CONF_DIR).join(role).join(path);
                let access = Access {
                    mode: spec.mode,
                    owner: Some(spec.owner),
                };
                let bytes = self.contents.get(role, path).unwrap_or_default();
                match files::write(&target, bytes, access) {
                    Ok(()) => Outcome::Done,
                    Err(error) => failed(format!("{}: {error}", target.display())),
                }
            }
            Action::Remove { role, path } => {
                let target = self.root.join(CONF_DIR).join(role).join(path);
                match files::remove(&target) {
                    Ok(()) => Outcome::Done,
                    Err(error) => failed(format!("{}: {error}", target.display())),
                }
            }
            Action::Join { role, program, .. } => Outcome::Joined(self.join(role, program)),
            Action::Unit {
                unit, verb, own, ..
            } => match self.unit(unit, *verb) {
                Outcome::Done if *own && *verb != Verb::Note => self.skipped(unit),
                outcome => outcome,
            },
        }
    }

    fn guard(&self, name: &str, confirmed: bool) -> Result<(), String> {
        let guarded = self.guarded.iter();
        let set = self
            .contents
            .set(guarded.map(|(path, spec)| (path.as_str(), spec)))?;
        let firewall = Firewall {
            root: self.root,
            programs: self.programs,
            now: self.now,
        };
        firewall
            .put_in_force(name, &set, confirmed)
            .map_err(|error| error.to_string())
    }

    fn application_key(&self, spec: &FileSpec) -> Result<(), String> {
        let key =
            application::key(self.root, self.identity).map_err(|missing| missing.to_string())?;
        let access = Access {
            mode: spec.mode,
            owner: Some(spec.owner),
        };
        files::write(
            &self.root.join(APPLICATION_KEY_FILE),
            key.as_bytes(),
            access,
        )
        .map_err(|error| error.to_string())
    }

    fn join(&self, role: &str, program: &str) -> JoinResult {
        let mut call = Call::new([program]).limit(JOIN_LIMIT);
        call.env = [
            ("ROLESMITH_FLEET", self.identity.fleet.clone()),
            ("ROLESMITH_NODE", self.identity.node.clone()),
            (
                "ROLESMITH_INCARNATION",
                self.identity.incarnation.to_string(),
            ),
            ("ROLESMITH_ROLE", role.to_owned()),
            ("ROLESMITH_CONF", format!("{CONF_DIR}/{role}")),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        let show = |text: &str| redact(text, self.secrets);
        match self.programs.run(&call) {
            Ok(Ended { code: Some(0), .. }) => JoinResult::Done,
            Ok(ended) if ended.code == Some(EX_TEMPFAIL) => JoinResult::Later {
                output: show(&ended.tail()),
            },
            Ok(ended) => {
                let how = ended.code.map_or_else(
                    || "killed by a signal".to_owned(),
                    |code| format!("exit status {code}"),
                );
                JoinResult::Failed {
                    output: show(&format!("{program}: {how}: {}", ended.tail())),
                }
            }
            Err(ProgramError::TooLong { tail, .. }) => {
                let limit = JOIN_LIMIT.as_secs();
                JoinResult::Later {
                    output: show(&format!("{program} was ended after {limit} s: {tail}")),
                }
            }
            Err(error) => JoinResult::Failed {
                output: show(&error.to_string()),
            },
        }
    }

    fn unit(&self, unit: &str, verb: Verb) -> Outcome {
        let word = match verb {
            Verb::Note => return Outcome::Done,
            Verb::Start => "start",
            Verb::Restart => "restart",
            Verb::Reload => "reload-or-restart",
        };
        // A unit that failed too often in a row would refuse to start; nothing to reset is fine.
        let _ = self
            .programs
            .run(&Call::new(["systemctl", "reset-failed", "--", unit]));
        match self
            .programs
            .output(&Call::new(["systemctl", word, "--", unit]).limit(UNIT_LIMIT))
        {
            Ok(_) => Outcome::Done,
            Err(ProgramError::TooLong { .. }) => {
                let limit = UNIT_LIMIT.as_secs();
                Outcome::Begun(Failure::Later(format!(
                    "{unit} has not finished to {word} within {limit} s"
                )))
            }
            Err(ProgramError::Failed { tail, .. }) => {
                Outcome::Failed(Failure::Failed(format!("{unit} did not {word}: {tail}")))
            }
            Err(error) => Outcome::Failed(Failure::Failed(error.to_string())),
        }
    }

    /// systemctl(1) succeeds, too, where a condition of the unit was not met and nothing was started.
    fn skipped(&self, unit: &str) -> Outcome {
        let call = Call::new([
            "systemctl",
            "show",
            "--property=ActiveState,ConditionResult",
            "--",
            unit,
        ]);
        let shown = match self.programs.output(&call) {
            Ok(shown) => shown,
            Err(error) => return Outcome::Failed(Failure::Failed(error.to_string())),
        };
        let has = |line: &str| shown.lines().any(|shown| shown == line);
        if has("ConditionResult=no") && has("ActiveState=inactive") {
            return Outcome::Failed(Failure::Later(format!(
                "{unit} was not started: a condition of it is not met, see `systemctl status {unit}`"
            )));
        }
        Outcome::Done
    }
}
