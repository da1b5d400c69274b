//! lintian and shellcheck have nothing to say.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{SUITES, add_mail, example, own_package, packages, suite::Suite};

/// lintian as an unprivileged user, as it wants to run.
const LINTIAN: &str = "setpriv --reuid 65534 --regid 65534 --clear-groups \
     lintian --display-info --pedantic --show-overrides --tag-display-limit 0 /packages/*.deb";

/// The programs' own packages go to both suites, and each lintian knows tags that the other one does not: an override that only
/// one of them needs is unused for the other, so these are left out here. Letters next to each other in a compiled program are
/// no words; programs of a fleet run under systemd alone.
const OWN: [&str; 3] = [
    "unused-override",
    "spelling-error-in-binary",
    "package-supports-alternative-init-but-no-init.d-script",
];

/// No tag of any severity for any package that a fleet publishes, but those that an override names with its reason.
#[test]
#[ignore = "needs root: runs lintian in root trees"]
fn lintian_is_content_with_every_package() {
    for name in SUITES {
        let fleet = example(&format!("lintian-{name}"), name);
        add_mail(&fleet);
        let started = Instant::now();
        fleet.run(&["check"]);
        let check = started.elapsed();
        fleet.run(&["build"]);
        let all = packages(&fleet);
        let started = Instant::now();
        let said = lintian(name, &all);
        println!(
            "{name}: lintian took {:.1} s for {} packages, `rolesmith check` {} ms",
            started.elapsed().as_secs_f64(),
            all.len(),
            check.as_millis()
        );
        // It looked at each of them: every package of the fleet carries a signature, which takes an override.
        for path in all {
            let package = package_name(&path);
            let seen = format!("O: {package}: misplaced-extra-member-in-deb");
            assert!(
                said.contains(&seen),
                "{name}: lintian did not look at {package}:\n{said}"
            );
        }
    }
}

/// The package of the builder itself, which `make deb` makes.
#[test]
#[ignore = "needs root: runs lintian in root trees"]
fn lintian_is_content_with_the_installed_builder() {
    for name in SUITES {
        lintian(name, &[own_package("rolesmith_")]);
    }
}

/// Everything that the suite's lintian says of these packages, which is no finding.
fn lintian(name: &str, packages: &[PathBuf]) -> String {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for path in packages {
        copy_into(path, directory.path());
    }
    let (_, said) = Suite::tools(name).run(&[(directory.path(), "/packages")], LINTIAN);
    let findings: Vec<&str> = said
        .lines()
        .filter(|line| !line.starts_with("N:") && !line.starts_with("O:"))
        .filter(|line| !(line.contains(": rolesmith") && OWN.iter().any(|tag| line.contains(tag))))
        .collect();
    assert!(findings.is_empty(), "{name}:\n{}", findings.join("\n"));
    said
}

/// Every maintainer script of every package, as dpkg finds it.
#[test]
#[ignore = "needs root: runs shellcheck in root trees"]
fn shellcheck_is_content_with_every_maintainer_script() {
    let name = SUITES[0];
    let suite = Suite::tools(name);
    let fleet = example(&format!("shellcheck-{name}"), name);
    add_mail(&fleet);
    fleet.run(&["build"]);
    let said = suite.must(
        &[(&fleet.dir.join("dist/packages"), "/packages")],
        "set -e
         for deb in /packages/*.deb; do
             name=${deb##*/}
             dpkg-deb --control \"$deb\" \"/tmp/${name%%_*}\"
         done
         set -- $(find /tmp -mindepth 2 '(' -name '*inst' -o -name '*rm' ')')
         for script in \"$@\"; do dash -n \"$script\"; done
         # A list of one may grow.
         shellcheck --shell=sh --exclude=SC2043 \"$@\"
         echo \"$# scripts\"",
    );
    // A broken one is found.
    let (success, _) = suite.run(
        &[],
        "echo 'cat $1' >/tmp/postinst; shellcheck --shell=sh /tmp/postinst",
    );
    assert!(!success, "shellcheck accepts everything");
    println!("shellcheck: {said}");
}

fn copy_into(path: &Path, directory: &Path) {
    let name = path.file_name().expect("a package has a name");
    fs::copy(path, directory.join(name)).expect("a package can be copied");
}

fn package_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('_').next().unwrap_or_default().to_owned()
}
