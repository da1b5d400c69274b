//! What comes out, and that it is the same everywhere.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rolesmith_host::services::{Tree, TreeContent};
use rolesmith_model::ids::Suite;

use crate::fixtures::{NPM_LOCK, PACKAGE, YARN_4_LOCK, vendored};
use crate::support::{Place, content, file, paths};

/// Mode bits that a new file does not get; the shell's for a child, since a process has one for all threads.
const UMASK: &str = "ROLESMITH_TEST_SERVICES_UMASK";

fn npm_fixture() -> Place {
    Place::with(&[
        ("package.json", PACKAGE),
        ("package-lock.json", NPM_LOCK),
        ("server.js", "require('ms')\n"),
    ])
}

/// What any package manager with a node_modules makes of the fixtures.
fn assert_installed(tree: &Tree) {
    let all = paths(tree);
    assert_eq!(
        content(tree, "node_modules/.bin/mime"),
        &TreeContent::Symlink("../mime/cli.js".into())
    );
    assert!(
        file(tree, "node_modules/mime/cli.js").1,
        "a command may be run"
    );
    let (manifest, executable) = file(tree, "node_modules/ms/package.json");
    assert!(!executable && String::from_utf8_lossy(manifest).contains("\"version\": \"2.1.3\""));
    assert!(
        !all.iter().any(|path| path.contains("wrappy")),
        "for development alone: {all:#?}"
    );
    for note in [
        ".package-lock.json",
        ".yarn-integrity",
        ".yarn-state.yml",
        "install-state",
    ] {
        assert!(
            !all.iter().any(|path| path.contains(note)),
            "{note} in {all:#?}"
        );
    }
    assert!(all.is_sorted() && all.contains(&"server.js"));
    assert_eq!(tree.unbuilt, [""; 0]);
}

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn npm_on_both_suites() {
    for suite in Suite::ALL {
        let place = npm_fixture();
        let tree = place.build(suite).unwrap();
        assert_installed(&tree);
        assert_eq!(place.installs(), 1);
        // A change of the program itself installs nothing anew.
        place.write("server.js", "require('mime')\n");
        let changed = place.build(suite).unwrap();
        assert_eq!(place.installs(), 1);
        assert_ne!(changed.digest, tree.digest);
        place.write("server.js", "require('ms')\n");
        assert_eq!(place.build(suite).unwrap(), tree);
        // Another place, an empty cache: the same bytes.
        let elsewhere = npm_fixture();
        assert_eq!(elsewhere.build(suite).unwrap(), tree);
        assert_eq!(elsewhere.installs(), 1);
    }
}

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn another_umask_gives_the_same_tree() {
    let digests = ["0000", "0077"].map(|umask| {
        let this = std::env::current_exe().unwrap();
        let mut child = Command::new("sh");
        child
            .arg0("sh")
            .args(["-c", "umask \"$1\" && shift && exec \"$@\"", "sh", umask]);
        child.arg(this).args([
            "--exact",
            "installs::child_builds",
            "--ignored",
            "--nocapture",
        ]);
        let output = child.env(UMASK, umask).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = String::from_utf8(output.stdout).unwrap();
        said.lines()
            .find_map(|line| line.split_once("tree: "))
            .unwrap()
            .1
            .to_owned()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
#[ignore = "run by another_umask_gives_the_same_tree"]
fn child_builds() {
    use std::io::Write as _;

    std::env::var(UMASK).unwrap();
    let tree = npm_fixture().build(Suite::Trixie).unwrap();
    // All bytes and modes, and not only the digest of what it was made from.
    let whole = format!("{tree:?}");
    assert!(whole.len() > 100_000);
    let mut stdout = std::io::stdout();
    writeln!(stdout, "tree: {}", whole.replace('\n', " ")).unwrap();
}

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn yarn_4_with_node_modules_and_with_pnp() {
    let files = [
        ("package.json", PACKAGE),
        ("yarn.lock", YARN_4_LOCK),
        ("server.js", ""),
    ];
    let modules = [
        files.as_slice(),
        &[(".yarnrc.yml", "nodeLinker: node-modules\n")],
    ]
    .concat();
    let tree = Place::with(&modules).build(Suite::Trixie).unwrap();
    assert_installed(&tree);
    assert!(
        !paths(&tree).iter().any(|path| path.contains(".yarn")),
        "{:#?}",
        paths(&tree)
    );
    assert_eq!(Place::with(&modules).build(Suite::Trixie).unwrap(), tree);

    // Another release than Debian's makes no difference to what the lock file says.
    let other = PACKAGE.replace(
        "\"private\"",
        "\"packageManager\": \"yarn@4.9.1\",\n  \"private\"",
    );
    let files = [("package.json", other.as_str()), files[1], files[2]];
    let tree = Place::with(&files).build(Suite::Trixie).unwrap();
    let (resolver, _) = file(&tree, ".pnp.cjs");
    let resolver = String::from_utf8_lossy(resolver);
    assert!(
        resolver.contains("./.yarn/cache/ms-npm-2.1.3-") && !resolver.contains("wrappy"),
        "{resolver}"
    );
    let archives: Vec<_> = paths(&tree)
        .into_iter()
        .filter(|path| path.starts_with(".yarn/"))
        .collect();
    assert!(
        archives.len() == 2 && archives.iter().all(|path| path.ends_with(".zip")),
        "{archives:?}"
    );
    assert_eq!(Place::with(&files).build(Suite::Trixie).unwrap(), tree);
}

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn yarn_1_of_bookworm_and_of_the_registry() {
    let build = |suite, package_manager| {
        let place = Place::new();
        vendored(&place.source, package_manager);
        let tree = place.build(suite).unwrap();
        assert_eq!(
            content(&tree, "node_modules/.bin/own"),
            &TreeContent::Symlink("../own/cli.js".into())
        );
        assert!(file(&tree, "node_modules/own/cli.js").1);
        assert!(paths(&tree).contains(&"vendor/own.tgz"));
        assert_eq!(tree.unbuilt, ["own 1.0.0"]);
        (tree, place)
    };
    let (tree, _) = build(Suite::Bookworm, None);
    assert_eq!(build(Suite::Bookworm, None).0, tree);
    let (pinned, place) = build(Suite::Trixie, Some("yarn@1.22.22"));
    assert_eq!(
        place
            .said
            .lock()
            .unwrap()
            .iter()
            .filter(|text| *text == "fetching yarn@1.22.22")
            .count(),
        1
    );
    assert_eq!(
        file(&pinned, "node_modules/own/index.js"),
        file(&tree, "node_modules/own/index.js")
    );
    // The archive is an input: another one is another install.
    std::fs::write(place.source.join("vendor/own.tgz"), "damaged").unwrap();
    place.build(Suite::Trixie).unwrap_err();
    assert_eq!(place.installs(), 2);
    assert_eq!(
        place
            .said
            .lock()
            .unwrap()
            .iter()
            .filter(|text| text.starts_with("fetching"))
            .count(),
        1
    );
}
