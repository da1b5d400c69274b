//! tests/fleets/valid: fleets that are right, what is planned for them, and what their machines are told.
//!
//! Beside each fleet stand plan.json (`rolesmith plan --json`) and one `NODE.user-data` a machine, in which everything
//! that was made at random is replaced by a word. UPDATE_GOLDENS=1 writes them anew.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use rolesmith_testkit::{TestFleet, deb};

use crate::{ROLESMITH, cases, fleets, golden, name};

/// A copy of a case without its goldens, with keys.
fn fleet(case: &Path) -> TestFleet {
    let fleet = TestFleet::copy_of(ROLESMITH, case, |name| {
        name == "plan.json" || name.ends_with(".user-data")
    });
    let text = fleet.read("fleet.toml");
    let (_, rest) = text.split_once("name = \"").expect("a fleet has a name");
    let (fleet_name, _) = rest.split_once('"').expect("the name ends");
    // `init` makes a directory; only its secrets are wanted.
    let donor = TestFleet::init(ROLESMITH, fleet_name);
    fleet.take_secrets(&donor);
    fleet
}

/// Replaces keys, values of secrets, and everything else that differs between two runs.
fn without_keys(fleet: &TestFleet, text: &str) -> String {
    let mut words: BTreeMap<String, String> = BTreeMap::new();
    let values = fleet.path("secrets/fleet");
    for entry in std::fs::read_dir(values).expect("secrets have values") {
        let path = entry.expect("a readable directory").path();
        let value = std::fs::read_to_string(&path).expect("a value is text");
        // The line break at its end is the file's, not the value's.
        words.insert(base64(value.trim_end().as_bytes()), name(&path));
    }
    let mut out = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.contains("-----END ") {
            inside = false;
            let _ = writeln!(out, "    (made at random)");
        }
        let known = words.iter().find(|(value, _)| line.contains(*value));
        match known {
            _ if inside => {}
            Some((value, secret)) => {
                let _ = writeln!(
                    out,
                    "{}",
                    line.replace(value, &format!("(value of {secret})"))
                );
            }
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
        if line.contains("-----BEGIN ") {
            inside = true;
        }
    }
    out
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .chain([0, 0].iter())
            .take(3)
            .fold(0_usize, |n, b| n << 8 | usize::from(*b));
        for digit in 0..4 {
            text.push(if digit > chunk.len() {
                '='
            } else {
                char::from(DIGITS[number >> (18 - 6 * digit) & 63])
            });
        }
    }
    text
}

#[test]
fn the_filter_knows_base64() {
    for (plain, coded) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
}

#[test]
fn check_has_nothing_to_say_and_writes_nothing() {
    for case in cases("valid") {
        let fleet = fleet(&case);
        let before = fleet.tree();
        let run = fleet.run(&["check", "--strict"]);
        run.succeeded();
        assert!(
            run.stderr.contains("is sound")
                && run.stderr.contains("Without [mail]")
                && run.stderr.lines().count() == 1,
            "{}: {}",
            name(&case),
            run.stderr
        );
        before.assert_unchanged(&fleet.tree());
    }
}

#[test]
fn plans_and_seeds_are_the_reviewed_ones() {
    let mut problems = Vec::new();
    for case in cases("valid") {
        let fleet = fleet(&case);
        let plan = fleet.run(&["plan", "--json"]).succeeded().stdout.clone();
        problems.extend(golden(&case.join("plan.json"), &plan).err());
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("plan --json is JSON");
        if fleet.read("fleet.toml").contains("\"worker\"") {
            fleet.write(
                "secrets/fleet/payment-token",
                "a-token-that-the-provider-gave",
            );
            fleet.chmod("secrets/fleet/payment-token", 0o600);
        }
        for node in plan["nodes"].as_array().expect("a plan has nodes") {
            let node = node["name"].as_str().expect("a node has a name");
            let run = fleet.run(&["user-data", node]);
            let text = without_keys(&fleet, &run.succeeded().stdout);
            problems.extend(golden(&case.join(format!("{node}.user-data")), &text).err());
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[test]
fn a_role_of_the_fleets_own_becomes_what_it_says() {
    let fleet = fleet(&fleets("valid").join("worker"));
    fleet.write(
        "secrets/fleet/payment-token",
        "a-token-that-the-provider-gave",
    );
    fleet.chmod("secrets/fleet/payment-token", 0o600);
    fleet.run(&["build", "--without-agent"]).succeeded();
    let package = |name: &str| fleet.path(&format!("dist/packages/{name}_1_all.deb"));
    let worker = package("acme-worker");
    let depends = deb::field(&worker, "Depends");
    for wanted in [
        "acme-app",
        "acme-base",
        "python3 (>= 3.11)",
        "python3-tomli",
    ] {
        assert!(
            depends.split(", ").any(|d| d == wanted),
            "{wanted} in {depends}"
        );
    }
    assert_eq!(deb::field(&worker, "Recommends"), "python3-setproctitle");
    assert_eq!(deb::field(&worker, "Conflicts"), "rq");
    assert_eq!(deb::field(&worker, "Replaces"), "acme-app (<< 3)");
    let files = deb::contents(&worker);
    for (path, mode) in [
        ("./usr/lib/acme-worker/worker", "-rwxr-xr-x root/root"),
        ("./etc/acme/worker.toml", "-rw-r--r-- root/root"),
        (
            "./usr/lib/systemd/system/rolesmith-worker.service",
            "-rw-r--r-- root/root",
        ),
        (
            "./usr/lib/systemd/system/cron.service.d/50-rolesmith-worker.conf",
            "-rw-r--r-- root/root",
        ),
        (
            "./usr/lib/sysusers.d/acme-worker.conf",
            "-rw-r--r-- root/root",
        ),
        (
            "./usr/lib/tmpfiles.d/acme-worker.conf",
            "-rw-r--r-- root/root",
        ),
        (
            "./usr/lib/sysctl.d/60-acme-worker.conf",
            "-rw-r--r-- root/root",
        ),
        ("./etc/logrotate.d/acme-worker", "-rw-r--r-- root/root"),
        (
            "./usr/bin/acme-worker -> ../lib/acme-worker/worker",
            "lrwxrwxrwx root/root",
        ),
    ] {
        assert_eq!(
            files.get(path).map(String::as_str),
            Some(mode),
            "{path} in {files:#?}"
        );
    }
    let text = deb::file(&worker, "./etc/acme/worker.toml");
    assert_eq!(
        text,
        "# Settings of the shop's jobs, the same on every machine.\npython = \"3.11\"\njobs = 8\nqueues = [\"mail\", \"invoices\"]\nverbose = false\n"
    );
    let facts = package("acme-facts");
    let node = "./usr/lib/rolesmith/facts/nodes";
    let peers = deb::file(&facts, &format!("{node}/app-1/files/worker/peers"));
    assert_eq!(
        peers,
        "10.77.0.11 app-1.example.com\n10.77.0.21 jobs-1.example.com\n"
    );
    let own = deb::file(&facts, &format!("{node}/jobs-1/files/worker/worker.toml"));
    assert!(
        own.starts_with("# jobs-1 of acme\nlisten = \"10.77.0.21:9100\"\n"),
        "{own}"
    );
    let application = "application = [\"/etc/rolesmith/application.key\", \
                       \"/usr/lib/rolesmith/facts/nodes/jobs-1/application.pem\"]\n";
    assert!(own.ends_with(application), "{own}");
    for name in ["app-1", "jobs-1"] {
        let path = format!("{node}/{name}/application.pem");
        let mode = deb::contents(&facts).remove(&path);
        assert_eq!(mode.as_deref(), Some("-rw-r--r-- root/root"), "{path}");
    }
    assert!(
        !own.contains("provider gave"),
        "a secret is in the facts: {own}"
    );
}

#[test]
fn layers_lie_on_each_other_as_their_roles_say() {
    let fleet = fleet(&fleets("valid").join("layers"));
    fleet.run(&["build", "--without-agent"]).succeeded();
    let package = |name: &str| fleet.path(&format!("dist/packages/{name}_1_all.deb"));
    // A role on top of another: its settings and files win, the rest stays.
    let busy = package("acme-busy-jobs");
    assert_eq!(deb::file(&busy, "./etc/acme/jobs.toml"), "jobs = 16\n");
    assert_eq!(
        deb::file(&busy, "./etc/acme/queue.toml"),
        "queue = \"season\"\n"
    );
    let jobs = package("acme-jobs");
    assert_eq!(deb::file(&jobs, "./etc/acme/jobs.toml"), "jobs = 2\n");
    assert_eq!(
        deb::file(&jobs, "./etc/acme/queue.toml"),
        "queue = \"default\"\n"
    );
    // The built-in role with additions.
    let redis = deb::contents(&package("acme-redis"));
    for path in [
        "./etc/acme/redis-limits.conf",
        "./usr/lib/systemd/system/rolesmith-redis.service",
    ] {
        assert!(redis.contains_key(path), "{path} in {redis:#?}");
    }
    // In the place of the built-in role: nothing of it is left.
    let logs = deb::contents(&package("acme-log-server"));
    assert!(
        logs.keys().all(|path| !path.contains("rsyslog")),
        "{logs:#?}"
    );
}
