//! rolesmith plan

use std::path::Path;

use rolesmith_formats::firewall::{Matrix, Policy};
use rolesmith_host::atomic;
use rolesmith_model::{
    manifest::{Probe, Protocol},
    plan::{Content, NodePlan, Origin, Package, Plan},
};
use serde_json::json;

use crate::{
    app::{App, line, out},
    args, project,
    report::{Failure, Outcome},
};

/// Shows the plan: nodes and packages, or one of them with every file.
pub fn run(app: &App, args: &args::Plan) -> Outcome {
    let plan = project::plan(app)?;
    if args.firewall {
        return firewall(app, args, &plan);
    }
    if app.json {
        line(format_args!(
            "{}",
            serde_json::to_string_pretty(&as_json(&plan))?
        ))?;
        return Ok(());
    }
    match &args.name {
        None => overview(&plan)?,
        Some(name) => {
            if let Some(node) = plan.node(name) {
                show_node(node)?;
            } else if let Some(package) = plan.packages.iter().find(|p| p.name.as_str() == name) {
                show_package(package)?;
            } else {
                return Err(Failure::new(
                    format!("the plan has no node and no package {name:?}"),
                    "`rolesmith plan` lists both",
                ));
            }
        }
    }
    Ok(())
}

/// Who may reach what: as JSON, as a picture, or as a table.
fn firewall(app: &App, args: &args::Plan, plan: &Plan) -> Outcome {
    if let Some(name) = &args.name {
        project::node(plan, name)?;
    }
    let matrix = Matrix::new(&Policy::new(plan), args.name.as_deref());
    if let Some(file) = &args.svg {
        if file == Path::new("-") {
            return out(matrix.svg());
        }
        atomic::write(file, matrix.svg().as_bytes()).map_err(|e| {
            Failure::new(
                format!("{}: {e}", file.display()),
                "name a place that can be written",
            )
        })?;
        app.say(format_args!("The picture is in {}.", file.display()));
    }
    if app.json {
        line(serde_json::to_string_pretty(&matrix)?)
    } else if args.svg.is_none() {
        out(matrix.text())
    } else {
        Ok(())
    }
}

fn overview(plan: &Plan) -> Outcome {
    let fleet = &plan.fleet;
    line(format_args!(
        "fleet {} on Debian {}",
        fleet.name, fleet.suite
    ))?;
    line(format_args!("repository {}", fleet.repository.url))?;
    line(format_args!("\npackages"))?;
    for name in [plan.keyring_package(), plan.facts_package()] {
        line(format_args!("  {name}"))?;
    }
    for package in &plan.packages {
        let depends = package
            .relations
            .get("Depends")
            .map(|d| d.join(", "))
            .unwrap_or_default();
        line(format_args!(
            "  {:<32} {:>3} {:<5}  needs {depends}",
            package.name.as_str(),
            package.files.len(),
            if package.files.len() == 1 {
                "file"
            } else {
                "files"
            }
        ))?;
    }
    line(format_args!("\nnodes"))?;
    for node in &plan.nodes {
        let address = fleet.nodes.get(&node.name).and_then(|n| n.address);
        let address = address.map_or_else(|| "unknown".to_owned(), |a| a.to_string());
        let roles: Vec<&str> = node.roles.iter().map(|r| r.as_str()).collect();
        line(format_args!(
            "  {:<16} {:<15} {}",
            node.name.as_str(),
            address,
            roles.join(", ")
        ))?;
    }
    Ok(())
}

fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Source(path) => path.clone(),
        Origin::Template(path) => format!("{path} (rendered)"),
        Origin::Generated(from) => format!("generated from {from}"),
    }
}

fn show_package(package: &Package) -> Outcome {
    line(format_args!("{}: {}", package.name, package.summary))?;
    for (field, values) in &package.relations {
        line(format_args!("{field}: {}", values.join(", ")))?;
    }
    for file in &package.files {
        let what = match &file.content {
            Content::File(bytes) => format!("{:>7} bytes", bytes.len()),
            Content::Symlink(target) => format!("-> {target}"),
        };
        let conffile = if file.conffile { "  conffile" } else { "" };
        line(format_args!(
            "  {:04o}  {}  {what}  from {}{conffile}",
            file.mode,
            file.path,
            origin(&file.origin)
        ))?;
    }
    Ok(())
}

fn show_node(node: &NodePlan) -> Outcome {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    line(format_args!("node {}", node.name))?;
    line(format_args!(
        "roles: {}",
        list(&mut node.roles.iter().map(ToString::to_string))
    ))?;
    line(format_args!(
        "packages: {}",
        list(&mut node.packages.iter().map(ToString::to_string))
    ))?;
    line(format_args!(
        "secrets: {}",
        list(&mut node.secrets.iter().map(ToString::to_string))
    ))?;
    line(format_args!(
        "masked on a fresh machine: {}",
        node.masked_units.join(", ")
    ))?;
    if !node.debconf.is_empty() {
        line(format_args!(
            "answered on a fresh machine: {}",
            node.debconf.join(", ")
        ))?;
    }
    line(format_args!("files below /var/lib/rolesmith/conf:"))?;
    for file in &node.files {
        line(format_args!(
            "  {:04o} {}:{}  {}/{}  from {}",
            file.file.mode,
            file.file.user,
            file.file.group,
            file.file.role,
            file.file.path,
            origin(&file.origin)
        ))?;
    }
    line(format_args!("open ports:"))?;
    for opening in &node.openings {
        let protocol = match opening.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        line(format_args!(
            "  {:>5}/{protocol}  {:<24} from {}",
            opening.port, opening.name, opening.from
        ))?;
    }
    line(format_args!("health checks:"))?;
    for (role, checks) in &node.health {
        for check in checks {
            let probe = match &check.probe {
                Probe::Unit(unit) => format!("unit {unit} is active"),
                Probe::Tcp(address) => format!("{address} accepts connections"),
                Probe::Http(url) => format!("{url} answers"),
                Probe::Command(words) => format!("`{}` succeeds", words.join(" ")),
            };
            line(format_args!("  {role}: {:<20} {probe}", check.name))?;
        }
    }
    Ok(())
}

fn as_json(plan: &Plan) -> serde_json::Value {
    json!({
        "fleet": plan.fleet.name.as_str(),
        "suite": plan.fleet.suite.codename(),
        "packages": plan.packages.iter().map(|p| json!({
            "name": p.name.as_str(),
            "summary": p.summary,
            "relations": p.relations,
            "files": p.files.iter().map(|f| json!({
                "path": f.path,
                "mode": format!("{:04o}", f.mode),
                "conffile": f.conffile,
                "origin": origin(&f.origin),
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "nodes": plan.nodes.iter().map(|n| json!({
            "name": n.name.as_str(),
            "roles": n.roles.iter().map(|r| r.as_str()).collect::<Vec<_>>(),
            "packages": n.packages.iter().map(|p| p.as_str()).collect::<Vec<_>>(),
            "openings": n.openings,
            "health": n.health.iter().map(|(r, c)| (r.to_string(), json!(c))).collect::<serde_json::Map<_, _>>(),
            "files": n.files.iter().map(|f| json!(f.file)).collect::<Vec<_>>(),
            "secrets": n.secrets.iter().map(|s| s.as_str()).collect::<Vec<_>>(),
            "masked_units": n.masked_units,
            "debconf": n.debconf,
        })).collect::<Vec<_>>(),
    })
}
