//! debian/version, which numbers packages of the checkout; judged by dpkg.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Checkout(tempfile::TempDir);

impl Checkout {
    /// With the program and a changelog of 0.1.0-1, and no git.
    fn new() -> Self {
        let checkout = Self(tempfile::tempdir().unwrap());
        for dir in ["debian/agent", "builder"] {
            fs::create_dir_all(checkout.path(dir)).unwrap();
        }
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian/version");
        fs::copy(program, checkout.path("debian/version")).unwrap();
        let changelog = "p (0.1.0-1) unstable; urgency=medium\n\n  * One.\n\n -- N <n@example.org>  Sun, 22 Nov 2026 00:00:00 +0000\n";
        fs::write(checkout.path("debian/agent/changelog"), changelog).unwrap();
        fs::write(checkout.path("builder/main.rs"), "1").unwrap();
        checkout
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn git(&self, time: &str, args: &[&str]) {
        let output = Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=n@example.org"])
            .args(args)
            .current_dir(self.0.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_AUTHOR_DATE", time)
            .env("GIT_COMMITTER_DATE", time)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }

    fn commit(&self, time: &str) -> String {
        self.git(time, &["add", "--all"]);
        self.git(time, &["commit", "--quiet", "--allow-empty", "-m", "m"]);
        self.version()
    }

    fn version(&self) -> String {
        let output = Command::new(self.path("debian/version"))
            .arg("debian/agent/changelog")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

#[test]
fn a_later_commit_has_a_higher_version() {
    let checkout = Checkout::new();
    assert_eq!(checkout.version(), "0.1.0-1");
    checkout.git("2026-01-01T00:00:00 +0000", &["init", "--quiet"]);

    let mut versions = vec![checkout.commit("2026-01-01T10:00:00 +0200")];
    assert!(
        versions[0].starts_with("0.1.0~git20260101080000.1.") && versions[0].ends_with("-1"),
        "{versions:?}"
    );
    assert_eq!(checkout.version(), versions[0]);
    fs::write(checkout.path("builder/new.rs"), "").unwrap();
    versions.push(checkout.version());
    assert_eq!(checkout.version(), versions[1]);
    // Notes beside the sources make no package.
    fs::write(checkout.path("notes"), "").unwrap();
    assert_eq!(checkout.version(), versions[1]);
    // In the same second, as after a rebase; then from another time zone.
    versions.push(checkout.commit("2026-01-01T10:00:00 +0200"));
    versions.push(checkout.commit("2026-01-01T08:00:01 +0000"));
    checkout.git("2026-01-01T09:00:00 +0000", &["tag", "v0.1.0"]);
    versions.push(checkout.version());
    assert_eq!(versions[4], "0.1.0-1");
    fs::remove_file(checkout.path("builder/main.rs")).unwrap();
    versions.push(checkout.version());
    versions.push(checkout.commit("2026-01-01T10:00:00 +0000"));
    assert!(
        versions[6].starts_with("0.1.0+git20260101100000.4."),
        "{versions:?}"
    );

    for pair in versions.windows(2) {
        let status = Command::new("dpkg")
            .args(["--compare-versions", &pair[0], "lt", &pair[1]])
            .status()
            .unwrap();
        assert!(status.success(), "{pair:?}");
    }
    // lintian takes 71 characters of a file for amd64.
    let clean = versions
        .iter()
        .filter(|version| !version[6..].contains('+'));
    for version in clean {
        assert!(
            "rolesmith-agent__amd64.deb".len() + version.len() <= 71,
            "{version}"
        );
    }
}
