//! How long publishing takes, next to apt-ftparchive over the same packages.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rolesmith_formats::openpgp::Signer;
use rolesmith_host::publish::{PoolFile, publish};

use crate::support::*;

#[test]
#[ignore = "a measurement; meaningful with --release and an idle machine"]
fn two_thousand_packages() {
    let key = key(1);
    let signers: [&dyn Signer; 1] = [&key];
    let directory = tempfile::tempdir().unwrap();
    let packages = directory.path().join("packages");
    fs::create_dir(&packages).unwrap();
    let mut paths = Vec::new();
    for number in 0..2_001 {
        let deb = deb(&format!("package-{number}"), "1.0", "all");
        let path = packages.join(deb.file_name());
        fs::write(&path, deb.bytes()).unwrap();
        paths.push(PoolFile::Path(path));
    }
    let target = target(directory.path());
    let mut epoch = 1_800_000_000;
    let mut run = |count: usize| {
        epoch += 1000;
        let started = Instant::now();
        let done = publish(&target, &input(paths[..count].to_vec(), &signers, epoch)).unwrap();
        (started.elapsed(), done.new_packages)
    };
    let (cold, added) = run(2_000);
    assert_eq!(added, 2_000);
    let mut adding: Vec<Duration> = (0..5)
        .map(|_| {
            let (one_more, added) = run(2_001);
            assert!(added <= 1);
            run(2_000);
            one_more
        })
        .collect();
    adding.sort();
    let started = Instant::now();
    let status = Command::new("apt-ftparchive")
        .arg("packages")
        .arg(&packages)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let theirs = started.elapsed();
    let line = format!(
        "2,000 packages: cold {cold:?}, one more {:?} (median), apt-ftparchive without signing and files {theirs:?}\n",
        adding[2]
    );
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    // Cold, half of the time goes into making 2,000 directories and files, which apt-ftparchive does not do.
    assert!(
        cold < Duration::from_secs(3),
        "cold publication took {cold:?}"
    );
    let limit = if cfg!(debug_assertions) {
        4 * theirs
    } else {
        theirs
    };
    assert!(adding[2] < limit, "{adding:?}");
}
