//! After `lab down`: nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rolesmith_tests::Fleet;
use serde_json::Value;

/// Where a lab shows on this machine.
#[derive(Debug)]
pub struct Traces {
    /// The name of its namespace and of its control group.
    id: String,
    namespace: PathBuf,
    directory: PathBuf,
}

impl Traces {
    /// Those of a lab that runs; all of them are there.
    pub fn of(fleet: &Fleet, name: &str) -> Self {
        let output = fleet.run(&["lab", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).expect("status is JSON");
        let namespace = PathBuf::from(status["namespace"].as_str().expect("a path"));
        let id = namespace
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let traces = Self {
            id,
            namespace,
            directory: fleet.lab_state(name),
        };
        assert!(traces.namespace.exists() && traces.directory.exists());
        assert!(
            !traces.processes().is_empty()
                && !traces.groups().is_empty()
                && !traces.mounts().is_empty(),
            "{traces:?}"
        );
        traces
    }

    /// Nothing of it is there.
    pub fn assert_gone(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(self.mounts(), Vec::<String>::new());
        assert_eq!(self.groups(), Vec::<PathBuf>::new());
        for path in [
            &self.namespace,
            &self.directory,
            &PathBuf::from(format!("/run/rolesmith-{}", self.id)),
        ] {
            assert!(!path.exists(), "{} is still there", path.display());
        }
    }

    /// Processes in the lab's control group.
    fn processes(&self) -> Vec<String> {
        of_processes("cgroup", &format!("/{}", self.id))
    }

    /// Mounts below the lab's directory, in any process's mount namespace.
    fn mounts(&self) -> Vec<String> {
        of_processes("mountinfo", &format!("{}/", self.directory.display()))
    }

    fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        directories(Path::new("/sys/fs/cgroup"), &self.id, 4, &mut found);
        found
    }
}

/// Lines of /proc/*/FILE with this text.
fn of_processes(file: &str, text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc")
        .expect("/proc is mounted")
        .filter_map(Result::ok);
    let lines = |entry: fs::DirEntry| -> Vec<String> {
        // A process may end at any time, and one that has ended is there until its parent has asked.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
        {
            return Vec::new();
        }
        let content = fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        content
            .lines()
            .filter(|line| line.contains(text))
            .map(|line| format!("{}: {line}", entry.path().display()))
            .collect()
    };
    processes
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .flat_map(lines)
        .collect()
}

fn directories(below: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(name) {
            found.push(entry.path());
        } else if depth > 0 {
            directories(&entry.path(), name, depth - 1, found);
        }
    }
}
