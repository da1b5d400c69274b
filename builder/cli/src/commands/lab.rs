//! rolesmith lab

pub mod args;
mod drill;
mod fault;
mod members;
mod outside;
pub mod place;
mod turn;
mod verdict;
mod visits;
mod whole;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use rolesmith_formats::{cloud_config, seed::Seed};
use rolesmith_host::{build::PACKAGES_DIR, lab_authority::LabAuthority};
use rolesmith_lab::{
    BakedTree, Lab, LabError, LabReport, LabSpec, Network, NodeReport, NodeSpec, NodeStatus,
    Progress, Purpose, Repository, RunState, TreeSpec, UpOptions,
};
use rolesmith_model::{facts::Origin, fleet::Certificates, ids::ImageName, plan::Plan};

use self::{
    args::LabCommand,
    outside::outside,
    place::{lab_root, open, state_dir},
};
use super::{bake, publish, user_data};
use crate::{
    app::{App, line, out},
    clusters,
    progress::Steps,
    project,
    report::{Failure, Outcome},
};

/// The lab's stand-in for the internet side of the nodes.
const PUBLIC_NETWORK: &str = "203.0.113.0/24";

/// Seconds that a node may take to boot when it is alone.
const START_LIMIT: u64 = 600;

/// Does what the command says.
pub fn run(app: &App, args: &crate::args::Lab) -> Outcome {
    match &args.command {
        LabCommand::Up {
            fresh_tree,
            baked,
            timeout,
            nodes,
        } => up(
            app,
            &Up {
                fresh_tree: *fresh_tree,
                baked: *baked,
                timeout: *timeout,
                only: nodes,
            },
        ),
        LabCommand::Status => status(app),
        LabCommand::Exec { node, command } => exec(app, node, command),
        LabCommand::Logs { node } => logs(app, node),
        LabCommand::Kill { node, crash } => fault::kill(app, node, *crash),
        LabCommand::Start { node } => up(app, &Up::alone(node)),
        LabCommand::Freeze { node } => fault::freeze(app, node),
        LabCommand::Thaw { node } => fault::thaw(app, node),
        LabCommand::Cut {
            node,
            from,
            one_way,
        } => fault::cut(app, node, from.as_deref(), *one_way),
        LabCommand::Mend { node } => fault::mend(app, node.as_deref()),
        LabCommand::Replace { node } => {
            let plan = project::plan(app)?;
            project::node(&plan, node)?;
            turn::check(app, &plan, &open(app)?, node)?;
            fault::renew(app, node)?;
            up(app, &Up::alone(node))
        }
        LabCommand::Drill {
            names,
            all,
            runs,
            control,
            artefacts,
        } => drill::run(
            app,
            &drill::Request {
                names,
                all: *all,
                runs: *runs,
                control: *control,
                artefacts: artefacts.as_deref(),
            },
        ),
        LabCommand::Verdict {
            ledgers,
            rows,
            events,
        } => verdict::run(app, ledgers, rows, events),
        LabCommand::Visits { directory } => visits::run(app, directory),
        LabCommand::Down => down(app),
        LabCommand::Write { plan } => {
            let plan = serde_json::from_slice(&std::fs::read(plan)?)?;
            Ok(rolesmith_lab::drill::write(&plan)?)
        }
        LabCommand::Visit { plan } => {
            let plan = serde_json::from_slice(&std::fs::read(plan)?)?;
            Ok(rolesmith_lab::drill::web::visit(&plan)?)
        }
        LabCommand::Forward {
            namespace,
            forwards,
        } => Ok(rolesmith_lab::forward(namespace, forwards)?),
        LabCommand::Serve { dir, listen } => {
            let listen = listen.parse().map_err(|_| {
                Failure::new(
                    format!("{listen:?} is not ADDRESS:PORT"),
                    "write it as 10.77.0.1:80",
                )
            })?;
            Ok(rolesmith_lab::serve(dir, listen)?)
        }
        LabCommand::Answer { dir } => Ok(rolesmith_lab::answer_stdin(dir)?),
    }
}

/// What to do about what the lab says.
pub fn lab_failure(error: LabError) -> Failure {
    let help = match &error {
        LabError::NoLab(_) => "boot it with `rolesmith lab up`",
        LabError::Busy(_) => "wait for it, or end that program",
        LabError::Missing(_) => "see docs/lab.md for what a lab needs and why",
        LabError::NoNode(_) => "`rolesmith lab status` lists the nodes",
        LabError::NotRunning(_) => "`rolesmith lab start NODE` boots it",
        LabError::Frozen(_) => "`rolesmith lab thaw NODE` lets it go on",
        _ => "look at `rolesmith lab logs NODE`; `rolesmith lab down` clears everything away",
    };
    Failure::because(&error, help)
}

/// What is to be booted, and how.
struct Up<'a> {
    fresh_tree: bool,
    baked: bool,
    /// Seconds.
    timeout: u64,
    /// These nodes; nothing for all.
    only: &'a [String],
}

impl<'a> Up<'a> {
    /// This node, as it was.
    fn alone(node: &'a String) -> Self {
        Self {
            fresh_tree: false,
            baked: false,
            timeout: START_LIMIT,
            only: std::slice::from_ref(node),
        }
    }
}

fn up(app: &App, wanted: &Up<'_>) -> Outcome {
    let steps = Steps::new(app);
    let only = wanted.only;
    let report = bring_up(app, wanted, &steps);
    let ended = Instant::now();
    let mut whole = None;
    if let Ok(report) = &report {
        let lab = open(app)?;
        if is_complete(app, &lab)? {
            // Power goes on when everything else is prepared.
            let nodes = report.phases.iter().filter(|phase| phase.name == "nodes");
            let since = nodes.map(|phase| phase.seconds).sum();
            let started = ended
                .checked_sub(Duration::from_secs_f64(since))
                .unwrap_or(ended);
            whole = Some(whole::wait(&lab, started, &steps)?);
        } else {
            first_look(&lab, only, &steps)?;
        }
    }
    steps.finish();
    let report = report?;
    if app.json {
        line(format_args!("{}", serde_json::to_string_pretty(&report)?))?;
    } else {
        tell(&report)?;
        for (part, since) in whole.iter().flat_map(|whole| &whole.since) {
            line(format_args!(
                "whole: {part:<21} {:>6.1} s",
                since.as_secs_f64()
            ))?;
        }
    }
    if let Some(missing) = whole.and_then(|whole| whole.missing) {
        return Err(Failure::new(
            format!("the fleet is not whole: {missing}"),
            "see `rolesmith lab status` and `rolesmith lab logs NODE`",
        ));
    }
    if !report.is_clean() {
        return Err(Failure::new(
            "a node has something to complain about",
            "look at `rolesmith lab logs NODE`",
        ));
    }
    if let Some(told) = members::ask(&open(app)?)?
        && let Err(why) = members::write_down(app, &told)
    {
        // The machines run all the same.
        app.say(format_args!("warning: {}", why.text()));
    }
    if !report.forwards.is_empty() {
        app.say(format_args!(
            "The load balancer is at {}.",
            outside::urls(&report.forwards).join(" and ")
        ));
        for text in outside::site_lines(&sites(app)?, &report.forwards) {
            app.say(text);
        }
    }
    app.say("Every node runs. Try: rolesmith lab status; rolesmith lab exec NODE -- rolesmith-agent status");
    Ok(())
}

/// Boots the nodes named, or all.
fn bring_up(app: &App, wanted: &Up<'_>, progress: &dyn Progress) -> Outcome<LabReport> {
    let only = wanted.only;
    // Everything that can be wrong is found before anything is started.
    rolesmith_lab::preflight().map_err(|missing| {
        Failure::new(
            missing,
            "the lab boots real machines and needs root; `make tour` shows the builder without it",
        )
    })?;
    let plan = project::plan(app)?;
    place::not_renamed(app, plan.fleet.name.as_str())?;
    members::warn_of_closed_genesis(app, plan.fleet.name.as_str())?;
    for name in only.iter().filter(|name| !outside::is(&plan, name)) {
        project::node(&plan, name)?;
    }
    // As root, nothing is made: it would be root's in somebody's secrets/.
    let keys = project::kept(app, &plan)?;
    let repo = app.dir.join(publish::REPO_DIR);
    if !repo.join("dists").is_dir() {
        return Err(Failure::new(
            format!("{} does not exist", repo.display()),
            "publish first: `rolesmith publish` (and `rolesmith mirror` before it where upstream = \"mirror\")",
        ));
    }
    let mut seeds = Vec::new();
    for node in &plan.nodes {
        let unknown = plan.fleet.nodes[&node.name].address.is_none();
        if unknown && !only.is_empty() && !only.contains(&node.name.to_string()) {
            continue;
        }
        seeds.push(project::seed(&plan, &keys, node, Origin::Seed)?);
    }
    let mut spec = spec(app, &plan, &seeds)?;
    if wanted.baked {
        // Many nodes have one image.
        let mut trees: BTreeMap<&ImageName, BakedTree> = BTreeMap::new();
        let booted = |node: &&mut NodeSpec| only.is_empty() || only.contains(&node.name);
        for node in spec.nodes.iter_mut().filter(booted) {
            let image = bake::boot::image_of(&plan, project::node(&plan, &node.name)?)?;
            if !trees.contains_key(&image.name) {
                let layer = bake::tree_of(app, &plan, &keys, image, progress)?;
                let baked = BakedTree {
                    key: layer.sha256,
                    archive: layer.path,
                };
                trees.insert(&image.name, baked);
            }
            node.baked = trees.get(&image.name).cloned();
        }
    }
    let options = UpOptions {
        refresh_tree: wanted.fresh_tree,
        boot_limit: Duration::from_secs(wanted.timeout),
        only: (!only.is_empty()).then(|| only.to_vec()),
        ..UpOptions::default()
    };
    rolesmith_lab::up(&spec, &options, progress).map_err(lab_failure)
}

fn spec(app: &App, plan: &Plan, seeds: &[Seed]) -> Outcome<LabSpec> {
    let fleet = &plan.fleet;
    let rest = fleet.repository.url.strip_prefix("http://").ok_or_else(|| {
        Failure::new(
            "the lab serves the repository over plain HTTP, and its URL begins with https://",
            "for the lab use a fleet whose [repository] url begins with http://; apt verifies signatures either way",
        )
    })?;
    let authority = rest.split('/').next().unwrap_or(rest);
    if rest.len() != authority.len() {
        return Err(Failure::new(
            format!(
                "the lab serves the repository at the root of {authority}, and its URL has a path"
            ),
            "for the lab use a fleet whose [repository] url has no path",
        ));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (
            host,
            port.parse()
                .map_err(|_| Failure::new("the repository's port is no number", "mend its URL"))?,
        ),
        None => (authority, 80),
    };
    let mut nodes = Vec::new();
    for seed in seeds {
        let node = &fleet.nodes[seed.node.as_str()];
        let address: Ipv4Addr = node.address.ok_or_else(|| {
            Failure::new(
                format!("node {} has no address", seed.node),
                format!("the lab needs one: rolesmith record {} ADDRESS", seed.node),
            )
        })?;
        nodes.push(NodeSpec {
            name: seed.node.clone(),
            address,
            roles: plan
                .node(&seed.node)
                .map(|n| n.roles.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            user_data: user_data::render(seed)?,
            meta_data: cloud_config::meta_data(seed),
            memory_limit: Some(u64::from(node.memory) << 20),
            baked: None,
        });
    }
    let parse = |text: &str| {
        text.parse()
            .map_err(|e: String| Failure::new(e, "mend [network] private"))
    };
    let repo = std::path::absolute(app.dir.join(publish::REPO_DIR))?;
    let program = std::env::current_exe()?;
    let state_dir = state_dir(app, fleet.name.as_str())?;
    let authority = lab_authority(plan, &state_dir)?;
    Ok(LabSpec {
        name: fleet.name.to_string(),
        tree: TreeSpec {
            purpose: Purpose::Node,
            suite: fleet.suite.codename().into(),
            cache_dir: lab_root(),
            key_extra: None,
            sources: None,
        },
        network: Network {
            private_prefix: parse(&fleet.network.private.to_string())?,
            public_prefix: parse(PUBLIC_NETWORK)?,
            private_interface: fleet.network.private_interface.clone(),
            public_interface: fleet.network.public_interface.clone(),
        },
        nodes,
        outside: outside(plan, &program, authority),
        repository: Some(Repository {
            dir: repo,
            host: host.to_owned(),
            port,
            server: [program.into_os_string(), "lab".into(), "__serve".into()].to_vec(),
        }),
        hosts: Vec::new(),
        state_dir,
    })
}

/// How the lab's certificate authority shows who it is, where the fleet asks that one; the same for as long as the lab lives.
fn lab_authority(plan: &Plan, state_dir: &Path) -> Outcome<Option<LabAuthority>> {
    let certificates = plan.fleet.certificates.as_ref();
    if !certificates.is_some_and(|certificates| certificates.lab) {
        return Ok(None);
    }
    let path = state_dir.join(rolesmith_lab::KEPT);
    match LabAuthority::keep(&path, Certificates::LAB_HOST) {
        Ok(authority) => Ok(Some(authority)),
        Err(error) => Err(Failure::new(
            error.to_string(),
            "the lab's directory has to be writable",
        )),
    }
}

fn tell(report: &LabReport) -> Outcome {
    for phase in &report.phases {
        line(format_args!("{:<28} {:>6.1} s", phase.name, phase.seconds))?;
    }
    for node in report.nodes.iter().chain(&report.outside) {
        let state = if node.is_clean() {
            "running"
        } else {
            "with complaints"
        };
        line(format_args!("{:<16} {state}{}", node.name, seconds(node)))?;
        for complaint in node.complaints() {
            line(format_args!("    {complaint}"))?;
        }
    }
    Ok(())
}

fn seconds(node: &NodeReport) -> String {
    let shown = ["launch", "boot", "apt"];
    let parts: Vec<String> = node
        .phases
        .iter()
        .filter(|p| shown.contains(&p.name.as_str()))
        .map(|p| format!("{} {:.1} s", p.name, p.seconds))
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

/// The fleet's sites, as its files say now; none while these are wrong, which is not what was asked.
fn sites(app: &App) -> Outcome<Vec<outside::SiteUrl>> {
    let plan = project::inspect(app)?.plan;
    Ok(plan.map_or_else(Vec::new, |plan| outside::sites(&plan)))
}

fn status(app: &App) -> Outcome {
    let lab = open(app)?;
    let status = lab.status().map_err(lab_failure)?;
    let told = members::ask(&lab)?;
    if app.json {
        let mut value = serde_json::to_value(&status)?;
        if status.outside.is_some() {
            value["outside"]["backends"] = serde_json::to_value(lab.backends().ok())?;
            value["outside"]["sites"] = serde_json::to_value(sites(app)?)?;
        }
        value["fleet"] = serde_json::to_value(told.as_ref().map(|told| &told.status))?;
        line(format_args!("{}", serde_json::to_string_pretty(&value)?))?;
        return told.map_or(Ok(()), |told| members::write_down(app, &told));
    }
    line(format_args!(
        "{:<16} {:<9} {:<15} {:<15} {:>8}  {:<22} ROLES",
        "NODE", "STATE", "PRIVATE", "PUBLIC", "MEMORY", "AGENT"
    ))?;
    for node in &status.nodes {
        let agent = if node.state == RunState::Running && !node.frozen {
            agent(&lab, &node.name)
        } else {
            "-".to_owned()
        };
        row(node, &agent, &node.roles.join(", "))?;
    }
    if let Some(outside) = &status.outside {
        row(&outside.machine, "-", "the load balancer")?;
        let backends = lab.backends().unwrap_or_default();
        for text in outside::lines(outside, &sites(app)?, &backends) {
            line(text)?;
        }
    }
    for cut in &status.cuts {
        line(format_args!("cut: {cut}"))?;
    }
    if let Some(repository) = &status.repository {
        line(format_args!(
            "repository on {repository}, network namespace {}",
            status.namespace.display()
        ))?;
    }
    if let Some(told) = told {
        line(format_args!(
            "\nThe fleet as {} sees it:",
            told.status.asked
        ))?;
        out(told.status.table())?;
        members::write_down(app, &told)?;
    }
    Ok(())
}

/// A machine's line in the table.
fn row(machine: &NodeStatus, agent: &str, roles: &str) -> Outcome {
    let state = match machine.state {
        RunState::Starting => "starting",
        RunState::Running if machine.frozen => "frozen",
        RunState::Running => "running",
        RunState::Stopped => "stopped",
    };
    let memory = machine.memory.map_or_else(
        || "-".to_owned(),
        |memory| format!("{} MiB", memory.in_use >> 20),
    );
    line(format_args!(
        "{:<16} {state:<9} {:<15} {:<15} {memory:>8}  {agent:<22} {roles}",
        machine.name,
        machine.address.to_string(),
        machine.public_address.to_string(),
    ))
}

/// What the node's own agent says, in a word or two.
fn agent(lab: &Lab, node: &str) -> String {
    let Ok(output) = lab.output(node, &["rolesmith-agent", "status", "--json"]) else {
        return "not installed".into();
    };
    let Ok(value) = serde_json::from_str::<serde_json::Value>(&output.stdout) else {
        return "not installed".into();
    };
    let boolean = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_bool);
    if boolean("/enrolled") == Some(false) {
        return "not enrolled".into();
    }
    let state = value
        .pointer("/report/state")
        .and_then(|state| state.as_str())
        .unwrap_or("waiting");
    match boolean("/health/healthy") {
        Some(true) => format!("{state}, healthy"),
        Some(false) => format!("{state}, not healthy"),
        None => state.to_owned(),
    }
}

fn exec(app: &App, node: &str, command: &[String]) -> Outcome {
    use std::io::IsTerminal as _;
    let lab = open(app)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let argv: Vec<OsString> = command.iter().map(OsString::from).collect();
    match lab.exec(node, &argv, terminal).map_err(lab_failure)? {
        0 => Ok(()),
        status => Err(Failure::Status(status)),
    }
}

fn logs(app: &App, node: &str) -> Outcome {
    let lab = open(app)?;
    let console = lab.console_log(node).map_err(lab_failure)?;
    line(format_args!("console ({}):", console.display()))?;
    if let Ok(bytes) = std::fs::read(&console) {
        line(format_args!("{}", String::from_utf8_lossy(&bytes)))?;
    }
    line(format_args!("journal:"))?;
    lab.logs(node, &["--boot".into()]).map_err(lab_failure)?;
    Ok(())
}

/// Whether every node that is declared runs.
fn is_complete(app: &App, lab: &Lab) -> Outcome<bool> {
    let nodes = lab.status().map_err(lab_failure)?.nodes;
    let declared = project::inspect(app)?
        .plan
        .map_or(0, |plan| plan.nodes.len());
    let awake = |node: &NodeStatus| node.state == RunState::Running && !node.frozen;
    Ok(nodes.len() >= declared && nodes.iter().all(awake))
}

/// Each agent looks at its node's health every few seconds; the first look of a part of a fleet is awaited, so that the status
/// that people ask for next is not older than the boot. Such a part may have to wait for the rest, which is not to come by
/// waiting here.
fn first_look(lab: &Lab, only: &[String], steps: &Steps) -> Outcome {
    for node in lab.status().map_err(lab_failure)?.nodes {
        let awake = node.state == RunState::Running && !node.frozen;
        if awake && (only.is_empty() || only.contains(&node.name)) {
            steps.say(&node.name, "waiting for the agent's first look");
            // A fleet without the agent has nobody to ask.
            let _ = lab.output(&node.name, &["rolesmith-agent", "wait", "--timeout", "10"]);
        }
    }
    Ok(())
}

fn down(app: &App) -> Outcome {
    let (name, state_dir) = place::to_end(app)?;
    let steps = Steps::new(app);
    let was = rolesmith_lab::down(&state_dir, &steps);
    steps.finish();
    if was.map_err(lab_failure)? {
        app.say(format_args!(
            "The lab of {name} is gone; {PACKAGES_DIR} and the repository are as they were."
        ));
        if let Ok(lock) = clusters::lock(app)
            && let Some(way_out) = clusters::before_a_new_beginning(&lock)
        {
            app.say(format_args!(
                "{way_out}, before the next `rolesmith lab up`."
            ));
        }
    } else {
        app.say(format_args!("There is no lab of {name}."));
    }
    Ok(())
}
