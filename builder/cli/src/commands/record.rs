//! rolesmith record

use rolesmith_host::atomic;
use toml_edit::DocumentMut;

use crate::{
    app::App,
    args::Record,
    project,
    report::{Failure, Outcome},
};

/// Writes an address into fleet.toml, leaving everything else in it as it stands.
pub fn run(app: &App, args: &Record) -> Outcome {
    let path = app.dir.join("fleet.toml");
    let old = std::fs::read_to_string(&path).map_err(|e| {
        Failure::new(
            format!("{}: {e}", path.display()),
            "name the fleet's directory with -C DIR",
        )
    })?;
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
    atomic::write(&path, new.as_bytes())?;
    // The new file is checked as a whole; one that is wrong is not left behind.
    let inspected = project::inspect(app);
    let sound = matches!(&inspected, Ok(i) if i.plan.is_some());
    if !sound {
        if let Ok(inspected) = inspected {
            crate::report::show(
                &inspected.sources,
                &inspected.findings,
                app.json,
                app.terminal,
                app.color,
            );
        }
        atomic::write(&path, old.as_bytes())?;
        return Err(Failure::new(
            "fleet.toml is as it was",
            "give the node's address in the private network",
        ));
    }
    app.say(format_args!(
        "{} has the address {}. `rolesmith publish` tells the fleet.",
        args.node, args.address
    ));
    Ok(())
}
