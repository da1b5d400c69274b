//! Fleets to boot, and the search for what they leave behind.

mod repository;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rolesmith_lab::{
    LabReport, LabSpec, Network, NodeSpec, Phase, Progress, Purpose, Repository, TreeSpec, down,
};

/// Progress to standard error, which the test harness shows when a test fails.
pub(crate) struct Words;

impl Progress for Words {
    fn step(&self, node: Option<&str>, text: &str) {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "{:>8}  {text}", node.unwrap_or("lab"));
    }
}

/// Where the seconds went, for `--nocapture`.
pub(crate) fn tell_times(report: &LabReport) {
    let line = |phases: &[Phase]| {
        let parts = phases
            .iter()
            .map(|phase| format!("{} {:.1}", phase.name, phase.seconds));
        parts.collect::<Vec<_>>().join(", ")
    };
    Words.step(None, &line(&report.phases));
    for node in &report.nodes {
        Words.step(Some(&node.name), &line(&node.phases));
    }
}

/// First three parts of a network of the lab with this number. Labs have namespaces of their own; different numbers only make
/// failures easier to read.
pub(crate) fn prefix(number: u8, kind: u8) -> String {
    format!("10.{kind}{number}.0")
}

/// A fleet in a temporary directory; ended when dropped.
pub(crate) struct Fleet {
    suite: String,
    names: Vec<String>,
    number: u8,
    directory: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Fleet {
    pub(crate) fn new(suite: &str, names: &[&str], number: u8) -> Fleet {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = temporary.path().to_owned();
        fs::create_dir(directory.join("repo")).expect("made");
        fs::write(directory.join("repo/hello"), "served").expect("written");
        repository::make(&directory.join("repo"));
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Fleet {
            suite: suite.to_owned(),
            names,
            number,
            directory,
            _temporary: Some(temporary),
        }
    }

    /// The fleet that the environment describes, for a process that is to be killed.
    pub(crate) fn from_environment() -> Option<Fleet> {
        let value = env::var("LAB_TEST_FLEET").ok()?;
        let [suite, name, number, directory] = value.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let number = number.parse().expect("a number");
        Some(Fleet {
            suite: suite.to_owned(),
            names: vec![name.to_owned()],
            number,
            directory: directory.into(),
            _temporary: None,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn node(&self, name: &str, host: u8) -> NodeSpec {
        NodeSpec {
            name: name.to_owned(),
            address: format!("{}.{host}", prefix(self.number, 7))
                .parse()
                .expect("an address"),
            roles: vec!["test".to_owned()],
            user_data: "#cloud-config\n\
                        write_files:\n\
                        \x20 - path: /etc/written\n\
                        \x20   content: |\n\
                        \x20     written\n\
                        bootcmd:\n\
                        \x20 - echo 'deb [trusted=yes] http://packages.test:8080/ ./' > /etc/apt/sources.list.d/test.list\n\
                        package_update: true\n\
                        packages: [lab-test-package]\n\
                        runcmd:\n\
                        \x20 - [sh, -c, 'echo ran by $(id -un) > /run/ran']\n"
                .to_owned(),
            meta_data: format!("instance-id: {name}-1\nlocal-hostname: {name}\n"),
            memory_limit: Some(1 << 30),
            baked: None,
        }
    }

    pub(crate) fn spec(&self) -> LabSpec {
        LabSpec {
            name: format!("test{}", self.number),
            tree: TreeSpec {
                purpose: Purpose::Node,
                suite: self.suite.clone(),
                cache_dir: cache(),
                key_extra: None,
                sources: None,
            },
            network: Network {
                private_prefix: format!("{}.0/24", prefix(self.number, 7))
                    .parse()
                    .expect("a prefix"),
                public_prefix: format!("{}.0/24", prefix(self.number, 8))
                    .parse()
                    .expect("a prefix"),
                private_interface: "eth1".to_owned(),
                public_interface: "eth0".to_owned(),
            },
            nodes: self
                .names
                .iter()
                .enumerate()
                .map(|(at, name)| self.node(name, 11 + at as u8))
                .collect(),
            outside: None,
            repository: Some(Repository {
                dir: self.directory.join("repo"),
                host: "packages.test".to_owned(),
                port: 8080,
                server: vec![example("serve").into()],
            }),
            hosts: vec![],
            state_dir: self.directory.join("lab"),
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self._temporary.is_some() {
            // Only a failed test has something left here, and it has said why.
            let _ = down(&self.directory.join("lab"), &Words);
        }
    }
}

/// Root trees are kept between runs of the tests, beside the build's own files.
fn cache() -> PathBuf {
    env::var_os("LAB_TEST_CACHE").map_or_else(|| target().join("lab-test-cache"), PathBuf::from)
}

fn target() -> PathBuf {
    let test = env::current_exe().expect("a path");
    test.ancestors()
        .nth(2)
        .expect("target/PROFILE/deps/TEST")
        .to_owned()
}

fn example(name: &str) -> PathBuf {
    target().join("examples").join(name)
}

/// This test program again, bringing the fleet up.
pub(crate) fn up_in_a_child(fleet: &Fleet, cache_dir: &Path) -> Child {
    let spec = fleet.spec();
    let value = format!(
        "{} {} {} {}",
        fleet.suite,
        spec.nodes[0].name,
        fleet.number,
        fleet.directory.display()
    );
    Command::new(env::current_exe().expect("a path"))
        .args(["--exact", "helper", "--ignored"])
        .env("LAB_TEST_FLEET", value)
        .env("LAB_TEST_DO", "up")
        .env("LAB_TEST_CACHE", cache_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

/// Lets a process run for so long, or until it ends.
pub(crate) fn let_it_run(child: &mut Child, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end && child.try_wait().expect("a child").is_none() {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is true, which it has to become within two minutes.
pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !is_true() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Kills a process that is no child of this one, and waits until it has ended.
pub(crate) fn kill(pid: u32) {
    let status = Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success());
    let stat = format!("/proc/{pid}");
    wait_until("the killed process ends", || !Path::new(&stat).exists());
}

impl Fleet {
    /// Everything of this fleet that is on the machine at this moment; other labs may come and go meanwhile.
    pub(crate) fn traces(&self) -> Vec<String> {
        let id = format!("lab-test{}-", self.number);
        let own = self.directory.to_string_lossy().into_owned();
        let mut found = Vec::new();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc is there");
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&own) || line.contains(&id))
                .map(|line| format!("mount {line}")),
        );
        let mut list = |directory: &str, wanted: &dyn Fn(&str) -> bool| {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if wanted(&entry.file_name().to_string_lossy()) {
                    found.push(entry.path().display().to_string());
                }
            }
        };
        for directory in ["/run", "/run/netns", "/sys/fs/cgroup"] {
            list(directory, &|name| {
                name.trim_start_matches("rolesmith-").starts_with(&id)
            });
        }
        for hierarchy in ["unified", "systemd", "memory"] {
            list(&format!("/sys/fs/cgroup/{hierarchy}"), &|name| {
                name.starts_with(&id)
            });
        }
        for kept in ["propagate", "unix-export"] {
            list(&format!("/run/systemd/nspawn/{kept}"), &|name| {
                self.names.iter().any(|node| node == name)
            });
        }
        list("/sys/class/net", &|name| {
            name.starts_with("priv") || name.starts_with("pub")
        });
        for entry in fs::read_dir("/proc").expect("proc is there").flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&own) {
                found.push(format!("process {} {line}", entry.file_name().display()));
            }
        }
        found
    }
}
