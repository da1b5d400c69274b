//! What a fleet publishes, judged by the tools of both suites: lintian and shellcheck, dpkg, debsig-verify, apt. And the same
//! bytes come out whoever builds, wherever.
#![allow(clippy::print_stdout, reason = "what was measured is told")]

mod client;
mod installed;
mod quality;
mod reproducible;
mod scripts;
mod signatures;
mod suite;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rolesmith_tests::{Fleet, checkout, work_dir};

/// Both suites, and what is asked of one is asked of the other.
const SUITES: [&str; 2] = ["trixie", "bookworm"];

/// The example fleet in a directory of its own, not yet built.
fn example(name: &str, suite: &str) -> Fleet {
    let fleet = empty(name);
    fleet.run(&["init", "--example", "--suite", suite]);
    fleet
}

/// As [`example`], with Debian's packages left to Debian, so that nothing is downloaded.
fn example_without_mirror(name: &str, suite: &str) -> Fleet {
    let fleet = example(name, suite);
    edit(&fleet, "upstream = \"mirror\"", "upstream = \"debian\"");
    fleet
}

fn empty(name: &str) -> Fleet {
    let fleet = Fleet {
        dir: work_dir().join("fleets").join(name),
    };
    if fleet.dir.exists() {
        fs::remove_dir_all(&fleet.dir).expect("an old fleet can be removed");
    }
    fs::create_dir_all(&fleet.dir).expect("a directory can be made");
    fleet
}

/// Every built-in role, that which a fleet has by itself included.
fn add_mail(fleet: &Fleet) {
    edit(
        fleet,
        "[nodes.app-1]",
        "[mail]\nsmarthost = \"smtp.example.net\"\nuser = \"acme\"\nto = \"ops@example.com\"\nfrom_domain = \"example.com\"\n\n[nodes.app-1]",
    );
    fleet.set_secret("mail-password", "not-for-everybody");
}

/// Changes fleet.toml; what is to be replaced has to be there.
fn edit(fleet: &Fleet, from: &str, to: &str) {
    let path = fleet.dir.join("fleet.toml");
    let text = fs::read_to_string(&path).expect("fleet.toml can be read");
    assert!(text.contains(from), "fleet.toml has no {from:?}");
    fs::write(path, text.replace(from, to)).expect("fleet.toml can be written");
}

/// The fleet's packages after a build, sorted.
fn packages(fleet: &Fleet) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = files(&fleet.dir.join("dist/packages"));
    all.retain(|path| path.extension().is_some_and(|e| e == "deb"));
    assert!(!all.is_empty(), "nothing was built");
    all
}

/// Every regular file below a directory, sorted.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let entry = entry.expect("a directory can be read");
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// A package that `make deb` made.
fn own_package(prefix: &str) -> PathBuf {
    files(&checkout().join("target/debian"))
        .into_iter()
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(prefix) && name.ends_with(".deb")
        })
        .unwrap_or_else(|| panic!("no package {prefix}* in target/debian: run `make deb` first"))
}

/// Members of an ar archive (deb(5)): name and the range of its content.
fn members(deb: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    const HEADER: usize = 60;
    let mut found = Vec::new();
    let mut at = b"!<arch>\n".len();
    while at + HEADER <= deb.len() {
        let field = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&deb[at..][range])
                .trim_end()
                .to_owned()
        };
        let size: usize = field(48..58).parse().expect("a member has a size");
        let from = at + HEADER;
        found.push((
            field(0..16).trim_end_matches('/').to_owned(),
            from..from + size,
        ));
        at = from + size + size % 2;
    }
    found
}
