//! The visitors of a drill: clients on the machine outside the fleet that come through the load balancer, to the example's shop.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rolesmith_lab::{
    Lab, OUTSIDE,
    drill::{
        now,
        web::{Answer, Kind, VisitorPlan, VisitorSpec, parse_visits},
    },
};
use rolesmith_model::plan::Plan;

use super::{
    super::{lab_failure, outside::EDGE},
    database::Database,
};
use crate::report::{Failure, Outcome};

/// The service that visitors know: the example's (`rolesmith init --example`).
const SHOP: &str = "shop";
/// What they ask it for begins with this.
const API: &str = "/api/";
/// Who they are: half of each kind keep their connections, and the others have one for each request.
const VISITORS: [(Kind, bool); 8] = [
    (Kind::Order, false),
    (Kind::Order, true),
    (Kind::View, false),
    (Kind::Order, false),
    (Kind::Order, true),
    (Kind::View, true),
    (Kind::Order, false),
    (Kind::View, true),
];
/// Milliseconds between a visitor's requests, and how long it waits for a connection and for an answer: longer than a service
/// waits for the database while that fails over.
const EVERY: u64 = 150;
const CONNECT_LIMIT: u64 = 5000;
const ANSWER_LIMIT: u64 = 20_000;
/// Numbers that each visitor may use.
const NUMBERS: u64 = 1_000_000_000;
/// How long views may stay in the write cache: a batch that a lost node had taken is taken over after half a minute.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
/// How often is looked whether they have left it.
const LOOK: Duration = Duration::from_millis(500);

/// The fleet as visitors see it.
#[derive(Debug, Clone)]
pub struct Web {
    /// The site's name.
    pub host: String,
    /// The database of its service.
    pub database: String,
    /// Names of the nodes behind the load balancer.
    pub edges: Vec<String>,
}

impl Web {
    /// What the plan says; nothing where there is no load balancer, or no shop behind it.
    pub fn of(plan: &Plan) -> Option<Web> {
        plan.fleet.network.load_balancer?;
        let applications = &plan.fleet.applications;
        let shop = applications
            .services
            .iter()
            .find(|service| service.name == SHOP)?;
        let site = applications.sites.iter().find(|site| {
            let mut routes = site.routes.iter();
            routes.any(|route| route.service == SHOP && route.path == API)
        })?;
        let edges = plan
            .nodes
            .iter()
            .filter(|node| node.roles.iter().any(|role| role.as_str() == EDGE));
        Some(Web {
            host: site.hosts.first()?.clone(),
            database: shop.database.clone()?,
            edges: edges.map(|node| node.name.to_string()).collect(),
        })
    }
}

/// Visitors at work.
pub struct Visitors {
    directory: PathBuf,
    ledgers: Vec<(String, PathBuf)>,
    /// What tells this run's ids from others'.
    run: u32,
    /// Seconds since 1970 when they were started.
    begun: u64,
    child: Child,
}

impl Visitors {
    /// Starts them; their files go into this directory.
    pub fn start(lab: &Lab, web: &Web, directory: &Path) -> Outcome<Visitors> {
        fs::create_dir_all(directory)?;
        let begun = now().realtime / 1_000_000_000;
        // Drills of one fleet follow each other by more than a second.
        let run = u32::try_from(begun & u64::from(u32::MAX)).unwrap_or_default();
        let mut visitors = Vec::new();
        let mut ledgers = Vec::new();
        for (place, (kind, keep)) in VISITORS.into_iter().enumerate() {
            let word = match kind {
                Kind::Order => "order",
                Kind::View => "view",
            };
            let number = u8::try_from(place + 1).unwrap_or(u8::MAX);
            let name = format!("{word}-{number}{}", if keep { "-kept" } else { "" });
            let ledger = directory.join(format!("{name}.jsonl"));
            ledgers.push((name.clone(), ledger.clone()));
            visitors.push(VisitorSpec {
                name,
                kind,
                // Of the machine's own loopback network: the fleet sees visitors from as many addresses.
                source: Ipv4Addr::new(127, 1, 0, number),
                keep,
                first: u64::from(number) * NUMBERS,
                ledger,
            });
        }
        let plan = VisitorPlan {
            to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 443),
            host: web.host.clone(),
            run,
            every: EVERY,
            connect_limit: CONNECT_LIMIT,
            answer_limit: ANSWER_LIMIT,
            visitors,
        };
        let file = directory.join("visitors.json");
        fs::write(&file, serde_json::to_vec_pretty(&plan)?)?;
        let program = std::env::current_exe()?;
        let words = [
            program.as_os_str(),
            "lab".as_ref(),
            "__visit".as_ref(),
            file.as_os_str(),
        ];
        let mut command = lab.resident(OUTSIDE, &words).map_err(lab_failure)?;
        let log = File::create(directory.join("visitors.log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Visitors {
            directory: directory.to_owned(),
            ledgers,
            run,
            begun,
            child: command.spawn()?,
        })
    }

    /// Waits until each was answered once.
    pub fn are_served(&mut self, limit: Duration) -> Outcome {
        let end = Instant::now() + limit;
        loop {
            if let Some(why) = self.dead() {
                return Err(Failure::new(why, "see visitors.log beside their ledgers"));
            }
            let mut waiting = Vec::new();
            let mut last = None;
            for (name, ledger) in &self.ledgers {
                let text = fs::read_to_string(ledger).unwrap_or_default();
                let visits = parse_visits(&text)?;
                if !visits
                    .iter()
                    .any(|visit| matches!(visit.answer, Answer::Ok | Answer::Accepted))
                {
                    waiting.push(name.as_str());
                    last = visits.last().cloned().or(last);
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                let told = last.map(|visit| {
                    let status = visit.status.map(|status| format!("answered {status}"));
                    visit.error.or(status).unwrap_or_default()
                });
                return Err(Failure::new(
                    format!(
                        "{} not served within {} s: {}",
                        waiting.join(", "),
                        limit.as_secs(),
                        told.unwrap_or_default()
                    ),
                    "see whether the shop answers through the load balancer: `rolesmith lab status` has its URL",
                ));
            }
            thread::sleep(LOOK / 5);
        }
    }

    /// That they have ended though nobody asked them to.
    pub fn dead(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("the visitors ended: {status}"))
    }

    /// Ends them.
    pub fn stop(&mut self) {
        // They may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Puts beside the ledgers what they are judged by: the load balancer's log and what is in the shop's database. Views that are
    /// in the write cache get time to leave it.
    pub fn evidence(&self, lab: &Lab, database: &Database, web: &Web, primary: &str) -> Outcome {
        let mut accepted = Vec::new();
        for (_, ledger) in &self.ledgers {
            let visits = parse_visits(&fs::read_to_string(ledger)?)?;
            let taken = visits
                .into_iter()
                .filter(|visit| visit.answer == Answer::Accepted);
            accepted.extend(taken.map(|visit| visit.id));
        }
        let rows = |table: &str| -> Outcome<String> {
            let statement = format!(
                "SELECT id FROM shop.{table} WHERE id::text LIKE '{:08x}-%'",
                self.run
            );
            database
                .sql(lab, primary, &web.database, &statement)?
                .map_err(|error| Failure::new(error, "see `rolesmith lab logs NODE`"))
        };
        let end = Instant::now() + FLUSH_LIMIT;
        let views = loop {
            let views = rows("views")?;
            let there: std::collections::BTreeSet<&str> = views.lines().collect();
            if accepted.iter().all(|id| there.contains(id.as_str())) || Instant::now() > end {
                break views;
            }
            thread::sleep(LOOK);
        };
        fs::write(self.directory.join(VIEWS), views)?;
        fs::write(self.directory.join(ORDERS), rows("orders")?)?;
        let since = format!("--since=@{}", self.begun);
        let journal = [
            "journalctl",
            "--quiet",
            "--unit=haproxy.service",
            "--output=json",
            "--output-fields=MESSAGE",
            &since,
        ];
        let output = lab.output(OUTSIDE, &journal).map_err(lab_failure)?;
        if output.code != 0 {
            return Err(Failure::new(
                format!("the load balancer's log: {}", output.stderr.trim()),
                "see `rolesmith lab logs outside`",
            ));
        }
        Ok(fs::write(self.directory.join(BALANCER), output.stdout)?)
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Names of the files beside the ledgers.
pub const ORDERS: &str = "orders.txt";
/// See above.
pub const VIEWS: &str = "views.txt";
/// See above.
pub const BALANCER: &str = "balancer.jsonl";
