//! Packages that dpkg-deb built are read, and versions are judged as dpkg judges them.

use std::fs;

use debversion::Version;
use proptest::prelude::*;
use rolesmith_formats::{
    deb::{check_version, is_package_name, read_deb, read_entries},
    tarball::{EntryKind, ListedKind},
};

use crate::tools::{have, ok, run};

#[test]
fn packages_of_dpkg_deb_are_read_whatever_compresses_them() {
    if !have("dpkg-deb") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let long = "n".repeat(120);
    fs::create_dir_all(path("tree/DEBIAN")).unwrap();
    fs::create_dir_all(path("tree/usr/lib")).unwrap();
    let control = "Package: foreign\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: x\n y\n";
    fs::write(path("tree/DEBIAN/control"), control).unwrap();
    fs::write(path("tree/DEBIAN/conffiles"), "/usr/lib/é\n").unwrap();
    fs::write(path("tree/usr/lib/é"), "text").unwrap();
    fs::write(path(&format!("tree/usr/lib/{long}")), "long").unwrap();
    fs::hard_link(path("tree/usr/lib/é"), path("tree/usr/lib/hard")).unwrap();
    std::os::unix::fs::symlink("é", path("tree/usr/lib/soft")).unwrap();
    ok("mkfifo", [path("tree/usr/lib/fifo")]);
    for compression in ["-Zgzip", "-Zxz", "-Zzstd", "-Znone"] {
        ok(
            "dpkg-deb",
            [
                "--root-owner-group",
                compression,
                "--build",
                &path("tree"),
                &path("x.deb"),
            ],
        );
        let bytes = fs::read(path("x.deb")).unwrap();
        let read = read_deb(&bytes).unwrap();
        assert_eq!(read.control.to_string(), control);
        assert_eq!(read.conffiles, ["/usr/lib/é"]);
        let mut paths = read.paths();
        paths.sort();
        assert_eq!(
            paths,
            [
                "usr/lib/fifo",
                "usr/lib/hard",
                &format!("usr/lib/{long}"),
                "usr/lib/soft",
                "usr/lib/é"
            ]
        );
        let kind = |path: &str| {
            read.entries
                .iter()
                .find(|entry| entry.path == path)
                .unwrap()
                .kind
                .clone()
        };
        assert_eq!(kind("/usr/lib/soft"), ListedKind::Symlink("é".to_owned()));
        assert_eq!(kind("/usr/lib/fifo"), ListedKind::Special);
        // Which of the two names comes first, and is the file, is the archiver's choice.
        let (hard, plain) = (kind("/usr/lib/hard"), kind("/usr/lib/é"));
        let linked = |to: &str| ListedKind::Hardlink(to.to_owned());
        assert!(
            (hard == ListedKind::File && plain == linked("/usr/lib/hard"))
                || (hard == linked("/usr/lib/é") && plain == ListedKind::File)
        );
        assert!(
            read_entries(&bytes).is_err(),
            "hard links have no entry of their own"
        );
    }
    fs::remove_file(path("tree/usr/lib/fifo")).unwrap();
    fs::remove_file(path("tree/usr/lib/hard")).unwrap();
    ok("dpkg-deb", ["--build", &path("tree"), &path("x.deb")]);
    let entries = read_entries(&fs::read(path("x.deb")).unwrap()).unwrap();
    assert!(
        entries
            .iter()
            .any(|e| e.path == "/usr/lib/é" && e.kind == EntryKind::File("text".into()))
    );
}

fn any_version() -> impl Strategy<Value = String> {
    (
        "([0-9]{1,2}:)?",
        "[0-9][a-z0-9.+~]{0,5}",
        "(-[a-z0-9.+~]{1,4})?",
    )
        .prop_map(|(e, u, r)| format!("{e}{u}{r}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn versions_are_ordered_as_dpkg_orders_them(a in any_version(), b in any_version()) {
        if have("dpkg") {
            let (left, right): (Version, Version) = (a.parse().unwrap(), b.parse().unwrap());
            let dpkg = |operator| run("dpkg", ["--compare-versions", &a, operator, &b]).status.success();
            prop_assert_eq!(left < right, dpkg("lt"));
            prop_assert_eq!(left == right, dpkg("eq"));
        }
    }

    #[test]
    fn versions_are_valid_when_dpkg_says_so(version in prop_oneof!["[0-9:a.~+_/-]{1,6}", any_version(), "[0-9]{9,11}:1"]) {
        if have("dpkg") {
            let said = run("dpkg", ["--validate-version", "--", &version]);
            let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
            // dpkg warns of what it still reads but nobody should write; here that is refused.
            prop_assert_eq!(check_version(&version).is_ok(), said.status.success() && stderr.is_empty(), "{}", stderr);
        }
    }

    #[test]
    fn names_that_are_accepted_are_accepted_by_dpkg(name in "[a-z0-9.+-]{1,5}") {
        if have("dpkg") && is_package_name(&name) {
            prop_assert!(run("dpkg", ["--validate-pkgname", "--", &name]).status.success());
        }
    }
}
