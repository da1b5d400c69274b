//! What the nodes' own cloud-init says of their seeds.

use std::{num::NonZero, path::PathBuf, sync::Mutex, thread};

use rolesmith_bake::{
    BakeError,
    execute::{DataSource, Executed, Execution, Repository, execute, plain_tree},
};
use rolesmith_formats::seed::Seed;
use rolesmith_model::{
    facts::Origin,
    finding::{Finding, Findings, Place},
    plan::Plan,
    source::SourceId,
};

use crate::{
    app::App,
    commands::{bake, publish, user_data},
    progress::Steps,
    project,
    report::{Failure, Outcome},
};

/// Executions at a time at most: each has its tree in memory, a gigabyte where roles are baked in.
const AT_ONCE: usize = 4;

/// A seed, and where it is executed.
struct Job {
    node: String,
    seed: Seed,
    user_data: String,
    tree: PathBuf,
    source: DataSource,
}

/// Executes the seed of every node, as every data source has it.
pub fn seeds(app: &App, plan: &Plan, fleet: SourceId) -> Outcome<Vec<Finding>> {
    let keys = project::kept(app, plan)?;
    let steps = Steps::new(app);
    let mut jobs = Vec::new();
    for node in &plan.nodes {
        let seed = project::seed(plan, &keys, node, Origin::Seed)?;
        let user_data = user_data::render(&seed)?;
        let tree = match bake::known_tree_of(app, plan, &keys, node) {
            Some(layer) => layer.path,
            None => plain(app, plan, &steps)?,
        };
        jobs.extend(DataSource::ALL.map(|source| Job {
            node: node.name.to_string(),
            seed: seed.clone(),
            user_data: user_data.clone(),
            tree: tree.clone(),
            source,
        }));
    }
    let repository = repository(app, plan)?;
    if repository.is_none() {
        app.say(
            "Nothing is published that could be served here over plain HTTP: whether apt finds what the seeds install is not tried.",
        );
    }
    let done = all(&jobs, plan, repository.as_ref(), &steps);
    steps.finish();
    let mut findings = Findings::new();
    for (job, executed) in jobs.iter().zip(done) {
        let node = &plan.fleet.nodes[job.node.as_str()];
        for complaint in executed?.complaints {
            findings.error(
                "seed::cloud-init",
                Place::new(fleet, node.span.clone()),
                format!("cloud-init complains of the seed of {}: {complaint}", job.node),
                format!(
                    "the cloud-init of Debian {} executed it as {} has it",
                    plan.fleet.suite,
                    job.source.name()
                ),
                "mend what the seed takes from fleet.toml, or publish what it installs; `rolesmith user-data` shows it",
            );
        }
    }
    Ok(findings.into_sorted())
}

/// Runs the jobs, as many at a time as there are processors, and returns what came of each.
fn all(
    jobs: &[Job],
    plan: &Plan,
    repository: Option<&Repository>,
    steps: &Steps,
) -> Vec<Outcome<Executed>> {
    let network = &plan.fleet.network;
    let waiting = Mutex::new(jobs.iter().enumerate());
    let mut done: Vec<(usize, Result<Executed, BakeError>)> = Vec::new();
    let work = || {
        let mut done = Vec::new();
        loop {
            let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
            let Some((number, job)) = next else {
                return done;
            };
            steps.say(
                &job.node,
                &format!("executing its seed ({})", job.source.name()),
            );
            let executed = execute(&Execution {
                tree: &job.tree,
                seed: &job.seed,
                user_data: &job.user_data,
                source: job.source,
                interfaces: [&network.private_interface, &network.public_interface],
                repository,
            });
            if let Ok(executed) = &executed {
                let seconds = executed.took.as_secs_f64();
                steps.say(&job.node, &format!("{} {seconds:.1} s", job.source.name()));
            }
            done.push((number, executed));
        }
    };
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(AT_ONCE);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(some) => done.extend(some),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter()
        .map(|(_, executed)| executed.map_err(failure))
        .collect()
}

fn failure(error: BakeError) -> Failure {
    let help = match &error {
        BakeError::Failed { .. } => {
            "it needs namespaces: run it as root, or allow user namespaces (docs/seeds.md); ip(8) comes with iproute2".to_owned()
        }
        other => other.help(),
    };
    Failure::because(&error, help)
}

/// Debian's own tree, where the node's image was not baked.
fn plain(app: &App, plan: &Plan, steps: &Steps) -> Outcome<PathBuf> {
    let packages: Vec<String> = rolesmith_lab::tree::node_packages()
        .iter()
        .map(|package| (*package).to_owned())
        .collect();
    let tree = plain_tree(
        &app.cache.join("images"),
        plan.fleet.suite.codename(),
        &packages,
        &|text| steps.say("", text),
    );
    Ok(tree.map_err(bake::failure)?.path)
}

/// What is published here, if it can be served without a certificate.
fn repository(app: &App, plan: &Plan) -> Outcome<Option<Repository>> {
    let directory = app.dir.join(publish::REPO_DIR);
    let Some(rest) = plan.fleet.repository.url.strip_prefix("http://") else {
        return Ok(None);
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    if rest.len() != authority.len() || !directory.join("dists").is_dir() {
        return Ok(None);
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(80)),
        None => (authority, 80),
    };
    let program = std::env::current_exe()?;
    Ok(Some(Repository {
        directory: std::path::absolute(directory)?,
        host: host.to_owned(),
        port,
        server: vec![
            program.to_string_lossy().into_owned(),
            "lab".into(),
            "__serve".into(),
        ],
    }))
}
