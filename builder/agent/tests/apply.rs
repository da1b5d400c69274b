//! `apply` on a directory that stands for the machine, with its programs played by [`Script`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rolesmith_agent::apply::apply;
use rolesmith_agent::files::{self, Root};
use rolesmith_agent::firewall::Firewall;
use rolesmith_agent::guard::{Guard, PATIENCE};
use rolesmith_agent::program::{Call, Ended, ProgramError, Programs};
use rolesmith_agent::state::{JoinResult, Phase, State};
use rolesmith_agent::status::Status;
use serde_json::json;

/// Programs as far as `apply` uses them; it keeps what it was asked.
#[derive(Default)]
struct Script {
    calls: RefCell<Vec<Call>>,
    running: RefCell<BTreeMap<String, bool>>,
    /// Exit status and output of the join program.
    join: RefCell<Option<(i32, &'static str)>>,
    /// A unit whose condition is not met.
    skipped: RefCell<Option<&'static str>>,
    /// The beginning of a call that fails.
    broken: RefCell<Option<&'static str>>,
}

impl Programs for Script {
    fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
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
    fn acts(&self) -> Vec<String> {
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

struct Machine {
    dir: tempfile::TempDir,
    root: Root,
    script: Script,
}

const TIME: u64 = 1_800_000_000;

impl Machine {
    fn new() -> Self {
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
    fn node(origin: &str) -> Self {
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

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn enroll(&self, origin: &str) {
        let identity = json!({ "fleet": "acme", "node": "n1", "incarnation": 1, "origin": origin });
        self.write("/etc/rolesmith/node.json", &identity.to_string());
        self.write("/etc/rolesmith/secrets/db-password", "s3cret-value\n");
    }

    fn facts(&self, version: u64) {
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
        self.write(
            &format!("{dir}/files/base/firewall.v4"),
            &format!("*filter\n# {version}\nCOMMIT\n"),
        );
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

    fn configure(&self, role: &str, version: &str, manifest: &serde_json::Value) {
        self.write(
            &format!("/usr/lib/rolesmith/roles/{role}.json"),
            &manifest.to_string(),
        );
        self.write(
            &format!("/var/lib/rolesmith/roles/{role}"),
            &format!("{version}\n"),
        );
    }

    fn apply(&self) -> State {
        self.apply_at(TIME)
    }

    fn apply_at(&self, now: u64) -> State {
        apply(&self.root, &self.script, &|| now).unwrap()
    }

    fn firewall(&self, now: u64) -> Firewall<'_, Script> {
        Firewall {
            root: &self.root,
            programs: &self.script,
            now,
        }
    }

    fn guard(&self) -> Guard {
        Guard::load(&self.root).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_machine_that_is_not_enrolled_is_left_alone() {
    let machine = Machine::new();
    machine.write("/run/rolesmith/poke", "");
    assert_eq!(machine.apply().report.phase, Phase::NotEnrolled);
    assert_eq!(machine.read("/run/rolesmith/poke"), None);
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    assert!(!Status::read(&machine.root, TIME).enrolled);
}

#[test]
fn an_enrolled_machine_waits_for_facts_and_packages() {
    let machine = Machine::new();
    machine.enroll("seed");
    assert_eq!(
        machine.apply().report.phase,
        Phase::Waiting {
            why: "the package acme-facts is not installed".into()
        }
    );
    machine.facts(1);
    let phase = machine.apply().report.phase;
    assert_eq!(
        phase,
        Phase::Waiting {
            why: "base: its package is not configured; app: its package is not configured".into()
        }
    );
    assert_eq!(machine.script.acts(), Vec::<String>::new());
}

#[test]
fn a_node_is_made_once_and_kept() {
    let machine = Machine::node("seed");
    let state = machine.apply();
    assert_eq!(state.report.phase, Phase::Converged, "{state:?}");
    assert_eq!(
        machine.script.acts(),
        [
            "iptables-restore -w 10 --test",
            "iptables-restore -w 10",
            "systemctl reload ssh.service",
            "systemctl stop rolesmith-firewall-rollback.timer",
            "/join",
            "systemctl start -- app.service",
        ]
    );
    let env = machine.root.join("/var/lib/rolesmith/conf/app/app.env");
    assert_eq!(fs::read_to_string(&env).unwrap(), "PASSWORD=s3cret-value\n");
    assert_eq!(mode(&env), 0o600);
    assert_eq!(
        machine
            .read("/var/lib/rolesmith/conf/app/sub/peers")
            .unwrap(),
        "10.77.0.11\n"
    );
    assert_eq!(
        mode(&machine.root.join("/var/lib/rolesmith/state.json")),
        0o600
    );
    assert_eq!(
        mode(&machine.root.join("/run/rolesmith/status.json")),
        0o644
    );

    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(machine.script.acts(), Vec::<String>::new());

    // Put right what was changed by hand, and nothing else.
    fs::write(&env, "PASSWORD=mine\n").unwrap();
    machine.write("/var/lib/rolesmith/conf/app/stray", "");
    machine.apply();
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(&env).unwrap(), "PASSWORD=s3cret-value\n");
    assert_eq!(machine.read("/var/lib/rolesmith/conf/app/stray"), None);

    // A changed secret is a change of the role.
    machine.write("/etc/rolesmith/secrets/db-password", "other-value\n");
    machine.apply();
    assert_eq!(
        machine.script.acts(),
        ["/join", "systemctl restart -- app.service"]
    );
}

#[test]
fn older_facts_are_refused() {
    let machine = Machine::node("seed");
    machine.facts(5);
    machine.apply();
    machine.script.acts();
    machine.facts(4);
    let Phase::Failed { what } = machine.apply().report.phase else {
        panic!("it was accepted")
    };
    assert!(what.contains("version 4, but version 5 was seen"), "{what}");
    assert_eq!(machine.script.acts(), Vec::<String>::new());
}

#[test]
fn a_join_that_waits_is_no_failure_and_one_that_fails_is_shown_without_secrets() {
    let machine = Machine::node("seed");
    *machine.script.join.borrow_mut() = Some((75, "no peer yet"));
    let state = machine.apply();
    assert_eq!(
        state.report.phase,
        Phase::Waiting {
            why: "app: its join waits: no peer yet".into()
        }
    );
    *machine.script.join.borrow_mut() = Some((1, "cannot log in with s3cret-value"));
    let state = machine.apply();
    let Phase::Failed { what } = &state.report.phase else {
        panic!("{state:?}")
    };
    assert_eq!(
        what,
        "app: its join failed: /join: exit status 1: cannot log in with ****"
    );
    assert!(matches!(
        state.report.roles[1].join,
        Some(JoinResult::Failed { .. })
    ));
    assert!(
        !machine
            .script
            .acts()
            .iter()
            .any(|act| act.contains("app.service"))
    );
    *machine.script.join.borrow_mut() = None;
    assert_eq!(machine.apply().report.phase, Phase::Converged);
}

#[test]
fn an_enrolled_machine_returns_to_its_own_rules() {
    let machine = Machine::node("enroll");
    let state = machine.apply();
    assert!(
        matches!(state.report.phase, Phase::Waiting { .. }),
        "{state:?}"
    );
    // The way back is open before the first rule is loaded.
    let acts = machine.script.acts();
    assert_eq!(
        acts[..4],
        [
            "ipset save",
            "systemctl restart rolesmith-firewall-rollback.timer",
            "iptables-restore -w 10 --test",
            "iptables-restore -w 10",
        ]
    );
    assert!(
        !acts
            .iter()
            .any(|act| act.contains("join") || act.contains("app.service")),
        "{acts:?}"
    );
    assert!(
        machine
            .read("/var/lib/rolesmith/conf/base/sshd.conf")
            .is_some()
    );
    assert_eq!(Status::read(&machine.root, TIME).firewall, "pending");

    // The timer was lost in a crash: the next run takes them back.
    let state = machine.apply_at(TIME + PATIENCE);
    assert!(
        matches!(&state.report.phase, Phase::Failed { what } if what.contains("nobody confirmed")),
        "{state:?}"
    );
    let calls = machine.script.calls.take();
    let restored = calls
        .iter()
        .find(|call| call.name() == "iptables-restore")
        .unwrap();
    assert!(restored.stdin.as_ref().unwrap().contains("192.0.2.1"));
    assert_eq!(machine.read("/var/lib/rolesmith/conf/base/sshd.conf"), None);

    // Not again, until they change.
    machine.apply_at(TIME + PATIENCE + 1);
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    machine.facts(2);
    machine.apply_at(TIME + 500);
    assert!(machine.guard().pending.is_some());
    assert!(machine.firewall(TIME + 510).confirm().unwrap());
    assert_eq!(machine.apply_at(TIME + 511).report.phase, Phase::Converged);
    assert_eq!(machine.read("/var/lib/rolesmith/guard/saved.json"), None);
}

#[test]
fn an_ssh_server_that_fails_does_not_keep_rules_from_being_taken_back() {
    let machine = Machine::node("enroll");
    machine.apply();
    *machine.script.broken.borrow_mut() = Some("systemctl reload ssh.service");
    assert!(
        machine
            .firewall(TIME + 120)
            .rollback("nobody confirmed")
            .unwrap()
    );
    let why = machine.guard().rejected.unwrap().why;
    assert!(
        why.starts_with("nobody confirmed; then: systemctl reload"),
        "{why}"
    );
    assert!(
        machine
            .script
            .acts()
            .contains(&"iptables-restore -w 10".to_owned())
    );
}

#[test]
fn nothing_unconfirmed_survives_a_boot() {
    let machine = Machine::node("enroll");
    machine.apply();
    machine.firewall(TIME).confirm().unwrap();
    machine.facts(2);
    machine.apply();
    assert!(machine.guard().pending.is_some());
    machine.script.acts();

    machine.firewall(TIME + 60).boot().unwrap();
    assert_eq!(
        machine.script.calls.borrow()[0].stdin.as_deref(),
        Some("*filter\n# 1\nCOMMIT\n")
    );
    assert_eq!(
        machine
            .read("/var/lib/rolesmith/conf/base/firewall.v4")
            .unwrap(),
        "*filter\n# 1\nCOMMIT\n"
    );
    let guard = machine.guard();
    assert!(guard.pending.is_none() && guard.rejected.unwrap().why.contains("started anew"));
}

#[test]
fn rules_that_cannot_be_loaded_change_nothing() {
    for origin in ["seed", "enroll"] {
        let machine = Machine::node(origin);
        *machine.script.broken.borrow_mut() = Some("iptables-restore");
        let state = machine.apply();
        assert!(
            matches!(&state.report.phase, Phase::Failed { what } if what.contains("no such match")),
            "{state:?}"
        );
        assert_eq!(machine.guard().confirmed, None);
        assert_eq!(
            machine.read("/var/lib/rolesmith/conf/base/firewall.v4"),
            None
        );
        assert!(
            !machine
                .script
                .acts()
                .iter()
                .any(|act| act.contains("app.service"))
        );
        *machine.script.broken.borrow_mut() = None;
        machine.facts(2);
        machine.apply();
        assert_ne!(machine.guard(), Guard::default(), "{origin}");
    }
}

#[test]
fn a_damaged_state_is_never_replaced_by_an_empty_one() {
    let machine = Machine::node("seed");
    machine.write("/var/lib/rolesmith/state.json", "{");
    let error = apply(&machine.root, &machine.script, &|| TIME).unwrap_err();
    assert!(
        error.to_string().contains("state.json cannot be read"),
        "{error}"
    );
    assert_eq!(
        machine.read("/var/lib/rolesmith/state.json").as_deref(),
        Some("{")
    );
}

#[test]
fn paths_that_lead_out_are_refused() {
    for (path, below) in [
        ("a", true),
        ("a/b.c", true),
        ("", false),
        ("/a", false),
        ("../a", false),
        ("a/../b", false),
    ] {
        assert_eq!(files::stays_below(path), below, "{path}");
    }
}

#[test]
fn a_unit_whose_condition_is_not_met_does_not_count_as_started() {
    let machine = Machine::node("seed");
    *machine.script.skipped.borrow_mut() = Some("app.service");
    let state = machine.apply();
    assert!(
        matches!(&state.report.phase, Phase::Waiting { why } if why.contains("app.service was not started")),
        "{state:?}"
    );
    machine.script.acts();
    *machine.script.skipped.borrow_mut() = None;
    assert_eq!(machine.apply().report.phase, Phase::Converged);
    assert_eq!(machine.script.acts(), ["systemctl start -- app.service"]);
}

#[test]
fn a_configured_role_that_the_facts_do_not_give_is_found() {
    let machine = Machine::node("seed");
    machine.apply();
    machine.script.acts();
    machine.configure(
        "former",
        "1.0",
        &json!({ "role": "former", "requires": [], "units": [] }),
    );
    let state = machine.apply();
    assert!(
        matches!(&state.report.phase, Phase::Failed { what } if what.contains("apt purge acme-former")),
        "{state:?}"
    );
    assert_eq!(machine.script.acts(), Vec::<String>::new());
    assert!(
        Status::read(&machine.root, TIME)
            .alarms
            .iter()
            .any(|alarm| alarm.contains("former"))
    );
}

/// Rules that were loaded last, by program.
fn loaded(machine: &Machine) -> BTreeMap<String, String> {
    let calls = machine.script.calls.take();
    let rules = calls
        .iter()
        .filter(|call| call.name().ends_with("-restore"));
    rules
        .map(|call| {
            (
                call.name().to_owned(),
                call.stdin.clone().unwrap_or_default(),
            )
        })
        .collect()
}

#[test]
fn a_boot_without_usable_rules_leaves_a_way_in_and_nothing_else() {
    type Damage = fn(&Machine);
    let damages: [Damage; 3] = [
        // ipset was removed: rules that name sets are refused.
        |machine| *machine.script.broken.borrow_mut() = Some("iptables-restore -w 10"),
        |machine| {
            let set = machine.guard().confirmed.unwrap();
            machine.write(&format!("/var/lib/rolesmith/guard/sets/{set}.json"), "{");
        },
        |machine| machine.write("/var/lib/rolesmith/guard/state.json", "{"),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let machine = Machine::node("seed");
        machine.write(
            "/usr/lib/rolesmith/facts/nodes/n1/files/base/sshd.conf",
            "Port 2222\n",
        );
        assert_eq!(machine.apply().report.phase, Phase::Converged);
        machine.script.acts();
        damage(&machine);
        assert!(machine.firewall(TIME).boot().is_err(), "{number}");
        let rules = &loaded(&machine)["iptables-restore"];
        assert!(
            rules.contains(":INPUT DROP") && rules.contains("--dport 2222"),
            "{number}: {rules}"
        );

        // What was damaged is in nobody's way: as soon as the rules can be loaded, they are.
        *machine.script.broken.borrow_mut() = None;
        assert_eq!(machine.apply().report.phase, Phase::Converged, "{number}");
        assert_eq!(
            loaded(&machine)["iptables-restore"],
            "*filter\n# 1\nCOMMIT\n"
        );
        assert_eq!(machine.guard().fallback, None);
        machine.firewall(TIME).boot().unwrap();
        assert_eq!(
            loaded(&machine)["iptables-restore"],
            "*filter\n# 1\nCOMMIT\n"
        );
    }
}

#[test]
fn a_damaged_way_back_leads_to_the_confirmed_rules() {
    let machine = Machine::node("enroll");
    machine.apply();
    machine.firewall(TIME).confirm().unwrap();
    machine.facts(2);
    machine.apply();
    machine.write("/var/lib/rolesmith/guard/saved.json", "{");
    machine.script.acts();
    assert!(
        machine
            .firewall(TIME + 200)
            .rollback("nobody confirmed")
            .unwrap()
    );
    assert_eq!(
        loaded(&machine)["iptables-restore"],
        "*filter\n# 1\nCOMMIT\n"
    );
    assert!(
        machine
            .guard()
            .rejected
            .unwrap()
            .why
            .contains("was damaged")
    );
}

#[test]
fn the_end_of_the_certificate_is_told_in_time() {
    let machine = Machine::node("seed");
    let day = 24 * 60 * 60;
    let path = "/usr/lib/rolesmith/facts/facts.json";
    let facts = machine.read(path).unwrap();
    for (end, told) in [
        (None, None),
        (Some(TIME + 31 * day), None),
        (Some(TIME + 30 * day), Some("ends in 30 days")),
        (Some(TIME + 1), Some("ends in 1 days")),
        (Some(TIME), Some("has expired")),
        (Some(1), Some("has expired")),
    ] {
        if let Some(end) = end {
            let mut facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
            facts["members"][0]["certificate_expires"] = json!(end);
            machine.write(path, &facts.to_string());
        }
        let alarms = Status::read(&machine.root, TIME).alarms.join("; ");
        assert_eq!(
            alarms.contains("certificate"),
            told.is_some(),
            "{end:?}: {alarms}"
        );
        assert!(
            alarms.contains(told.unwrap_or_default()),
            "{end:?}: {alarms}"
        );
    }
}
