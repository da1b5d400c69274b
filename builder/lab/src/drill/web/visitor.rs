//! The visitors: each asks, waits for the answer, writes down what became of it, and asks the next thing.

use std::{
    fs::File,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};

use super::{
    super::writer::now,
    client::{Connection, Dialler},
    ledger::{Answer, Kind, Visit, visit_id},
};
use crate::error::{LabError, Result};

/// As often a request is sent at most: once more after the first time, as the same order or view.
const ATTEMPTS: u32 = 2;
/// The shop's products.
const PRODUCTS: u64 = 6;

/// What one process of visitors does; read as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorPlan {
    /// Where the load balancer listens.
    pub to: SocketAddrV4,
    /// The site's name.
    pub host: String,
    /// What tells this run's ids from others'.
    pub run: u32,
    /// From one request's begin to the next one's, in milliseconds; one that takes longer is followed at once.
    pub every: u64,
    /// How long to wait for a connection and its handshake, in milliseconds.
    pub connect_limit: u64,
    /// How long to wait for an answer, in milliseconds.
    pub answer_limit: u64,
    /// The visitors.
    pub visitors: Vec<VisitorSpec>,
}

/// One visitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorSpec {
    /// What it is called in the ledger.
    pub name: String,
    /// What it asks for.
    pub kind: Kind,
    /// The address that it comes from, which no other one has: limits are by address.
    pub source: Ipv4Addr,
    /// It keeps its connection for the next request, as browsers do; else each request has its own.
    pub keep: bool,
    /// Its first number.
    pub first: u64,
    /// Where its ledger goes; appended to.
    pub ledger: PathBuf,
}

/// Runs the visitors until the process is ended, which may be done at any moment: an attempt is in the ledger before it is sent.
///
/// # Errors
/// A ledger that cannot be written, or a site whose name is none. Whatever the fleet does is no error, but what this is about.
pub fn visit(plan: &VisitorPlan) -> Result<()> {
    let begin = |reason| LabError::Start {
        program: "the visitors".to_owned(),
        source: reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(begin)?;
    let dialler =
        Dialler::new(plan.to, &plan.host).map_err(|reason| begin(io::Error::other(reason)))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut tasks = tokio::task::JoinSet::new();
        for spec in &plan.visitors {
            let ledger = File::options()
                .append(true)
                .create(true)
                .open(&spec.ledger)
                .map_err(LabError::file("open", &spec.ledger))?;
            let mut visitor = Visitor {
                plan: plan.clone(),
                spec: spec.clone(),
                dialler: dialler.clone(),
                ledger,
                kept: None,
            };
            tasks.spawn_local(async move { visitor.run().await });
        }
        match tasks.join_next().await {
            Some(Ok(Err(error))) => Err(error),
            _ => Ok(()),
        }
    })
}

struct Visitor {
    plan: VisitorPlan,
    spec: VisitorSpec,
    dialler: Dialler,
    ledger: File,
    kept: Option<Connection>,
}

impl Visitor {
    async fn run(&mut self) -> Result<()> {
        let mut number = self.spec.first;
        loop {
            let begun = Instant::now();
            for attempt in 1..=ATTEMPTS {
                if matches!(
                    self.attempt(number, attempt).await?,
                    Answer::Ok | Answer::Accepted
                ) {
                    break;
                }
            }
            number += 1;
            tokio::time::sleep_until(begun + Duration::from_millis(self.plan.every)).await;
        }
    }

    async fn attempt(&mut self, number: u64, attempt: u32) -> Result<Answer> {
        let mut visit = Visit {
            visitor: self.spec.name.clone(),
            kind: self.spec.kind,
            number,
            id: visit_id(self.plan.run, number),
            attempt,
            sent: now(),
            returned: None,
            answer: Answer::Sent,
            status: None,
            error: None,
            client: None,
            opened: None,
        };
        self.put(&visit)?;
        self.ask(&mut visit).await;
        visit.returned = Some(now());
        self.put(&visit)?;
        Ok(visit.answer)
    }

    /// Asks, and fills in what became of it.
    async fn ask(&mut self, visit: &mut Visit) {
        let mut connection = match self.connection().await {
            Ok(connection) => connection,
            // Nothing of the request was sent.
            Err((client, opened, error)) => {
                (visit.client, visit.opened) = (client, Some(opened));
                (visit.answer, visit.error) = (Answer::Failed, Some(error));
                return;
            }
        };
        (visit.client, visit.opened) = (Some(connection.client), Some(connection.opened));
        let limit = Duration::from_millis(self.plan.answer_limit);
        let request = request(&self.plan.host, &self.spec, visit);
        match timeout(limit, connection.ask(request.as_bytes())).await {
            Ok(Ok(head)) => {
                visit.status = Some(head.status);
                visit.answer = answer(head.status);
                if self.spec.keep && head.keep {
                    self.kept = Some(connection);
                } else {
                    connection.close().await;
                }
            }
            Ok(Err(error)) => (visit.answer, visit.error) = (Answer::Unknown, Some(error)),
            Err(_) => {
                visit.answer = Answer::Unknown;
                visit.error = Some("no answer within the limit".into());
            }
        }
    }

    /// The connection that was kept, where it is good still, or a new one.
    async fn connection(
        &mut self,
    ) -> std::result::Result<Connection, (Option<SocketAddrV4>, super::super::ledger::Moment, String)>
    {
        if let Some(mut kept) = self.kept.take()
            && kept.is_idle().await
        {
            return Ok(kept);
        }
        let opened = now();
        let limit = Duration::from_millis(self.plan.connect_limit);
        self.dialler
            .dial(self.spec.source, opened, limit)
            .await
            .map_err(|(client, error)| (client, opened, error))
    }

    /// One write(2), so that a visitor that is killed leaves whole lines.
    fn put(&mut self, visit: &Visit) -> Result<()> {
        let mut line = serde_json::to_vec(visit)
            .map_err(|error| LabError::file("write", &self.spec.ledger)(io::Error::other(error)))?;
        line.push(b'\n');
        self.ledger
            .write_all(&line)
            .map_err(LabError::file("write", &self.spec.ledger))
    }
}

/// The request as it is sent.
fn request(host: &str, spec: &VisitorSpec, visit: &Visit) -> String {
    let product = visit.number % PRODUCTS + 1;
    let id = &visit.id;
    let (path, body) = match spec.kind {
        Kind::Order => (
            "/api/orders",
            format!(r#"{{"id":"{id}","product":{product},"quantity":1}}"#),
        ),
        Kind::View => (
            "/api/views",
            format!(r#"{{"id":"{id}","product":{product}}}"#),
        ),
    };
    let connection = if spec.keep { "keep-alive" } else { "close" };
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rolesmith-drill\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        body.len()
    )
}

/// What a status says of the request.
fn answer(status: u16) -> Answer {
    match status {
        201 => Answer::Ok,
        202 => Answer::Accepted,
        400..=499 => Answer::Failed,
        _ => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests;
