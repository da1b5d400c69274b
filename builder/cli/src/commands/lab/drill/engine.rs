//! A drill from its precondition to its verdict.

mod turns;
mod web;

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rolesmith_lab::{
    Lab, Progress as _, RunState, Silent,
    drill::{Case, Entry, Event, EventKind, Outcome as Known, Verdict, now, web::VisitsVerdict},
};

use super::{
    super::{Up, bring_up, lab_failure, place, verdict},
    database::{Database, Formation},
    step::{Act, Drill, Promotion, Step, Visits, Who},
    web::{Visitors, Web},
    workload::Workload,
};
use crate::{
    app::App,
    progress::Steps,
    report::{Failure, Outcome},
};
pub use web::VISITS;

/// How often what cannot tell by itself is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a fleet may take until nothing is missing in it.
const HEALTHY_LIMIT: Duration = Duration::from_secs(300);
/// How long service may take to come back before the drill goes on to heal.
const SERVICE_LIMIT: Duration = Duration::from_secs(90);
/// How long writers may take to be at work.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);
/// How long writers go on when everything is healed.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What a run is done with.
pub struct Setting<'a> {
    pub app: &'a App,
    pub database: &'a Database,
    /// The fleet as visitors see it, where there is anything to see.
    pub web: Option<&'a Web>,
    pub steps: &'a Steps,
    /// The drill's files go here.
    pub directory: PathBuf,
    /// How long the control lasts.
    pub control: Duration,
}

/// What came of a run.
pub struct Result {
    /// The writers' side.
    pub verdict: Verdict,
    /// The visitors', where there were any.
    pub visits: Option<VisitsVerdict>,
    /// Everything that was not as it has to be; empty where the run passed.
    pub problems: Vec<String>,
}

struct Run<'a> {
    setting: &'a Setting<'a>,
    drill: &'static Drill,
    state_dir: PathBuf,
    cast: Formation,
    workload: Workload,
    visitors: Option<Visitors>,
    /// The node whose turn it is.
    turn: Option<String>,
    events: Vec<Event>,
    /// Attempts whose outcome is known, in the order in which it became so.
    known: Vec<Entry>,
    problems: Vec<String>,
}

/// Runs a drill once.
///
/// Whatever the fleet does wrong is a problem in the result; an error is what keeps the drill from being held.
pub fn run(setting: &Setting<'_>, drill: &'static Drill) -> Outcome<Result> {
    let state_dir = place::existing(setting.app)?;
    let lab = Lab::open(&state_dir).map_err(lab_failure)?;
    say(setting, "waiting for a fleet in which nothing is missing");
    let cast = healthy(setting, &lab)?
        .map_err(|missing| Failure::new(missing, "a drill begins with a whole fleet"))?;
    let namespace = lab.status().map_err(lab_failure)?.namespace;
    // Of a database in a lab, which nobody outside reaches; poolers remember it from drill to drill.
    let password = namespace
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    setting.database.prepare(&lab, &cast.primary, &password)?;
    fs::create_dir_all(&setting.directory)?;
    let ledgers = setting.directory.join("ledgers");
    let mut run = Run {
        setting,
        drill,
        state_dir,
        cast,
        workload: Workload::new(&ledgers, &password, drill.asynchronous)?,
        visitors: None,
        turn: None,
        events: Vec::new(),
        known: Vec::new(),
        problems: Vec::new(),
    };
    run.record("before.json", &lab)?;
    for step in drill.before {
        run.step(*step)?;
    }
    run.begin(&lab)?;
    for step in drill.steps {
        run.step(*step)?;
    }
    run.end()
}

fn say(setting: &Setting<'_>, text: &str) {
    setting.steps.step(None, text);
}

/// Waits until nothing is missing; the inner error is what is.
fn healthy(setting: &Setting<'_>, lab: &Lab) -> Outcome<std::result::Result<Formation, String>> {
    let end = Instant::now() + HEALTHY_LIMIT;
    loop {
        let formation = setting.database.formation(lab)?;
        // Two primaries that are no cluster will not become one by waiting.
        if formation.is_ok() || Instant::now() > end {
            return Ok(formation);
        }
        thread::sleep(LOOK * 10);
    }
}

impl Run<'_> {
    fn lab(&self) -> Outcome<Lab> {
        Lab::open(&self.state_dir).map_err(lab_failure)
    }

    fn event(&mut self, event: EventKind, what: String, nodes: Vec<String>) {
        say(self.setting, &what);
        self.events.push(Event {
            event,
            at: now(),
            what,
            nodes,
        });
    }

    /// Starts the writers, waits until each through a pooler is served, and lets the control pass.
    fn begin(&mut self, lab: &Lab) -> Outcome {
        let mut waiting = Vec::new();
        for node in self.setting.database.served() {
            let names = self.start_writers(lab, node)?;
            waiting.extend(names.into_iter().filter(|name| name.contains("-pooler-")));
        }
        let end = Instant::now() + BEGIN_LIMIT;
        while !waiting.is_empty() {
            for entry in self.news()? {
                if entry.result == Known::Ok {
                    waiting.retain(|name| *name != entry.writer);
                }
            }
            if let Some(dead) = self.workload.dead().into_iter().next() {
                return Err(Failure::new(dead, "see the log beside its ledgers"));
            }
            if Instant::now() > end {
                let last = self
                    .known
                    .iter()
                    .rev()
                    .find_map(|entry| entry.error.clone());
                return Err(Failure::new(
                    format!(
                        "{} not served within {} s: {}",
                        waiting.join(", "),
                        BEGIN_LIMIT.as_secs(),
                        last.unwrap_or_default()
                    ),
                    "see whether applications can connect at 127.0.0.1 on the nodes",
                ));
            }
            thread::sleep(LOOK);
        }
        if let (true, Some(web)) = (self.drill.visits != Visits::None, self.setting.web) {
            let directory = self.setting.directory.join(VISITS);
            let visitors = self.visitors.insert(Visitors::start(lab, web, &directory)?);
            visitors.are_served(BEGIN_LIMIT)?;
        }
        let primary = self.cast.primary.clone();
        self.event(
            EventKind::Control,
            format!("control; {primary} is primary"),
            vec![],
        );
        thread::sleep(self.setting.control);
        Ok(())
    }

    fn start_writers(&mut self, lab: &Lab, node: &str) -> Outcome<Vec<String>> {
        let status = lab.status().map_err(lab_failure)?;
        let known = status.nodes.iter().find(|known| known.name == node);
        let address = known.map(|known| known.address).ok_or_else(|| {
            Failure::new(format!("the lab has no node {node}"), "boot all of them")
        })?;
        self.workload
            .start(lab, self.setting.database, node, address)
    }

    /// What became known since this was asked last.
    fn news(&mut self) -> Outcome<Vec<Entry>> {
        let news = self.workload.news()?;
        self.known.extend(news.iter().cloned());
        Ok(news)
    }

    fn name(&self, who: Who) -> Outcome<String> {
        let none = || {
            Failure::new(
                format!("nobody plays {who:?}"),
                "this is an error in the drill",
            )
        };
        match who {
            Who::Primary => Ok(self.cast.primary.clone()),
            Who::Standby(number) => self.cast.standbys.get(number).cloned().ok_or_else(none),
            Who::Witness(number) => {
                let witnesses = &self.setting.database.witnesses;
                witnesses.get(number).cloned().ok_or_else(none)
            }
            Who::InTurn => self.turn.clone().ok_or_else(none),
            Who::NewPrimary => {
                let last = self.known.iter().rev();
                let server = last
                    .filter(|entry| entry.result == Known::Ok)
                    .find_map(|entry| entry.server.clone())
                    .ok_or_else(none)?;
                let status = self.lab()?.status().map_err(lab_failure)?;
                let node = status
                    .nodes
                    .iter()
                    .find(|node| node.address.to_string() == server);
                node.map(|node| node.name.clone()).ok_or_else(none)
            }
        }
    }

    fn step(&mut self, step: Step) -> Outcome {
        match step {
            Step::Fault(act) => self.act(EventKind::Fault, act),
            Step::Heal(act) => self.act(EventKind::Heal, act),
            Step::AwaitNewPrimary => {
                let old = self.address(Who::Primary)?;
                self.await_entry("another primary acknowledges", move |entry| {
                    entry.server.as_ref().is_some_and(|server| *server != old)
                })
            }
            Step::AwaitService => self.await_entry("service is back", |_| true),
            Step::AwaitProgram(who, program) => self.await_program(who, program),
            Step::ReplaceEach => self.replace_each(),
            Step::Silence(time) => self.silence(time),
            Step::InTurn(steps) => self.in_turn(steps),
            Step::AwaitOut(who) => self.await_balancer(who, false),
            Step::AwaitIn(who) => self.await_balancer(who, true),
            Step::PublishNewer => self.publish_newer(),
            Step::Hold(time) => {
                thread::sleep(time);
                self.news().map(drop)
            }
        }
    }

    fn address(&self, who: Who) -> Outcome<String> {
        let name = self.name(who)?;
        let status = self.lab()?.status().map_err(lab_failure)?;
        let node = status.nodes.iter().find(|node| node.name == name);
        Ok(node
            .map(|node| node.address.to_string())
            .unwrap_or_default())
    }

    fn act(&mut self, kind: EventKind, act: Act) -> Outcome {
        let directory = self.state_dir.clone();
        match act {
            Act::Nothing => self.event(kind, "nothing".into(), vec![]),
            Act::PowerOff(who) | Act::Crash(who) => {
                let node = self.name(who)?;
                let (word, how) = match act {
                    Act::Crash(_) => ("is killed", rolesmith_lab::End::Crash),
                    _ => ("loses power", rolesmith_lab::End::PowerLoss),
                };
                self.event(kind, format!("{node} {word}"), vec![node.clone()]);
                rolesmith_lab::kill(&directory, &node, how).map_err(lab_failure)?;
                self.workload.ended(&node);
            }
            Act::Start(who) => {
                let node = self.name(who)?;
                self.boot(kind, &node)?;
            }
            Act::StartAllOff => {
                for node in self.off()? {
                    self.boot(kind, &node)?;
                }
            }
            Act::Freeze(who) => {
                let node = self.name(who)?;
                self.event(kind, format!("{node} stands still"), vec![node.clone()]);
                rolesmith_lab::freeze(&directory, &node, true).map_err(lab_failure)?;
            }
            Act::Thaw(who) => {
                let node = self.name(who)?;
                self.event(kind, format!("{node} goes on"), vec![]);
                rolesmith_lab::freeze(&directory, &node, false).map_err(lab_failure)?;
            }
            Act::Cut(who) => {
                let node = self.name(who)?;
                self.event(kind, format!("{node} is cut off"), vec![node.clone()]);
                rolesmith_lab::cut(&directory, &node, None, false).map_err(lab_failure)?;
            }
            Act::CutFrom(who, from) | Act::CutOneWay(who, from) => {
                let one_way = matches!(act, Act::CutOneWay(..));
                let (node, from) = (self.name(who)?, self.name(from)?);
                let what = if one_way {
                    format!("what {node} sends does not reach {from}")
                } else {
                    format!("{node} and {from} do not reach each other")
                };
                // One of the two is where the other one's clients cannot get to: the standby, from which the primary is away.
                self.event(kind, what, vec![from.clone()]);
                rolesmith_lab::cut(&directory, &node, Some(&from), one_way).map_err(lab_failure)?;
            }
            Act::Mend(who) => {
                let node = self.name(who)?;
                self.event(kind, format!("the cables of {node} are mended"), vec![]);
                rolesmith_lab::mend(&directory, Some(&node)).map_err(lab_failure)?;
            }
            Act::Replace(who) => {
                let node = self.name(who)?;
                self.destroy(kind, &node)?;
                self.boot(EventKind::Heal, &node)?;
            }
            Act::KillService(who, service) => {
                let node = self.name(who)?;
                // Without its pooler a node's clients have nowhere to go.
                let taken = match service {
                    super::step::Service::Pooler => vec![node.clone()],
                    _ => vec![],
                };
                self.event(
                    kind,
                    format!("{} of {node} is killed", service.unit()),
                    taken,
                );
                self.inside(
                    &node,
                    &[
                        "systemctl",
                        "kill",
                        "--kill-whom=main",
                        "--signal=KILL",
                        service.unit(),
                    ],
                )?;
            }
            Act::Outrun(who) => {
                let node = self.name(who)?;
                self.event(
                    kind,
                    format!("{node} writes more log than it keeps"),
                    vec![],
                );
                self.setting.database.outrun(&self.lab()?, &node)?;
            }
            Act::Switchover(who) => {
                let node = self.name(who)?;
                let primary = self.cast.primary.clone();
                self.event(kind, format!("switchover from {primary} to {node}"), vec![]);
                self.inside(&primary, &["rolesmith-agent", "switchover", &node])?;
            }
            Act::Drain(who) => {
                let node = self.name(who)?;
                self.event(kind, format!("{node} is taken out of service"), vec![]);
                self.inside(&node, &["rolesmith-agent", "drain"])?;
            }
            Act::Undrain(who) => {
                let node = self.name(who)?;
                self.event(kind, format!("{node} is put into service"), vec![]);
                self.inside(&node, &["rolesmith-agent", "undrain"])?;
            }
            Act::Upgrade(who) => self.upgrade(kind, who)?,
            Act::Reinstall(who) => self.reinstall_postgresql(kind, who)?,
        }
        Ok(())
    }

    /// Runs a command in a node that has to succeed.
    fn inside(&mut self, node: &str, words: &[&str]) -> Outcome {
        let output = self.lab()?.output(node, words).map_err(lab_failure)?;
        if output.code != 0 {
            self.problems.push(format!(
                "{} on {node} failed: {}",
                words.join(" "),
                output.stderr.trim()
            ));
        }
        Ok(())
    }

    /// Machines that are off, in an order by chance: that of the clock's last digits.
    fn off(&self) -> Outcome<Vec<String>> {
        let status = self.lab()?.status().map_err(lab_failure)?;
        let mut off: Vec<String> = status
            .nodes
            .into_iter()
            .filter(|node| node.state != RunState::Running)
            .map(|node| node.name)
            .collect();
        let chance = now().monotonic / 1000;
        let mut shuffled = Vec::new();
        let mut rest = chance;
        while !off.is_empty() {
            let length = off.len() as u64;
            shuffled.push(off.remove(usize::try_from(rest % length).unwrap_or(0)));
            rest /= length;
        }
        Ok(shuffled)
    }

    fn boot(&mut self, kind: EventKind, node: &str) -> Outcome {
        self.event(kind, format!("{node} boots"), vec![]);
        let only = [node.to_owned()];
        let report = bring_up(self.setting.app, &Up::alone(&only[0]), &Silent)?;
        for complaint in report.nodes.iter().flat_map(|node| node.complaints()) {
            // Units that wait for the rest of the fleet may be among them; whether it becomes healthy is seen in the end.
            self.event(EventKind::Seen, format!("{node}: {complaint}"), vec![]);
        }
        if self.setting.database.served().any(|name| name == node) {
            let lab = self.lab()?;
            self.start_writers(&lab, node)?;
        }
        Ok(())
    }

    /// Waits for an acknowledgement of something that is sent from now on.
    fn await_entry(&mut self, what: &str, wanted: impl Fn(&Entry) -> bool) -> Outcome {
        let from = now();
        let end = Instant::now() + SERVICE_LIMIT;
        loop {
            let news = self.news()?;
            let found = news
                .iter()
                .find(|entry| entry.result == Known::Ok && entry.sent >= from && wanted(entry));
            if let Some(entry) = found {
                let server = entry.server.clone().unwrap_or_default();
                self.event(EventKind::Seen, format!("{what}: {server}"), vec![]);
                return Ok(());
            }
            if Instant::now() > end {
                let problem = format!("not within {} s: {what}", SERVICE_LIMIT.as_secs());
                self.event(EventKind::Seen, problem.clone(), vec![]);
                self.problems.push(problem);
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }

    fn await_program(&mut self, who: Who, program: &str) -> Outcome {
        let node = self.name(who)?;
        let lab = self.lab()?;
        let end = Instant::now() + SERVICE_LIMIT;
        while lab
            .output(&node, &["pgrep", "--exact", program])
            .map_err(lab_failure)?
            .code
            != 0
        {
            if Instant::now() > end {
                self.problems
                    .push(format!("{program} was not seen to run on {node}"));
                return Ok(());
            }
            thread::sleep(LOOK);
        }
        self.event(EventKind::Seen, format!("{program} runs on {node}"), vec![]);
        Ok(())
    }

    fn silence(&mut self, time: Duration) -> Outcome {
        self.news()?;
        let from = now();
        thread::sleep(time);
        let broken = self
            .news()?
            .into_iter()
            .find(|entry| entry.result == Known::Ok && entry.sent >= from);
        if let Some(entry) = broken {
            self.problems.push(format!(
                "{} acknowledged {} when nobody might",
                entry.server.unwrap_or_default(),
                entry.number
            ));
        }
        Ok(())
    }

    fn record(&self, file: &str, lab: &Lab) -> Outcome {
        let mut all = serde_json::Map::new();
        for node in lab.status().map_err(lab_failure)?.nodes {
            let value = if node.state == RunState::Running && !node.frozen {
                let asked = ["timeout", "10", "rolesmith-agent", "status", "--json"];
                let said = lab.output(&node.name, &asked).map_err(lab_failure)?.stdout;
                serde_json::from_str(&said).unwrap_or(serde_json::Value::String(said))
            } else {
                serde_json::Value::Null
            };
            all.insert(node.name, value);
        }
        write(
            &self.setting.directory.join(file),
            &serde_json::to_string_pretty(&all)?,
        )
    }

    fn end(mut self) -> Outcome<Result> {
        let lab = self.lab()?;
        say(self.setting, "waiting for the fleet to be whole again");
        let formation = healthy(self.setting, &lab)?;
        let primary = match formation {
            Ok(formation) => {
                let primary = formation.primary;
                self.event(
                    EventKind::Seen,
                    format!("whole; {primary} is primary"),
                    vec![],
                );
                primary
            }
            Err(missing) => {
                self.problems.push(format!("not whole again: {missing}"));
                self.name(Who::NewPrimary)?
            }
        };
        thread::sleep(AFTERWARDS);
        self.problems.extend(self.workload.dead());
        self.problems
            .extend(self.visitors.as_mut().and_then(Visitors::dead));
        self.event(EventKind::End, "the writers end".into(), vec![]);
        if let Some(visitors) = &mut self.visitors {
            visitors.stop();
        }
        self.workload.stop();
        self.record("after.json", &lab)?;
        let directory = self.setting.directory.clone();
        let (rows, events) = (directory.join("rows.txt"), directory.join("events.jsonl"));
        write(&rows, &self.setting.database.rows(&lab, &primary)?)?;
        let mut lines = String::new();
        for event in &self.events {
            lines += &serde_json::to_string(event)?;
            lines.push('\n');
        }
        write(&events, &lines)?;
        let visits = self.judge_visitors(&primary)?;
        // From the files, so that whoever has them comes to the same verdict.
        let verdict = verdict::read(&self.workload.ledgers(), &rows, &events)?;
        write(
            &directory.join("verdict.json"),
            &verdict::as_json(&verdict)?,
        )?;
        let mut problems = self.problems;
        problems.extend(shortcomings(self.drill, &verdict));
        write(
            &directory.join("problems.txt"),
            &(problems.join("\n") + "\n"),
        )?;
        Ok(Result {
            verdict,
            visits,
            problems,
        })
    }
}

/// What of a verdict is not as the drill wants it.
fn shortcomings(drill: &Drill, verdict: &Verdict) -> Vec<String> {
    let mut problems = Vec::new();
    let ms = |nanoseconds: u64| nanoseconds / 1_000_000;
    if drill.asynchronous {
        if verdict.lost.is_empty() {
            problems.push("nothing was lost, so nothing can be concluded from other drills".into());
        }
    } else if verdict.case() == Case::Failed {
        for (what, many) in [
            ("lost", verdict.lost.len()),
            ("there more than once", verdict.duplicate.len()),
            ("refused and there", verdict.ghosts.len()),
            ("written by nobody", verdict.foreign.len()),
            ("acknowledged by two primaries", verdict.double.len()),
        ] {
            if many > 0 {
                problems.push(format!("{what}: {many}"));
            }
        }
    }
    problems.extend(
        verdict
            .invalid
            .iter()
            .map(|why| format!("not valid: {why}")),
    );
    if let Some(must) = drill.must {
        let gap = ms(verdict.interruption.max);
        if gap > must {
            problems.push(format!("interrupted for {gap} ms, {must} ms are allowed"));
        }
    }
    let mut servers: Vec<&str> = verdict
        .reigns
        .iter()
        .map(|reign| reign.server.as_str())
        .collect();
    servers.sort_unstable();
    servers.dedup();
    match (drill.promotion, servers.len()) {
        (Promotion::Must, 0 | 1) => problems.push("no other server became primary".into()),
        (Promotion::MustNot, 2..) => {
            problems.push(format!(
                "another server became primary: {}",
                servers.join(", ")
            ));
        }
        _ => {}
    }
    problems
}

fn write(path: &Path, text: &str) -> Outcome {
    let mut file = File::create(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
