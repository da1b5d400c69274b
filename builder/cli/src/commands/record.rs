//! rolesmith record

use std::os::unix::fs::PermissionsExt as _;

use rolesmith_host::atomic;
use toml_edit::DocumentMut;

use crate::{
    app::App,
    args::Record,
    project,
    report::{self, Failure, Outcome},
};

/// Writes an address into fleet.toml, leaving everything else in it as it stands.
pub fn run(app: &App, args: &Record) -> Outcome {
    let path = app.dir.join("fleet.toml");
    let unreadable = |e: std::io::Error| {
        Failure::new(
            format!("{}: {e}", path.display()),
            "name the fleet's directory with -C DIR",
        )
    };
    // A symbolic link stays one: what it leads to is written.
    let target = path.canonicalize().map_err(unreadable)?;
    let old = std::fs::read_to_string(&target).map_err(unreadable)?;
    let mode = std::fs::metadata(&target)
        .map_err(unreadable)?
        .permissions()
        .mode();
    let mut document: DocumentMut = old.parse().map_err(|e: toml_edit::TomlError| {
        Failure::new(e.message(), "`rolesmith check` says where")
    })?;
    let node = document
        .get_mut("nodes")
        .and_then(|nodes| nodes.get_mut(&args.node))
        .and_then(|node| node.as_table_like_mut())
        .ok_or_else(|| {
            Failure::new(
                format!("fleet.toml has no node {:?}", args.node),
                format!("add [nodes.{}] with its roles first", args.node),
            )
        })?;
    node.insert("address", toml_edit::value(args.address.as_str()));
    let new = document.to_string();
    if new == old {
        app.say(format_args!(
            "{} was recorded for {} already.",
            args.address, args.node
        ));
        return Ok(());
    }
    // The new file is checked as a whole before it is one.
    let inspected = project::inspect_with(app, &new)?;
    if inspected.plan.is_none() {
        report::show(
            &inspected.sources,
            &inspected.findings,
            app.json,
            app.terminal,
            app.color,
        )?;
        return Err(Failure::new(
            "fleet.toml is as it was",
            "give the node's address in the private network",
        ));
    }
    atomic::write_with_mode(&target, new.as_bytes(), mode & 0o777)?;
    app.say(format_args!(
        "{} has the address {}. `rolesmith publish` tells the fleet.",
        args.node, args.address
    ));
    Ok(())
}
