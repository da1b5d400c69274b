//! Puts the guarded files in force, and takes them back. See [`crate::guard`] for when.
//!
//! A set is kept whole in one file below [`SETS_DIR`], so that what is loaded at boot never depends on what happens to
//! stand in the role's directory. Tables are replaced by iptables-restore(8), each as a whole and at once; both families
//! are tested before one is loaded.

use std::io;
use std::path::PathBuf;

use rolesmith_model::manifest::CONF_DIR;

use crate::files::{self, Access, Lock, Root, Seen};
use crate::guard::{GUARDED_ROLE, Guard, is_guarded};
use crate::program::{Call, ProgramError, Programs};

mod fallback;
mod set;
mod way_in;

pub use set::{Saved, Set, SetFile, sets_way_back, way_back};
pub use way_in::keeps_way_in;

/// Directory of the sets that are in use.
pub const SETS_DIR: &str = "/var/lib/rolesmith/guard/sets";
/// What was loaded before the pending set.
pub const SAVED_FILE: &str = "/var/lib/rolesmith/guard/saved.json";
/// The timer that takes an unconfirmed set back.
pub const ROLLBACK_TIMER: &str = "rolesmith-firewall-rollback.timer";
const LOCK: &str = "guard.lock";
/// The programs that load rules, one a family.
const RESTORE: [&str; 2] = ["iptables-restore", "ip6tables-restore"];

/// Why a set could not be put in force or taken back.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// A program refused.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file could not be read or written.
    #[error("the guarded files: {0}")]
    Io(#[from] io::Error),
    /// The guard's state or a set is damaged.
    #[error("{0}")]
    Damaged(String),
}

/// The machine's firewall and ssh server.
#[derive(Debug)]
pub struct Firewall<'a, P> {
    /// Where files stand.
    pub root: &'a Root,
    /// The machine's programs.
    pub programs: &'a P,
    /// Unix seconds.
    pub now: u64,
}

/// A set that was put in force or is tried, by its fingerprint.
#[must_use]
pub fn read_set(root: &Root, name: &str) -> Seen<Set> {
    files::read_json(&set_path(root, name))
}

fn set_path(root: &Root, name: &str) -> PathBuf {
    root.join(SETS_DIR).join(format!("{name}.json"))
}

impl<P: Programs> Firewall<'_, P> {
    /// Puts a set in force: for good, or until it is confirmed or taken back. What fails is undone.
    ///
    /// # Errors
    /// A rule that is refused, above all.
    pub fn put_in_force(
        &self,
        name: &str,
        set: &Set,
        confirmed: bool,
    ) -> Result<(), FirewallError> {
        let _lock = self.lock()?;
        // Damage to what was before must not keep this set from being put in force.
        let guard = self.guard().unwrap_or_default();
        files::write_json(&set_path(self.root, name), set, Access::PRIVATE)?;
        if confirmed {
            let before = self.set_of(guard.confirmed.as_deref());
            if let Err(error) = self.install(set) {
                // The first error is the one to report.
                let _ = before.and_then(|before| self.install(&before));
                return Err(error);
            }
            self.settle(&guard.activated(name))
        } else {
            let saved = self.save()?;
            files::write_json(&self.root.join(SAVED_FILE), &saved, Access::PRIVATE)?;
            guard.tried(name, self.now).save(self.root)?;
            // Armed before anything is loaded. `restart`, because it may still run for an earlier set.
            let armed = self
                .programs
                .output(&Call::new(["systemctl", "restart", ROLLBACK_TIMER]));
            if let Err(error) = armed
                .map_err(FirewallError::from)
                .and_then(|_| self.install(set))
            {
                self.take_back(
                    &self.guard()?,
                    &format!("they could not be loaded: {error}"),
                )?;
                return Err(error);
            }
            Ok(())
        }
    }

    /// Keeps the pending set. Returns whether there was one.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn confirm(&self) -> Result<bool, FirewallError> {
        let _lock = self.lock()?;
        let Some(guard) = self.guard()?.confirmed() else {
            return Ok(false);
        };
        self.settle(&guard)?;
        Ok(true)
    }

    /// Takes the pending set back. Returns whether there was one.
    ///
    /// # Errors
    /// What was loaded before is refused; the set is pending still, and it is tried again.
    pub fn rollback(&self, why: &str) -> Result<bool, FirewallError> {
        let _lock = self.lock()?;
        let guard = self.guard()?;
        self.take_back(&guard, why)
    }

    /// Takes back a pending set whose time is over; its timer may have been lost in a crash.
    ///
    /// # Errors
    /// As [`Firewall::rollback`].
    pub fn expire(&self) -> Result<(), FirewallError> {
        let _lock = self.lock()?;
        // A damaged state tells of nothing that is pending; the next set that is put in force replaces it.
        let guard = self.guard().unwrap_or_default();
        if guard
            .pending
            .as_ref()
            .is_some_and(|pending| pending.until <= self.now)
        {
            self.take_back(&guard, "nobody confirmed them in time")?;
        }
        Ok(())
    }

    /// Loads the confirmed set before the network comes up. A pending one is forgotten: nothing unconfirmed survives a boot.
    ///
    /// A family whose rules cannot be loaded gets `fallback` rules, so that the machine never stands open; the next
    /// `apply` tries the confirmed ones again.
    ///
    /// # Errors
    /// The first thing that failed; the others were tried all the same.
    pub fn boot(&self) -> Result<(), FirewallError> {
        // Nobody else is there yet, and rules without a lock are better than none.
        let _lock = self.lock();
        let mut results = Vec::new();
        let guard = self.guard().unwrap_or_else(|error| {
            results.push(Err(error));
            Guard::default()
        });
        let set = self.set_of(guard.confirmed.as_deref());
        let after = guard.rolled_back(
            "the machine was started anew before they were confirmed",
            self.now,
        );
        if let (Some(_), Ok(set)) = (&after, &set) {
            results.push(self.place(set));
        }
        let mut after = after.unwrap_or_else(|| guard.clone());
        let loaded = match set {
            // A damaged state may have named a set.
            Ok(_)
                if !results.is_empty() && guard.confirmed.is_none() && guard.pending.is_none() =>
            {
                self.fall_back(&Set::default(), &RESTORE)
            }
            Ok(set) => self.load_or_fall_back(&set),
            Err(error) => {
                results.push(Err(error));
                self.fall_back(&Set::default(), &RESTORE)
            }
        };
        results.push(loaded);
        let result: Result<(), FirewallError> = results.into_iter().collect();
        after.fallback = result.as_ref().err().map(ToString::to_string);
        if after != guard || result.is_err() {
            // A damaged state stays as it is for who looks into it.
            if !matches!(self.guard(), Err(FirewallError::Damaged(_))) {
                after.save(self.root)?;
            }
        }
        result
    }

    fn load_or_fall_back(&self, set: &Set) -> Result<(), FirewallError> {
        let mut results = vec![self.load_sets(set.sets())];
        for (program, rules) in set.rules() {
            if let Err(error) = self.restore(program, rules) {
                results.push(Err(error));
                results.push(self.fall_back(set, &[program]));
            }
        }
        results.into_iter().collect()
    }

    fn fall_back(&self, set: &Set, programs: &[&'static str]) -> Result<(), FirewallError> {
        let placed = self
            .root
            .join(CONF_DIR)
            .join(GUARDED_ROLE)
            .join("sshd.conf");
        let placed = files::read(&placed).ok().flatten().unwrap_or_default();
        let placed = String::from_utf8_lossy(&placed);
        let ports = fallback::ssh_ports(set.text("sshd.conf").unwrap_or(&placed));
        programs
            .iter()
            .map(|program| {
                // The kernel may lack what tells root from others; without it, rules that close the machine are still better
                // than none.
                self.restore(program, &fallback::rules(program, &ports, true))
                    .or_else(|_| self.restore(program, &fallback::rules(program, &ports, false)))
            })
            .collect::<Vec<_>>()
            .into_iter()
            .collect()
    }

    /// Loads the confirmed set again, after somebody flushed the rules. Returns whether there was one.
    ///
    /// # Errors
    /// As [`Firewall::put_in_force`].
    pub fn reload(&self) -> Result<bool, FirewallError> {
        let _lock = self.lock()?;
        let guard = self.guard()?;
        if guard.pending.is_some() || guard.confirmed.is_none() {
            return Ok(false);
        }
        self.install(&self.set_of(guard.confirmed.as_deref())?)?;
        if guard.fallback.is_some() {
            Guard {
                fallback: None,
                ..guard
            }
            .save(self.root)?;
        }
        Ok(true)
    }

    /// Forgets that a set was taken back, so that it is tried again. Returns whether one was.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn forgive(&self) -> Result<bool, FirewallError> {
        let _lock = self.lock()?;
        let guard = self.guard()?;
        if guard.rejected.is_none() {
            return Ok(false);
        }
        Guard {
            rejected: None,
            ..guard
        }
        .save(self.root)?;
        Ok(true)
    }

    fn lock(&self) -> io::Result<Lock> {
        Lock::take(self.root, LOCK)
    }

    fn guard(&self) -> Result<Guard, FirewallError> {
        Guard::load(self.root).map_err(FirewallError::Damaged)
    }

    /// A set by name; no name is the empty set.
    fn set_of(&self, name: Option<&str>) -> Result<Set, FirewallError> {
        let Some(name) = name else {
            return Ok(Set::default());
        };
        match read_set(self.root, name) {
            Seen::Is(set) => Ok(set),
            Seen::Absent => Err(FirewallError::Damaged(format!(
                "{SETS_DIR}/{name}.json is missing"
            ))),
            Seen::Broken(why) => Err(FirewallError::Damaged(format!(
                "{SETS_DIR}/{name}.json: {why}"
            ))),
        }
    }

    /// Writes a state in which nothing is pending, and clears away what only the pending set needed.
    fn settle(&self, guard: &Guard) -> Result<(), FirewallError> {
        guard.save(self.root)?;
        // What is left behind does no harm: the timer finds nothing pending.
        let _ = self
            .programs
            .run(&Call::new(["systemctl", "stop", ROLLBACK_TIMER]));
        files::remove(&self.root.join(SAVED_FILE))?;
        let dir = self.root.join(SETS_DIR);
        let kept = guard.confirmed.as_ref().map(|name| format!("{name}.json"));
        for name in files::list(&dir)?
            .into_iter()
            .filter(|name| Some(name) != kept.as_ref())
        {
            files::remove(&dir.join(name))?;
        }
        Ok(())
    }

    fn take_back(&self, guard: &Guard, why: &str) -> Result<bool, FirewallError> {
        let Some(pending) = &guard.pending else {
            return Ok(false);
        };
        let before = self.set_of(guard.confirmed.as_deref());
        let (saved, why) = match files::read_json::<Saved>(&self.root.join(SAVED_FILE)) {
            Seen::Is(saved) => (saved, why.to_owned()),
            Seen::Absent => (Saved::default(), why.to_owned()),
            // What was loaded is not known any more; what was confirmed is the next best, and somebody may be locked out.
            Seen::Broken(broken) => {
                let before = before.as_ref().ok();
                let text = |path| Some(before?.text(path)?.to_owned());
                let saved = Saved {
                    v4: text("firewall.v4").unwrap_or_default(),
                    v6: text("firewall.v6").unwrap_or_default(),
                    ipset: text("firewall.ipset"),
                };
                (saved, format!("{why}; {SAVED_FILE} was damaged: {broken}"))
            }
        };
        let Some(mut back) = guard.rolled_back(&why, self.now) else {
            return Ok(false);
        };
        // One step that fails keeps no other from being taken: somebody may be locked out.
        let tried = self.set_of(Some(&pending.set)).unwrap_or_default();
        let emptied = |path| tried.text(path).unwrap_or_default();
        let v4 = way_back(&saved.v4, emptied("firewall.v4"));
        let v6 = way_back(&saved.v6, emptied("firewall.v6"));
        let sets = saved
            .ipset
            .as_deref()
            .filter(|text| !text.is_empty())
            .map(sets_way_back);
        let results = [
            self.load_sets(sets.as_deref()),
            self.restore("iptables-restore", &v4),
            self.restore("ip6tables-restore", &v6),
            before.and_then(|before| self.place(&before)),
        ];
        let ssh = self.reload_ssh();
        results.into_iter().collect::<Result<(), _>>()?;
        // Settings that the ssh server refuses now were there before, or came from elsewhere: to try again would not mend
        // them, so this is told instead.
        if let (Err(error), Some(rejected)) = (ssh, &mut back.rejected) {
            rejected.why = format!("{why}; then: {error}");
        }
        self.settle(&back)?;
        Ok(true)
    }

    fn save(&self) -> Result<Saved, FirewallError> {
        let ipset = match self.programs.output(&Call::new(["ipset", "save"])) {
            Ok(text) => Some(text),
            Err(ProgramError::Start { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Saved {
            v4: self.programs.output(&Call::new(["iptables-save"]))?,
            v6: self.programs.output(&Call::new(["ip6tables-save"]))?,
            ipset,
        })
    }

    /// Makes a set the one in force: sets, then both families once each was found good, then the ssh server.
    fn install(&self, set: &Set) -> Result<(), FirewallError> {
        self.load_sets(set.sets())?;
        for (program, rules) in set.rules() {
            self.programs
                .output(&Call::new([program, "-w", "10", "--test"]).stdin(rules))?;
        }
        self.place(set)?;
        for (program, rules) in set.rules() {
            self.restore(program, rules)?;
        }
        self.remove_stale_sets(set);
        self.reload_ssh()
    }

    /// Removes the fleet's sets that the rules name no more. One that stays does no harm: no rule asks it.
    fn remove_stale_sets(&self, set: &Set) {
        let Some(declared) = set.sets() else {
            return;
        };
        let there = self
            .programs
            .output(&Call::new(["ipset", "list", "-name"]))
            .unwrap_or_default();
        for name in set::stale(declared, &there) {
            let _ = self.programs.run(&Call::new(["ipset", "destroy", name]));
        }
    }

    /// Puts a set's files into the role's directory and removes other guarded ones.
    fn place(&self, set: &Set) -> Result<(), FirewallError> {
        let dir = self.root.join(CONF_DIR).join(GUARDED_ROLE);
        for file in &set.files {
            let access = Access {
                mode: file.mode,
                owner: Some(file.owner),
            };
            files::write(&dir.join(&file.path), file.text.as_bytes(), access)?;
        }
        for path in files::list(&dir)? {
            if is_guarded(GUARDED_ROLE, &path) && set.text(&path).is_none() {
                files::remove(&dir.join(path))?;
            }
        }
        Ok(())
    }

    fn load_sets(&self, text: Option<&str>) -> Result<(), FirewallError> {
        if let Some(text) = text {
            self.programs
                .output(&Call::new(["ipset", "restore", "-exist"]).stdin(text))?;
        }
        Ok(())
    }

    fn restore(&self, program: &str, rules: &str) -> Result<(), FirewallError> {
        if !rules.is_empty() {
            self.programs
                .output(&Call::new([program, "-w", "10"]).stdin(rules))?;
        }
        Ok(())
    }

    /// The ssh server reads its configuration again if it runs. Debian's unit tests it first and fails if it is wrong.
    fn reload_ssh(&self) -> Result<(), FirewallError> {
        let running = self.programs.run(&Call::new([
            "systemctl",
            "is-active",
            "--quiet",
            "ssh.service",
        ]))?;
        if running.code == Some(0) {
            self.programs
                .output(&Call::new(["systemctl", "reload", "ssh.service"]))?;
        }
        Ok(())
    }
}
