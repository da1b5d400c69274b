//! apt of both suites takes what the fleet published, and refuses it once a byte of it is another one, its time is over, or
//! the key is not the one that the node knows.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rolesmith_tests::Fleet;
use tempfile::TempDir;

use crate::{SUITES, edit, example, example_without_mirror, files, suite::Suite};

/// A node before its first update: the files of the keyring package and nothing else that tells apt of a repository. The
/// settings are apt's defaults; this machine's own may differ.
const CLIENT: &str = r#"
set -e
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/* /var/lib/apt/lists/*
for deb in /packages/*-archive-keyring_*.deb; do dpkg-deb --extract "$deb" /; done
sed -i 's#^URIs: .*#URIs: http://SERVER#' /etc/apt/sources.list.d/*.sources
cat >/etc/apt/apt.conf.d/00test <<END
Acquire::Check-Valid-Until "true";
Acquire::Check-Date "true";
Acquire::Retries "0";
APT::Update::Error-Mode "any";
APT::Install-Recommends "false";
END
apt-get update
apt-get --yes --download-only install PACKAGES
cd /var/cache/apt/archives
ls
"#;

/// A directory served to apt, whose repository can be exchanged.
struct Server {
    dir: TempDir,
    address: SocketAddr,
}

impl Server {
    /// Serves until the test program ends.
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port on loopback");
        let root = dir.path().to_owned();
        thread::spawn(move || rolesmith_lab::serve(&root, address));
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            thread::yield_now();
        }
        Self { dir, address }
    }

    /// Serves a copy of the fleet's repository in which `change` did what it wants; gives apt's success and words.
    fn judge(
        &self,
        suite: &Suite,
        fleet: &Fleet,
        packages: &str,
        change: impl FnOnce(&Path),
    ) -> (bool, String) {
        for entry in fs::read_dir(self.dir.path()).expect("a directory can be read") {
            fs::remove_dir_all(entry.expect("an entry").path()).expect("a copy can be removed");
        }
        let root = fleet.dir.join("dist/repo");
        for path in files(&root) {
            let to = self
                .dir
                .path()
                .join(path.strip_prefix(&root).expect("below the root"));
            fs::create_dir_all(to.parent().expect("a file has a directory")).expect("a directory");
            // Never written to: a changed file takes the place of the link.
            fs::hard_link(&path, &to)
                .or_else(|_| fs::copy(&path, &to).map(drop))
                .expect("a copy");
        }
        change(self.dir.path());
        let script = CLIENT
            .replace("SERVER", &self.address.to_string())
            .replace("PACKAGES", packages);
        suite.run(&[(&fleet.dir.join("dist/packages"), "/packages")], &script)
    }
}

/// Puts another file in the place of the one whose byte `at(content)` is changed.
fn change(path: &Path, at: impl FnOnce(&[u8]) -> usize) {
    let mut bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let at = at(&bytes);
    bytes[at] ^= 1;
    fs::remove_file(path).expect("a link can be removed");
    fs::write(path, bytes).expect("a file can be written");
}

fn find(bytes: &[u8], text: &str) -> usize {
    bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap_or_else(|| panic!("no {text:?}"))
}

fn matching(root: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = files(root);
    found.retain(|path| wanted(&path.to_string_lossy()));
    assert!(!found.is_empty(), "nothing to change");
    found
}

/// apt has to fail, and for that reason.
fn refused((success, said): (bool, String), what: &str, words: &[&str]) {
    assert!(!success, "{what}: apt accepted it\n{said}");
    assert!(
        words.iter().any(|w| said.contains(w)),
        "{what}: apt refused it for another reason\n{said}"
    );
}

const SIGNATURE: [&str; 3] = ["is not signed", "invalid", "NODATA"];

#[test]
#[ignore = "needs root: runs apt in root trees; downloads the mirror once"]
fn apt_accepts_the_repository_and_refuses_one_changed_byte() {
    for name in SUITES {
        let suite = Suite::tools(name);
        let server = Server::start();
        let fleet = example(&format!("apt-{name}"), name);
        fleet.run(&["mirror"]);
        fleet.run(&["publish"]);
        let base = "acme-base";

        let (success, said) = server.judge(&suite, &fleet, base, |_| {});
        assert!(success, "{name}: {said}");
        for package in ["acme-base_", "acme-facts_", "rolesmith-agent_", "chrony_"] {
            assert!(
                said.lines().any(|l| l.starts_with(package)),
                "{name}: no {package}\n{said}"
            );
        }

        let run = |change: &dyn Fn(&Path)| server.judge(&suite, &fleet, base, change);
        let release = |root: &Path| root.join(format!("dists/{name}/InRelease"));
        refused(
            run(&|root| change(&release(root), |bytes| find(bytes, "Label: ") + 7)),
            "InRelease, its signed text",
            &SIGNATURE,
        );
        refused(
            run(&|root| {
                change(&release(root), |bytes| {
                    find(bytes, "SIGNATURE-----\n\n") + 60
                })
            }),
            "InRelease, its signature",
            &SIGNATURE,
        );
        refused(
            run(&|root| {
                let index = |path: &str| {
                    path.contains("/main/binary-amd64/") && !path.ends_with("/Release")
                };
                for path in matching(&root.join("dists"), index) {
                    change(&path, |bytes| bytes.len() / 2);
                }
            }),
            "the index of packages",
            &["Hash Sum mismatch"],
        );
        refused(
            run(&|root| {
                for path in matching(&root.join("pool"), |path| path.contains("/acme-base_")) {
                    change(&path, |bytes| bytes.len() / 2);
                }
            }),
            "a package",
            &["Hash Sum mismatch"],
        );
        refused(
            run(&|root| {
                for path in matching(&root.join("pool"), |path| path.contains("/chrony_")) {
                    change(&path, |bytes| bytes.len() / 2);
                }
            }),
            "a package of Debian's",
            &["Hash Sum mismatch"],
        );
    }
}

#[test]
#[ignore = "needs root: runs apt in root trees"]
fn apt_refuses_what_is_over_not_yet_or_signed_by_another_key() {
    const DAY: u64 = 86_400;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970")
        .as_secs();
    for name in SUITES {
        let suite = Suite::tools(name);
        let server = Server::start();
        // Keys that were made three days ago, so that a release can be two days old.
        let fleet = example_at(&format!("apt-time-{name}"), name, now - 3 * DAY);
        edit(
            &fleet,
            "upstream = \"mirror\"",
            "upstream = \"debian\"\nvalid_days = 1",
        );
        let publish = |epoch: u64| at(&fleet, epoch, &["publish"]);
        let facts = "acme-facts acme-archive-keyring";

        publish(now - 2 * DAY);
        refused(
            server.judge(&suite, &fleet, facts, |_| {}),
            "a release whose Valid-Until is over",
            &["is expired"],
        );
        publish(now);
        let (success, said) = server.judge(&suite, &fleet, facts, |_| {});
        assert!(success && said.contains("acme-facts_"), "{name}: {said}");
        publish(now + DAY / 2);
        refused(
            server.judge(&suite, &fleet, facts, |_| {}),
            "a release of the future",
            &["is not valid yet", "Not live until", "made in the future"],
        );

        let other = example_without_mirror(&format!("apt-other-{name}"), name);
        other.run(&["publish"]);
        refused(
            server.judge(&suite, &fleet, facts, |root| {
                let path = root.join(format!("dists/{name}"));
                fs::remove_dir_all(&path).expect("a copy can be removed");
                let theirs = other.dir.join("dist/repo");
                for from in files(&theirs) {
                    let to = root.join(from.strip_prefix(&theirs).expect("below the root"));
                    fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
                    fs::remove_file(&to).ok();
                    fs::copy(&from, &to).expect("a copy");
                }
            }),
            "a repository of the same name with another key",
            &["NO_PUBKEY", "Missing key", "is not signed"],
        );
    }
}

/// The example fleet with keys made at `epoch`.
fn example_at(name: &str, suite: &str, epoch: u64) -> Fleet {
    let fleet = crate::empty(name);
    at(&fleet, epoch, &["init", "--example", "--suite", suite]);
    fleet
}

/// Runs the program as if it were another time.
fn at(fleet: &Fleet, epoch: u64, arguments: &[&str]) {
    let output = fleet
        .command(arguments)
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rolesmith {arguments:?}: {said}");
}
