//! One machine's way up: its disk, its start, its boot, and what it says of itself afterwards. One thread each.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    Progress,
    boot::UpOptions,
    cgroup::Hierarchies,
    error::{LabError, Result},
    lab::{enter, socket_path},
    launch::Launch,
    network::{Namespace, Ports},
    outcome::{Answers, NodeReport, Phase, QUESTIONS, Start},
    process::Process,
    seed::Disk,
    spec::{LabSpec, NodeSpec},
    state::{NodeState, Stage, State, Store, remove_tree},
};

/// What the nodes' threads share.
pub(crate) struct Work<'a> {
    pub(crate) spec: &'a LabSpec,
    pub(crate) options: &'a UpOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) store: &'a Store,
    pub(crate) hierarchies: &'a Hierarchies,
    pub(crate) state: Mutex<State>,
}

/// What differs between a node and the machine outside the fleet.
pub(crate) struct Machine<'a> {
    pub(crate) name: &'a str,
    /// Size of its memory in bytes; nothing for no limit.
    pub(crate) memory_limit: Option<u64>,
    /// Whether it has cloud-init, which says how it went.
    pub(crate) cloud_init: bool,
    /// Writes what the machine finds on its disk.
    pub(crate) write: &'a dyn Fn(&Disk) -> Result<()>,
}

impl Work<'_> {
    /// Brings one node up and asks how it is.
    pub(crate) fn node(&self, node: &NodeSpec, start: Start) -> Result<NodeReport> {
        let known = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.nodes.get(&node.name).cloned()
        };
        let known = known.ok_or_else(|| LabError::NoNode(node.name.clone()))?;
        let machine = Machine {
            name: &node.name,
            memory_limit: node.memory_limit,
            cloud_init: true,
            write: &|disk| disk.write(self.spec, node, &known.tree),
        };
        self.machine(&machine, &known, start)
    }

    /// Brings one machine up and asks how it is.
    pub(crate) fn machine(
        &self,
        machine: &Machine<'_>,
        known: &NodeState,
        start: Start,
    ) -> Result<NodeReport> {
        let id = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.id.clone()
        };
        let mut clock = Clock::new();
        let leader = match known.stage {
            Stage::Started { leader, .. } => leader,
            Stage::Starting => self.boot(machine, known, &id, start, &mut clock)?,
        };
        let whom = match machine.cloud_init {
            true => "systemd and cloud-init",
            false => "systemd",
        };
        self.progress
            .step(Some(machine.name), &format!("asking {whom} how it went"));
        let said = self.ask(machine.name, leader)?;
        let answers = Answers::parse(&said);
        let network = &self.spec.network;
        let wanted = [
            (network.public_interface.as_str(), known.public_address),
            (network.private_interface.as_str(), known.address),
        ];
        let mut phases = clock.laps;
        if start != Start::Running {
            phases.extend(answers.phases());
        }
        let report = NodeReport {
            name: machine.name.to_owned(),
            start,
            system: answers.system(),
            failed_units: answers.failed_units(),
            cloud_init: machine.cloud_init.then(|| answers.cloud_init()),
            network_problems: answers.network_problems(&wanted),
            phases,
        };
        let complaints = report.complaints().len();
        let words = match complaints {
            0 => "running".to_owned(),
            1 => "running, with 1 complaint".to_owned(),
            _ => format!("running, with {complaints} complaints"),
        };
        self.progress.step(Some(machine.name), &words);
        Ok(report)
    }

    fn boot(
        &self,
        machine: &Machine<'_>,
        known: &NodeState,
        id: &str,
        start: Start,
        clock: &mut Clock,
    ) -> Result<Process> {
        let group = self.hierarchies.group(&known.group);
        let namespace = Namespace::named(id);
        let ports = Ports::of(known.index);
        let disk = Disk::at(self.store.nodes().join(machine.name));
        namespace.unplug(&ports)?;
        if start == Start::New {
            remove_tree(disk.directory())?;
        }
        self.progress.step(Some(machine.name), "starting");
        (machine.write)(&disk)?;
        group.create()?;
        match machine.memory_limit {
            Some(bytes) if self.hierarchies.can_limit_memory() => group.limit_memory(bytes)?,
            Some(_) => self.progress.step(
                Some(machine.name),
                "no memory limit: this kernel has no controller for it",
            ),
            None => {}
        }
        let launch = Launch {
            name: machine.name,
            disk: &disk,
            tree: &known.tree,
            namespace: &namespace,
            group: &group,
            ports: &ports,
            private_interface: &self.spec.network.private_interface,
            public_interface: &self.spec.network.public_interface,
            socket: &socket_path(id, &known.index.to_string()),
            limit: self.options.boot_limit,
        };
        let mut launched = launch.start()?;
        self.record(
            machine.name,
            Stage::Started {
                nspawn: launched.nspawn,
                leader: launched.leader,
            },
        )?;
        clock.lap("launch");
        self.progress.step(Some(machine.name), "booting");
        launched
            .wait_ready(&launch)
            .map_err(|error| with_jobs(error, launched.leader.pid))?;
        clock.lap("boot");
        Ok(launched.leader)
    }

    /// Asks a node how it is. One that was started by a program that has since ended may still be booting, and is waited for.
    fn ask(&self, name: &str, leader: Process) -> Result<String> {
        let limit = self.options.boot_limit;
        let asked = enter(leader.pid, &["sh", "-c", QUESTIONS], Some(limit));
        asked.map_err(|error| match error {
            // timeout(1)
            LabError::Failed { status, .. } if status == "exit status 124" => with_jobs(
                LabError::Timeout {
                    what: format!("the boot of node {name}"),
                    limit,
                },
                leader.pid,
            ),
            other => other,
        })
    }

    fn record(&self, name: &str, stage: Stage) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(machine) = state.machine_mut(name) {
            machine.stage = stage;
        }
        self.store.save(&state)
    }
}

/// Adds to a time-out what the node's systemd is still waiting for.
fn with_jobs(error: LabError, leader: u32) -> LabError {
    let LabError::Timeout { what, limit } = error else {
        return error;
    };
    let jobs = enter(
        leader,
        &["systemctl", "list-jobs", "--no-legend", "--plain"],
        Some(Duration::from_secs(10)),
    );
    let running: Vec<String> = jobs
        .unwrap_or_default()
        .lines()
        .filter(|line| line.trim_end().ends_with("running"))
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect();
    let what = if running.is_empty() {
        what
    } else {
        format!("{what} (it is still at {})", running.join(", "))
    };
    LabError::Timeout { what, limit }
}

/// Takes lap times.
pub(crate) struct Clock {
    last: Instant,
    /// What was timed so far.
    pub(crate) laps: Vec<Phase>,
}

impl Clock {
    /// Starts now.
    pub(crate) fn new() -> Clock {
        Clock {
            last: Instant::now(),
            laps: Vec::new(),
        }
    }

    /// Ends a part of the work, and begins the next.
    pub(crate) fn lap(&mut self, name: &str) {
        let seconds = self.last.elapsed().as_millis() as f64 / 1000.0;
        self.laps.push(Phase {
            name: name.to_owned(),
            seconds,
        });
        self.last = Instant::now();
    }
}
