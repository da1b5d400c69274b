//! A node that has nothing of the fleet yet but apt's source: booted like every other, installed by hand.

use std::{
    io::Write as _,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Output, Stdio},
    time::Instant,
};

use rolesmith_lab::{
    Host, LabSpec, Network, NodeSpec, Purpose, Repository, Silent, TreeSpec, UpOptions,
};

use crate::{Fleet, checkout, seed::Seed, work_dir};

impl Fleet {
    /// The seed of a node, as the program prints it.
    ///
    /// # Panics
    /// Where the program fails.
    #[must_use]
    pub fn seed(&self, node: &str) -> Seed {
        let output = self.run(&["user-data", node]);
        Seed::parse(&String::from_utf8(output.stdout).expect("user-data is text"))
    }

    /// Where `rolesmith lab` keeps the lab of this fleet.
    ///
    /// # Panics
    /// Where the fleet's directory is gone.
    #[must_use]
    pub fn lab_state(&self, name: &str) -> PathBuf {
        let dir = self.dir.canonicalize().expect("the fleet's directory");
        rolesmith_lab::state_dir(&work_dir().join("lab"), name, &dir)
    }

    /// Boots one node of the fleet with the half of its seed that tells apt where to look.
    ///
    /// # Panics
    /// Where the node does not come up clean.
    pub fn boot_bare(&self, name: &str, suite: &str, node: &str, address: Ipv4Addr) {
        let user_data = self.seed(node).bare_user_data();
        self.boot_with(name, suite, node, address, user_data, Vec::new());
    }

    /// Boots one node of the fleet with its seed, in a lab where these names lead to these addresses.
    ///
    /// # Panics
    /// Where the node does not come up clean.
    pub fn boot(&self, name: &str, suite: &str, node: &str, address: Ipv4Addr, hosts: Vec<Host>) {
        let output = self.run(&["user-data", node]);
        let user_data = String::from_utf8(output.stdout).expect("user-data is text");
        self.boot_with(name, suite, node, address, user_data, hosts);
    }

    /// The lab is where `rolesmith lab` finds it, so that [`Fleet::shell`] and [`Fleet::lab_down`] work on it.
    fn boot_with(
        &self,
        name: &str,
        suite: &str,
        node: &str,
        address: Ipv4Addr,
        user_data: String,
        hosts: Vec<Host>,
    ) {
        let lab = work_dir().join("lab");
        let prefix = |text: &str| text.parse().expect("a prefix");
        let spec = LabSpec {
            name: name.into(),
            tree: TreeSpec {
                purpose: Purpose::Node,
                suite: suite.into(),
                cache_dir: lab.join("trees"),
                key_extra: None,
                sources: None,
            },
            network: Network {
                private_prefix: prefix("10.77.0.0/24"),
                public_prefix: prefix("203.0.113.0/24"),
                private_interface: "eth1".into(),
                public_interface: "eth0".into(),
            },
            nodes: vec![NodeSpec {
                name: node.into(),
                address,
                roles: Vec::new(),
                user_data,
                meta_data: format!("instance-id: {name}-{node}-bare\nlocal-hostname: {node}\n"),
                memory_limit: None,
                baked: None,
            }],
            outside: None,
            repository: Some(Repository {
                dir: self.dir.join("dist/repo"),
                host: format!("apt.{name}.internal"),
                port: 80,
                server: vec![
                    checkout().join("target/debug/rolesmith").into(),
                    "lab".into(),
                    "__serve".into(),
                ],
            }),
            hosts,
            state_dir: self.lab_state(name),
        };
        let report =
            rolesmith_lab::up(&spec, &UpOptions::default(), &Silent).expect("the lab comes up");
        assert!(report.is_clean(), "{report:#?}");
    }

    /// Runs a shell script in a node with these bytes as its standard input, so that secrets stand on no command line.
    ///
    /// # Panics
    /// Where it fails.
    pub fn feed(&self, node: &str, script: &str, input: &str) {
        let mut child = self
            .command(&["lab", "exec", node, "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        child
            .stdin
            .take()
            .expect("was asked for")
            .write_all(input.as_bytes())
            .expect("the script reads");
        let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
        assert!(
            status.success(),
            "on {node}: {script}: {}",
            String::from_utf8_lossy(&stderr)
        );
    }

    /// Writes the identity and the secrets, as enrolment does, and wakes the agent.
    ///
    /// # Panics
    /// Where a file cannot be written.
    pub fn give_identity(&self, node: &str) {
        let seed = self.seed(node);
        self.must(
            node,
            "install -d -m 0755 /etc/rolesmith; install -d -m 0700 /etc/rolesmith/secrets",
        );
        for file in seed.identity() {
            let script = format!(
                "umask 077; cat >{0}.new; chmod {1} {0}.new; mv {0}.new {0}",
                file.path, file.mode
            );
            self.feed(node, &script, &file.text);
        }
        self.must(node, "rolesmith-agent poke");
    }
}

/// Says something while a long test is at work.
pub fn say(text: impl std::fmt::Display) {
    // Whoever closed standard error does not want to hear of it.
    let _ = writeln!(std::io::stderr(), "    {text}");
}

/// Does a part of a long test, and says how long it took.
pub fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let mut error = std::io::stderr();
    let _ = writeln!(error, "==> {what}");
    let value = work();
    let _ = writeln!(error, "    {:.1} s", begin.elapsed().as_secs_f64());
    value
}
