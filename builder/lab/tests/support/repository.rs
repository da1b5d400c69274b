//! A repository of one package, made with dpkg-deb. The lab serves bytes; signatures are the business of the nodes and of other tests.

use std::{fs, path::Path, process::Command};

use sha2::{Digest, Sha256};

const CONTROL: &str = "Package: lab-test-package\n\
                       Version: 1\n\
                       Architecture: all\n\
                       Maintainer: Nobody <nobody@example.org>\n\
                       Description: nothing, installed over the lab's network\n";

/// Fills an existing directory with a flat repository.
pub(crate) fn make(directory: &Path) {
    let tree = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(tree.path().join("DEBIAN")).expect("made");
    fs::create_dir_all(tree.path().join("usr/share/lab-test")).expect("made");
    fs::write(tree.path().join("DEBIAN/control"), CONTROL).expect("written");
    fs::write(
        tree.path().join("usr/share/lab-test/installed"),
        "installed\n",
    )
    .expect("written");
    let deb = directory.join("lab-test-package.deb");
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "--build"])
        .arg(tree.path())
        .arg(&deb);
    let output = build.output().expect("dpkg-deb runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes = fs::read(deb).expect("read");
    let digest = digest(&bytes);
    let packages = format!(
        "{CONTROL}Filename: ./lab-test-package.deb\nSize: {}\nSHA256: {digest}\n",
        bytes.len()
    );
    let release = format!(
        "Suite: test\nSHA256:\n {} {} Packages\n",
        self::digest(packages.as_bytes()),
        packages.len()
    );
    fs::write(directory.join("Packages"), packages).expect("written");
    fs::write(directory.join("Release"), release).expect("written");
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
