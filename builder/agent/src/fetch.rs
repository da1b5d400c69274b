//! New facts from the fleet's repository, by apt: in a unit of its own, with lists and a cache of its own, so that nobody
//! else's apt is disturbed. Only installing waits for dpkg's lock, and only when there is something to install.

use std::fs;
use std::io;
use std::time::Duration;

use rolesmith_model::ids::FleetName;

use crate::files::{self, DAEMON_DIR, Root, Seen};
use crate::observe;
use crate::program::{Call, ProgramError, Programs};

/// The file by which the daemon asks for it.
pub const WANTED: &str = "facts-wanted";
/// Lists and packages of the fleet's repository alone.
pub const APT_DIR: &str = "/var/lib/rolesmith/apt";
/// Wakes the other half of the agent.
const POKE: &str = "/run/rolesmith/poke";

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// There is nothing to fetch here, and why.
    Nothing(&'static str),
    /// The newest facts are installed already.
    UpToDate,
    /// Newer ones were installed.
    Installed,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// apt.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// Fetches and installs the newest facts.
///
/// # Errors
/// [`FetchError`]; it will be asked for again.
pub fn fetch(root: &Root, programs: &impl Programs) -> Result<Fetched, FetchError> {
    let at = |path: &str| {
        let path = path.to_owned();
        move |error| FetchError::Io(path, error)
    };
    let wanted = root.join(DAEMON_DIR).join(WANTED);
    // First: what is asked for from now on is asked for again.
    match fs::remove_file(&wanted) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FetchError::Io(wanted.display().to_string(), error));
        }
        _ => {}
    }
    let Seen::Is(identity) = observe::identity(root) else {
        return Ok(Fetched::Nothing("this machine is not enrolled"));
    };
    // It becomes part of names and paths.
    let Ok(fleet) = FleetName::new(identity.fleet) else {
        return Ok(Fetched::Nothing("this machine belongs to no fleet"));
    };
    let sources = sources(fleet.as_str());
    if !root.join(&sources).is_file() {
        return Ok(Fetched::Nothing("apt does not know the fleet's repository"));
    }
    let package = format!("{fleet}-facts");
    let status = Call::new(["dpkg-query", "--show", "--showformat=${db:Status-Status}"]);
    match programs.run(&status.args([package.as_str()]))? {
        ended if ended.stdout == "installed" => {}
        _ => return Ok(Fetched::Nothing("the facts package is not installed yet")),
    }
    for dir in ["lists/partial", "cache/archives/partial"] {
        let path = root.join(APT_DIR).join(dir);
        fs::create_dir_all(&path).map_err(at(&path.display().to_string()))?;
    }
    programs.output(&apt(
        root,
        &sources,
        &["--quiet", "update"],
        Duration::from_secs(120),
    ))?;
    let install = [
        "--quiet",
        "--yes",
        "--no-remove",
        "--only-upgrade",
        "install",
    ];
    let words: Vec<&str> = install.into_iter().chain([package.as_str()]).collect();
    // Without dpkg's lock: most of the time there is nothing new about the facts.
    let simulated: Vec<&str> = ["--simulate"].into_iter().chain(words.clone()).collect();
    let plan = programs.output(&apt(root, &sources, &simulated, Duration::from_secs(60)))?;
    let begin = format!("Inst {package} ");
    if !plan.lines().any(|line| line.starts_with(&begin)) {
        return Ok(Fetched::UpToDate);
    }
    programs.output(&apt(root, &sources, &words, Duration::from_secs(900)))?;
    let poke = root.join(POKE);
    files::write(&poke, b"", files::Access::PUBLIC).map_err(at(POKE))?;
    Ok(Fetched::Installed)
}

/// The fleet's sources on a node: what its keyring package ships.
#[must_use]
pub fn sources(fleet: &str) -> String {
    format!("/etc/apt/sources.list.d/{fleet}.sources")
}

/// apt-get that knows the fleet's repository alone and asks nobody anything.
fn apt(root: &Root, sources: &str, words: &[&str], limit: Duration) -> Call {
    let dir = root.join(APT_DIR);
    let options = [
        format!("Dir::Etc::sourcelist={}", root.join(sources).display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", dir.join("lists").display()),
        format!("Dir::Cache={}", dir.join("cache").display()),
        "DPkg::Lock::Timeout=300".to_owned(),
        "Dpkg::Options::=--force-confdef".to_owned(),
        "Dpkg::Options::=--force-confold".to_owned(),
        "APT::Install-Recommends=false".to_owned(),
        // An index that could not be fetched is an error here.
        "APT::Update::Error-Mode=any".to_owned(),
        // Nothing of another repository may come with it.
        "Acquire::Languages=none".to_owned(),
    ];
    let mut call = Call::new(["apt-get"]).limit(limit);
    for option in &options {
        call = call.args(["-o", option]);
    }
    let mut call = call.args(words.iter().copied());
    call.env = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("NEEDRESTART_MODE", "l"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    call
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Ended;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Script {
        calls: RefCell<Vec<String>>,
        status: &'static str,
        plan: &'static str,
    }

    impl Programs for Script {
        fn run(&self, call: &Call) -> Result<Ended, ProgramError> {
            let words = call.argv.join(" ");
            let stdout = if words.contains("dpkg-query") {
                self.status
            } else if words.contains("--simulate") {
                self.plan
            } else {
                ""
            };
            self.calls.borrow_mut().push(words);
            Ok(Ended {
                code: Some(0),
                stdout: stdout.to_owned(),
                stderr: String::new(),
            })
        }
    }

    fn machine() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let write = |path: &str, text: &str| {
            files::write(&root.join(path), text.as_bytes(), files::Access::PUBLIC).unwrap();
        };
        write(
            "/etc/rolesmith/node.json",
            r#"{"fleet":"acme","node":"n1","incarnation":1,"origin":"seed"}"#,
        );
        write(&sources("acme"), "Types: deb\n");
        write("/run/rolesmith-agent/facts-wanted", "");
        (dir, root)
    }

    #[test]
    fn newer_facts_are_installed_and_the_agent_is_woken() {
        let (_dir, root) = machine();
        let script = Script {
            status: "installed",
            plan: "Inst acme-facts [4] (5 Acme:1 [all])\nConf acme-facts (5 Acme:1 [all])\n",
            ..Script::default()
        };
        assert_eq!(fetch(&root, &script).unwrap(), Fetched::Installed);
        assert!(root.join(POKE).is_file());
        assert!(!root.join("/run/rolesmith-agent/facts-wanted").exists());
        let calls = script.calls.borrow();
        assert_eq!(calls.len(), 4, "{calls:?}");
        assert!(calls[1].ends_with("--quiet update") && calls[3].ends_with("install acme-facts"));
        assert!(
            calls[1..]
                .iter()
                .all(|call| call.contains("Dir::Etc::sourceparts=-")
                    && call.contains("/etc/apt/sources.list.d/acme.sources")
                    && !call.contains("--allow-downgrades"))
        );
    }

    #[test]
    fn without_news_nothing_is_installed() {
        let (_dir, root) = machine();
        let script = Script {
            status: "installed",
            plan: "Inst acme-facts-other [1] (2 Acme:1 [all])\n",
            ..Script::default()
        };
        assert_eq!(fetch(&root, &script).unwrap(), Fetched::UpToDate);
        assert!(!root.join(POKE).exists());
        assert_eq!(script.calls.borrow().len(), 3);
    }

    #[test]
    fn a_machine_without_facts_is_left_alone() {
        let (_dir, root) = machine();
        let script = Script {
            status: "half-configured",
            ..Script::default()
        };
        assert!(matches!(
            fetch(&root, &script).unwrap(),
            Fetched::Nothing(_)
        ));
        fs::remove_file(root.join("/etc/rolesmith/node.json")).unwrap();
        assert!(matches!(
            fetch(&root, &script).unwrap(),
            Fetched::Nothing(_)
        ));
        assert_eq!(script.calls.borrow().len(), 1, "apt was not asked");
    }
}
