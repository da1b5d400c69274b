//! rolesmith lab drill

mod catalogue;
mod database;
mod engine;
mod step;
mod web;
mod workload;

use std::{
    fmt::Write as _,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use rolesmith_lab::drill::Verdict;
use serde_json::json;

use self::{
    catalogue::{all, find},
    engine::{Setting, run as run_once},
    step::{Drill, Visits},
    web::Web,
};
pub use self::{
    database::Database,
    engine::VISITS,
    web::{BALANCER, ORDERS, VIEWS},
};
use super::visits;
use crate::{
    app::{App, clock, line},
    progress::Steps,
    project,
    report::{Failure, Outcome, plural},
};

/// Where the files of drills go, in the fleet's directory, unless another place is named.
const ARTEFACTS: &str = "dist/drills";

/// What was asked for.
pub struct Request<'a> {
    /// These drills.
    pub names: &'a [String],
    /// All that the fleet can hold.
    pub all: bool,
    /// How often each.
    pub runs: u32,
    /// Seconds of control before each fault.
    pub control: u64,
    /// Where the files go.
    pub artefacts: Option<&'a Path>,
}

/// Holds the drills, or lists them where none is named.
pub fn run(app: &App, request: &Request<'_>) -> Outcome {
    if request.names.is_empty() && !request.all {
        return list(app);
    }
    let plan = project::plan(app)?;
    let database = Database::of(&plan)?;
    let web = Web::of(&plan);
    let mut chosen = Vec::new();
    for name in request.names {
        let drill = find(name).ok_or_else(|| {
            Failure::new(
                format!("there is no drill {name:?}"),
                "`rolesmith lab drill` lists them",
            )
        })?;
        if let Some(lack) = lack(drill, &database, web.as_ref()) {
            return Err(Failure::new(
                format!("{name} takes {lack}"),
                "choose a drill that fits the fleet, or `--all` for those that do",
            ));
        }
        chosen.push(drill);
    }
    if request.all {
        for drill in all() {
            match lack(drill, &database, web.as_ref()) {
                Some(lack) => app.say(format_args!("{} is left out: it takes {lack}", drill.name)),
                None => chosen.push(drill),
            }
        }
    }
    let artefacts = match request.artefacts {
        Some(directory) => directory.to_owned(),
        None => app.dir.join(ARTEFACTS).join(clock()?.to_string()),
    };
    let held = hold(app, &database, web.as_ref(), &chosen, request, &artefacts);
    // Root's files would be in the way of whoever owns the fleet.
    give_away(app, &artefacts)?;
    let failed = held.inspect_err(|_| {
        app.say("The drill was not held to its end: `rolesmith lab status` shows what is off, frozen or cut.");
    })?;
    app.say(format_args!(
        "Ledgers, events and rows are in {}.",
        artefacts.display()
    ));
    if failed > 0 {
        return Err(Failure::new(
            format!("{} did not pass", plural(failed, "run", "runs")),
            "problems.txt and verdict.json of each run say why; `rolesmith lab logs NODE` says more",
        ));
    }
    Ok(())
}

/// Holds drills one after the other; gives how many runs did not pass.
fn hold(
    app: &App,
    database: &Database,
    web: Option<&Web>,
    drills: &[&'static Drill],
    request: &Request<'_>,
    artefacts: &Path,
) -> Outcome<usize> {
    let mut failed = 0;
    let mut told = Vec::new();
    for drill in drills {
        let mut verdicts = Vec::new();
        for number in 1..=request.runs {
            let steps = Steps::new(app);
            let setting = Setting {
                app,
                database,
                web,
                steps: &steps,
                directory: artefacts.join(drill.name).join(number.to_string()),
                control: Duration::from_secs(request.control),
            };
            let result = run_once(&setting, drill);
            steps.finish();
            let result = result?;
            let passed = result.problems.is_empty();
            failed += usize::from(!passed);
            if app.json {
                told.push(json!({
                    "drill": drill.name,
                    "run": number,
                    "passed": passed,
                    "problems": result.problems,
                    "must_ms": drill.must,
                    "aim_ms": drill.aim,
                    "verdict": result.verdict,
                    "visits": result.visits,
                }));
            } else {
                line(one_line(drill, number, &result.problems, &result.verdict))?;
                if let Some(visits) = &result.visits {
                    for told in visits::text(visits).lines() {
                        line(format_args!("    {told}"))?;
                    }
                }
            }
            verdicts.push(result.verdict);
        }
        if !app.json && request.runs > 1 {
            line(summary(drill, &verdicts))?;
        }
    }
    if app.json {
        line(serde_json::to_string_pretty(&told)?)?;
    }
    Ok(failed)
}

fn one_line(drill: &Drill, number: u32, problems: &[String], verdict: &Verdict) -> String {
    let word = if problems.is_empty() {
        "passed"
    } else {
        "FAILED"
    };
    let mut text = format!(
        "{:<22} {number:>3} {word:<7} gap {:>6} ms (median {:>6}), control {:>4} ms; {} ok, {} lost, {} doubled",
        drill.name,
        verdict.interruption.max / 1_000_000,
        verdict.interruption.median / 1_000_000,
        verdict.control.max / 1_000_000,
        verdict.ok,
        verdict.lost.len(),
        verdict.double.len()
    );
    for problem in problems {
        let _ = write!(text, "\n    {problem}");
    }
    text
}

/// Median and maximum over all writers of all runs.
fn summary(drill: &Drill, verdicts: &[Verdict]) -> String {
    let mut gaps: Vec<u64> = verdicts
        .iter()
        .flat_map(|verdict| verdict.interruption.writers.values().copied())
        .collect();
    gaps.sort_unstable();
    let ms = |gap: Option<&u64>| gap.copied().unwrap_or(0) / 1_000_000;
    let limits = match (drill.must, drill.aim) {
        (Some(must), Some(aim)) => format!(" (must {must}, aim {aim})"),
        (Some(must), None) => format!(" (must {must})"),
        _ => String::new(),
    };
    format!(
        "{:<22} all         gap {:>6} ms (median {:>6}){limits}; {} lost, {} doubled",
        drill.name,
        ms(gaps.last()),
        ms(gaps.get(gaps.len() / 2)),
        verdicts
            .iter()
            .map(|verdict| verdict.lost.len())
            .sum::<usize>(),
        verdicts
            .iter()
            .map(|verdict| verdict.double.len())
            .sum::<usize>()
    )
}

/// What a drill takes that the fleet has not.
fn lack(drill: &Drill, database: &Database, web: Option<&Web>) -> Option<String> {
    if drill.visits != Visits::None && web.is_none_or(|web| web.edges.len() < 2) {
        return Some("the example's shop on two nodes behind a load balancer".to_owned());
    }
    if database.nodes.len() < drill.data {
        return Some(plural(drill.data, "data node", "data nodes"));
    }
    (database.witnesses.len() < drill.witnesses)
        .then(|| plural(drill.witnesses, "witness", "witnesses"))
}

fn list(app: &App) -> Outcome {
    if app.json {
        let drills: Vec<_> = all()
            .map(|drill| {
                json!({
                    "name": drill.name,
                    "about": drill.about,
                    "data_nodes": drill.data,
                    "witnesses": drill.witnesses,
                    "must_ms": drill.must,
                    "aim_ms": drill.aim,
                    "visitors": drill.visits != Visits::None,
                })
            })
            .collect();
        return line(serde_json::to_string_pretty(&json!({ "drills": drills }))?);
    }
    for drill in all() {
        line(format_args!("{:<22} {}", drill.name, drill.about))?;
    }
    Ok(())
}

/// Gives a tree to whoever owns the fleet's directory.
fn give_away(app: &App, tree: &Path) -> Outcome {
    let owner = std::fs::metadata(&app.dir)?;
    let mut waiting: Vec<PathBuf> = vec![tree.to_owned()];
    // dist/ and dist/drills too, where they are new.
    waiting.extend(
        tree.ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(&app.dir) && **above != *app.dir)
            .map(Path::to_owned),
    );
    let above = waiting.split_off(1);
    for directory in above {
        chown(&directory, Some(owner.uid()), Some(owner.gid()))?;
    }
    while let Some(path) = waiting.pop() {
        let Ok(kind) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if kind.is_symlink() {
            continue;
        }
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        if kind.is_dir() {
            for entry in std::fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(())
}
