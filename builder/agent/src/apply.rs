//! Observe, decide, act, until nothing is left to do.

use std::collections::BTreeMap;
use std::io;

use rolesmith_model::manifest::POKE_FILE;

use crate::act::{Actor, remember};
use crate::decide::{Decision, Failure, Observed, decide};
use crate::files::{self, Lock, Root, Seen};
use crate::firewall::Firewall;
use crate::guard::{GUARDED_ROLE, is_guarded};
use crate::joined;
use crate::observe::{Contents, observe, secrets};
use crate::program::Programs;
use crate::state::{Phase, State, StateError};
use crate::upgrade;

/// Why `apply` could not even tell where the machine stands.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The state of earlier runs is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state cannot be written, or the lock not taken.
    #[error("cannot keep the state: {0}")]
    Io(#[from] io::Error),
}

/// Applies the facts and returns the state it came to. `clock` gives Unix seconds.
///
/// # Errors
/// [`ApplyError`]; everything else is a [`Phase::Failed`] of the state.
pub fn apply(
    root: &Root,
    programs: &impl Programs,
    clock: &impl Fn() -> u64,
) -> Result<State, ApplyError> {
    // First of all: whatever wakes us from now on is seen by the next run, if not by this one.
    files::remove(&root.join(POKE_FILE))?;
    let _lock = Lock::take(root, "apply.lock")?;
    // A run that was cut off may have left it.
    upgrade::back(root)?;
    let mut state = State::load(root)?;
    let mut run = Run {
        root,
        programs,
        clock,
        failures: BTreeMap::new(),
        state: &mut state,
        away: false,
    };
    let expired = Firewall {
        root,
        programs,
        now: clock(),
    }
    .expire();
    if let Err(error) = expired {
        run.failures
            .insert(GUARDED_ROLE.to_owned(), Failure::Failed(error.to_string()));
    }
    let done = run.rounds();
    upgrade::back(root)?;
    done?;
    state.report.updated = clock();
    state.save(root)?;
    joined::tell(root, &state.report)?;
    Ok(state)
}

struct Run<'a, P, C> {
    root: &'a Root,
    programs: &'a P,
    clock: &'a C,
    failures: BTreeMap<String, Failure>,
    state: &'a mut State,
    /// The load balancer sends nobody here any more.
    away: bool,
}

impl<P: Programs, C: Fn() -> u64> Run<'_, P, C> {
    /// Every round either makes a role fail, which happens to each role once, or leaves nothing to do: a round too many
    /// means that something undoes what was done.
    fn rounds(&mut self) -> io::Result<()> {
        let mut rounds = 0;
        loop {
            let (mut seen, contents) = match observe(self.root, self.programs, &self.state.memory) {
                Ok(observed) => observed,
                Err(error) => {
                    self.state.report.phase = Phase::Failed {
                        what: error.to_string(),
                    };
                    return Ok(());
                }
            };
            seen.failures.clone_from(&self.failures);
            let decision = decide(&seen);
            self.report(&seen, &decision);
            if decision.actions.is_empty() {
                return Ok(());
            }
            if !self.away && upgrade::disturbs(&seen, &decision) {
                self.away = true;
                upgrade::leave(self.root)?;
                // That took its time, in which apt went on.
                continue;
            }
            rounds += 1;
            if rounds > 2 * seen.roles.len() + 4 {
                let what = format!(
                    "it does not come to rest; left to do: {:?}",
                    decision.actions
                );
                self.state.report.phase = Phase::Failed { what };
                return Ok(());
            }
            self.round(&seen, &contents, &decision)?;
        }
    }

    /// Carries out a decision up to the first failure.
    fn round(
        &mut self,
        seen: &Observed,
        contents: &Contents,
        decision: &Decision,
    ) -> io::Result<()> {
        let Seen::Is(identity) = &seen.identity else {
            return Ok(());
        };
        let base = seen
            .roles
            .get(GUARDED_ROLE)
            .map_or(&[][..], |base| &base.files);
        let guarded: BTreeMap<_, _> = base
            .iter()
            .filter(|file| is_guarded(GUARDED_ROLE, &file.path))
            .filter_map(|file| Some((file.path.clone(), file.wanted.clone().ok()?)))
            .collect();
        let secrets = secrets(self.root).map_err(io::Error::other)?;
        for action in &decision.actions {
            let actor = Actor {
                root: self.root,
                programs: self.programs,
                contents,
                guarded: &guarded,
                identity,
                secrets: &secrets,
                now: (self.clock)(),
            };
            let outcome = actor.carry_out(action);
            remember(&mut self.state.memory, action, &outcome, &seen.boot);
            self.state.report.changed = (self.clock)();
            self.state.save(self.root)?;
            if let Some(failure) = outcome.failure() {
                self.failures
                    .insert(action.role().unwrap_or_default().to_owned(), failure);
                return Ok(());
            }
        }
        Ok(())
    }

    fn report(&mut self, seen: &Observed, decision: &Decision) {
        let report = &mut self.state.report;
        report.phase = decision.phase.clone();
        report.roles.clone_from(&decision.roles);
        report.facts_version = decision.facts_version;
        (report.fleet, report.node) = match &seen.identity {
            Seen::Is(identity) => (Some(identity.fleet.clone()), Some(identity.node.clone())),
            _ => (None, None),
        };
        for (role, fingerprint) in &decision.ready {
            let memory = self.state.memory.roles.entry(role.clone()).or_default();
            memory.applied = Some(fingerprint.clone());
            let seen = seen.roles.get(role);
            memory.version = seen.and_then(|seen| seen.configured.clone());
        }
    }
}
