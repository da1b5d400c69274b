//! Running the program and looking at what came of it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::EPOCH;

/// The program under test.
#[derive(Debug, Clone)]
pub struct Rolesmith {
    program: PathBuf,
}

impl Rolesmith {
    /// A test of the cli crate gives `env!("CARGO_BIN_EXE_rolesmith")`.
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: PathBuf::from(program.as_ref()),
        }
    }

    /// A command that sees nothing of the machine but its programs: `home` is its HOME and holds its caches.
    ///
    /// The environment is cleared, the clock is [`EPOCH`], and standard input is empty. gpg and apt find no
    /// configuration of the person who runs the test.
    #[must_use]
    pub fn command(&self, home: &Path, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("NO_COLOR", "1")
            .env("HOME", home)
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("GNUPGHOME", home.join("gnupg"))
            .env("TMPDIR", home)
            .env("SOURCE_DATE_EPOCH", EPOCH.to_string())
            .current_dir(directory)
            .stdin(Stdio::null());
        command
    }
}

/// What a run of the program left behind.
#[derive(Debug, Clone)]
pub struct Run {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// It cannot be started, or writes something that is not UTF-8.
    #[must_use]
    pub fn of(mut command: Command) -> Self {
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("{command:?} cannot be started: {e}"));
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Asserts that it exited with this status.
    ///
    /// # Panics
    /// It did not; the message holds what it wrote.
    #[track_caller]
    pub fn exited(&self, status: i32) -> &Self {
        assert_eq!(
            self.status,
            Some(status),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts exit status 0.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        self.exited(0)
    }

    /// Asserts exit status 1: the work failed.
    #[track_caller]
    pub fn failed(&self) -> &Self {
        self.exited(1)
    }
}
