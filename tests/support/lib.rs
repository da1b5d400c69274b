//! What the end-to-end tests share: a fleet built by the real program, and a lab to boot it in.
//!
//! Everything lives below one directory (`ROLESMITH_TEST_DIR`, default target/e2e), so that the mirror and the root trees
//! are kept between runs and the labs can be found again after a crash.

pub mod baked;
pub mod bare;
pub mod browser;
pub mod cluster;
pub mod scan;
pub mod seed;
pub mod smarthost;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the checkout")
        .to_owned()
}

/// Where fleets, caches and labs of the tests live.
#[must_use]
pub fn work_dir() -> PathBuf {
    std::env::var_os("ROLESMITH_TEST_DIR")
        .map_or_else(|| checkout().join("target/e2e"), PathBuf::from)
}

/// Ends the test where it is not root: a test that is skipped in silence proves nothing.
///
/// # Panics
/// Without root.
pub fn need_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test boots real machines and needs root: run it with `make test`"
    );
}

/// The program under test, called as a user would.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// The fleet's directory.
    pub dir: PathBuf,
}

impl Fleet {
    /// A new fleet named `name` with this fleet.toml, in an empty directory; its keys are made by `init`.
    ///
    /// # Panics
    /// Where the program fails.
    #[must_use]
    pub fn create(name: &str, fleet_toml: &str) -> Self {
        let fleet = Self {
            dir: work_dir().join("fleets").join(name),
        };
        fleet.lab_down();
        if fleet.dir.exists() {
            std::fs::remove_dir_all(&fleet.dir).expect("an old fleet can be removed");
        }
        std::fs::create_dir_all(&fleet.dir).expect("a directory can be made");
        fleet.run(&["init", "--name", name]);
        std::fs::write(fleet.dir.join("fleet.toml"), fleet_toml)
            .expect("fleet.toml can be written");
        fleet
    }

    /// Gives the fleet a secret that its operator chooses.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn set_secret(&self, name: &str, value: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join("secrets/fleet").join(name);
        std::fs::write(&path, format!("{value}\n")).expect("the fleet has secrets");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .expect("it belongs to the test");
    }

    /// What `rolesmith init --example` makes, in an empty directory.
    ///
    /// # Panics
    /// Where the program fails.
    #[must_use]
    pub fn example(name: &str, suite: &str) -> Self {
        let fleet = Self {
            dir: work_dir().join("fleets").join(name),
        };
        fleet.lab_down();
        if fleet.dir.exists() {
            std::fs::remove_dir_all(&fleet.dir).expect("an old fleet can be removed");
        }
        std::fs::create_dir_all(&fleet.dir).expect("a directory can be made");
        let domain = format!("{name}.internal");
        let words = ["init", "--example", "--name", name, "--suite", suite];
        fleet.run(&[&words[..], &["--domain", &domain]].concat());
        fleet
    }

    /// The program with these arguments, not yet started.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = checkout().join("target/debug/rolesmith");
        let mut command = Command::new(program);
        command
            .arg("-C")
            .arg(&self.dir)
            .args(arguments)
            .env("XDG_CACHE_HOME", work_dir().join("cache"))
            .env("ROLESMITH_LAB_DIR", work_dir().join("lab"))
            .env("NO_COLOR", "1")
            .stdin(std::process::Stdio::null());
        command
    }

    /// Runs the program and gives what it printed.
    ///
    /// # Panics
    /// Where it cannot be started or fails.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self
            .command(arguments)
            .output()
            .expect("the program starts: run `cargo build` first");
        assert!(
            output.status.success(),
            "rolesmith {arguments:?} failed\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Runs a shell script in a node as root; gives exit code and what it printed, both streams together.
    ///
    /// # Panics
    /// Where the lab cannot be reached.
    #[must_use]
    pub fn shell(&self, node: &str, script: &str) -> (i32, String) {
        let script = format!("exec 2>&1\n{script}");
        let output = self
            .command(&["lab", "exec", node, "--", "sh", "-c", &script])
            .output()
            .expect("the program starts");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    }

    /// As [`Fleet::shell`], and the script has to succeed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn must(&self, node: &str, script: &str) -> String {
        let (code, text) = self.shell(node, script);
        assert_eq!(code, 0, "on {node}: {script}\n{text}");
        text
    }

    /// Ends the fleet's lab, if there is one.
    pub fn lab_down(&self) {
        if self.dir.join("fleet.toml").exists() {
            let _ = self.command(&["lab", "down"]).output();
        }
    }
}

/// Ends the lab when the test ends, also when it fails.
pub struct LabGuard<'a>(pub &'a Fleet);

impl Drop for LabGuard<'_> {
    fn drop(&mut self) {
        if std::env::var_os("ROLESMITH_KEEP_LAB").is_none() {
            self.0.lab_down();
        }
    }
}
