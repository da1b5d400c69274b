//! Where the lab of a fleet is: found by the fleet's directory and name, or by the directory alone when the name has changed.

use std::path::PathBuf;

use rolesmith_lab::Lab;

use super::lab_failure;
use crate::{
    app::App,
    report::{Failure, Outcome},
};

/// Where the lab of the fleet in this directory lives: another checkout of the same fleet has a lab of its own.
pub fn state_dir(app: &App, name: &str) -> Outcome<PathBuf> {
    let fleet = app.dir.canonicalize()?;
    Ok(rolesmith_lab::state_dir(&lab_root(), name, &fleet))
}

/// The directory of all labs and root trees.
pub fn lab_root() -> PathBuf {
    std::env::var_os("ROLESMITH_LAB_DIR")
        .map_or_else(|| PathBuf::from("/var/lib/rolesmith-lab"), PathBuf::from)
}

/// The fleet's name without looking at anything else, so that `lab down` works on a fleet with errors.
fn fleet_name(app: &App) -> Outcome<String> {
    #[derive(serde::Deserialize)]
    struct Head {
        fleet: Name,
    }
    #[derive(serde::Deserialize)]
    struct Name {
        name: String,
    }
    let path = app.dir.join("fleet.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(
            format!("{}: {e}", path.display()),
            "go to a fleet's directory or name it with -C DIR",
        )
    })?;
    let head: Head = toml::from_str(&text)
        .map_err(|e| Failure::new(e.message(), "`rolesmith check` says more"))?;
    Ok(head.fleet.name)
}

/// The labs that were booted from this directory while its fleet had another name.
fn under_other_names(app: &App, name: &str) -> Outcome<Vec<(String, PathBuf)>> {
    let fleet = app.dir.canonicalize()?;
    let mut labs = rolesmith_lab::labs_of(&lab_root(), &fleet).map_err(lab_failure)?;
    labs.retain(|(other, _)| other != name);
    Ok(labs)
}

fn renamed(old: &str, new: &str) -> Failure {
    Failure::new(
        format!("this fleet's lab was booted when its name was {old}; now it is {new}"),
        format!(
            "end it with `rolesmith lab down`, or set name = \"{old}\" under [fleet] in fleet.toml again"
        ),
    )
}

/// Fails where a lab of this directory goes by another name: its nodes are machines of another fleet, and would stay for ever.
pub fn not_renamed(app: &App, name: &str) -> Outcome {
    match under_other_names(app, name)?.first() {
        Some((old, _)) => Err(renamed(old, name)),
        None => Ok(()),
    }
}

/// The directory of this fleet's lab, for commands that work on one that is up.
pub fn existing(app: &App) -> Outcome<PathBuf> {
    let name = fleet_name(app)?;
    let directory = state_dir(app, &name)?;
    if !directory.join("lab.json").exists() {
        not_renamed(app, &name)?;
    }
    Ok(directory)
}

/// The lab that is up.
pub fn open(app: &App) -> Outcome<Lab> {
    Lab::open(&existing(app)?).map_err(lab_failure)
}

/// The lab to end, and its fleet's name: that of the fleet's name today, else the one booted under an earlier name. A fleet.toml
/// that cannot be read is no reason to leave machines running.
pub fn to_end(app: &App) -> Outcome<(String, PathBuf)> {
    let name = fleet_name(app);
    if let Ok(name) = &name {
        let directory = state_dir(app, name)?;
        if directory.join("lab.json").exists() {
            return Ok((name.clone(), directory));
        }
    }
    let known = name.as_deref().unwrap_or_default();
    if let Some(other) = under_other_names(app, known)?.into_iter().next() {
        return Ok(other);
    }
    let name = name?;
    let directory = state_dir(app, &name)?;
    Ok((name, directory))
}
