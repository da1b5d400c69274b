//! Two machines under one name. A seed that is booted twice gives both machines the same key and certificate; what tells
//! them apart is the random id of their first start, and for a copied disk the id of the boot.
//!
//! The first one stays, the newcomer is refused, until the first one has been silent for a while. Then the newcomer may be
//! a machine that was wiped and booted again. Which of them has a vote is not decided here: voters are recorded with their
//! ids in the active configuration.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::identity::Refusal;

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The random id of its first start.
    pub incarnation: u64,
    /// The id of its boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

/// Silence (ms) after which another machine may take a name.
pub const SILENCE: u64 = 10_000;
/// Machines that had a name which are remembered.
const FORMER: usize = 8;

#[derive(Debug)]
struct Holder {
    machine: Machine,
    heard: u64,
    /// Boots that a later one has superseded.
    former: VecDeque<Machine>,
}

/// Which machine has each name. Time is milliseconds of any clock that does not go back.
#[derive(Debug, Default)]
pub struct Sessions {
    holders: BTreeMap<String, Holder>,
    expected: BTreeMap<String, u64>,
}

impl Sessions {
    /// Lets a machine in under a name whose certificate it has shown.
    ///
    /// # Errors
    /// [`Refusal::SecondMachine`].
    pub fn admit(&mut self, name: &str, machine: &Machine, now: u64) -> Result<(), Refusal> {
        let Some(holder) = self.holders.get_mut(name) else {
            self.holders.insert(
                name.to_owned(),
                Holder {
                    machine: machine.clone(),
                    heard: now,
                    former: VecDeque::new(),
                },
            );
            return Ok(());
        };
        if holder.machine != *machine {
            let silent = now.saturating_sub(holder.heard) >= SILENCE;
            let expected = self.expected.get(name);
            let preferred = expected == Some(&machine.incarnation)
                && expected != Some(&holder.machine.incarnation);
            // A machine that reboots comes back as the same one with another boot; the boot before is over for good.
            let rebooted = holder.machine.incarnation == machine.incarnation
                && !holder.former.contains(machine);
            if !(silent || preferred || rebooted) {
                return Err(Refusal::SecondMachine(name.to_owned()));
            }
            holder.former.retain(|former| former != machine);
            let before = std::mem::replace(&mut holder.machine, machine.clone());
            holder.former.push_back(before);
            if holder.former.len() > FORMER {
                holder.former.pop_front();
            }
        }
        holder.heard = now;
        Ok(())
    }

    /// Whether that machine still has the name.
    #[must_use]
    pub fn holds(&self, name: &str, machine: &Machine) -> bool {
        self.holders
            .get(name)
            .is_some_and(|holder| holder.machine == *machine)
    }

    /// The machine that has the name was heard.
    pub fn heard(&mut self, name: &str, now: u64) {
        if let Some(holder) = self.holders.get_mut(name) {
            holder.heard = now;
        }
    }

    /// Which machine each name belongs to by the active configuration.
    pub fn expect(&mut self, machines: BTreeMap<String, u64>) {
        self.expected = machines;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(incarnation: u64, boot: &str) -> Machine {
        Machine {
            incarnation,
            boot: boot.to_owned(),
        }
    }

    #[test]
    fn the_first_machine_keeps_its_name_while_it_is_heard() {
        let mut sessions = Sessions::default();
        let (first, second) = (machine(1, "a"), machine(2, "b"));
        assert_eq!(sessions.admit("n1", &first, 0), Ok(()));
        assert_eq!(
            sessions.admit("n2", &second, 0),
            Ok(()),
            "another name is another matter"
        );
        for now in (1000..60_000).step_by(1000) {
            sessions.heard("n1", now);
            assert!(
                sessions.admit("n1", &second, now + 1).is_err(),
                "two at once"
            );
            assert_eq!(sessions.admit("n1", &first, now + 2), Ok(()));
        }
        assert!(sessions.holds("n1", &first) && !sessions.holds("n1", &second));
        // Wiped and booted again: accepted once the first one is silent; then the first one is the second.
        let later = 59_002 + SILENCE;
        assert_eq!(sessions.admit("n1", &second, later), Ok(()));
        assert!(sessions.admit("n1", &first, later + 1).is_err());
    }

    #[test]
    fn a_reboot_is_let_in_at_once_and_a_copied_disk_is_not() {
        let mut sessions = Sessions::default();
        let (before, after) = (machine(1, "a"), machine(1, "b"));
        assert_eq!(sessions.admit("n1", &before, 0), Ok(()));
        assert_eq!(sessions.admit("n1", &after, 1), Ok(()));
        // A boot that was superseded and speaks again was never over: two machines run.
        assert!(sessions.admit("n1", &before, 2).is_err());
        assert_eq!(sessions.admit("n1", &after, 3), Ok(()));
        assert_eq!(sessions.admit("n1", &before, 3 + SILENCE), Ok(()));
    }

    #[test]
    fn the_machine_that_has_the_vote_gets_its_name_back() {
        let mut sessions = Sessions::default();
        let (voter, copy) = (machine(1, "a"), machine(2, "b"));
        assert_eq!(sessions.admit("n1", &copy, 0), Ok(()));
        sessions.expect([("n1".to_owned(), 1)].into());
        assert_eq!(sessions.admit("n1", &voter, 1), Ok(()));
        assert!(sessions.admit("n1", &copy, 2).is_err());
    }
}
