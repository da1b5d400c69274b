use std::fs;
use std::path::Path;

use super::*;

const DEPENDS: &str = r#"{"dependencies": {"ms": "2.1.3"}}"#;
const NPM: &str = r#"{"lockfileVersion": 3}"#;
const YARN_1: &str = "# yarn lockfile v1\n";
const YARN_4: &str = "__metadata:\n  version: 8\n";

fn inspect(files: &[(&str, &str)], suite: Suite) -> Result<Kind, ServiceError> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    super::super::inspect(dir.path(), suite, false)
}

fn manager(files: &[(&str, &str)], suite: Suite) -> Manager {
    match inspect(files, suite).unwrap() {
        Kind::Node(Some(manager)) => manager,
        other => panic!("{other:?}"),
    }
}

/// File, line and words of what is wrong.
#[track_caller]
fn refused(
    files: &[(&str, &str)],
    suite: Suite,
    file: &str,
    line: Option<usize>,
    says: &str,
    help: &str,
) {
    let error = inspect(files, suite).unwrap_err();
    assert_eq!(error.place(), Some((Path::new(file), line)), "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.help().contains(help), "{}", error.help());
}

#[test]
fn what_needs_no_package_manager() {
    for suite in Suite::ALL {
        assert_eq!(inspect(&[("run", "")], suite).unwrap(), Kind::Program);
        assert_eq!(
            inspect(&[("package.json", "{}")], suite).unwrap(),
            Kind::Node(None)
        );
        let development = r#"{"devDependencies": {"ms": "2.1.3"}}"#;
        assert_eq!(
            inspect(
                &[("package.json", development), ("yarn.lock", YARN_4)],
                suite
            )
            .unwrap(),
            Kind::Node(None)
        );
    }
}

#[test]
fn the_lock_file_names_the_package_manager() {
    for suite in Suite::ALL {
        for lock in ["package-lock.json", "npm-shrinkwrap.json"] {
            assert_eq!(
                manager(&[("package.json", DEPENDS), (lock, NPM)], suite),
                Manager::Npm
            );
        }
    }
    let yarn_1 = [("package.json", DEPENDS), ("yarn.lock", YARN_1)];
    assert_eq!(
        manager(&yarn_1, Suite::Bookworm),
        Manager::Yarn1(Yarn::Debian)
    );
    refused(
        &yarn_1,
        Suite::Trixie,
        "yarn.lock",
        None,
        "is of yarn 1, and the yarnpkg of Debian trixie is yarn 4.1",
        "yarn@1.22.22",
    );
    let yarn_4 = [("package.json", DEPENDS), ("yarn.lock", YARN_4)];
    assert_eq!(
        manager(&yarn_4, Suite::Trixie),
        Manager::Yarn4(Yarn::Debian)
    );
    refused(
        &yarn_4,
        Suite::Bookworm,
        "yarn.lock",
        None,
        "is of yarn 4, and the yarnpkg of Debian bookworm is yarn 1.22",
        "--yarn-path",
    );
}

#[test]
fn a_pinned_yarn_is_for_where_debian_has_none() {
    let named = |text: &str| {
        format!("{{\"dependencies\": {{\"ms\": \"2.1.3\"}},\n\"packageManager\": \"{text}\"}}")
    };
    let package = named("yarn@1.22.22");
    let files = [("package.json", package.as_str()), ("yarn.lock", YARN_1)];
    assert_eq!(
        manager(&files, Suite::Bookworm),
        Manager::Yarn1(Yarn::Debian)
    );
    match manager(&files, Suite::Trixie) {
        Manager::Yarn1(Yarn::Pinned(pin)) => assert_eq!(pin.version, "1.22.22"),
        other => panic!("{other:?}"),
    }
    let package = named("yarn@4.9.1");
    let files = [("package.json", package.as_str()), ("yarn.lock", YARN_4)];
    assert_eq!(manager(&files, Suite::Trixie), Manager::Yarn4(Yarn::Debian));
    refused(
        &files,
        Suite::Bookworm,
        "package.json",
        Some(2),
        "without its digest",
        "--yarn-path",
    );
}

#[test]
fn a_yarn_of_the_source_is_used_where_its_settings_name_it() {
    let own = ".yarn/releases/yarn-1.22.19.cjs";
    let files = [
        ("package.json", DEPENDS),
        ("yarn.lock", YARN_1),
        (own, ""),
        (
            ".yarnrc",
            "yarn-path \"./.yarn/releases/yarn-1.22.19.cjs\"\n",
        ),
    ];
    assert_eq!(
        manager(&files, Suite::Trixie),
        Manager::Yarn1(Yarn::Vendored(own.into()))
    );
    let own = ".yarn/releases/yarn-4.9.1.cjs";
    let settings = "nodeLinker: node-modules\nyarnPath: .yarn/releases/yarn-4.9.1.cjs\n";
    let mut files = vec![
        ("package.json", DEPENDS),
        ("yarn.lock", YARN_4),
        (".yarnrc.yml", settings),
        (own, ""),
    ];
    assert_eq!(
        manager(&files, Suite::Bookworm),
        Manager::Yarn4(Yarn::Vendored(own.into()))
    );
    files.pop();
    refused(
        &files,
        Suite::Bookworm,
        ".yarnrc.yml",
        Some(2),
        "not among the service's files",
        "commit that file",
    );
}

#[test]
fn contradictions_are_refused() {
    let suite = Suite::Trixie;
    refused(
        &[("package.json", DEPENDS)],
        suite,
        "package.json",
        None,
        "there is no lock file",
        "commit the lock file",
    );
    let two = [
        ("package.json", DEPENDS),
        ("package-lock.json", NPM),
        ("yarn.lock", YARN_4),
    ];
    refused(
        &two,
        suite,
        "yarn.lock",
        None,
        "there is package-lock.json as well",
        "delete the one",
    );
    for lock in ["pnpm-lock.yaml", "bun.lockb"] {
        refused(
            &[("package.json", DEPENDS), (lock, "")],
            suite,
            lock,
            None,
            "not supported",
            "npm, yarn 1 and yarn 4",
        );
    }
    let named = "{\"dependencies\": {\"ms\": \"2.1.3\"},\n\"packageManager\": \"yarn@1.22.22\"}";
    refused(
        &[("package.json", named), ("yarn.lock", YARN_4)],
        suite,
        "package.json",
        Some(2),
        "was written by yarn 4",
        "corepack use",
    );
    refused(
        &[("package.json", named), ("package-lock.json", NPM)],
        suite,
        "package.json",
        Some(2),
        "was written by npm",
        "corepack use",
    );
    refused(
        &[("package.json", "{,}")],
        suite,
        "package.json",
        Some(1),
        "key must be a string",
        "package-json",
    );
}
