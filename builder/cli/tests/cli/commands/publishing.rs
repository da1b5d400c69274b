//! build and publish where something is in their way: what they refuse, and that the way out which they name is one.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use rolesmith_formats::{
    compress::Compression,
    control::Paragraph,
    deb::{Deb, DebInput},
    tarball::Entry,
};
use rolesmith_testkit::{Run, TestFleet, deb};
use serde_json::Value;

use crate::ROLESMITH;

const PUBLISH: [&str; 2] = ["publish", "--without-agent"];

fn refused(run: &Run, words: &[&str]) {
    run.exited(1);
    for word in words.iter().chain(&["help: "]) {
        assert!(run.stderr.contains(word), "no {word:?} in {}", run.stderr);
    }
}

/// A package as another program would have built it.
fn agent(fleet: &TestFleet, version: &str, content: &str) -> String {
    let mut control = Paragraph::new();
    for (field, value) in [
        ("Package", "rolesmith-agent"),
        ("Version", version),
        ("Architecture", "amd64"),
        ("Maintainer", "Test <test@example.org>"),
        ("Description", "an agent"),
    ] {
        control.push(field, value).expect("a good field");
    }
    let input = DebInput {
        control,
        entries: vec![
            Entry::directory("/usr", 0o755),
            Entry::file("/usr/agent", content.as_bytes().to_vec(), 0o755),
        ],
        epoch: 1_700_000_000,
        ..DebInput::default()
    };
    let package = Deb::build(&input, Compression::Xz).expect("a package");
    fleet.write("../agent.deb", package.bytes());
    fleet.path("../agent.deb").display().to_string()
}

#[test]
fn a_target_that_looks_like_a_url_is_no_directory() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    let before = fleet.tree();
    for target in ["ssh://host/srv/apt", "s3://bucket", "file:///srv/apt"] {
        let run = fleet.run(&["publish", "--without-agent", "--to", target]);
        refused(&run, &[target, "rsync"]);
    }
    before.assert_unchanged(&fleet.tree());
}

#[test]
fn a_mirror_that_was_not_made_is_noticed_before_anything_is_built() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    fleet.edit(
        "fleet.toml",
        "upstream = \"debian\"",
        "upstream = \"mirror\"",
    );
    let before = fleet.tree();
    let run = fleet.run(&PUBLISH);
    refused(&run, &["mirror.lock", "rolesmith mirror"]);
    before.assert_unchanged(&fleet.tree());
}

#[test]
fn an_old_lock_is_noticed_and_mended_as_the_help_says() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    fleet.run(&PUBLISH).succeeded();
    let old = fleet.read("rolesmith.lock");
    let mut domain = "example.internal".to_owned();
    let mut change = |fleet: &TestFleet| {
        let next = format!("x.{domain}");
        let (from, to) = (
            format!("domain = \"{domain}\""),
            format!("domain = \"{next}\""),
        );
        fleet.edit("fleet.toml", &from, &to);
        domain = next;
    };
    for _ in 0..2 {
        change(&fleet);
        fleet.run(&PUBLISH).succeeded();
    }
    let release = fs::read(fleet.path("dist/repo/dists/trixie/InRelease")).expect("published");
    fleet.write("rolesmith.lock", &old);
    change(&fleet);
    let run = fleet.run(&PUBLISH);
    refused(
        &run,
        &[
            "acme-facts is 2, but 3 was published",
            "[packages.acme-facts] version = 3",
        ],
    );
    let after = fs::read(fleet.path("dist/repo/dists/trixie/InRelease")).expect("published");
    assert_eq!(release, after);
    // Nothing was begun: the next run has nothing to sweep away.
    assert!(!fleet.path("dist/repo/.rolesmith/in-progress").exists());

    let packages: Vec<String> = run
        .stderr
        .split("[packages.")
        .skip(1)
        .map(|rest| rest.split(']').next().unwrap_or_default().to_owned())
        .collect();
    assert!(packages.contains(&"acme-facts".to_owned()), "{packages:?}");
    let mut lock: toml::Table = toml::from_str(&fleet.read("rolesmith.lock")).expect("TOML");
    for name in packages {
        let mut entry = toml::Table::new();
        entry.insert("version".into(), 3.into());
        entry.insert("inputs".into(), "".into());
        entry.insert("epoch".into(), 0.into());
        lock["packages"]
            .as_table_mut()
            .expect("a table")
            .insert(name, entry.into());
    }
    fleet.write("rolesmith.lock", lock.to_string());
    let run = fleet.run(&PUBLISH);
    run.succeeded();
    assert!(fleet.path("dist/packages/acme-facts_4_all.deb").exists());
}

#[test]
fn another_fleet_has_another_directory() {
    let one = TestFleet::init(ROLESMITH, "acme");
    let two = TestFleet::init(ROLESMITH, "globex");
    let root = one.path("../shared").display().to_string();
    let publish = ["publish", "--without-agent", "--to", &root];
    one.run(&publish).succeeded();
    refused(&two.run(&publish), &["acme", "globex", "--to"]);
}

#[test]
fn a_new_key_is_announced_and_then_signs() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    let other = TestFleet::init(ROLESMITH, "acme");
    fleet.run(&PUBLISH).succeeded();
    other.run(&["build", "--without-agent"]).succeeded();
    let keyring = "dist/packages/acme-archive-keyring_1_all.deb";
    let path = "./usr/share/keyrings/acme-archive-keyring.asc";
    let (old, new) = (
        deb::file(&fleet.path(keyring), path),
        deb::file(&other.path(keyring), path),
    );
    let mine = fs::read(fleet.path("secrets/archive.pgp")).expect("a key");
    let theirs = fs::read(other.path("secrets/archive.pgp")).expect("a key");
    let use_key = |key: &[u8]| {
        fleet.write("secrets/archive.pgp", key);
        fleet.chmod("secrets/archive.pgp", 0o600);
    };
    use_key(&theirs);
    refused(
        &fleet.run(&PUBLISH),
        &["do not know the key", "also_trusted"],
    );
    use_key(&mine);
    fleet.write("keys/other.asc", &new);
    let upstream = "upstream = \"debian\"";
    let trusting = format!("{upstream}\nalso_trusted = [\"keys/other.asc\"]");
    fleet.edit("fleet.toml", upstream, &trusting);
    fleet.run(&PUBLISH).succeeded();
    let newest = |fleet: &TestFleet| -> PathBuf {
        fs::read_dir(fleet.path("dist/packages"))
            .expect("built")
            .map(|entry| entry.expect("readable").path())
            .find(|path| path.display().to_string().contains("archive-keyring"))
            .expect("the keyring package")
    };
    assert_eq!(deb::file(&newest(&fleet), path), format!("{old}{new}"));
    // The announced key signs; that it is announced still does no harm.
    use_key(&theirs);
    fleet.run(&PUBLISH).succeeded();
    assert_eq!(deb::file(&newest(&fleet), path), new);
    fleet.write("keys/other.asc", &old);
    fleet.run(&PUBLISH).succeeded();
    assert_eq!(deb::file(&newest(&fleet), path), format!("{new}{old}"));

    fleet.write("keys/other.asc", "no key");
    refused(&fleet.run(&PUBLISH), &["keys/other.asc", "gpg --armor"]);
    fleet.edit("fleet.toml", "keys/other.asc", "../other.asc");
    let run = fleet.run(&["check"]);
    refused(&run, &["fleet::repository-also-trusted"]);
}

#[test]
fn an_agent_built_again_under_its_version_is_told() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    let publish = |version, content| {
        let package = agent(&fleet, version, content);
        fleet.run(&["publish", "--agent", &package])
    };
    publish("1.0", "first").succeeded();
    let published =
        fleet.path("dist/repo/pool/main/r/rolesmith-agent/rolesmith-agent_1.0_amd64.deb");
    let first = fs::read(&published).expect("published");
    let again = publish("1.0", "again");
    again.succeeded();
    assert!(
        again.stderr.contains("rolesmith-agent 1.0") && again.stderr.contains("STAYS AS IT IS"),
        "{}",
        again.stderr
    );
    assert_eq!(fs::read(&published).expect("published"), first);
    let later = publish("1.1", "again");
    later.succeeded();
    assert!(!later.stderr.contains("STAYS"), "{}", later.stderr);
    refused(&publish("1.0", "first"), &["1.1 was published", "--agent"]);
}

#[test]
fn secrets_are_found_in_what_is_packed_already() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    fleet.run(&["build", "--without-agent"]).succeeded();
    let value = fleet.read("secrets/fleet/database-pooler-password");
    let leaking = agent(&fleet, "1.0", value.trim());
    let run = fleet.run(&["build", "--agent", &leaking]);
    refused(&run, &["/usr/agent", "database-pooler-password"]);
    // What is reused is looked at again: this text becomes a secret after it was packed.
    fleet.write("secrets/fleet/late", "example.internal");
    fleet.chmod("secrets/fleet/late", 0o600);
    let run = fleet.run(&["build", "--without-agent"]);
    refused(&run, &["late"]);
}

#[test]
fn a_lock_from_elsewhere_gives_its_own_bytes() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    fleet.run(&["build", "--without-agent"]).succeeded();
    let lock = fleet.read("rolesmith.lock");
    let mut changed: toml::Table = toml::from_str(&lock).expect("TOML");
    changed["packages"]["acme-base"]["epoch"] = 1_900_000_000.into();
    fleet.write("rolesmith.lock", changed.to_string());
    fleet.run(&["build", "--without-agent"]).succeeded();
    let package = "dist/packages/acme-base_1_all.deb";
    let reused = fs::read(fleet.path(package)).expect("built");
    fs::remove_dir_all(fleet.path("dist")).expect("built");
    fleet.run(&["build", "--without-agent"]).succeeded();
    assert!(reused == fs::read(fleet.path(package)).expect("built"));
    let manifest: Value = serde_json::from_str(&fleet.read("dist/manifest.json")).expect("JSON");
    let base = manifest["packages"].as_array().expect("a list").iter();
    let base = base
        .filter(|p| p["name"] == "acme-base")
        .collect::<Vec<_>>();
    assert_eq!(base[0]["epoch"], 1_900_000_000_u64);
}

#[test]
fn a_second_build_waits_for_the_first() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    let lock = File::open(fleet.dir()).expect("a directory");
    lock.lock().expect("nobody else has it");
    let mut command = fleet.command(&["build", "--without-agent"]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut said = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("a line");
    assert!(line.contains("Another rolesmith"), "{line}");
    assert!(child.try_wait().expect("a child").is_none());
    lock.unlock().expect("it was held");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("its last words");
    assert!(child.wait().expect("a child").success(), "{rest}");
}

#[test]
fn the_clock_does_not_date_a_publication_back() {
    let fleet = TestFleet::init(ROLESMITH, "acme");
    let run = fleet.run(&PUBLISH);
    run.succeeded();
    // The clock of the tests is in the past, and so is what it makes.
    assert!(run.stderr.contains("clients refuse"), "{}", run.stderr);
    let mut command = fleet.command(&PUBLISH);
    command.env("SOURCE_DATE_EPOCH", "2050000000");
    Run::of(command).succeeded();
    let mut command = fleet.command(&PUBLISH);
    command.env_remove("SOURCE_DATE_EPOCH");
    let run = Run::of(command);
    run.succeeded();
    assert!(run.stderr.contains("set the clock"), "{}", run.stderr);
    let release = fleet.read("dist/repo/dists/trixie/Release");
    assert!(release.contains("Date: Sun, 17 Dec 2034"), "{release}");
    let mode = fs::metadata(fleet.path("dist/repo/dists/trixie/Release"))
        .expect("published")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
}
