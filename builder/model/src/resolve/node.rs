//! From a machine to what it installs and what is rendered for it.

use std::collections::{BTreeMap, BTreeSet};

use tera::Context;

use super::{
    Inputs, context, entries,
    files::{self, Variables, inline},
};
use crate::{
    applications::Service,
    facts::{NodeFile, placeholder},
    finding::{Findings, Place},
    fleet::Node,
    ids::{PackageName, RoleName, SecretName},
    lint,
    manifest::HealthCheck,
    opening::Opening,
    plan::{Jail, NodePlan, Package, RenderedFile},
    role::{Layer, Role},
    role_file::{FileEntry, Scope},
    validate::syntax,
};

pub(super) fn resolve(
    inputs: &Inputs<'_>,
    machine: &Node,
    closures: &BTreeMap<&str, Vec<RoleName>>,
    packages: &[Package],
    findings: &mut Findings,
) -> Option<NodePlan> {
    let fleet = inputs.fleet;
    let names = closures.get(machine.name.as_str())?;
    let roles: Vec<&Role> = names
        .iter()
        .filter_map(|r| inputs.roles.get(r.as_str()))
        .collect();
    let members: Vec<(&Node, &[RoleName])> = fleet
        .nodes
        .values()
        .map(|n| {
            (
                n,
                closures.get(n.name.as_str()).map_or(&[][..], Vec::as_slice),
            )
        })
        .collect();
    let mut plan = NodePlan {
        name: machine.name.clone(),
        roles: names.clone(),
        packages: names
            .iter()
            .filter_map(|r| PackageName::new(fleet.package_of(r)).ok())
            .collect(),
        files: Vec::new(),
        openings: Vec::new(),
        jails: Vec::new(),
        health: BTreeMap::new(),
        secrets: Vec::new(),
        masked_units: Vec::new(),
        debconf: Vec::new(),
    };
    let databases: Vec<SecretName> = fleet
        .applications
        .databases()
        .map(Service::database_secret)
        .collect();
    for role in &roles {
        let mut secrets: Vec<&str> = role
            .layers
            .iter()
            .flat_map(|l| &l.file.secrets)
            .map(|s| s.name.get_ref().as_str())
            .collect();
        // Whoever may be the primary makes the databases of the services, with their passwords.
        if entries::makes_databases(role) {
            secrets.extend(databases.iter().map(SecretName::as_str));
        }
        let mut context = context::package(fleet, role, inputs.sources);
        context::extend_for_node(&mut context, fleet, &role.name, machine, &members, &secrets);
        for layer in &role.layers {
            let mut paths = BTreeSet::new();
            for entry in layer.file.files.iter().filter(|f| f.scope == Scope::Node) {
                if let Some(file) = render(inputs, role, layer, entry, &context, &secrets, findings)
                {
                    let same = |f: &RenderedFile| {
                        (&f.file.role, &f.file.path) == (&file.file.role, &file.file.path)
                    };
                    // A layer above replaces a file; the same layer twice is a mistake.
                    if !paths.insert(file.file.path.clone()) {
                        findings.error(
                            "role::node-path-twice",
                            layer.place(entry.path.span()),
                            format!("role {} renders {} twice", role.name, file.file.path),
                            "only one of them could be installed",
                            "remove one of the entries, or give it another path",
                        );
                    }
                    plan.files.retain(|f| !same(f));
                    plan.files.push(file);
                }
            }
            plan.masked_units
                .extend(layer.file.masked_units.iter().map(|u| u.get_ref().clone()));
            plan.debconf
                .extend(layer.file.debconf.iter().map(|a| a.get_ref().clone()));
        }
        for opening in entries::openings(role, inputs.roles, &context, findings) {
            add_opening(&mut plan.openings, opening, role, machine, inputs, findings);
        }
        let jails: Vec<Jail> = entries::jails(role, &context, findings);
        plan.jails.extend(jails);
        let health: Vec<HealthCheck> = entries::health(role, &context, findings);
        plan.health.insert(role.name.clone(), health);
        plan.secrets
            .extend(secrets.iter().filter_map(|s| SecretName::new(*s).ok()));
    }
    plan.secrets.sort();
    plan.secrets.dedup();
    plan.masked_units.sort();
    plan.masked_units.dedup();
    plan.debconf.sort();
    plan.debconf.dedup();
    one_owner_a_path(inputs, &roles, packages, findings);
    Some(plan)
}

fn render(
    inputs: &Inputs<'_>,
    role: &Role,
    layer: &Layer,
    entry: &FileEntry,
    context: &Context,
    secrets: &[&str],
    findings: &mut Findings,
) -> Option<RenderedFile> {
    let place = layer.place(entry.path.span());
    let path = inline(layer, &entry.path, context, findings)?;
    if let Err(why) = syntax::relative_path(&path) {
        findings.error(
            "role::node-path",
            place,
            format!("the path {path:?} {why}"),
            "a file of scope \"node\" is installed below /var/lib/rolesmith/conf/<role>/",
            "write a path relative to that directory, and let the service's own configuration include it",
        );
        return None;
    }
    if entry.conffile == Some(true) {
        findings.error(
            "role::node-conffile",
            place,
            format!("{path} is of scope \"node\" and cannot be a conffile"),
            "it is rendered, and rendered files are not edited on the node (Policy 10.7.3)",
            "remove `conffile`",
        );
        return None;
    }
    let what = format!("the file {path}");
    let pick = (entry.source.as_ref(), entry.template.as_ref());
    let at = (what.as_str(), place.clone());
    let loaded = files::load(
        inputs,
        role,
        layer,
        pick,
        at,
        context,
        Variables::Node,
        findings,
    )?;
    let mode = match &entry.mode {
        None => 0o644,
        Some(text) => lint::mode(text.get_ref(), layer.place(text.span()), findings)?,
    };
    let (user, group) = match &entry.owner {
        None => ("root".to_owned(), "root".to_owned()),
        Some(owner) => match owner.get_ref().split_once(':') {
            Some((user, group)) if syntax::user_name(user) && syntax::user_name(group) => {
                (user.to_owned(), group.to_owned())
            }
            _ => {
                findings.error(
                    "role::owner",
                    layer.place(owner.span()),
                    format!("{:?} is not an owner", owner.get_ref()),
                    "not the names of a user and of a group (useradd(8))",
                    "write it as \"root:redis\"",
                );
                return None;
            }
        },
    };
    let text = String::from_utf8_lossy(&loaded.bytes);
    let mut used: Vec<String> = secrets
        .iter()
        .filter(|s| text.contains(&placeholder(s)))
        .map(|s| (*s).to_owned())
        .collect();
    used.sort();
    used.dedup();
    if !used.is_empty() && mode & 0o037 != 0 {
        findings.error(
            "role::secret-mode",
            entry.mode.as_ref().map_or(place, |m| layer.place(m.span())),
            format!(
                "{path} holds the secret {} and has {} {mode:04o}",
                used[0],
                if entry.mode.is_some() {
                    "mode"
                } else {
                    "the default mode"
                }
            ),
            "other users of the machine could read it",
            "set mode = \"0640\" with an owner such as \"root:redis\", or \"0600\"",
        );
        return None;
    }
    Some(RenderedFile {
        file: NodeFile {
            role: role.name.to_string(),
            path,
            mode,
            user,
            group,
            secrets: used,
        },
        bytes: loaded.bytes,
        origin: loaded.origin,
    })
}

fn add_opening(
    all: &mut Vec<Opening>,
    opening: Opening,
    role: &Role,
    machine: &Node,
    inputs: &Inputs<'_>,
    findings: &mut Findings,
) {
    let other = all.iter().find(|o| {
        (o.port, o.protocol) == (opening.port, opening.protocol) && o.name != opening.name
    });
    if let Some(other) = other {
        findings.error(
            "plan::port-twice",
            Place::new(inputs.fleet.source, machine.span.clone()),
            format!(
                "two services of node {} want port {}: {} and {} (role {})",
                machine.name, opening.port, other.name, opening.name, role.name
            ),
            "only one program can listen on a port",
            "give one of them another port",
        );
    }
    if !all.contains(&opening) {
        all.push(opening);
    }
}

/// dpkg refuses to unpack a file that another package owns.
fn one_owner_a_path(
    inputs: &Inputs<'_>,
    roles: &[&Role],
    packages: &[Package],
    findings: &mut Findings,
) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for role in roles {
        let name = inputs.fleet.package_of(&role.name);
        let Some(package) = packages.iter().find(|p| p.name.as_str() == name) else {
            continue;
        };
        for file in &package.files {
            if let Some(other) = owners.insert(&file.path, role.name.as_str()) {
                findings.error(
                    "plan::path-owned-twice",
                    entry_of(inputs, role, &file.path),
                    format!(
                        "the roles {other} and {} both ship {}",
                        role.name, file.path
                    ),
                    "dpkg lets one package own a path, and a node has both roles",
                    "let one role ship it and the other require that role",
                );
            }
        }
    }
}

/// Where a role says that it ships a path.
fn entry_of(inputs: &Inputs<'_>, role: &Role, path: &str) -> Place {
    let context = context::package(inputs.fleet, role, inputs.sources);
    let is_path = |text: &str| crate::template::render(text, &context).is_ok_and(|p| p == path);
    role.layers
        .iter()
        .rev()
        .find_map(|layer| {
            let files = layer.file.files.iter().map(|f| &f.path);
            let links = layer.file.links.iter().map(|l| &l.path);
            files
                .chain(links)
                .find(|p| is_path(p.get_ref()))
                .map(|p| layer.place(p.span()))
        })
        .unwrap_or_else(|| Place::whole(role.own().manifest))
}
