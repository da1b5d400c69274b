//! The program that fail2ban's actions run (roles/base/files/ban), with an ipset that writes down how it was called.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

/// A directory for bans of its own.
struct Bans {
    place: PathBuf,
}

impl Bans {
    fn new(name: &str) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bans-{name}"));
        if place.exists() {
            fs::remove_dir_all(&place).expect("removable");
        }
        fs::create_dir_all(place.join("bin")).expect("a directory");
        let ipset = place.join("bin/ipset");
        fs::write(&ipset, "#!/bin/sh\necho \"$*\" >>\"$CALLS\"\n").expect("written");
        fs::set_permissions(&ipset, fs::Permissions::from_mode(0o755)).expect("a program");
        Self { place }
    }

    fn run(&self, words: &[&str]) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../roles/base/files/ban");
        // As fail2ban starts it.
        Command::new("sh")
            .args(["-c", "umask 077; exec sh \"$@\"", "sh"])
            .arg(program)
            .args(words)
            .env_clear()
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", self.place.join("bin").display()),
            )
            .env("CALLS", self.place.join("calls"))
            .env("BANS_DIRECTORY", self.place.join("run"))
            .output()
            .expect("sh starts")
    }

    fn must(&self, words: &[&str]) {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }

    /// How ipset was called since the last time.
    fn calls(&self) -> Vec<String> {
        let path = self.place.join("calls");
        let told = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(&path);
        told.lines().map(str::to_owned).collect()
    }

    fn has(&self, what: &str, address: &str) -> bool {
        self.place.join("run").join(what).join(address).is_dir()
    }
}

/// The seconds of `-exist add SET ADDRESS timeout SECONDS`.
fn timeout(call: &str, set: &str, address: &str) -> u64 {
    call.strip_prefix(&format!("-exist add {set} {address} timeout "))
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or_else(|| panic!("{call}"))
}

#[test]
fn an_address_is_free_when_the_last_of_its_jails_lets_it_go() {
    let bans = Bans::new("jails");
    let who = "192.0.2.1";
    bans.must(&["firewall", "add", "recidive", who, "2000000"]);
    bans.must(&["firewall", "add", "sshd", who, "86400"]);
    let calls = bans.calls();
    // A shorter ban does not cut a longer one short; some seconds may have passed.
    for call in &calls {
        assert!((1_999_900..=2_000_000).contains(&timeout(call, "rolesmith-ban4", who)));
    }
    assert_eq!(calls.len(), 2);
    bans.must(&["firewall", "del", "recidive", who]);
    let calls = bans.calls();
    assert!((86_300..=86_400).contains(&timeout(&calls[0], "rolesmith-ban4", who)));
    assert!(bans.has("firewall", who));
    bans.must(&["firewall", "del", "sshd", who]);
    assert_eq!(bans.calls(), [format!("-exist del rolesmith-ban4 {who}")]);
    assert!(!bans.has("firewall", who));
    // fail2ban lets go of what it finds in its database, too.
    bans.must(&["firewall", "del", "sshd", who]);
    bans.must(&["requests", "del", "sshd", who]);
}

#[test]
fn requests_are_refused_by_a_directory_and_the_firewall_is_left_alone() {
    let bans = Bans::new("requests");
    let who = "2001:db8::1";
    bans.must(&["requests", "add", "nginx-bot", who, "3600"]);
    bans.must(&["requests", "add", "nginx-home", who, "3600"]);
    bans.must(&["requests", "del", "nginx-bot", who]);
    assert!(bans.has("requests", who));
    // nginx' workers, which are somebody else, see it.
    let mut path = bans.place.join("run");
    for part in ["", "requests", who] {
        path.push(part);
        let mode = fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o755, "{}", path.display());
    }
    bans.must(&["requests", "del", "nginx-home", who]);
    assert!(!bans.has("requests", who));
    assert!(bans.calls().is_empty());
}

#[test]
fn what_has_no_end_or_ends_later_than_ipset_counts_is_for_ever() {
    let bans = Bans::new("ever");
    for seconds in ["-1", "2419200"] {
        bans.must(&["firewall", "add", "recidive", "2001:db8::1", seconds]);
        bans.must(&["firewall", "add", "sshd", "2001:db8::1", "60"]);
        for call in bans.calls() {
            assert_eq!(timeout(&call, "rolesmith-ban6", "2001:db8::1"), 0);
        }
    }
}

#[test]
fn only_addresses_and_names_of_jails_become_names_of_files() {
    let bans = Bans::new("names");
    for address in [
        "",
        ".",
        "..",
        "../x",
        "/etc",
        "1/2",
        "1 2",
        "1;2",
        "a$b",
        "localhost",
        "10.0.0.0/8",
        "*",
        "192.0.2.1\n",
        "-r",
    ] {
        for what in ["requests", "firewall"] {
            for verb in ["add", "del"] {
                let output = bans.run(&[what, verb, "sshd", address, "60"]);
                assert!(!output.status.success(), "{what} {verb} {address:?}");
            }
        }
    }
    for jail in ["", "..", "a/b", "a b"] {
        let output = bans.run(&["requests", "add", jail, "192.0.2.1", "60"]);
        assert!(!output.status.success(), "{jail:?}");
    }
    assert!(
        !bans
            .run(&["mail", "add", "sshd", "192.0.2.1"])
            .status
            .success()
    );
    assert!(
        !bans
            .run(&["requests", "flush", "sshd", "192.0.2.1"])
            .status
            .success()
    );
    assert!(bans.calls().is_empty());
    assert!(!bans.has("requests", "192.0.2.1"));
}

#[test]
fn jails_that_ban_and_let_go_at_once_leave_nothing_half_done() {
    let bans = Bans::new("race");
    let who = "192.0.2.1";
    thread::scope(|scope| {
        for jail in ["a", "b", "c", "d"] {
            let bans = &bans;
            scope.spawn(move || {
                for _ in 0..10 {
                    bans.must(&["requests", "add", jail, who, "60"]);
                    assert!(bans.has("requests", who), "while {jail} bans it");
                    bans.must(&["requests", "del", jail, who]);
                }
            });
        }
    });
    assert!(!bans.has("requests", who));
}
