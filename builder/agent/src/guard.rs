//! Changes that can lock people out of a machine, and the way back from them.
//!
//! The firewall's rules and the ssh server's drop-in (both of the role `base`) form one *set*. On a machine that was made
//! from a seed a new set is in force at once. On a machine that was there before (`enroll`), whoever sent it may cut
//! themselves off by it, so it is *pending* until somebody who still gets in says `rolesmith-agent firewall confirm`;
//! after [`PATIENCE`] seconds, or at a reboot, everything returns to how it was, and the set is not tried again until it
//! changes or `rolesmith-agent firewall load` asks for it. Once a set was confirmed, another that leaves the way in as it
//! is ([`crate::firewall::keeps_way_in`]) needs nobody: members join and packages are upgraded while no one looks.
//!
//! This module is pure but for reading and writing its state; [`crate::firewall`] acts.

use serde::{Deserialize, Serialize};

use crate::files::{self, Access, Root, Seen};

/// The role whose files are guarded.
pub const GUARDED_ROLE: &str = "base";
/// Its guarded files; a trailing `*` stands for any ending.
pub const GUARDED: [&str; 2] = ["sshd.conf", "firewall.*"];
/// Seconds until an unconfirmed set is taken back (OnActiveSec= of rolesmith-firewall-rollback.timer).
pub const PATIENCE: u64 = 120;
/// The guard's state; readable by everybody, it holds digests of files that are no secrets.
pub const GUARD_FILE: &str = "/var/lib/rolesmith/guard/state.json";

/// Whether a file belongs to the set.
#[must_use]
pub fn is_guarded(role: &str, path: &str) -> bool {
    role == GUARDED_ROLE
        && GUARDED
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => path == *pattern,
            })
}

/// A set that awaits confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Its fingerprint.
    pub set: String,
    /// When it is taken back (Unix seconds).
    pub until: u64,
}

/// A set that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its fingerprint.
    pub set: String,
    /// Why.
    pub why: String,
    /// When (Unix seconds).
    pub at: u64,
}

/// The guard's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Guard {
    /// The set that is loaded at boot.
    #[serde(default)]
    pub confirmed: Option<String>,
    /// The set that is tried.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// The set that is not tried again.
    #[serde(default)]
    pub rejected: Option<Rejected>,
    /// Why only the agent's built-in rules are loaded since the machine was started, instead of the confirmed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// How far a set that was never confirmed is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The machine was made from a seed: there is no other way in that it could close.
    Machine,
    /// It leaves the way in as the confirmed set has it.
    WayIn,
    /// It may lock somebody out.
    Nothing,
}

/// What has to happen to the wanted set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is in force.
    Nothing,
    /// Put it in force for good.
    Activate,
    /// Put it in force until it is confirmed or taken back.
    Try,
    /// Somebody has to confirm it.
    AwaitConfirmation(Pending),
    /// It was taken back.
    Rejected(Rejected),
}

impl Guard {
    /// Reads the guard's state; none yet is the empty one.
    ///
    /// # Errors
    /// A file that cannot be read, in words.
    pub fn load(root: &Root) -> Result<Self, String> {
        match files::read_json(&root.join(GUARD_FILE)) {
            Seen::Absent => Ok(Self::default()),
            Seen::Is(guard) => Ok(guard),
            Seen::Broken(why) => Err(format!("{GUARD_FILE}: {why}")),
        }
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the system calls return.
    pub fn save(&self, root: &Root) -> std::io::Result<()> {
        files::write_json(&root.join(GUARD_FILE), self, Access::PUBLIC)
    }

    /// What has to happen so that `wanted` is in force. `installed` tells whether its files stand in their places.
    #[must_use]
    pub fn step(&self, wanted: &str, installed: bool, trust: Trust) -> Step {
        if self.confirmed.as_deref() == Some(wanted) && self.pending.is_none() {
            // Somebody changed a file by hand: what was confirmed once may come back without being asked for.
            return if installed && self.fallback.is_none() {
                Step::Nothing
            } else {
                Step::Activate
            };
        }
        if trust == Trust::Machine {
            return Step::Activate;
        }
        match (&self.pending, &self.rejected) {
            (Some(pending), _) if pending.set == wanted => Step::AwaitConfirmation(pending.clone()),
            // A pending one that the facts no longer want is left to its timer: the way back leads to the confirmed
            // state, never from one attempt into another.
            (Some(pending), _) => Step::AwaitConfirmation(pending.clone()),
            (None, _) if trust == Trust::WayIn && self.confirmed.is_some() => Step::Activate,
            (None, Some(rejected)) if rejected.set == wanted => Step::Rejected(rejected.clone()),
            (None, _) => Step::Try,
        }
    }

    /// After the set was put in force for good.
    #[must_use]
    pub fn activated(&self, set: &str) -> Self {
        Self {
            confirmed: Some(set.to_owned()),
            pending: None,
            rejected: None,
            fallback: None,
        }
    }

    /// Before the set is tried.
    #[must_use]
    pub fn tried(&self, set: &str, now: u64) -> Self {
        let until = now.saturating_add(PATIENCE);
        Self {
            confirmed: self.confirmed.clone(),
            pending: Some(Pending {
                set: set.to_owned(),
                until,
            }),
            rejected: None,
            fallback: self.fallback.clone(),
        }
    }

    /// After somebody confirmed it; `None` when nothing was pending.
    #[must_use]
    pub fn confirmed(&self) -> Option<Self> {
        self.pending
            .as_ref()
            .map(|pending| self.activated(&pending.set))
    }

    /// After the pending set was taken back; `None` when nothing was pending.
    #[must_use]
    pub fn rolled_back(&self, why: &str, now: u64) -> Option<Self> {
        let pending = self.pending.as_ref()?;
        Some(Self {
            confirmed: self.confirmed.clone(),
            pending: None,
            rejected: Some(Rejected {
                set: pending.set.clone(),
                why: why.to_owned(),
                at: now,
            }),
            fallback: self.fallback.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guarded_files() {
        for (role, path, guarded) in [
            ("base", "sshd.conf", true),
            ("base", "firewall.v4", true),
            ("base", "firewall.ipset", true),
            ("base", "sshd.conf.d", false),
            ("base", "jail.local", false),
            ("edge", "firewall.v4", false),
        ] {
            assert_eq!(is_guarded(role, path), guarded, "{role} {path}");
        }
    }

    #[test]
    fn a_machine_from_a_seed_is_never_asked() {
        let guard = Guard::default();
        assert_eq!(guard.step("a", false, Trust::Machine), Step::Activate);
        let guard = guard.activated("a");
        assert_eq!(guard.step("a", true, Trust::Machine), Step::Nothing);
        assert_eq!(guard.step("a", false, Trust::Machine), Step::Activate);
        assert_eq!(guard.step("b", false, Trust::Machine), Step::Activate);
        // Booted with built-in rules: what was confirmed comes back, on every machine.
        let guard = Guard {
            fallback: Some("no ipset".into()),
            ..guard
        };
        assert_eq!(guard.step("a", true, Trust::Machine), Step::Activate);
        assert_eq!(guard.step("a", true, Trust::Nothing), Step::Activate);
        assert_eq!(guard.activated("a").fallback, None);
    }

    #[test]
    fn an_enrolled_machine_is_asked_and_can_go_back() {
        let guard = Guard::default();
        assert_eq!(guard.step("a", false, Trust::Nothing), Step::Try);
        let trying = guard.tried("a", 1000);
        let pending = Pending {
            set: "a".into(),
            until: 1120,
        };
        assert_eq!(
            trying.step("a", true, Trust::Nothing),
            Step::AwaitConfirmation(pending.clone())
        );
        assert_eq!(
            trying.step("b", false, Trust::Nothing),
            Step::AwaitConfirmation(pending)
        );

        let kept = trying.confirmed().unwrap();
        assert_eq!(kept.step("a", true, Trust::Nothing), Step::Nothing);
        assert_eq!(kept.step("a", false, Trust::Nothing), Step::Activate);
        assert_eq!(kept.step("b", false, Trust::Nothing), Step::Try);
        assert_eq!(kept.confirmed(), None);

        let back = kept
            .tried("b", 2000)
            .rolled_back("nobody confirmed", 2120)
            .unwrap();
        assert!(matches!(
            back.step("b", false, Trust::Nothing),
            Step::Rejected(_)
        ));
        assert_eq!(back.step("c", false, Trust::Nothing), Step::Try);
        assert_eq!(back.step("a", true, Trust::Nothing), Step::Nothing);
        assert_eq!(back.rolled_back("again", 3000), None);
    }

    #[test]
    fn what_leaves_the_way_in_needs_nobody_once_a_set_was_confirmed() {
        let guard = Guard::default();
        assert_eq!(guard.step("a", false, Trust::WayIn), Step::Try);
        let kept = guard.tried("a", 1000).confirmed().unwrap();
        assert_eq!(kept.step("b", false, Trust::WayIn), Step::Activate);
        // An attempt is brought to its end first.
        let trying = kept.tried("b", 2000);
        assert!(matches!(
            trying.step("c", false, Trust::WayIn),
            Step::AwaitConfirmation(_)
        ));
        // What an agent took back that asked about it.
        let back = trying.rolled_back("nobody confirmed", 2120).unwrap();
        assert_eq!(back.step("b", false, Trust::WayIn), Step::Activate);
    }
}
