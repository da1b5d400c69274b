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

mod set;

pub use set::{Saved, Set, SetFile, sets_way_back, way_back};

/// Directory of the sets that are in use.
pub const SETS_DIR: &str = "/var/lib/rolesmith/guard/sets";
/// What was loaded before the pending set.
pub const SAVED_FILE: &str = "/var/lib/rolesmith/guard/saved.json";
/// The timer that takes an unconfirmed set back.
pub const ROLLBACK_TIMER: &str = "rolesmith-firewall-rollback.timer";
const LOCK: &str = "guard.lock";

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
        let guard = self.guard()?;
        files::write_json(&self.set_path(name), set, Access::PRIVATE)?;
        if confirmed {
            let before = self.set_of(guard.confirmed.as_deref())?;
            if let Err(error) = self.install(set) {
                // The first error is the one to report.
                let _ = self.install(&before);
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
        let guard = self.guard()?;
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
    /// # Errors
    /// The first thing that failed; the others were tried all the same.
    pub fn boot(&self) -> Result<(), FirewallError> {
        let _lock = self.lock()?;
        let guard = self.guard()?;
        let set = self.set_of(guard.confirmed.as_deref())?;
        let mut results = Vec::new();
        if let Some(guard) = guard.rolled_back(
            "the machine was started anew before they were confirmed",
            self.now,
        ) {
            results.push(self.place(&set));
            results.push(guard.save(self.root).map_err(FirewallError::from));
        }
        results.push(self.load_sets(set.sets()));
        results.extend(
            set.rules()
                .map(|(program, rules)| self.restore(program, rules)),
        );
        results.into_iter().collect()
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

    fn set_path(&self, name: &str) -> PathBuf {
        self.root.join(SETS_DIR).join(format!("{name}.json"))
    }

    /// A set by name; no name is the empty set.
    fn set_of(&self, name: Option<&str>) -> Result<Set, FirewallError> {
        let Some(name) = name else {
            return Ok(Set::default());
        };
        match files::read_json(&self.set_path(name)) {
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
        let (Some(mut back), Some(pending)) = (guard.rolled_back(why, self.now), &guard.pending)
        else {
            return Ok(false);
        };
        let saved: Saved = match files::read_json(&self.root.join(SAVED_FILE)) {
            Seen::Is(saved) => saved,
            Seen::Absent => Saved::default(),
            Seen::Broken(why) => {
                return Err(FirewallError::Damaged(format!("{SAVED_FILE}: {why}")));
            }
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
            self.set_of(guard.confirmed.as_deref())
                .and_then(|before| self.place(&before)),
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
        self.reload_ssh()
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
