//! rolesmith user-data

use std::path::Path;

use rolesmith_formats::{cloud_config, seed::Seed};
use rolesmith_host::atomic;
use rolesmith_model::facts::Origin;

use crate::{
    app::App,
    args::UserData,
    project,
    report::{Failure, Outcome},
};

/// Prints the seed, or writes it as a NoCloud data source.
pub fn run(app: &App, args: &UserData) -> Outcome {
    let plan = project::plan(app)?;
    let node = project::node(&plan, &args.node)?;
    let keys = project::keys(app, &plan)?;
    if args.replace {
        let fqdn = format!("{}.{}", node.name, plan.fleet.domain);
        let identity = keys.secrets.replace_node(&node.name, &fqdn, app.now)?;
        app.say(format_args!(
            "{} is incarnation {} from now on. Publish before the new machine boots: `rolesmith publish`.",
            node.name,
            identity.incarnation()
        ));
    }
    let seed = project::seed(&plan, &keys, node, Origin::Seed)?;
    let text = render(&seed)?;
    match &args.nocloud {
        None => anstream::print!("{text}"),
        Some(target) => {
            write(target, &seed, &text)?;
            app.say(format_args!(
                "The seed of {} is in {}; it holds secrets.",
                node.name,
                target.display()
            ));
        }
    }
    Ok(())
}

/// The seed as cloud-config, with a way out where it is too long.
pub fn render(seed: &Seed) -> Outcome<String> {
    cloud_config::user_data(seed).map_err(|e| {
        Failure::because(
            &e,
            "shorten what grows it: [network] admin_ssh_keys and the values of secrets; large files belong into a role's package",
        )
    })
}

fn write(target: &Path, seed: &Seed, user_data: &str) -> Outcome {
    let meta_data = cloud_config::meta_data(seed);
    if target.extension().is_some_and(|e| e == "iso") {
        let image =
            rolesmith_formats::iso9660::nocloud(user_data.as_bytes(), meta_data.as_bytes())?;
        atomic::write_with_mode(target, &image, 0o600)?;
        return Ok(());
    }
    std::fs::create_dir_all(target)?;
    atomic::write_with_mode(&target.join("user-data"), user_data.as_bytes(), 0o600)?;
    atomic::write_with_mode(&target.join("meta-data"), meta_data.as_bytes(), 0o600)?;
    Ok(())
}
