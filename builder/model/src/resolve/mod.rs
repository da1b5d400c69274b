//! From a checked fleet and its roles to the plan.

mod context;
mod entries;
mod files;
mod node;
mod package;

use std::collections::BTreeMap;

use crate::{
    applications::{SERVICE_PREFIX, SITE_PREFIX},
    archive_names::ArchiveNames,
    facts::DIGITALOCEAN_TOKEN,
    finding::{Findings, Place},
    fleet::Fleet,
    ids::{RoleName, SecretName},
    plan::{NodePlan, Package, Plan, RolePlan, Secret},
    role::{Role, Roles},
    source::Sources,
    validate::image,
};

/// What every step of the resolution reads.
pub(crate) struct Inputs<'a> {
    sources: &'a Sources,
    roles: &'a Roles,
    fleet: &'a Fleet,
    archive: &'a ArchiveNames<'a>,
    /// The roles whose packages are built, sorted by name.
    wanted: Vec<&'a Role>,
}

/// What follows the fleet's name in packages that are made from no role.
pub(crate) const FIXED_PACKAGES: [&str; 2] = ["facts", "archive-keyring"];

/// Resolves everything, or says in `findings` why not.
///
/// All findings of all roles and nodes are collected before it gives up, so that one run shows everything that is wrong.
#[must_use]
pub fn resolve(
    sources: &Sources,
    roles: &Roles,
    fleet: Fleet,
    archive: &ArchiveNames<'_>,
    findings: &mut Findings,
) -> Option<Plan> {
    let inputs = Inputs {
        sources,
        roles,
        fleet: &fleet,
        archive,
        wanted: wanted_roles(&fleet, roles),
    };
    let mut packages: Vec<Package> = Vec::new();
    let mut role_plans: Vec<RolePlan> = Vec::new();
    for role in &inputs.wanted {
        let (package, plan) = package::resolve(&inputs, role, findings);
        packages.extend(package);
        role_plans.extend(plan);
    }
    check_package_names(&inputs, findings);
    let closures: BTreeMap<&str, Vec<RoleName>> = fleet
        .nodes
        .values()
        .map(|n| {
            (
                n.name.as_str(),
                roles.closure(n.roles.iter().map(|(r, _)| r)),
            )
        })
        .collect();
    let mut nodes: Vec<NodePlan> = Vec::new();
    for machine in fleet.nodes.values() {
        nodes.extend(node::resolve(
            &inputs, machine, &closures, &packages, findings,
        ));
    }
    let images = image::load(sources, roles, &fleet, archive, findings);
    if findings.has_errors() {
        return None;
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    let common_secrets = common_secrets(&fleet);
    for node in &mut nodes {
        node.secrets
            .extend(common_secrets.iter().map(|secret| secret.name.clone()));
        node.secrets.sort();
        node.secrets.dedup();
    }
    Some(Plan {
        packages,
        roles: role_plans,
        nodes,
        images,
        common_secrets,
        fleet,
    })
}

/// A fleet that opts in to a service that asks for a token has one, on each of its nodes.
fn common_secrets(fleet: &Fleet) -> Vec<Secret> {
    let token = fleet.discovery.digitalocean.as_ref().and_then(|_| {
        Some(Secret {
            name: SecretName::new(DIGITALOCEAN_TOKEN).ok()?,
            description: "a token of DigitalOcean's API with the scopes droplet:read and tag:read and no others"
                .into(),
            // DigitalOcean makes it.
            generate: false,
        })
    });
    token.into_iter().collect()
}

/// The roles that some node has, and the fleet's own roles whether or not a node has them yet.
fn wanted_roles<'a>(fleet: &Fleet, roles: &'a Roles) -> Vec<&'a Role> {
    let named = fleet
        .nodes
        .values()
        .flat_map(|n| n.roles.iter().map(|(r, _)| r));
    let own = roles.iter().filter(|r| r.is_users()).map(|r| &r.name);
    let mut names = roles.closure(named.chain(own));
    names.sort();
    names.iter().filter_map(|n| roles.get(n.as_str())).collect()
}

fn check_package_names(inputs: &Inputs<'_>, findings: &mut Findings) {
    let fleet = inputs.fleet;
    for role in &inputs.wanted {
        let made = role.own().builtin;
        let prefixes = [SERVICE_PREFIX, SITE_PREFIX];
        if FIXED_PACKAGES.contains(&role.name.as_str())
            || !made && prefixes.iter().any(|p| role.name.as_str().starts_with(p))
        {
            findings.error(
                "role::reserved-name",
                Place::whole(role.own().manifest),
                format!("a role cannot be called {}", role.name),
                "its package would have the name of one that rolesmith makes itself",
                "choose another name for the role's directory",
            );
        }
    }
    let names = inputs
        .wanted
        .iter()
        .map(|r| fleet.package_of(&r.name))
        .chain(FIXED_PACKAGES.iter().map(|f| format!("{}-{f}", fleet.name)));
    for name in names {
        if inputs.archive.has(&name) {
            findings.error(
                "fleet::name-taken",
                Place::new(fleet.source, fleet.name_span.clone()),
                format!("Debian {} already has a package called {name}", fleet.suite),
                "apt would choose between the two by their version numbers",
                "choose another name for the fleet (or for the role)",
            );
        }
    }
}
