//! Seeds, judged by the cloud-init of both suites.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use rolesmith_lab::{Purpose, Silent, TreeSpec, tree};
use rolesmith_tests::{Fleet, need_root, work_dir};

/// The example fleet's seeds are valid by the schema of the cloud-init of Debian 12 and of Debian 13, whatever their own suite.
#[test]
#[ignore = "needs root: runs cloud-init in root trees"]
fn both_suites_cloud_init_accept_every_seed() {
    need_root();
    let trees: Vec<_> = ["bookworm", "trixie"].map(root_tree).into();
    for suite in ["bookworm", "trixie"] {
        let fleet = example(&format!("seed-{suite}"), suite);
        let seed = text(&fleet.run(&["user-data", "app-1"]).stdout);
        for tree in &trees {
            let (valid, said) = schema(tree, &seed);
            assert!(valid, "{suite} seed by {}: {said}", tree.display());
            // The judge can say no.
            let (valid, said) = schema(
                tree,
                &seed.replace("write_files:\n- path:", "write_files:\n- pfad:"),
            );
            assert!(!valid, "a broken seed was accepted: {said}");
        }
    }
}

/// `check --execute` takes the example's seeds, which the cloud-init of their own suite executes without a warning.
#[test]
#[ignore = "needs root: runs cloud-init in root trees"]
fn the_examples_seeds_are_executed_without_a_warning() {
    for suite in ["bookworm", "trixie"] {
        let fleet = example(&format!("seed-executed-{suite}"), suite);
        fleet.run(&["user-data", "app-1"]);
        let said = text(&fleet.run(&["check", "--execute"]).stderr);
        assert!(said.contains("The fleet acme is sound"), "{said}");
        // It was executed both ways, and it says what was not tried.
        assert!(
            said.contains("app-3: ConfigDrive") && said.contains("app-3: NoCloud"),
            "{said}"
        );
        assert!(said.contains("Nothing is published"), "{said}");
    }
}

/// The same inputs, keys and identity give the same seed; a replacement gets another identity and another instance id.
#[test]
#[ignore = "needs root: belongs to the tests of seeds"]
fn seeds_are_deterministic_and_replacements_are_new() {
    let fleet = example("seed-twice", "trixie");
    let first = fleet.run(&["user-data", "app-1"]).stdout;
    assert_eq!(first, fleet.run(&["user-data", "app-1"]).stdout);
    let other = fleet.run(&["user-data", "app-2"]).stdout;
    assert_ne!(first, other);

    let dir = fleet.dir.join("seed");
    fleet.run(&[
        "user-data",
        "app-1",
        "--nocloud",
        dir.to_str().expect("UTF-8"),
    ]);
    let instance =
        || std::fs::read_to_string(dir.join("meta-data")).expect("meta-data was written");
    assert_eq!(
        std::fs::read(dir.join("user-data")).expect("user-data was written"),
        first
    );
    let before = instance();
    let replaced = fleet.run(&[
        "user-data",
        "app-1",
        "--replace",
        "--nocloud",
        dir.to_str().expect("UTF-8"),
    ]);
    assert_ne!(before, instance(), "{}", text(&replaced.stderr));
    let key = |seed: &str| {
        let from = seed
            .find("/etc/rolesmith/node.key")
            .expect("the seed has the node's key");
        seed[from..]
            .lines()
            .skip(4)
            .take(3)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let new = std::fs::read_to_string(dir.join("user-data")).expect("user-data was written");
    assert_ne!(key(&text(&first)), key(&new));
    // Readable by their owner alone.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(dir.join("user-data"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn example(name: &str, suite: &str) -> Fleet {
    let fleet = Fleet {
        dir: work_dir().join("fleets").join(name),
    };
    if fleet.dir.exists() {
        std::fs::remove_dir_all(&fleet.dir).expect("an old fleet can be removed");
    }
    std::fs::create_dir_all(&fleet.dir).expect("a directory can be made");
    fleet.run(&["init", "--example", "--suite", suite]);
    fleet
}

fn root_tree(suite: &str) -> std::path::PathBuf {
    let spec = TreeSpec {
        purpose: Purpose::Node,
        suite: suite.into(),
        cache_dir: work_dir().join("lab"),
        key_extra: None,
        sources: None,
    };
    tree::ensure(&spec, false, &Silent)
        .expect("a root tree can be made")
        .root
}

/// `cloud-init schema` of the tree; nothing in the tree is changed.
fn schema(tree: &Path, seed: &str) -> (bool, String) {
    let script = "mount -t tmpfs none /tmp && mount -t tmpfs none /run && cat >/tmp/seed && exec cloud-init schema --config-file /tmp/seed 2>&1";
    let mut child = Command::new("unshare")
        .args(["--mount", "chroot"])
        .arg(tree)
        .args(["sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare starts");
    child
        .stdin
        .take()
        .expect("a pipe was asked for")
        .write_all(seed.as_bytes())
        .expect("cloud-init reads its input");
    let output = child.wait_with_output().expect("cloud-init ends");
    (
        output.status.success(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
