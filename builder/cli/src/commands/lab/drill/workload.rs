//! The writers of a drill: started in nodes, watched through their ledgers.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use rolesmith_lab::{
    Lab,
    drill::{Entry, Via, WriterPlan, WriterSpec, parse_entries},
};

use super::{
    super::lab_failure,
    database::{DATABASE, Database, TABLE},
};
use crate::report::Outcome;

/// At least as many writers go through poolers.
const POOLED: usize = 6;
/// Numbers that each writer may use.
const NUMBERS: u64 = 1_000_000_000;
/// Milliseconds between a writer's attempts, and how long it waits for a connection and for an answer.
const EVERY: u64 = 50;
const CONNECT_LIMIT: u64 = 2000;
const ANSWER_LIMIT: u64 = 5000;

/// All writers, past and present.
pub struct Workload {
    directory: PathBuf,
    password: String,
    asynchronous: bool,
    started: u64,
    children: Vec<(String, Child)>,
    tails: Vec<Tail>,
}

impl Workload {
    /// Writers whose ledgers go into this directory.
    pub fn new(directory: &Path, password: &str, asynchronous: bool) -> Outcome<Workload> {
        fs::create_dir_all(directory)?;
        Ok(Workload {
            directory: directory.to_owned(),
            password: password.to_owned(),
            asynchronous,
            started: 0,
            children: Vec::new(),
            tails: Vec::new(),
        })
    }

    /// Starts a node's writers: some through its pooler, one on its own server where it has one. Gives their names.
    pub fn start(
        &mut self,
        lab: &Lab,
        database: &Database,
        node: &str,
        address: Ipv4Addr,
    ) -> Outcome<Vec<String>> {
        let pooled = POOLED.div_ceil(database.nodes.len()).max(2);
        let own = database.nodes.iter().any(|name| name == node);
        let ways = std::iter::repeat_n((Via::Pooler, database.pooler_port), pooled)
            .chain(own.then_some((Via::Direct, database.port)));
        let mut writers = Vec::new();
        for (number, (via, port)) in ways.enumerate() {
            self.started += 1;
            let way = match via {
                Via::Pooler => format!("pooler-{}", number + 1),
                Via::Direct => "direct".to_owned(),
            };
            // The same node's writers of later boots are other ones.
            let name = format!("{:02}-{node}-{way}", self.started);
            let ledger = self.directory.join(format!("{name}.jsonl"));
            self.tails.push(Tail::of(&ledger));
            writers.push(WriterSpec {
                name,
                via,
                port,
                first: self.started * NUMBERS,
                ledger,
            });
        }
        let names = writers.iter().map(|writer| writer.name.clone()).collect();
        let plan = WriterPlan {
            node: node.to_owned(),
            address,
            database: DATABASE.to_owned(),
            password: self.password.clone(),
            table: TABLE.to_owned(),
            synchronous_commit: self.asynchronous.then(|| "local".to_owned()),
            every: EVERY,
            connect_limit: CONNECT_LIMIT,
            answer_limit: ANSWER_LIMIT,
            writers,
        };
        let base = self.directory.join(format!("{:02}-{node}", self.started));
        let file = base.with_extension("json");
        fs::write(&file, serde_json::to_vec_pretty(&plan)?)?;
        let program = std::env::current_exe()?;
        let mut command = lab
            .resident(
                node,
                &[
                    program.as_os_str(),
                    "lab".as_ref(),
                    "__write".as_ref(),
                    file.as_os_str(),
                ],
            )
            .map_err(lab_failure)?;
        let log = File::create(base.with_extension("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.children.push((node.to_owned(), command.spawn()?));
        Ok(names)
    }

    /// Attempts whose outcome became known since this was asked last.
    pub fn news(&mut self) -> Outcome<Vec<Entry>> {
        let mut news = Vec::new();
        for tail in &mut self.tails {
            tail.read(&mut news)?;
        }
        Ok(news)
    }

    /// Forgets the writers of a node that has ended.
    pub fn ended(&mut self, node: &str) {
        self.stop_those(|of| of == node);
    }

    /// Ends all writers.
    pub fn stop(&mut self) {
        self.stop_those(|_| true);
    }

    fn stop_those(&mut self, chosen: impl Fn(&str) -> bool) {
        for (_, child) in self.children.iter_mut().filter(|(node, _)| chosen(node)) {
            // It may have ended with its node.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.children.retain(|(node, _)| !chosen(node));
    }

    /// Writers that should run and do not, by node.
    pub fn dead(&mut self) -> Vec<String> {
        let ended = self.children.iter_mut().filter_map(|(node, child)| {
            let status = child.try_wait().ok().flatten()?;
            Some(format!("the writers on {node} ended: {status}"))
        });
        ended.collect()
    }

    /// All ledgers.
    pub fn ledgers(&self) -> Vec<PathBuf> {
        let made = self.tails.iter().filter(|tail| tail.path.exists());
        made.map(|tail| tail.path.clone()).collect()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A ledger that grows.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    fn of(path: &Path) -> Tail {
        Tail {
            path: path.to_owned(),
            read: 0,
        }
    }

    fn read(&mut self, news: &mut Vec<Entry>) -> Outcome {
        let Ok(mut file) = File::open(&self.path) else {
            // Not begun yet.
            return Ok(());
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        news.extend(parse_entries(&text[..whole])?);
        Ok(())
    }
}
