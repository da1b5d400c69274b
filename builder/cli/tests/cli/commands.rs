//! The manners of the commands: exit status, what they write and what they leave alone.

mod clusters;
mod documents;
mod publishing;

use std::collections::BTreeSet;

use rolesmith_testkit::{Entry, TestFleet};
use serde_json::Value;

use crate::{ROLESMITH, fleets};

fn smallest() -> TestFleet {
    TestFleet::copy_of(ROLESMITH, &fleets("valid").join("smallest"), |_| false)
}

#[test]
fn exit_status_tells_done_from_failed_from_called_wrongly() {
    let fleet = smallest();
    fleet.run(&["check"]).exited(0);
    fleet.run(&["--version"]).exited(0);
    fleet.run(&["help", "publish"]).exited(0);
    fleet.run(&["plan", "nothing"]).exited(1);
    fleet.run(&["build"]).exited(1);
    let wrong: [&[&str]; 8] = [
        &[],
        &["frobnicate"],
        &["check", "--nonsense"],
        &["user-data"],
        &["schema", "cabbage"],
        &["completions", "tcl"],
        &["build", "--agent", "x.deb", "--without-agent"],
        &["publish", "--rollback", "yesterday"],
    ];
    for args in wrong {
        let before = fleet.tree();
        let run = fleet.run(args);
        run.exited(2);
        assert!(
            run.stdout.is_empty() && run.stderr.contains("--help"),
            "{args:?}: {run:?}"
        );
        before.assert_unchanged(&fleet.tree());
    }
}

#[test]
fn output_is_plain_where_nobody_watches() {
    let fleet = smallest();
    fleet.edit("fleet.toml", "\"base\"", "\"bass\"");
    let mut command = fleet.command(&["check"]);
    command.env_remove("NO_COLOR").env("CLICOLOR", "1");
    let run = rolesmith_testkit::Run::of(command);
    run.failed();
    assert!(!run.stderr.contains('\u{1b}'), "{:?}", run.stderr);
}

#[test]
fn a_clock_that_is_no_number_is_refused() {
    let fleet = smallest();
    let mut command = fleet.command(&["check"]);
    command.env("SOURCE_DATE_EPOCH", "yesterday");
    let run = rolesmith_testkit::Run::of(command);
    run.failed();
    assert!(run.stderr.contains("SOURCE_DATE_EPOCH") && run.stderr.contains("help: "));
}

#[test]
fn the_directory_can_be_named() {
    let fleet = smallest();
    let elsewhere = TestFleet::empty(ROLESMITH);
    let dir = fleet.dir().display().to_string();
    elsewhere.run(&["check"]).failed();
    elsewhere.run(&["-C", &dir, "check"]).succeeded();
    elsewhere.run(&["check", "-C", &dir]).succeeded();
    assert!(elsewhere.tree().0.is_empty());
}

#[test]
fn findings_are_json_where_a_program_reads_them() {
    let fleet = smallest();
    let sound = fleet.run(&["check", "--json"]);
    sound.succeeded();
    let json: Value = serde_json::from_str(&sound.stdout).expect("JSON");
    assert_eq!(json["findings"], Value::Array(Vec::new()));
    assert!(sound.stderr.is_empty(), "{}", sound.stderr);

    fleet.edit("fleet.toml", "\"base\"", "\"bass\"");
    fleet.edit("fleet.toml", "10.77.0.11", "10.78.0.11");
    let broken = fleet.run(&["check", "--json"]);
    broken.failed();
    assert!(broken.stderr.is_empty(), "{}", broken.stderr);
    let json: Value = serde_json::from_str(&broken.stdout).expect("JSON");
    let findings = json["findings"].as_array().expect("a list");
    let codes: BTreeSet<&str> = findings.iter().filter_map(|f| f["code"].as_str()).collect();
    assert_eq!(
        codes,
        BTreeSet::from(["fleet::address-outside", "fleet::unknown-role"])
    );
    let text = fleet.read("fleet.toml");
    for finding in findings {
        assert_eq!(finding["file"], "fleet.toml");
        assert_eq!(finding["severity"], "error");
        for key in ["message", "reason", "help"] {
            assert!(
                finding[key].as_str().is_some_and(|t| !t.is_empty()),
                "{key}: {finding}"
            );
        }
        let line = finding["line"].as_u64().expect("a line") as usize;
        let column = finding["column"].as_u64().expect("a column") as usize;
        let line = text.lines().nth(line - 1).expect("a line of the file");
        assert!(line[column - 1..].starts_with('"'), "{finding} in {line:?}");
    }
}

#[test]
fn advice_never_fails() {
    let fleet = smallest();
    fleet.edit("fleet.toml", "address = \"10.77.0.11\"\n", "");
    let run = fleet.run(&["check", "--strict"]);
    run.succeeded();
    assert!(
        run.stderr.contains("[fleet::no-address]") && run.stderr.contains("rolesmith record one"),
        "{}",
        run.stderr
    );
}

#[test]
fn record_changes_one_line_and_keeps_every_comment() {
    let fleet = smallest();
    let text = "# The fleet of the shop.\n\n[fleet]   # who we are\nname = \"acme\"\n\
        maintainer = 'Operations <ops@example.com>'\ndomain=\"example.com\"\n\n\
        [repository]\nurl = \"https://apt.example.com\" # behind the CDN\n\n\
        [network]\nprivate = \"10.77.0.0/24\"\nadmin_ssh_keys = [\n    # nobody yet\n]\n\n\
        # The first machine.\n[nodes.app-1]\nroles = [\"base\"]  # more to come\n\
        address = \"10.77.0.11\" # rack 4\n\n[nodes.app-2]\nroles = [\n  \"base\",\n]\n\n[redis]\nport=6380\n";
    fleet.write("fleet.toml", text);
    fleet.run(&["record", "app-2", "10.77.0.12"]).succeeded();
    let new = fleet.read("fleet.toml");
    let added: Vec<&str> = new
        .lines()
        .filter(|line| !text.lines().any(|l| l == *line))
        .collect();
    assert_eq!(added, ["address = \"10.77.0.12\""]);
    assert_eq!(new.replacen("address = \"10.77.0.12\"\n", "", 1), text);
}

#[test]
#[ignore = "record drops a comment behind the address that it replaces"]
fn record_keeps_the_comment_behind_an_address() {
    let fleet = smallest();
    fleet.edit(
        "fleet.toml",
        "address = \"10.77.0.11\"",
        "address = \"10.77.0.11\" # rack 4",
    );
    let before = fleet.tree();
    fleet.run(&["record", "one", "10.77.0.11"]).succeeded();
    before.assert_unchanged(&fleet.tree());
    fleet.run(&["record", "one", "10.77.0.13"]).succeeded();
    let text = fleet.read("fleet.toml");
    assert!(
        text.contains("address = \"10.77.0.13\" # rack 4\n"),
        "{text}"
    );
}

#[test]
fn record_leaves_a_file_that_would_be_wrong_as_it_was() {
    let fleet = smallest();
    for address in ["10.99.0.1", "10.77.0.255", "one.example.com", ""] {
        let before = fleet.tree();
        fleet.run(&["record", "one", address]).failed();
        before.assert_unchanged(&fleet.tree());
    }
}

#[test]
fn init_makes_a_fleet_that_checks_and_never_overwrites() {
    for args in [
        &["init", "shop"][..],
        &["init", "shop", "--example", "--suite", "bookworm"],
    ] {
        let fleet = TestFleet::empty(ROLESMITH);
        fleet.run(args).succeeded();
        fleet.run(&["-C", "shop", "check"]).succeeded();
        let before = fleet.tree();
        for secret in before
            .0
            .iter()
            .filter(|(path, _)| path.contains("/secrets"))
        {
            let mode = match secret.1 {
                Entry::Directory(mode) | Entry::File(mode, _) => *mode,
                Entry::Link(_) => 0,
            };
            assert_eq!(mode & 0o077, 0, "{} is open to others", secret.0);
        }
        assert!(
            before.0.contains_key("shop/secrets/ca.toml"),
            "keys are made"
        );
        for again in [args, &["init", "shop", "--name", "other"]] {
            let run = fleet.run(again);
            run.failed();
            assert!(
                run.stderr.contains("holds a fleet already"),
                "{}",
                run.stderr
            );
            before.assert_unchanged(&fleet.tree());
        }
    }
}

#[test]
fn init_never_takes_over_the_secrets_of_another_fleet() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    std::fs::remove_file(fleet.path("fleet.toml")).expect("init made it");
    let before = fleet.tree();
    let run = fleet.run(&["init", "--name", "zenith"]);
    run.failed();
    assert!(run.stderr.contains("never overwritten"), "{}", run.stderr);
    before.assert_unchanged(&fleet.tree());
}

#[test]
fn init_makes_nothing_where_its_arguments_are_wrong() {
    let wrong: [&[&str]; 5] = [
        &["--name", "Acme Shop"],
        &["--name", "a-name-that-is-far-too-long"],
        &["--suite", "buster"],
        &["--domain", "localhost"],
        &["--maintainer", "ops@example.com"],
    ];
    for args in wrong {
        let fleet = TestFleet::empty(ROLESMITH);
        let run = fleet.run(&[&["init", "shop"][..], args].concat());
        run.failed();
        assert!(run.stderr.contains("  help: "), "{args:?}: {}", run.stderr);
        assert!(
            fleet.tree().0.is_empty(),
            "{args:?} left {:?}",
            fleet.tree()
        );
    }
}

#[test]
fn two_machines_with_the_same_keys_build_the_same_bytes() {
    let one = TestFleet::copy_of(ROLESMITH, &fleets("valid").join("layers"), |_| false);
    one.take_secrets(&TestFleet::init(ROLESMITH, "acme"));
    one.run(&["build", "--without-agent"]).succeeded();
    let two = TestFleet::copy_of(ROLESMITH, one.dir(), |name| name == "dist");
    two.chmod("secrets", 0o700);
    two.run(&["build", "--without-agent"]).succeeded();
    assert!(one.tree().0.contains_key("dist/manifest.json"));
    let (a, b) = (one.tree(), two.tree());
    assert_eq!(a.differences(&b), Vec::<&str>::new());
    // Nothing changed, so nothing is made again.
    let run = two.run(&["build", "--without-agent"]);
    assert!(
        run.succeeded().stderr.contains(" 0 of them built now"),
        "{}",
        run.stderr
    );
    assert_eq!(b.differences(&two.tree()), Vec::<&str>::new());
}
