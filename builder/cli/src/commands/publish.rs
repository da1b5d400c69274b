//! rolesmith publish

use std::path::Path;

use rolesmith_formats::openpgp::Signer;
use rolesmith_host::{
    build as host_build,
    publish::{
        self as repository, Component, PoolFile, PublishError, PublishInput, PublishWarning,
        Published, Target,
    },
};
use rolesmith_model::{fleet_file::Upstream, plan::Plan};

use super::{build, mirror};
use crate::{
    app::App,
    args::Publish,
    project,
    report::{Failure, Outcome},
};

/// The repository, below the fleet's directory.
pub const REPO_DIR: &str = "dist/repo";

/// Builds and publishes, or does one of the other things that a repository needs.
pub fn run(app: &App, args: &Publish) -> Outcome {
    let plan = project::plan(app)?;
    let root = args.to.clone().unwrap_or_else(|| app.dir.join(REPO_DIR));
    let mut target = Target::new(&root, app.dir.join("dist/index-cache"));
    target.keep_generations = plan.fleet.repository.keep as usize;
    let suite = plan.fleet.suite.codename();
    if args.generations {
        return generations(app, &root, suite);
    }
    let keys = project::keys(app, &plan)?;
    let signers: [&dyn Signer; 1] = [keys.signer.as_ref()];
    let valid_for_seconds = u64::from(plan.fleet.repository.valid_days) * 86_400;
    if let Some(id) = args.rollback {
        let published =
            repository::rollback(&target, suite, id, app.now, valid_for_seconds, &signers)
                .map_err(failure)?;
        tell(app, &published, &root);
        return Ok(());
    }
    let outcome = build::packages(app, &plan, &keys, &args.build)?;
    build::tell(app, &outcome);
    let main: Vec<PoolFile> = host_build::read_packages(&outcome)?
        .into_iter()
        .map(PoolFile::Deb)
        .collect();
    let mut components = vec![Component {
        name: "main".into(),
        packages: main,
    }];
    if plan.fleet.repository.upstream == Upstream::Mirror {
        components.extend(mirror::components(app, &plan)?);
    }
    let published = repository::publish(
        &target,
        &input(app, &plan, components, valid_for_seconds, &signers),
    )
    .map_err(failure)?;
    tell(app, &published, &root);
    Ok(())
}

fn input<'a>(
    app: &App,
    plan: &Plan,
    components: Vec<Component>,
    valid_for_seconds: u64,
    signers: &'a [&'a dyn Signer],
) -> PublishInput<'a> {
    let fleet = &plan.fleet;
    PublishInput {
        codename: fleet.suite.codename().into(),
        suite: fleet.suite.codename().into(),
        origin: fleet.name.to_string(),
        label: fleet.name.to_string(),
        description: format!("Packages of the fleet {}", fleet.name),
        architectures: vec!["amd64".into()],
        components,
        // A Date in the future of a node's clock, or before the key was made, would be refused.
        epoch: signers.iter().map(|s| s.created()).fold(app.now, u64::max),
        valid_for_seconds,
        signers,
        also_trusted: Vec::new(),
    }
}

fn failure(error: PublishError) -> Failure {
    Failure::because(
        &error,
        "the repository is as it was; clients see what they saw before",
    )
}

fn tell(app: &App, published: &Published, root: &Path) {
    for warning in &published.warnings {
        app.say(format_args!("warning: {}", explain(warning)));
    }
    app.say(format_args!(
        "Generation {} is published in {}: {} new packages, {} files no longer needed.",
        published.generation.id,
        root.display(),
        published.new_packages,
        published.removed_files
    ));
}

fn generations(app: &App, root: &Path, suite: &str) -> Outcome {
    let all = repository::generations(root, suite).map_err(failure)?;
    if app.json {
        anstream::println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for generation in &all {
        let date = rolesmith_formats::date::Utc::from_epoch(generation.fields.date).rfc3339();
        anstream::println!("{:>6}  {date}", generation.id);
    }
    Ok(())
}

fn explain(warning: &PublishWarning) -> String {
    let date = |epoch: u64| rolesmith_formats::date::Utc::from_epoch(epoch).rfc3339();
    match warning {
        PublishWarning::DateWentBack { previous, now } => format!(
            "the date went back from {} to {}: clients keep what they have until it is later again",
            date(*previous),
            date(*now)
        ),
        PublishWarning::KeyExpiresSoon {
            fingerprint,
            expires,
        } => format!(
            "the key {fingerprint} expires on {}: ship the next one to the nodes soon",
            date(*expires)
        ),
        other => format!("{other:?}"),
    }
}
