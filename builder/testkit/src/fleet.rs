//! A fleet in a temporary directory.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{Rolesmith, Run, Tree, copy};

/// A fleet's directory with the program that works on it. Removed when dropped.
#[derive(Debug)]
pub struct TestFleet {
    // Holds home/ (caches, keyrings) and fleet/.
    temp: TempDir,
    dir: PathBuf,
    rolesmith: Rolesmith,
}

impl TestFleet {
    /// An empty directory.
    ///
    /// # Panics
    /// There is no temporary directory.
    #[must_use]
    pub fn empty(program: impl AsRef<OsStr>) -> Self {
        let temp = tempfile::Builder::new()
            .prefix("rolesmith-test-")
            .tempdir()
            .expect("a temporary directory");
        for dir in ["home", "home/gnupg", "fleet"] {
            fs::create_dir(temp.path().join(dir)).expect("a new directory");
        }
        Self {
            dir: temp.path().join("fleet"),
            rolesmith: Rolesmith::new(program),
            temp,
        }
    }

    /// What `rolesmith init --name NAME` makes, keys included.
    ///
    /// # Panics
    /// `init` fails.
    #[must_use]
    pub fn init(program: impl AsRef<OsStr>, name: &str) -> Self {
        let fleet = Self::empty(program);
        fleet.run(&["init", "--name", name]).succeeded();
        fleet
    }

    /// What `rolesmith init --example` makes, keys included: the fleet acme of three nodes.
    ///
    /// # Panics
    /// `init` fails.
    #[must_use]
    pub fn example(program: impl AsRef<OsStr>) -> Self {
        let fleet = Self::empty(program);
        fleet.run(&["init", "--example"]).succeeded();
        fleet
    }

    /// A copy of a directory; names at its top that `skip` tells are left out.
    ///
    /// # Panics
    /// It cannot be copied.
    #[must_use]
    pub fn copy_of(
        program: impl AsRef<OsStr>,
        directory: &Path,
        skip: impl Fn(&str) -> bool,
    ) -> Self {
        let fleet = Self::empty(program);
        copy(directory, &fleet.dir, skip);
        fleet
    }

    /// Takes over the secrets of another fleet with what is committed of them, so that a test with many fleets makes keys
    /// once.
    ///
    /// # Panics
    /// They cannot be copied.
    pub fn take_secrets(&self, donor: &TestFleet) {
        copy(&donor.dir.join("secrets"), &self.path("secrets"), |_| false);
        // What is at the top of a copied tree has no entry of its own.
        self.chmod("secrets", 0o700);
        let lock = donor.path("identities.lock");
        if lock.exists() {
            fs::copy(lock, self.path("identities.lock")).expect("a file that can be copied");
        }
    }

    /// The fleet's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below it.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// The command with the arguments, in the fleet's directory, for a test that has to set more.
    #[must_use]
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> std::process::Command {
        let mut command = self
            .rolesmith
            .command(&self.temp.path().join("home"), &self.dir);
        command.args(args);
        command
    }

    /// Runs the program in the fleet's directory.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        Run::of(self.command(args))
    }

    /// Writes a file, making its directories.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, relative: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(relative);
        let parent = path.parent().expect("below the fleet's directory");
        fs::create_dir_all(parent).unwrap_or_else(|e| panic!("{}: {e}", parent.display()));
        fs::write(&path, bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Reads a file as text.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn read(&self, relative: &str) -> String {
        let path = self.path(relative);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Replaces a piece of text that a file holds exactly once.
    ///
    /// # Panics
    /// It does not hold it exactly once: the test is out of date.
    #[track_caller]
    pub fn edit(&self, relative: &str, from: &str, to: &str) {
        let text = self.read(relative);
        assert_eq!(
            text.matches(from).count(),
            1,
            "{relative} holds {from:?} once"
        );
        self.write(relative, text.replace(from, to));
    }

    /// Sets permission bits.
    ///
    /// # Panics
    /// There is no such file.
    pub fn chmod(&self, relative: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(relative);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Everything in the fleet's directory.
    #[must_use]
    pub fn tree(&self) -> Tree {
        Tree::read(&self.dir)
    }
}
