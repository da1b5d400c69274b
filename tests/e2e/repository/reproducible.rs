//! The same fleet gives the same bytes: from another path, as another person, in another time zone, language and umask. And
//! what did not change is not made again.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Output},
};

use rolesmith_tests::{Fleet, checkout, need_root};

use crate::{edit, example_without_mirror, members, own_package, packages};

/// nobody, nogroup.
const NOBODY: &str = "65534";

/// The program in another place, with a copy of the fleet that belongs to another person.
struct Elsewhere {
    dir: tempfile::TempDir,
}

impl Elsewhere {
    /// Copies what a person keeps of a fleet, its secrets and its lock included, but not what was built.
    fn of(fleet: &Fleet) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode is set");
        let copy = dir.path().join("some where else");
        must(Command::new("cp").arg("-a").arg(&fleet.dir).arg(&copy));
        let _ = fs::remove_dir_all(copy.join("dist"));
        fs::create_dir(dir.path().join("home")).expect("a directory can be made");
        for part in ["home", "some where else"] {
            let owner = format!("{NOBODY}:{NOBODY}");
            must(
                Command::new("chown")
                    .arg("-R")
                    .arg(owner)
                    .arg(dir.path().join(part)),
            );
        }
        let program = checkout().join("target/debug/rolesmith");
        fs::copy(program, dir.path().join("rolesmith")).expect("the program can be copied");
        let agent = own_package("rolesmith-agent_");
        let shipped = dir
            .path()
            .join(agent.file_name().expect("a package has a name"));
        fs::copy(agent, shipped).expect("a package can be copied");
        Self { dir }
    }

    fn fleet(&self) -> Fleet {
        Fleet {
            dir: self.dir.path().join("some where else"),
        }
    }

    fn build(&self) {
        let build =
            "umask 077; exec ./rolesmith -C 'some where else' build --agent rolesmith-agent_*.deb";
        must(
            Command::new("setpriv")
                .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
                .args(["sh", "-c", build])
                .current_dir(self.dir.path())
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", self.dir.path().join("home"))
                .env("TZ", "Pacific/Kiritimati")
                .env("LC_ALL", "tr_TR.UTF-8")
                .env("LANG", "tr_TR.UTF-8")
                .env("RAYON_NUM_THREADS", "1"),
        );
    }
}

fn must(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Builds as a person does who sits at the checkout.
fn build(fleet: &Fleet) {
    let agent = own_package("rolesmith-agent_");
    must(
        fleet
            .command(&["build", "--agent"])
            .arg(agent)
            .env("TZ", "America/St_Johns"),
    );
}

/// Name and content of every package, and the manifest.
fn contents(fleet: &Fleet) -> BTreeMap<String, Vec<u8>> {
    let mut paths = packages(fleet);
    paths.push(fleet.dir.join("dist/manifest.json"));
    paths
        .iter()
        .map(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, fs::read(path).expect("a built file can be read"))
        })
        .collect()
}

#[test]
#[ignore = "needs root: builds as another user, too"]
fn the_same_bytes_from_another_path_user_umask_and_locale() {
    need_root();
    for suite in crate::SUITES {
        let fleet = example_without_mirror(&format!("same-{suite}"), suite);
        build(&fleet);
        let elsewhere = Elsewhere::of(&fleet);
        elsewhere.build();
        let (here, there) = (contents(&fleet), contents(&elsewhere.fleet()));
        assert!(
            here.keys().eq(there.keys()),
            "{:?} and {:?}",
            here.keys(),
            there.keys()
        );
        for (name, bytes) in &here {
            assert!(bytes == &there[name], "{suite}: {name} differs");
        }
        let lock = |fleet: &Fleet| fs::read(fleet.dir.join("rolesmith.lock")).expect("a lock");
        assert_eq!(lock(&fleet), lock(&elsewhere.fleet()));
        // Another person's files are that person's: nothing of root's was left behind.
        let owner = fs::metadata(elsewhere.fleet().dir.join("dist/manifest.json"))
            .expect("it is there")
            .uid();
        assert_eq!(owner.to_string(), NOBODY);
    }
}

#[test]
#[ignore = "needs root: belongs to the tests of reproducibility"]
fn a_key_that_gpg_holds_changes_the_signature_alone() {
    need_root();
    let home = Gpg::new();
    let fleet = example_without_mirror("same-gpg", "trixie");
    edit(
        &fleet,
        "upstream = \"debian\"",
        &format!("upstream = \"debian\"\nkey = \"gpg:{}\"", home.fingerprint),
    );
    let build = |fleet: &Fleet| {
        must(
            fleet
                .command(&["build", "--without-agent"])
                .env("GNUPGHOME", home.dir.path()),
        );
        contents(fleet)
    };
    let first = build(&fleet);
    fs::remove_dir_all(fleet.dir.join("dist")).expect("dist/ can be removed");
    let second = build(&fleet);
    assert!(first.keys().eq(second.keys()));
    for (name, bytes) in first.iter().filter(|(name, _)| name.ends_with(".deb")) {
        let (here, there) = (members(bytes), members(&second[name]));
        assert_eq!(
            here.last().map(|m| m.0.as_str()),
            Some("_gpgorigin"),
            "{name}"
        );
        for ((one, range), (two, other)) in here.iter().zip(&there) {
            assert_eq!(one, two, "{name}");
            let same = bytes[range.clone()] == second[name][other.clone()];
            assert!(same || one == "_gpgorigin", "{name}: {one} differs");
        }
    }
}

/// A key of gpg's own, whose agent ends with it.
struct Gpg {
    dir: tempfile::TempDir,
    fingerprint: String,
}

impl Gpg {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let gpg = || {
            let mut command = Command::new("gpg");
            command
                .args(["--batch", "--quiet"])
                .env("GNUPGHOME", dir.path());
            command
        };
        must(gpg().args([
            "--passphrase",
            "",
            "--quick-gen-key",
            "Fleet <fleet@example.org>",
            "ed25519",
            "sign",
            "never",
        ]));
        let listed = must(gpg().args(["--with-colons", "--list-secret-keys"]));
        let fingerprint = String::from_utf8_lossy(&listed.stdout)
            .lines()
            .find_map(|line| {
                line.strip_prefix("fpr:")
                    .map(|rest| rest.trim_matches(':').to_owned())
            })
            .expect("gpg has a key");
        Self { dir, fingerprint }
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .args(["--kill", "all"])
            .env("GNUPGHOME", self.dir.path())
            .status();
    }
}

/// What tells whether a file was written again: a new file has another inode, a changed one another time.
fn stamps(fleet: &Fleet) -> BTreeMap<String, (u64, i64, i64)> {
    let mut paths = packages(fleet);
    paths.push(fleet.dir.join("dist/manifest.json"));
    paths.push(fleet.dir.join("rolesmith.lock"));
    paths
        .iter()
        .map(|path| {
            let meta = fs::metadata(path).expect("a built file is there");
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            (name, (meta.ino(), meta.mtime(), meta.mtime_nsec()))
        })
        .collect()
}

#[test]
#[ignore = "needs the agent's package: belongs to the tests of reproducibility"]
fn a_second_build_does_nothing_and_a_changed_template_only_what_it_must() {
    let fleet = example_without_mirror("again", "trixie");
    build(&fleet);
    let first = stamps(&fleet);
    build(&fleet);
    assert_eq!(first, stamps(&fleet), "the second build wrote something");

    let role = fleet.dir.join("roles/redis");
    write(
        &role.join("role.toml"),
        "[role]\nsummary = \"Redis of the fleet with a note\"\ndescription = \"Redis as the built-in role has it, and a note.\\n\"\n\
         extends = \"redis\"\n\n[[files]]\ntemplate = \"templates/note\"\npath = \"/usr/share/rolesmith/redis-note\"\n",
    );
    write(&role.join("templates/note"), "Redis of {{ fleet.name }}.\n");
    build(&fleet);
    only_redis_and_the_facts(&fleet, &first, 2);

    let second = stamps(&fleet);
    write(
        &role.join("templates/note"),
        "Redis of the fleet {{ fleet.name }}.\n",
    );
    build(&fleet);
    only_redis_and_the_facts(&fleet, &second, 3);
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file has a directory")).expect("a directory");
    fs::write(path, text).expect("a file can be written");
}

/// The facts name the versions of all packages, so they change with each of them.
fn only_redis_and_the_facts(
    fleet: &Fleet,
    before: &BTreeMap<String, (u64, i64, i64)>,
    version: u64,
) {
    let after = stamps(fleet);
    for (name, stamp) in &after {
        if ["rolesmith.lock", "manifest.json"].contains(&name.as_str()) {
            continue;
        }
        let concerned = name.starts_with("acme-redis_") || name.starts_with("acme-facts_");
        if concerned {
            assert!(name.contains(&format!("_{version}_")), "{name}");
        } else {
            assert_eq!(before.get(name), Some(stamp), "{name} was made again");
        }
    }
    assert_eq!(
        after.len(),
        before.len(),
        "older versions are swept away: {:?}",
        after.keys()
    );
}
