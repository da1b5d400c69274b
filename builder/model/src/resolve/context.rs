//! The variables that templates may read.

use serde_json::{Map, Value, json};
use tera::Context;

use crate::{
    applications,
    facts::{
        ADDRESS_PLACEHOLDER, APPLICATION_CERTIFICATE, APPLICATION_KEY_FILE, CA_FILE, KEY_FILE,
        NODES_DIR, placeholder,
    },
    fleet::{Fleet, Mail, Node},
    fleet_file::Upstream,
    ids::RoleName,
    manifest::CONF_DIR,
    role::Role,
    source::Sources,
};

/// Variables of scope "package" for a role.
#[must_use]
pub(super) fn package(fleet: &Fleet, role: &Role, sources: &Sources) -> Context {
    let release = sources
        .trees
        .get(role.name.as_str())
        .map_or("unbuilt", |tree| tree.digest.as_str());
    let mut context = Context::new();
    context.insert(
        "fleet",
        &json!({
            "name": fleet.name.as_str(),
            "suite": fleet.suite.codename(),
            "domain": fleet.domain,
            "maintainer": fleet.maintainer,
        }),
    );
    context.insert(
        "network",
        &json!({
            "private": fleet.network.private.to_string(),
            "private_interface": fleet.network.private_interface,
            "public_interface": fleet.network.public_interface,
            "load_balancer": fleet.network.load_balancer.map(|a| a.to_string()),
            "agent_port": fleet.network.agent_port,
            "edge_port": fleet.network.edge_port,
        }),
    );
    let upstream = match fleet.repository.upstream {
        Upstream::Debian => "debian",
        Upstream::Mirror => "mirror",
    };
    context.insert(
        "repository",
        &json!({ "url": fleet.repository.url, "upstream": upstream }),
    );
    context.insert("database", &fleet.services.database);
    context.insert("redis", &fleet.services.redis);
    context.insert("logs", &fleet.services.logs);
    context.insert("mail", &fleet.mail.as_ref().map(describe_mail));
    context.insert("certificates", &describe_certificates(fleet));
    let mut facts = Map::new();
    for layer in &role.layers {
        if let Some(suite) = layer.file.suites.get(fleet.suite.codename()) {
            for (key, value) in &suite.facts {
                facts.insert(
                    key.get_ref().clone(),
                    Value::String(value.get_ref().clone()),
                );
            }
        }
    }
    context.insert("suite", &Value::Object(facts));
    let mut settings = Map::new();
    for (key, value) in role.layers.iter().flat_map(|l| &l.file.settings) {
        settings.insert(key.get_ref().clone(), to_json(value.get_ref()));
    }
    for (key, value) in fleet.settings.get(role.name.as_str()).into_iter().flatten() {
        settings.insert(key.clone(), to_json(&value.value));
    }
    context.insert("settings", &Value::Object(settings));
    context.insert("role", &json!({ "name": role.name.as_str() }));
    context.insert("conf", &format!("{CONF_DIR}/{}", role.name));
    context.insert("package", &fleet.package_of(&role.name));
    applications::extend_context(&mut context, fleet, &role.name, release);
    context
}

fn to_json(value: &toml::Value) -> Value {
    serde_json::to_value(value).expect("every TOML value has a JSON form")
}

/// What templates read as `mail`.
fn describe_mail(mail: &Mail) -> Value {
    json!({
        "smarthost": mail.smarthost,
        "port": mail.port,
        "implicit_tls": mail.port == Mail::IMPLICIT_TLS,
        "user": mail.user,
        "to": mail.to,
        "from_domain": mail.from_domain,
        "ca": mail.ca.as_ref().map(|ca| &ca.pem),
    })
}

/// What templates read as `certificates`.
fn describe_certificates(fleet: &Fleet) -> Option<Value> {
    let certificates = fleet.certificates.as_ref()?;
    let sites = fleet.applications.sites.iter();
    let sites: Vec<Value> = sites
        .map(|site| json!({ "name": site.name, "hosts": site.hosts }))
        .collect();
    Some(json!({
        "directory": certificates.directory,
        "lab": certificates.lab,
        "contact": certificates.contact,
        "ca": certificates.ca.as_ref().map(|ca| &ca.pem),
        "renew_days": certificates.renew_days,
        "port": certificates.port,
        "sites": sites,
    }))
}

/// Facts that templates read about a machine.
fn describe(fleet: &Fleet, node: &Node, roles: &[RoleName]) -> Value {
    json!({
        "name": node.name.as_str(),
        "fqdn": format!("{}.{}", node.name, fleet.domain),
        "address": node.address.map_or_else(|| ADDRESS_PLACEHOLDER.to_owned(), |a| a.to_string()),
        "roles": roles.iter().map(RoleName::as_str).collect::<Vec<_>>(),
        "ssh_port": node.ssh_port,
        "memory": node.memory,
    })
}

/// Adds the variables of scope "node".
///
/// `members` are all machines with the closure of their roles; `secrets` the names of the role's secrets.
pub(super) fn extend_for_node(
    context: &mut Context,
    fleet: &Fleet,
    role: &RoleName,
    node: &Node,
    members: &[(&Node, &[RoleName])],
    secrets: &[&str],
) {
    let roles = members
        .iter()
        .find(|(n, _)| n.name == node.name)
        .map_or(&[][..], |(_, roles)| *roles);
    context.insert("node", &describe(fleet, node, roles));
    let all: Vec<Value> = members
        .iter()
        .filter(|(n, _)| n.address.is_some() || n.name == node.name)
        .map(|(n, r)| describe(fleet, n, r))
        .collect();
    context.insert("members", &all);
    applications::extend_node_context(context, fleet, role, node, members);
    let secret: Map<String, Value> = secrets
        .iter()
        .map(|name| (name.replace('-', "_"), Value::String(placeholder(name))))
        .collect();
    context.insert("secret", &Value::Object(secret));
    // The databases that the role's machines make, where they are given the passwords for it.
    let databases: Vec<Value> = fleet
        .applications
        .databases()
        .filter(|service| secrets.contains(&service.database_secret().as_str()))
        .map(|service| {
            json!({
                "name": service.database,
                "password": placeholder(service.database_secret().as_str()),
            })
        })
        .collect();
    context.insert("databases", &databases);
    context.insert(
        "tls",
        &json!({
            "key": KEY_FILE,
            "cert": format!("{NODES_DIR}/{}/cert.pem", node.name),
            "ca": CA_FILE,
            "application_key": APPLICATION_KEY_FILE,
            "application_cert": format!("{NODES_DIR}/{}/{APPLICATION_CERTIFICATE}", node.name),
        }),
    );
}
