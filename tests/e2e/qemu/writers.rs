//! Clients of the fleet's database: the drills' own writers, run on this machine, each through the pooler of one node. Their ledgers
//! outlive every machine.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rolesmith_bake::boot::{Forward, Running};
use rolesmith_lab::drill::{Entry, Outcome, Via, WriterPlan, WriterSpec, parse_entries};
use rolesmith_tests::checkout;

use super::NODES;

/// pgbouncer's port.
const POOLER: u16 = 6432;
/// Numbers that each writer may use.
const NUMBERS: u64 = 1_000_000_000;
/// How soon the ledgers are read again.
const LOOK: Duration = Duration::from_millis(200);

/// Writers at work; they end with this value.
pub struct Writers {
    directory: tempfile::TempDir,
    round: u64,
    ledgers: Vec<(String, PathBuf)>,
    // A port leads into its machine for as long as the machine runs.
    running: Vec<(Child, Forward)>,
}

impl Writers {
    /// Starts one on each machine.
    pub fn start(machines: &[Running], password: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut writers = Self {
            directory,
            round: 0,
            ledgers: Vec::new(),
            running: Vec::new(),
        };
        writers.launch(machines, password);
        writers
    }

    /// Others, with the same ledgers before them: the former ones' machines are gone.
    pub fn again(mut self, machines: &[Running], password: &str) -> Self {
        self.end();
        self.launch(machines, password);
        self
    }

    fn launch(&mut self, machines: &[Running], password: &str) {
        self.round += 1;
        for (number, (machine, node)) in machines.iter().zip(NODES).enumerate() {
            let forward = machine.forward(POOLER).expect("ssh starts");
            let name = format!("{}-{}", machine.node(), self.round);
            let ledger = self.directory.path().join(format!("{name}.jsonl"));
            let plan = WriterPlan {
                node: machine.node().to_owned(),
                address: node.address.into(),
                database: "drill".to_owned(),
                password: password.to_owned(),
                table: "ledger".to_owned(),
                synchronous_commit: None,
                every: 100,
                connect_limit: 20_000,
                answer_limit: 60_000,
                writers: vec![WriterSpec {
                    name,
                    via: Via::Pooler,
                    port: forward.port,
                    first: (self.round * 10 + number as u64) * NUMBERS,
                    ledger: ledger.clone(),
                }],
            };
            let file = ledger.with_extension("json");
            std::fs::write(
                &file,
                serde_json::to_vec(&plan).expect("a plan has a JSON form"),
            )
            .expect("it can be written");
            let writer = Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .arg(checkout().join("target/debug/rolesmith"))
                .args(["lab", "__write"])
                .arg(file)
                .stdin(Stdio::null())
                .spawn()
                .expect("the program starts");
            self.running.push((writer, forward));
            self.ledgers.push((machine.node().to_owned(), ledger));
        }
    }

    /// Waits until each writer of this round, but for those of these nodes, has so many more acknowledged commits than now.
    pub fn wait(&self, commits: usize, but: &BTreeSet<&str>, limit: Duration) {
        let round = self.ledgers.iter().rev().take(self.running.len());
        let counted: Vec<_> = round
            .filter(|(node, _)| !but.contains(node.as_str()))
            .map(|(_, ledger)| (ledger, acknowledged(ledger) + commits))
            .collect();
        let until = Instant::now() + limit;
        while let Some((ledger, wanted)) = counted
            .iter()
            .find(|(ledger, wanted)| acknowledged(ledger) < *wanted)
        {
            assert!(
                Instant::now() < until,
                "{} has {} of {wanted} commits: {:?}",
                ledger.display(),
                acknowledged(ledger),
                entries(ledger).last()
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Ends them all and gives what they wrote down.
    pub fn stop(mut self) -> Vec<Entry> {
        self.end();
        self.ledgers
            .iter()
            .flat_map(|(_, ledger)| entries(ledger))
            .collect()
    }

    fn end(&mut self) {
        for (writer, _) in &mut self.running {
            let _ = writer.kill();
            let _ = writer.wait();
        }
        self.running.clear();
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.end();
    }
}

fn entries(ledger: &PathBuf) -> Vec<Entry> {
    let text = std::fs::read_to_string(ledger).unwrap_or_default();
    parse_entries(&text).expect("a ledger has whole lines")
}

fn acknowledged(ledger: &PathBuf) -> usize {
    entries(ledger)
        .iter()
        .filter(|entry| entry.result == Outcome::Ok)
        .count()
}
