//! rolesmith publish

use std::path::{Path, PathBuf};

use rolesmith_formats::{date::Utc, openpgp::Signer};
use rolesmith_host::{
    build as host_build,
    publish::{
        self as repository, Component, Founded, LowerVersion, PublishError, PublishInput,
        PublishWarning, Published, Target,
    },
};
use rolesmith_model::{fleet_file::Upstream, plan::Plan};

use super::{build, mirror, user_data};
use crate::{
    app::{self, App},
    args::Publish,
    clusters, project,
    report::{Failure, Outcome, plural},
    upkeep,
};
use rolesmith_host::clusters::FILE as LOCK;

/// The repository, below the fleet's directory.
pub const REPO_DIR: &str = "dist/repo";

/// Builds and publishes, or does one of the other things that a repository needs.
pub fn run(app: &App, args: &Publish) -> Outcome {
    let root = match &args.to {
        Some(to) => directory(to)?,
        None => app.dir.join(REPO_DIR),
    };
    let _lock = build::lock(app);
    let plan = project::built_plan(app)?;
    let mut target = Target::new(&root, app.dir.join("dist/index-cache"));
    target.keep_generations = plan.fleet.repository.keep as usize;
    // Whoever sets SOURCE_DATE_EPOCH wants this Date; the clock alone must not go back.
    target.exact_date = std::env::var_os("SOURCE_DATE_EPOCH").is_some();
    let suite = plan.fleet.suite.codename();
    if args.generations {
        return generations(app, &root, suite);
    }
    // Before anything is made or built.
    let mirrored = if args.rollback.is_none() && plan.fleet.repository.upstream == Upstream::Mirror
    {
        mirror::components(app, &plan)?
    } else {
        Vec::new()
    };
    // Before versions are decided for facts that would not be published.
    let founded = if args.rollback.is_none() {
        let founded = clusters::founded(app, args.abandon_database.as_deref())?;
        repository::check_founded(&root, suite, &founded).map_err(failure)?;
        if let Founded::Abandoned(id) = &founded {
            clusters::forget_database(app, id)?;
        }
        founded
    } else {
        Founded::Nothing
    };
    let keys = project::keys(app, &plan)?;
    let signers: [&dyn Signer; 1] = [keys.signer.as_ref()];
    let valid_for_seconds = u64::from(plan.fleet.repository.valid_days) * 86_400;
    if let Some(id) = args.rollback {
        let published =
            repository::rollback(&target, suite, id, app.now, valid_for_seconds, &signers)
                .map_err(failure)?;
        return tell(app, &published, &root);
    }
    let authorities = keys.secrets.authorities()?;
    if let Some(text) = upkeep::reminder(&authorities, app.now) {
        app.say(text);
    }
    let outcome = build::packages(app, &plan, &keys, &args.build)?;
    build::tell(app, &outcome);
    let main = host_build::read_packages(&outcome)?;
    let mut components = vec![Component {
        name: "main".into(),
        packages: main,
    }];
    components.extend(mirrored);
    let mut trusted = Vec::new();
    for armored in build::also_trusted(app, &plan)? {
        trusted.push(host_build::public_forms(&armored)?.fingerprint);
    }
    let before = repository::published_database(&root, suite).map_err(failure)?;
    let mut input = input(app, &plan, components, valid_for_seconds, &signers);
    input.also_trusted = trusted;
    input.founded = founded;
    let published = repository::publish(&target, &input).map_err(failure)?;
    user_data::published(app)?;
    tell(app, &published, &root)?;
    if let (None, Some(id)) = (before, &published.generation.database) {
        app.say(format_args!(
            "Genesis is closed: from now on the fleet's database is {id}, and nodes found no other."
        ));
    }
    if let Some(step) = upkeep::under_way(&authorities) {
        app.say(format_args!(
            "The CA is being replaced: when all members have taken these facts, go on with `rolesmith ca {step}`."
        ));
    }
    Ok(())
}

/// The directory that `--to` names. What looks like a URL would become a directory of that name, and nobody would find it.
fn directory(to: &Path) -> Outcome<PathBuf> {
    let scheme = to.to_str().and_then(|text| text.split_once(':'));
    match scheme {
        Some((scheme, rest))
            if rest.starts_with("//") && scheme.chars().all(|c| c.is_ascii_alphanumeric()) =>
        {
            Err(Failure::new(
                format!(
                    "{} is no directory: publishing to {scheme} is not there yet",
                    to.display()
                ),
                "publish to a directory and copy it with `rsync -a` or `aws s3 sync`: first pool/, then dists/, without deleting; last \
                 dists/ and pool/ again, deleting what is gone",
            ))
        }
        _ => Ok(to.to_owned()),
    }
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
        founded: Founded::Nothing,
    }
}

fn failure(error: PublishError) -> Failure {
    let help = match &error {
        PublishError::NotOurs { .. } => "name an empty directory, or bring back .rolesmith from where this repository was published".into(),
        PublishError::NotOurFile { path } => format!(
            "see where {} comes from, and move it out of the repository",
            path.display()
        ),
        PublishError::OtherOrigin { .. } => {
            "each fleet has a directory of its own: name another one with --to DIR".into()
        }
        PublishError::UnknownKey { .. } => "nodes would refuse it: name the new key's file in also_trusted under [repository], publish with the old key, \
             and change the key when all nodes have upgraded the keyring package (docs/fleet.md, Rotation)"
            .into(),
        PublishError::Reopened { published } => format!(
            "take {LOCK} from version control, or let `rolesmith status` write it again. Only when that database is gone for good: \
             --abandon-database {published}"
        ),
        PublishError::OtherDatabase { published, .. } => format!(
            "take the {LOCK} of this fleet from version control; nodes that hold the database {published} would refuse these facts"
        ),
        PublishError::RollbackReopens { .. } => {
            "bring the fleet's files back to what they were then (version control has them), leave the newest cluster.lock, and publish"
                .into()
        }
        PublishError::NotAbandoned { .. } => {
            format!("name the database that {LOCK} names, or leave --abandon-database out")
        }
        PublishError::LowerVersions(versions) => lower_versions(&versions.0),
        PublishError::SameVersionOtherBytes(other) => format!(
            "{} is not the one that was published: take the latest {} from version control; if that is lost, write \
             version = {} and inputs = \"\" under [packages.{}], and the next build makes a higher one",
            host_build::LOCK_FILE,
            host_build::LOCK_FILE,
            other.version,
            other.name
        ),
        PublishError::ChangedFile { path, .. } => format!(
            "if {} is in the mirror's cache, delete it and run `rolesmith mirror --locked`",
            path.display()
        ),
        PublishError::Record { path, .. } => format!(
            "bring {} back from a copy of the repository, or publish to an empty directory with the latest {}",
            path.display(),
            host_build::LOCK_FILE
        ),
        _ => "the repository is as it was; clients see what they saw before".into(),
    };
    Failure::because(&error, help)
}

/// The way out when the lock is older than the repository.
fn lower_versions(versions: &[LowerVersion]) -> String {
    let own = versions
        .iter()
        .filter(|v| v.published.parse::<u64>().is_ok());
    let lines: Vec<String> = own
        .map(|v| format!("[packages.{}] version = {}", v.name, v.published))
        .collect();
    if lines.is_empty() {
        return "name a package of at least that version with --agent FILE; an earlier state is published again with --rollback ID"
            .into();
    }
    format!(
        "take the latest {0} from version control; if that is lost, write into {0}: {1}, each with inputs = \"\" and epoch = 0, and \
         the next build makes higher ones. An earlier state is published again with --rollback ID",
        host_build::LOCK_FILE,
        lines.join("; ")
    )
}

fn tell(app: &App, published: &Published, root: &Path) -> Outcome {
    for warning in &published.warnings {
        app.say(format_args!("warning: {}", explain(warning)));
    }
    let valid_until = published.generation.fields.valid_until;
    if valid_until <= app::clock()? {
        app.say(format_args!(
            "warning: clients refuse this publication: it was valid until {}, as SOURCE_DATE_EPOCH and valid_days make it",
            Utc::from_epoch(valid_until).rfc3339()
        ));
    }
    app.say(format_args!(
        "Generation {} is published in {}: {}, {} no longer needed.",
        published.generation.id,
        root.display(),
        plural(published.new_packages, "new package", "new packages"),
        plural(published.removed_files, "file", "files")
    ));
    Ok(())
}

fn generations(app: &App, root: &Path, suite: &str) -> Outcome {
    let all = repository::generations(root, suite).map_err(failure)?;
    if app.json {
        anstream::println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for generation in &all {
        let date = Utc::from_epoch(generation.fields.date).rfc3339();
        anstream::println!("{:>6}  {date}", generation.id);
    }
    Ok(())
}

fn explain(warning: &PublishWarning) -> String {
    let date = |epoch: u64| Utc::from_epoch(epoch).rfc3339();
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
        PublishWarning::ClockBehind { previous, now } => format!(
            "this machine's clock says {}, but the last publication was made at {}, which this one says too: set the clock",
            date(*now),
            date(*previous)
        ),
        PublishWarning::RecordLost { path } => format!(
            "{} could not be read: that generation is forgotten, and its files stay in the pool",
            path.display()
        ),
        PublishWarning::KeptPublished { name, version } => format!(
            "{name} {version} is published with other content and STAYS AS IT IS; nodes do not get the one that you built. \
             To publish it, give it a higher version"
        ),
        other => format!("{other:?}"),
    }
}
