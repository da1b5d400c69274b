//! rolesmith user-data

use std::path::Path;

use rolesmith_formats::{
    cloud_config,
    iso9660::{self, IsoError},
    seed::Seed,
};
use rolesmith_host::atomic;
use rolesmith_model::facts::Origin;

use crate::{
    app::{App, out},
    args::UserData,
    keys, project,
    report::{Failure, Outcome},
    upkeep,
};

/// Prints the seed, or writes it into a file or as a data source of cloud-init.
pub fn run(app: &App, args: &UserData) -> Outcome {
    let plan = project::plan(app)?;
    let node = project::node(&plan, &args.node)?;
    let keys = project::keys(app, &plan)?;
    if !args.replace {
        let seed = project::seed(&plan, &keys, node, Origin::Seed)?;
        return deliver(app, args, &seed, &render(&seed)?);
    }
    one_at_a_time(app, &keys, node.name.as_str())?;
    // A new incarnation counts from the moment in which its seed is where it was wanted: whatever fails before leaves
    // the machine that there is a member.
    let fqdn = format!("{}.{}", node.name, plan.fleet.domain);
    let next = keys.secrets.next_node(&node.name, &fqdn, app.now)?;
    let seed = project::seed_of(&plan, &keys, node, &next, Origin::Seed)?;
    let text = render(&seed)?;
    deliver(app, args, &seed, &text).map_err(|failure| match failure {
        Failure::Unread => Failure::new(
            format!(
                "nobody read the new seed to its end; {} is still incarnation {}",
                node.name,
                next.incarnation() - 1
            ),
            "write it into a file with --output FILE",
        ),
        failure => failure,
    })?;
    keys.secrets.install_node(&next).map_err(|e| {
        Failure::because(
            &e,
            "the seed that was written is void; run the command again",
        )
    })?;
    keys::record(app, &plan, &keys.secrets)?;
    let mark = app.dir.join(UNPUBLISHED);
    std::fs::create_dir_all(mark.parent().unwrap_or(&app.dir))?;
    atomic::write(
        &mark,
        format!("{} {}\n", node.name, next.incarnation()).as_bytes(),
    )?;
    app.say(format_args!(
        "{} is incarnation {} from now on. Publish before the new machine boots: `rolesmith publish`. Replace the next machine when this \
         one is a healthy member: `rolesmith-agent status` on it.",
        node.name,
        next.incarnation()
    ));
    Ok(())
}

/// The new incarnation that no publication names yet, in the fleet's directory.
const UNPUBLISHED: &str = "dist/replaced";

/// What was replaced is published.
pub fn published(app: &App) -> Outcome {
    match std::fs::remove_file(app.dir.join(UNPUBLISHED)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Two machines that are new at a time could be a majority that has forgotten everything. What is seen from here is whether the
/// one before was published at all.
fn one_at_a_time(app: &App, keys: &keys::Keys, node: &str) -> Outcome {
    let mark = std::fs::read_to_string(app.dir.join(UNPUBLISHED)).unwrap_or_default();
    let Some((other, incarnation)) = mark.trim().split_once(' ') else {
        return Ok(());
    };
    let newest = keys
        .certificates
        .get(other)
        .map(|certificate| certificate.incarnation.to_string());
    if other == node || newest.as_deref() != Some(incarnation) {
        return Ok(());
    }
    Err(Failure::new(
        format!("{node} is not replaced: the new machine of {other} is not even published"),
        format!(
            "machines are replaced one after the other: publish, boot the new {other}, and wait until `rolesmith-agent status` on it \
             shows a healthy member"
        ),
    ))
}

fn deliver(app: &App, args: &UserData, seed: &Seed, text: &str) -> Outcome {
    let target = if let Some(target) = &args.nocloud {
        let files = cloud_config::nocloud(seed, text);
        write(target, &files, iso9660::nocloud)?;
        target
    } else if let Some(target) = &args.configdrive {
        let files = cloud_config::config_drive(seed, text);
        write(target, &files, iso9660::config_drive)?;
        target
    } else if let Some(target) = &args.output {
        atomic::write_with_mode(target, text.as_bytes(), 0o600)
            .map_err(|e| unwritable(target, &e))?;
        target
    } else {
        return out(text);
    };
    app.say(format_args!(
        "The seed of {} is in {}; it holds secrets.",
        seed.node,
        target.display()
    ));
    Ok(())
}

fn unwritable(target: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("{}: {error}", target.display()),
        "name a place that can be written",
    )
}

/// The seed as cloud-config, with a way out where it is too long.
pub fn render(seed: &Seed) -> Outcome<String> {
    cloud_config::user_data(seed).map_err(|e| Failure::because(&e, upkeep::TOO_LONG))
}

/// Writes a data source's files below a directory, or into an image where the name says so.
fn write(
    target: &Path,
    files: &[(&str, String)],
    image: impl FnOnce(&[(&str, &[u8])]) -> Result<Vec<u8>, IsoError>,
) -> Outcome {
    if target.extension().is_some_and(|e| e == "iso") {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| (*path, text.as_bytes()))
            .collect();
        return atomic::write_with_mode(target, &image(&files)?, 0o600)
            .map_err(|e| unwritable(target, &e));
    }
    for (path, text) in files {
        let path = target.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(target))
            .and_then(|()| atomic::write_with_mode(&path, text.as_bytes(), 0o600))
            .map_err(|e| unwritable(target, &e))?;
    }
    Ok(())
}
