//! What apt must refuse, it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use rolesmith_formats::openpgp::Signer;
use rolesmith_host::publish::{Fault, Target, publish, verify};

use crate::apt::{Apt, Server};
use crate::support::*;

/// A repository with one package, and an apt that has not looked at it yet.
struct Setup {
    target: Target,
    server: Server,
    _directory: tempfile::TempDir,
}

impl Setup {
    fn new(date: u64) -> Self {
        let key = key(1);
        let directory = tempfile::tempdir().unwrap();
        let target = target(directory.path());
        publish(
            &target,
            &input(
                files([deb("tool", "1.0", "all")]),
                &[&key as &dyn Signer],
                date,
            ),
        )
        .unwrap();
        let server = Server::start(target.root.clone());
        Self {
            target,
            server,
            _directory: directory,
        }
    }

    fn apt(&self) -> Apt {
        Apt::new(&self.server.uri(), &[&key(1)])
    }

    /// The file and its other names, all of which apt may ask for.
    fn names(&self, path: &str) -> Vec<PathBuf> {
        let bytes = fs::read(self.target.root.join(path)).unwrap();
        let all = tree(&self.target.root)
            .into_iter()
            .map(|name| self.target.root.join(name));
        all.filter(|name| fs::read(name).unwrap() == bytes)
            .collect()
    }

    fn faults(&self) -> Vec<Fault> {
        verify(&self.target.root, "fleet").unwrap().faults
    }
}

/// Changes one byte in the middle.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_undamaged_repository_is_taken() {
    let setup = Setup::new(now());
    let apt = setup.apt();
    apt.update().unwrap();
    apt.download("tool").unwrap();
    assert_eq!(setup.faults(), []);
}

#[test]
fn a_changed_release_is_refused() {
    let setup = Setup::new(now());
    damage(&setup.target.root.join("dists/fleet/InRelease"));
    let said = setup.apt().update().unwrap_err();
    assert!(
        // gpgv's words and sqv's.
        ["BADSIG", "NODATA", "Clearsigned", "manipulated"]
            .iter()
            .any(|word| said.contains(word)),
        "{said}"
    );
}

#[test]
fn a_changed_index_is_refused() {
    let setup = Setup::new(now());
    for name in setup.names("dists/fleet/main/binary-amd64/Packages.gz") {
        // Hard links share their bytes: each gets its own before it is damaged once.
        let bytes = fs::read(&name).unwrap();
        fs::remove_file(&name).unwrap();
        fs::write(&name, bytes).unwrap();
        damage(&name);
    }
    let said = setup.apt().update().unwrap_err();
    assert!(said.contains("Hash Sum mismatch"), "{said}");
    assert!(!setup.faults().is_empty());
}

#[test]
fn a_changed_package_is_refused() {
    let setup = Setup::new(now());
    damage(&setup.target.root.join("pool/main/t/tool/tool_1.0_all.deb"));
    let apt = setup.apt();
    apt.update().unwrap();
    let said = apt.download("tool").unwrap_err();
    assert!(said.contains("Hash Sum mismatch"), "{said}");
    assert_eq!(
        setup.faults(),
        [Fault::WrongDigest(
            "pool/main/t/tool/tool_1.0_all.deb".to_owned()
        )]
    );
}

#[test]
fn an_expired_repository_is_refused() {
    // Valid for a day, published two days ago.
    let setup = Setup::new(now() - 2 * 86_400);
    let said = setup.apt().update().unwrap_err();
    assert!(
        said.contains("is expired") || said.contains("Release file for"),
        "{said}"
    );
}

#[test]
fn a_repository_of_the_future_is_refused() {
    let setup = Setup::new(now() + 3600);
    let said = setup.apt().update().unwrap_err();
    assert!(
        said.contains("not valid yet") || said.contains("Not live until"),
        "{said}"
    );
}

#[test]
fn another_key_is_refused() {
    let setup = Setup::new(now());
    let said = Apt::new(&setup.server.uri(), &[&key(2)])
        .update()
        .unwrap_err();
    assert!(
        said.contains("NO_PUBKEY") || said.contains("Missing key"),
        "{said}"
    );
}

#[test]
fn an_older_repository_does_not_replace_a_newer() {
    let start = now() - 1000;
    let setup = Setup::new(start);
    let kept = fs::read(setup.target.root.join("dists/fleet/InRelease")).unwrap();
    let key = key(1);
    publish(
        &setup.target,
        &input(
            files([deb("tool", "2.0", "all")]),
            &[&key as &dyn Signer],
            start + 100,
        ),
    )
    .unwrap();
    let apt = setup.apt();
    apt.update().unwrap();
    assert_eq!(apt.versions("tool"), ["2.0"]);
    fs::write(setup.target.root.join("dists/fleet/InRelease.new"), kept).unwrap();
    fs::rename(
        setup.target.root.join("dists/fleet/InRelease.new"),
        setup.target.root.join("dists/fleet/InRelease"),
    )
    .unwrap();
    let _ = apt.update();
    assert_eq!(apt.versions("tool"), ["2.0"]);
}
