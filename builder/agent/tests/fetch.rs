//! What the agent tells apt, judged by apt: it sees the fleet's repository alone, and what is newer there.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Command;

use rolesmith_agent::fetch::{Fetched, fetch, sources};
use rolesmith_agent::files::Root;
use rolesmith_agent::program::{Call, Ended, Machine, ProgramError, Programs};

/// Real apt with a system of its own; what would install is recorded instead.
struct PrivateSystem<'a> {
    dir: &'a Path,
    installs: RefCell<Vec<Call>>,
}

impl Programs for PrivateSystem<'_> {
    fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
        let good = |stdout: &str| {
            Ok(Ended {
                code: Some(0),
                stdout: stdout.to_owned(),
                stderr: String::new(),
            })
        };
        let mut call = call.clone();
        if call.name() == "dpkg-query" {
            return good("installed");
        }
        let simulated = call.argv.iter().any(|word| word == "--simulate");
        if call.argv.iter().any(|word| word == "install") && !simulated {
            self.installs.borrow_mut().push(call);
            return good("");
        }
        let path = |name: &str| self.dir.join(name).display().to_string();
        // First, so that what the agent says itself wins.
        let options = [
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Etc={}", path("etc/apt")),
            "Acquire::Check-Valid-Until=true".to_owned(),
            "Acquire::Check-Date=true".to_owned(),
            "APT::Architecture=amd64".to_owned(),
        ];
        for option in options.into_iter().rev() {
            call.argv.splice(1..1, ["-o".to_owned(), option]);
        }
        call.env.push(("APT_CONFIG".to_owned(), path("none")));
        Machine.run(&call)
    }
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {error}");
    output.stdout
}

/// Puts acme-facts of that version, and another package, into a repository.
fn publish(repository: &Path, version: u64) {
    let pool = repository.join("dists/trixie/main/binary-amd64");
    fs::create_dir_all(&pool).unwrap();
    for package in ["acme-facts", "acme-other"] {
        let tree = repository.join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: x\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let tree = tree.display().to_string();
        run(
            repository,
            "dpkg-deb",
            &["--root-owner-group", "--build", &tree, "."],
        );
        fs::remove_dir_all(&tree).unwrap();
    }
    fs::write(
        pool.join("Packages"),
        run(repository, "apt-ftparchive", &["packages", "."]),
    )
    .unwrap();
    let suite = repository.join("dists/trixie");
    let _ = fs::remove_file(suite.join("Release"));
    let options = [
        "-o",
        "APT::FTPArchive::Release::Suite=trixie",
        "-o",
        "APT::FTPArchive::Release::Codename=trixie",
        "release",
        ".",
    ];
    let release = run(&suite, "apt-ftparchive", &options);
    fs::write(suite.join("Release"), release).unwrap();
}

#[test]
fn apt_takes_newer_facts_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let repository = dir.join("repository");
    publish(&repository, 2);
    fs::create_dir_all(dir.join("etc/rolesmith")).unwrap();
    fs::create_dir_all(dir.join("etc/apt/sources.list.d")).unwrap();
    fs::write(
        dir.join("etc/rolesmith/node.json"),
        r#"{"fleet":"acme","node":"n1","incarnation":1,"origin":"seed"}"#,
    )
    .unwrap();
    let root = Root::at(dir);
    // Another source that would make any update fail: it must not be looked at.
    fs::write(
        dir.join("etc/apt/sources.list.d/other.sources"),
        "Types: deb\nURIs: file:/does/not/exist\nSuites: trixie\nComponents: main\nTrusted: yes\n",
    )
    .unwrap();
    fs::write(
        root.join(sources("acme")),
        format!(
            "Types: deb\nURIs: file:{}\nSuites: trixie\nComponents: main\nArchitectures: amd64\nTrusted: yes\n",
            repository.display()
        ),
    )
    .unwrap();
    let cases = [
        (1, 1, "newer"),
        (2, 0, "the same"),
        (3, 0, "older: a replayed repository"),
    ];
    for (installed, wanted, what) in cases {
        let status: String = ["acme-facts", "acme-other"]
            .map(|package| {
                format!(
                    "Package: {package}\nStatus: install ok installed\nVersion: {installed}\nArchitecture: all\n\
                     Maintainer: A <a@example.com>\nDescription: x\n\n"
                )
            })
            .concat();
        fs::write(dir.join("status"), status).unwrap();
        let system = PrivateSystem {
            dir,
            installs: RefCell::default(),
        };
        let fetched = fetch(&root, &system).expect(what);
        let installs = system.installs.into_inner();
        assert_eq!(installs.len(), wanted, "{what}");
        assert_eq!(fetched == Fetched::Installed, wanted == 1, "{what}");
        for call in installs {
            let words = call.argv.join(" ");
            assert!(
                words.ends_with("--only-upgrade install acme-facts"),
                "{words}"
            );
        }
    }
}
