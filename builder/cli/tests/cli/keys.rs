//! The operator's secrets over the years and between operators, and output that cannot be written.

use std::{
    fs::File,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use rolesmith_keys::ApplicationKey;
use rolesmith_testkit::{EPOCH, Run, TestFleet, deb};

use crate::{ROLESMITH, fleets};

const DAY: u64 = 86_400;

/// The smallest fleet with keys of its own.
fn fleet() -> TestFleet {
    let fleet = TestFleet::copy_of(ROLESMITH, &fleets("valid").join("smallest"), |_| false);
    fleet.take_secrets(&TestFleet::init(ROLESMITH, "a"));
    fleet
}

/// Runs the program as on that day.
fn on_day(fleet: &TestFleet, day: u64, args: &[&str]) -> Run {
    let mut command = fleet.command(args);
    command.env("SOURCE_DATE_EPOCH", (EPOCH + day * DAY).to_string());
    Run::of(command)
}

fn build(fleet: &TestFleet, day: u64) -> Run {
    let run = on_day(fleet, day, &["build", "--without-agent"]);
    run.succeeded();
    run
}

#[test]
fn certificates_are_renewed_in_their_last_third_and_check_tells_it_before() {
    let fleet = fleet();
    assert!(!build(&fleet, 0).stderr.contains("renewed"));
    let lock = fleet.read("identities.lock");
    assert!(!build(&fleet, 200).stderr.contains("renewed"));
    let quiet = on_day(&fleet, 200, &["check", "--strict"]);
    quiet.succeeded();
    assert!(!quiet.stderr.contains("fleet::cert"), "{}", quiet.stderr);
    let due = on_day(&fleet, 250, &["check", "--strict"]);
    due.succeeded();
    assert!(
        due.stderr.contains("[fleet::certificate-expires]") && due.stderr.contains("2027-01-01"),
        "{}",
        due.stderr
    );
    let late = on_day(&fleet, 366, &["check", "--strict"]);
    late.failed();
    assert!(late.stderr.contains("[fleet::certificate-expired]"));

    assert!(build(&fleet, 250).stderr.contains("The certificate of one"));
    assert!(!build(&fleet, 250).stderr.contains("renewed"));
    on_day(&fleet, 366, &["check", "--strict"]).succeeded();
    // The key is the same, so nothing secret has to travel.
    assert_eq!(lock, fleet.read("identities.lock"));

    let years = on_day(&fleet, 3_300, &["check", "--strict"]);
    years.failed();
    assert!(
        years.stderr.contains("[fleet::ca-expires]"),
        "{}",
        years.stderr
    );
}

/// A node's applications get a certificate for the key that the machine itself works out, and nothing but that travels.
#[test]
fn applications_get_a_certificate_for_the_key_that_their_machine_works_out() {
    let fleet = fleet();
    let facts = |version: u32| {
        let path = fleet.path(&format!("dist/packages/a-facts_{version}_all.deb"));
        deb::file(&path, "./usr/lib/rolesmith/facts/nodes/one/application.pem")
    };
    let openssl = |arguments: &[&str], text: &str| {
        fleet.write("../input.pem", text);
        let mut command = Command::new("openssl");
        command.args(arguments).arg("-in");
        let output = command.arg(fleet.path("../input.pem")).output();
        String::from_utf8(output.expect("openssl is there").stdout).expect("text")
    };
    // What the machine has is the key in its seed.
    let derived = || {
        let record: toml::Value = toml::from_str(&fleet.read("secrets/nodes/one.toml")).unwrap();
        let key = record["key"].as_str().expect("text");
        let seed = fleet.run(&["user-data", "one"]).succeeded().stdout.clone();
        let line = key.lines().nth(1).expect("a key");
        assert!(seed.contains(line) && !seed.contains("application"));
        let key = ApplicationKey::of(key, "a", "one").unwrap();
        openssl(&["pkey", "-pubout"], &key.to_pem())
    };
    let public = |certificate: &str| openssl(&["x509", "-noout", "-pubkey"], certificate);

    build(&fleet, 0);
    let first = facts(1);
    let lock = fleet.read("rolesmith.lock");
    assert_eq!(public(&first), derived());
    assert!(public(&first).contains("BEGIN PUBLIC KEY"));
    build(&fleet, 100);
    assert_eq!(lock, fleet.read("rolesmith.lock"));
    build(&fleet, 250);
    let renewed = facts(2);
    assert_ne!(first, renewed);
    assert_eq!(public(&first), public(&renewed));
    fleet.run(&["user-data", "one", "--replace"]).succeeded();
    build(&fleet, 251);
    let replaced = facts(3);
    assert_ne!(public(&first), public(&replaced));
    assert_eq!(public(&replaced), derived());

    // The key is looked for in what is shipped, though it stands in no file of the operator's.
    let record: toml::Value = toml::from_str(&fleet.read("secrets/nodes/one.toml")).unwrap();
    let key = ApplicationKey::of(record["key"].as_str().expect("text"), "a", "one").unwrap();
    fleet.write("roles/leak/role.toml", LEAK);
    fleet.write("roles/leak/files/key", key.to_pem());
    fleet.edit("fleet.toml", "[\"base\"]", "[\"base\", \"leak\"]");
    let run = on_day(&fleet, 251, &["build", "--without-agent"]);
    run.failed();
    assert!(
        run.stderr
            .contains("nodes/one.toml (its applications' key)"),
        "{}",
        run.stderr
    );
}

const LEAK: &str = r#"[role]
summary = "ships what it must not"
description = """
Ships a key.
"""

[[files]]
source = "files/key"
path = "/usr/share/leak/key"
"#;

#[test]
fn secrets_that_are_not_the_fleets_are_refused_before_anything_is_made() {
    let fleet = fleet();
    build(&fleet, 0);
    // The other operator's copy, from before the node was made.
    let other = TestFleet::copy_of(ROLESMITH, fleet.dir(), |name| name == "secrets");
    other.take_secrets(&TestFleet::init(ROLESMITH, "a"));
    let before = other.tree();
    let run = other.run(&["user-data", "one"]);
    run.failed();
    assert!(
        run.stdout.is_empty() && run.stderr.contains("identities.lock knows the node one"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("bring secrets/ up to date"));
    before.assert_unchanged(&other.tree());
}

#[test]
fn all_secrets_without_a_value_are_named_before_anything_is_made() {
    let fleet = TestFleet::copy_of(ROLESMITH, &fleets("valid").join("worker"), |_| false);
    fleet.take_secrets(&TestFleet::init(ROLESMITH, "acme"));
    fleet.edit(
        "roles/worker/role.toml",
        "[[secrets]]\nname = \"worker-key\"",
        "[[secrets]]\nname = \"other-token\"\ndescription = \"of another provider\"\ngenerate = false\n\n[[secrets]]\nname = \"worker-key\"",
    );
    let before = fleet.tree();
    let run = fleet.run(&["build", "--without-agent"]);
    run.failed();
    for name in ["other-token (of another provider)", "payment-token ("] {
        assert!(run.stderr.contains(name), "{}", run.stderr);
    }
    before.assert_unchanged(&fleet.tree());
}

#[test]
fn a_replacement_whose_seed_went_nowhere_did_not_happen() {
    let fleet = fleet();
    let seed = fleet.run(&["user-data", "one"]).succeeded().stdout.clone();
    let before = fleet.tree();

    let mut full = fleet.command(&["user-data", "one", "--replace"]);
    full.stdout(File::create("/dev/full").expect("Linux has it"));
    let output = full.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("standard output: ") && !said.contains("panicked"),
        "{said}"
    );
    let directory = fleet.path("nowhere/");
    std::fs::create_dir(&directory).expect("new");
    let target = directory.display().to_string();
    fleet
        .run(&["user-data", "one", "--replace", "--output", &target])
        .failed();
    std::fs::remove_dir(&directory).expect("empty");
    before.assert_unchanged(&fleet.tree());

    let path = fleet.path("one.yaml").display().to_string();
    let run = fleet.run(&["user-data", "one", "--replace", "--output", &path]);
    run.succeeded();
    assert!(run.stdout.is_empty());
    let mode = std::fs::metadata(&path)
        .expect("written")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let new = fleet.run(&["user-data", "one"]).succeeded().stdout.clone();
    assert_ne!(seed, new);
    assert_eq!(new, fleet.read("one.yaml"));
}

#[test]
fn the_next_machine_is_replaced_when_the_one_before_is_published() {
    let fleet = fleet();
    let one = "[nodes.one]\nroles = [\"base\"]\naddress = \"10.77.0.11\"\n";
    let two = one.replace("one", "two").replace(".11", ".12");
    fleet.edit("fleet.toml", one, &format!("{one}\n{two}"));
    let replace = |node: &str| fleet.run(&["user-data", node, "--replace"]);
    fleet.run(&["publish", "--without-agent"]).succeeded();
    replace("one").succeeded();
    let run = replace("two");
    run.failed();
    assert!(
        run.stderr
            .contains("the new machine of one is not even published"),
        "{}",
        run.stderr
    );
    // The same one again, where the first seed was of no use.
    replace("one").succeeded();
    fleet.run(&["publish", "--without-agent"]).succeeded();
    replace("two").succeeded();
}

#[test]
fn a_reader_that_went_away_is_nothing_to_complain_about() {
    let fleet = fleet();
    for args in [
        &["schema", "fleet"][..],
        &["completions", "bash"],
        &["plan"],
        &["plan", "--json"],
        &["user-data", "one"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = fleet.command(args);
        command.stdout(writer);
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(
            !said.contains("panicked") && !said.contains("error"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn record_writes_what_a_link_leads_to_and_only_what_is_right() {
    let fleet = fleet();
    let text = fleet.read("fleet.toml");
    fleet.write("kept/real.toml", &text);
    std::fs::remove_file(fleet.path("fleet.toml")).expect("there");
    symlink("kept/real.toml", fleet.path("fleet.toml")).expect("made");
    fleet.chmod("kept/real.toml", 0o640);

    fleet.run(&["record", "one", "192.0.2.1"]).failed();
    assert_eq!(fleet.read("kept/real.toml"), text);
    fleet.run(&["record", "one", "10.77.0.12"]).succeeded();
    let link = std::fs::symlink_metadata(fleet.path("fleet.toml")).expect("there");
    assert!(link.is_symlink());
    assert!(fleet.read("kept/real.toml").contains("10.77.0.12"));
    let mode = std::fs::metadata(fleet.path("kept/real.toml"))
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn check_tells_a_seed_that_no_provider_takes_once_there_are_seeds() {
    let fleet = fleet();
    let comment = format!("{}\"]", "x".repeat(70_000));
    fleet.edit("fleet.toml", "ops@example.com\"]", &comment);
    fleet.run(&["check", "--strict"]).succeeded();
    build(&fleet, 0);
    let before = fleet.tree();
    let run = fleet.run(&["check"]);
    run.failed();
    assert!(
        run.stderr.contains("[fleet::user-data-too-long]")
            && run.stderr.contains("at: fleet.toml:"),
        "{}",
        run.stderr
    );
    before.assert_unchanged(&fleet.tree());
}
