//! The machine that the tests apply facts to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rolesmith_agent::apply::apply;
use rolesmith_agent::files::Root;
use rolesmith_agent::firewall::Firewall;
use rolesmith_agent::guard::Guard;
use rolesmith_agent::program::{Call, Ended, ProgramError, Programs};
use rolesmith_agent::state::State;
use serde_json::json;

/// Programs as far as `apply` uses them; it keeps what it was asked.
#[derive(Default)]
pub(super) struct Script {
    pub(super) calls: RefCell<Vec<Call>>,
    pub(super) running: RefCell<BTreeMap<String, bool>>,
    /// Exit status and output of the join program.
    pub(super) join: RefCell<Option<(i32, &'static str)>>,
    /// A unit whose condition is not met.
    pub(super) skipped: RefCell<Option<&'static str>>,
    /// The beginning of a call that fails.
    pub(super) broken: RefCell<Option<&'static str>>,
    /// A file that is looked for when a unit is restarted.
    pub(super) mark: RefCell<Option<PathBuf>>,
}

impl Programs for Script {
    fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
        let is_marked = self
            .mark
            .borrow()
            .as_ref()
            .is_some_and(|mark| mark.exists());
        if is_marked && call.argv.get(1).is_some_and(|word| word == "restart") {
            self.calls.borrow_mut().push(Call::new(["marked:"]));
        }
        self.calls.borrow_mut().push(call.clone());
        let words: Vec<&str> = call.argv.iter().map(String::as_str).collect();
        let good = |stdout: &str| {
            Ok(Ended {
                code: Some(0),
                stdout: stdout.to_owned(),
                stderr: String::new(),
            })
        };
        let bad = |code, stderr: &str| {
            Ok(Ended {
                code: Some(code),
                stdout: String::new(),
                stderr: stderr.to_owned(),
            })
        };
        if self
            .broken
            .borrow()
            .is_some_and(|start| call.argv.join(" ").starts_with(start))
        {
            return bad(2, "line 3: no such match");
        }
        match words.as_slice() {
            ["ip", ..] => good(r#"[{"addr_info":[{"local":"10.77.0.11","scope":"global"}]}]"#),
            ["dpkg-query", ..] => bad(1, "no packages found"),
            [
                "systemctl",
                "show",
                "--property=LoadState,ActiveState,UnitFileState",
                _,
                units @ ..,
            ] => {
                let block = |unit: &&str| {
                    let active = self
                        .running
                        .borrow()
                        .get(*unit)
                        .copied()
                        .unwrap_or_default();
                    let state = if active { "active" } else { "inactive" };
                    format!("LoadState=loaded\nActiveState={state}\nUnitFileState=enabled\n")
                };
                good(&units.iter().map(block).collect::<Vec<_>>().join("\n"))
            }
            [
                "systemctl",
                "show",
                "--property=ActiveState,ConditionResult",
                _,
                unit,
            ] if *self.skipped.borrow() == Some(*unit) => {
                good("ActiveState=inactive\nConditionResult=no\n")
            }
            ["systemctl", "start" | "restart", "--", unit]
                if *self.skipped.borrow() == Some(*unit) =>
            {
                good("")
            }
            ["systemctl", "start" | "restart", "--", unit] => {
                self.running.borrow_mut().insert((*unit).to_owned(), true);
                good("")
            }
            ["iptables-save"] => {
                good("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.1 -j ACCEPT\nCOMMIT\n")
            }
            ["ipset", "list", "-name"] => good("f2b-of-others\nrolesmith-tcp-6380\n"),
            ["/join"] => match *self.join.borrow() {
                Some((code, text)) => bad(code, text),
                None => good(""),
            },
            _ => good(""),
        }
    }
}

impl Script {
    /// What it was asked since the last time, without questions.
    pub(super) fn acts(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.borrow_mut());
        let asks = ["ip", "dpkg-query", "iptables-save", "ip6tables-save"];
        let asks_systemctl = ["show", "is-active", "reset-failed"];
        calls
            .iter()
            .filter(|call| !asks.contains(&call.name()))
            .filter(|call| {
                call.name() != "systemctl" || !asks_systemctl.contains(&call.argv[1].as_str())
            })
            .map(|call| call.argv.join(" "))
            .collect()
    }
}

/// A directory that stands for a machine, with an account `root` that is whoever runs the tests.
pub(super) struct Machine {
    dir: tempfile::TempDir,
    pub(super) root: Root,
    pub(super) script: Script,
}

/// The rules of the facts of a version; none leave the way in as another's do.
pub(super) fn rules(version: u64) -> String {
    format!(
        "*filter\n-A INPUT -s 192.0.2.{version}/32 -j DROP\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    )
}

/// Unix seconds at which things happen.
pub(super) const TIME: u64 = 1_800_000_000;

impl Machine {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let machine = Self {
            root,
            script: Script::default(),
            dir,
        };
        // The tests need no root: the user that runs them plays it.
        let own = fs::metadata(machine.dir.path()).unwrap();
        machine.write(
            "/etc/passwd",
            &format!("root:x:{}:0::/:/bin/sh\n", own.uid()),
        );
        machine.write("/etc/group", &format!("root:x:{}:\n", own.gid()));
        machine.write("/proc/sys/kernel/random/boot_id", "boot-1\n");
        machine
    }

    /// A machine with facts and two configured roles.
    pub(super) fn node(origin: &str) -> Self {
        let machine = Self::new();
        machine.enroll(origin);
        machine.facts(1);
        machine.configure(
            "base",
            "1.0",
            &json!({ "role": "base", "requires": [], "units": [] }),
        );
        machine.configure(
            "app",
            "1.0",
            &json!({
                "role": "app", "requires": ["base"], "cluster": { "join": "/join" },
                "units": [{ "name": "app.service", "start": "enrolled", "on_change": "restart", "own": true }],
            }),
        );
        machine
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    pub(super) fn enroll(&self, origin: &str) {
        let identity = json!({ "fleet": "acme", "node": "n1", "incarnation": 1, "origin": origin });
        self.write("/etc/rolesmith/node.json", &identity.to_string());
        self.write("/etc/rolesmith/secrets/db-password", "s3cret-value\n");
    }

    pub(super) fn facts(&self, version: u64) {
        let facts = json!({
            "format": 1, "fleet": "acme", "domain": "acme.example", "suite": "trixie", "version": version,
            "genesis": "open", "packages": {},
            "members": [{ "name": "n1", "roles": ["base", "app"], "incarnation": 1, "certificate": "" }],
        });
        self.write("/usr/lib/rolesmith/facts/facts.json", &facts.to_string());
        let file = |role: &str, path: &str, mode: u32, secrets: &[&str]| json!({ "role": role, "path": path, "mode": mode, "user": "root", "group": "root", "secrets": secrets });
        let node = json!({
            "name": "n1", "health": {}, "openings": [], "private_interface": "eth1",
            "files": [
                file("base", "firewall.v4", 0o600, &[]), file("base", "sshd.conf", 0o644, &[]),
                file("app", "app.env", 0o600, &["db-password"]), file("app", "sub/peers", 0o644, &[]),
            ],
        });
        let dir = "/usr/lib/rolesmith/facts/nodes/n1";
        self.write(&format!("{dir}/node.json"), &node.to_string());
        self.write(&format!("{dir}/files/base/firewall.v4"), &rules(version));
        self.write(
            &format!("{dir}/files/base/sshd.conf"),
            "PasswordAuthentication no\n",
        );
        self.write(
            &format!("{dir}/files/app/app.env"),
            "PASSWORD=@@rolesmith-secret:db-password@@\n",
        );
        self.write(
            &format!("{dir}/files/app/sub/peers"),
            "@@rolesmith-address@@\n",
        );
    }

    pub(super) fn configure(&self, role: &str, version: &str, manifest: &serde_json::Value) {
        self.write(
            &format!("/usr/lib/rolesmith/roles/{role}.json"),
            &manifest.to_string(),
        );
        self.write(
            &format!("/var/lib/rolesmith/roles/{role}"),
            &format!("{version}\n"),
        );
    }

    pub(super) fn apply(&self) -> State {
        self.apply_at(TIME)
    }

    pub(super) fn apply_at(&self, now: u64) -> State {
        apply(&self.root, &self.script, &|| now).unwrap()
    }

    pub(super) fn firewall(&self, now: u64) -> Firewall<'_, Script> {
        Firewall {
            root: &self.root,
            programs: &self.script,
            now,
        }
    }

    pub(super) fn guard(&self) -> Guard {
        Guard::load(&self.root).unwrap()
    }
}
