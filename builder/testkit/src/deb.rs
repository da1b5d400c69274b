//! Looking into Debian packages with Debian's own tool, which shares no code with the one that made them.

use std::{collections::BTreeMap, path::Path, process::Command};

fn dpkg_deb(arguments: &[&str], package: &Path) -> String {
    let output = Command::new("dpkg-deb")
        .env("LC_ALL", "C.UTF-8")
        .args(&arguments[..1])
        .arg(package)
        .args(&arguments[1..])
        .output()
        .expect("dpkg-deb can be started");
    assert!(
        output.status.success(),
        "dpkg-deb {arguments:?} {}: {}",
        package.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("dpkg-deb writes UTF-8")
}

/// A field of the control file; empty where the package does not have it.
///
/// # Panics
/// dpkg-deb refuses the package.
#[must_use]
pub fn field(package: &Path, name: &str) -> String {
    dpkg_deb(&["--field", name], package).trim().to_owned()
}

/// What the package ships: `drwxr-xr-x root/root` (permissions, owner/group) by path, as tar lists it. Paths begin
/// with `./`; a link's path is followed by its target.
///
/// # Panics
/// dpkg-deb refuses the package.
#[must_use]
pub fn contents(package: &Path) -> BTreeMap<String, String> {
    dpkg_deb(&["--contents"], package)
        .lines()
        .filter_map(|line| {
            // drwxr-xr-x root/root         0 2026-01-01 00:00 ./etc/
            let mut words = line.split_whitespace();
            let (mode, owner) = (words.next()?, words.next()?);
            let path: Vec<&str> = words.skip(3).collect();
            Some((path.join(" "), format!("{mode} {owner}")))
        })
        .collect()
}

/// The text of a file that the package ships; `path` begins with `./`.
///
/// # Panics
/// The package has no such file, or it is not UTF-8.
#[must_use]
pub fn file(package: &Path, path: &str) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = directory.path().join("data.tar");
    let output = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .output()
        .expect("dpkg-deb can be started");
    assert!(
        output.status.success(),
        "dpkg-deb refuses {}",
        package.display()
    );
    std::fs::write(&archive, output.stdout).expect("the temporary directory can be written");
    let output = Command::new("tar")
        .args(["--extract", "--to-stdout", "--file"])
        .arg(&archive)
        .arg(path)
        .output()
        .expect("tar can be started");
    assert!(
        output.status.success(),
        "{} has no {path}: {}",
        package.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the file is text")
}
