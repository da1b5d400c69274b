//! debsig-verify accepts what the fleet signed, with nothing but what the keyring package ships.

use std::fs;

use crate::{SUITES, example_without_mirror, members, packages, suite::Suite};

/// Unpacks the keyring package over the tree's root, then judges every package that it is shown.
const VERIFY: &str = "
dpkg-deb --extract /packages/*-archive-keyring_*.deb / || exit 99
status=0
for deb in /judged/*.deb; do
    debsig-verify \"$deb\" >/tmp/said 2>&1
    echo \"${deb##*/} $?\"
done
";

#[test]
#[ignore = "needs root: runs debsig-verify in root trees"]
fn debsig_verify_accepts_every_package_and_refuses_one_changed_byte() {
    for name in SUITES {
        let suite = Suite::tools(name);
        let fleet = example_without_mirror(&format!("debsig-{name}"), name);
        fleet.run(&["build"]);
        let built = fleet.dir.join("dist/packages");
        let said = suite.must(&[(&built, "/packages"), (&built, "/judged")], VERIFY);
        let accepted = said.lines().filter(|line| line.ends_with(".deb 0")).count();
        assert_eq!(accepted, packages(&fleet).len(), "{name}: {said}");

        let damaged = tempfile::tempdir().expect("a directory can be made");
        let mut expected = 0;
        for path in packages(&fleet) {
            let package = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes = fs::read(&path).expect("a package can be read");
            for (member, range) in members(&bytes) {
                for at in [range.start, range.start + range.len() / 2, range.end - 1] {
                    let mut changed = bytes.clone();
                    changed[at] ^= 1;
                    let file = format!("{package}-{member}-{at}.deb");
                    fs::write(damaged.path().join(file), changed).expect("a file can be written");
                    expected += 1;
                }
            }
        }
        let said = suite.must(
            &[(&built, "/packages"), (damaged.path(), "/judged")],
            VERIFY,
        );
        assert_eq!(said.lines().count(), expected, "{name}: {said}");
        let accepted: Vec<&str> = said.lines().filter(|line| line.ends_with(" 0")).collect();
        assert!(
            accepted.is_empty(),
            "{name}: accepted although changed: {accepted:?}"
        );
    }
}
