//! A build that is killed.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rolesmith_host::services::{Registry, ServiceBuild, build};
use rolesmith_model::ids::Suite;

use crate::fixtures::{NPM_LOCK, PACKAGE};
use crate::support::{Place, paths};

/// Where the child builds; only set by the test that starts it.
const SOURCE: &str = "ROLESMITH_TEST_SERVICES_SOURCE";
const CACHE: &str = "ROLESMITH_TEST_SERVICES_CACHE";

/// Programs whose arguments name this directory.
fn programs_of(directory: &Path) -> Vec<String> {
    let needle = directory.as_os_str().as_encoded_bytes();
    let arguments = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let named = line.windows(needle.len()).any(|window| window == needle);
        named.then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(arguments)
        .collect()
}

#[test]
#[ignore = "needs a Debian mirror and the npm registry; `make test-services` runs it"]
fn a_killed_build_leaves_no_program_and_nothing_half() {
    let place = Place::with(&[("package.json", PACKAGE), ("package-lock.json", NPM_LOCK)]);
    // The tree is there, so that the child is killed while npm runs.
    Place::with(&[("package.json", PACKAGE), ("package-lock.json", NPM_LOCK)])
        .build(Suite::Trixie)
        .unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "interrupted::child_builds",
            "--ignored",
            "--nocapture",
        ])
        .env(SOURCE, &place.source)
        .env(CACHE, &place.cache)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines
        .find(|line| {
            line.as_ref()
                .is_ok_and(|line| line.contains("installing dependencies"))
        })
        .unwrap()
        .unwrap();
    // npm is there, and works.
    while programs_of(&place.cache).is_empty() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child ended by itself"
        );
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel ends the sandbox with the program that made it, and everything in it with its first process.
    while !programs_of(&place.cache).is_empty() {
        std::thread::yield_now();
    }
    let services = place.cache.join("services");
    assert_eq!(fs::read_dir(services.join("installs")).unwrap().count(), 0);
    let left = || {
        let names = fs::read_dir(&services)
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name());
        names
            .filter(|name| rolesmith_host::atomic::is_temp(name))
            .count()
    };
    assert_eq!(left(), 1, "the directory that it worked in");
    let tree = place.build(Suite::Trixie).unwrap();
    assert!(paths(&tree).contains(&"node_modules/ms/index.js"));
    assert_eq!(left(), 0);
}

#[test]
#[ignore = "run by a_killed_build_leaves_no_program_and_nothing_half, which kills it"]
fn child_builds() {
    let path = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
    let (source, cache) = (path(SOURCE), path(CACHE));
    let registry = Registry::from_environment(std::env::vars_os()).unwrap();
    let request = ServiceBuild {
        name: "web",
        source: &source,
        suite: Suite::Trixie,
        cache: &cache,
        registry: &registry,
        native: false,
    };
    let say = |text: &str| {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{text}")
            .and_then(|()| stdout.flush())
            .unwrap();
    };
    build(&request, &say).unwrap();
}
