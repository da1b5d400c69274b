//! From a service or site to its role.

use std::collections::BTreeMap;

use serde_json::json;
use tera::Context;

use super::{SERVICE_PREFIX, SITE_PREFIX, Service, Site};
use crate::{
    finding::{Findings, Place},
    fleet::{Fleet, Node},
    ids::RoleName,
    role::{Layer, Role, Roles},
    role_file::RoleFile,
    source::{SourceId, Sources},
    template,
};

/// Where the templates of a made role stand: the role and the directory in it.
struct Pattern {
    role: &'static str,
    directory: &'static str,
}

const SERVICE: Pattern = Pattern {
    role: "app",
    directory: "service/",
};
const SITE: Pattern = Pattern {
    role: "edge",
    directory: "site/",
};

/// What stands for the name in file names of a pattern.
const NAME: &str = "NAME";

/// Makes a role of each service and site, and gives them to the nodes that have the role `app` or `edge`.
pub fn add_roles(
    sources: &mut Sources,
    roles: &mut Roles,
    fleet: &mut Fleet,
    findings: &mut Findings,
) {
    let applications = fleet.applications.clone();
    let mut made = Vec::new();
    for service in &applications.services {
        let role = service_role(service, sources, roles, fleet, findings);
        made.extend(role.map(|role| (role, SERVICE.role)));
    }
    for site in &applications.sites {
        let role = site_role(site, sources, roles, fleet, findings);
        made.extend(role.map(|role| (role, SITE.role)));
    }
    let mut names = Vec::new();
    for (role, beside) in made {
        names.push((role.name.clone(), beside));
        roles.insert(role);
    }
    for node in fleet.nodes.values_mut() {
        let closure = roles.closure(node.roles.iter().map(|(role, _)| role));
        for (name, beside) in &names {
            if closure.iter().any(|role| role.as_str() == *beside) {
                node.roles.push((name.clone(), node.span.clone()));
            }
        }
    }
}

fn service_role(
    service: &Service,
    sources: &mut Sources,
    roles: &Roles,
    fleet: &Fleet,
    findings: &mut Findings,
) -> Option<Role> {
    let mut context = head(fleet);
    context.insert("service", &describe_service(service));
    let name = service.role();
    let place = Place::new(fleet.source, service.span.clone());
    let mut role = make(
        &SERVICE,
        &name,
        &service.name,
        &context,
        place,
        sources,
        roles,
        findings,
    )?;
    // One file for each secret, so that each becomes one credential.
    for secret in &service.secrets {
        let path = format!("templates/secrets/{secret}");
        let text = format!("{{{{ secret.{} }}}}", secret.as_str().replace('-', "_"));
        let id = sources.add(format!("made for {name}: {path}"), text.into_bytes());
        role.layers[0].files.insert(path, id);
    }
    Some(role)
}

fn site_role(
    site: &Site,
    sources: &mut Sources,
    roles: &Roles,
    fleet: &Fleet,
    findings: &mut Findings,
) -> Option<Role> {
    let mut context = head(fleet);
    context.insert("site", site);
    let name = site.role();
    let place = Place::new(fleet.source, site.span.clone());
    make(
        &SITE, &name, &site.name, &context, place, sources, roles, findings,
    )
}

fn head(fleet: &Fleet) -> Context {
    let mut context = Context::new();
    context.insert(
        "fleet",
        &json!({ "name": fleet.name.as_str(), "domain": fleet.domain }),
    );
    context
}

/// What templates read as `service`: the service, and its parts in the syntax of the files that they go into.
pub(crate) fn describe_service(service: &Service) -> serde_json::Value {
    let mut value = serde_json::to_value(service).expect("a service has a JSON form");
    let directory = format!("/usr/lib/rolesmith/services/{}", service.name);
    let more = json!({
        "unit": format!("rolesmith-service-{}.service", service.name),
        "directory": directory,
        "exec": unit_words(&service.command, &directory, ""),
        "migrate_words": service.migrate.as_deref().map(|c| unit_words(c, &directory, "--command=")),
        "alive": service.health.as_deref().map(|path| alive(service.port, path)),
        "database_key": service.database_secret().as_str().replace('-', "_"),
        "database_secret": service.database.as_ref().map(|_| service.database_secret().to_string()),
        "environment_lines": service
            .environment
            .iter()
            .map(|(key, value)| format!("{key}={}", quoted(value)))
            .collect::<Vec<_>>(),
    });
    if let (Some(value), serde_json::Value::Object(more)) = (value.as_object_mut(), more) {
        value.extend(more);
    }
    value
}

/// Where a service is asked whether it answers, as a word of a unit.
fn alive(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
        .replace('%', "%%")
        .replace('$', "$$")
}

/// A command as systemd.service(5) reads it: each word in quotation marks, with what is special in them escaped. A program without a
/// slash is Debian's, in /usr/bin; one with a slash in its middle is the service's own. Each word begins with `prefix`.
fn unit_words(command: &[String], directory: &str, prefix: &str) -> String {
    let word = |word: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./=:,@+".contains(&b);
        let word = format!("{prefix}{word}");
        if !word.is_empty() && word.bytes().all(plain) {
            word
        } else {
            quoted(&word.replace('%', "%%").replace('$', "$$"))
        }
    };
    let program = command.first().map(|program| {
        let program = program.strip_prefix("./").unwrap_or(program);
        if program.starts_with('/') {
            program.to_owned()
        } else if command[0].contains('/') {
            format!("{directory}/{program}")
        } else {
            format!("/usr/bin/{program}")
        }
    });
    let words = program.iter().chain(command.iter().skip(1));
    words.map(word).collect::<Vec<_>>().join(" ")
}

/// A string in quotation marks, as systemd.syntax(7) and systemd.exec(5) (EnvironmentFile=) read it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[allow(
    clippy::too_many_arguments,
    reason = "called from two places that differ in each of them"
)]
fn make(
    pattern: &Pattern,
    role: &RoleName,
    name: &str,
    context: &Context,
    place: Place,
    sources: &mut Sources,
    roles: &Roles,
    findings: &mut Findings,
) -> Option<Role> {
    // Without the role there is no machine for it either; who misses it was told that.
    let beside = roles.get(pattern.role)?;
    let mut files: BTreeMap<String, SourceId> = BTreeMap::new();
    // A layer above replaces a file of one below.
    for layer in &beside.layers {
        for (path, id) in &layer.files {
            if let Some(inside) = path.strip_prefix(pattern.directory) {
                files.insert(inside.replace(NAME, name), *id);
            }
        }
    }
    let manifest = files.remove("role.toml")?;
    let wrong = |why: String, findings: &mut Findings| {
        findings.error(
            "application::template",
            place.clone(),
            format!("no role can be made of {name}: {why}"),
            format!("{}role.toml of the role {} was filled in with it", pattern.directory, pattern.role),
            "the file belongs to rolesmith or to a role of the fleet that extends this one: see docs/services.md",
        );
    };
    let text = sources.get(manifest).text().unwrap_or_default().to_owned();
    let text = match template::render(&text, context) {
        Ok(text) => text,
        Err(error) => {
            wrong(error.message, findings);
            return None;
        }
    };
    let file: RoleFile = match toml::from_str(&text) {
        Ok(file) => file,
        Err(error) => {
            wrong(error.message().to_owned(), findings);
            return None;
        }
    };
    let shown = format!("{}: role.toml of {role}", sources.get(manifest).path);
    let manifest = sources.add(shown, text.into_bytes());
    let requires = file
        .role
        .requires
        .iter()
        .filter_map(|required| RoleName::new(required.get_ref().as_str()).ok())
        .collect();
    Some(Role {
        name: role.clone(),
        requires,
        layers: vec![Layer {
            name: role.to_string(),
            builtin: true,
            manifest,
            file,
            files,
        }],
    })
}

/// Adds `service` or `site` to the variables of a role that was made of one.
pub(crate) fn extend_context(context: &mut Context, fleet: &Fleet, role: &RoleName, release: &str) {
    let role = role.as_str();
    if let Some(name) = role.strip_prefix(SERVICE_PREFIX)
        && let Some(service) = fleet.applications.service(name)
    {
        let mut described = describe_service(service);
        described["release"] = json!(release);
        context.insert("service", &described);
    }
    if let Some(name) = role.strip_prefix(SITE_PREFIX)
        && let Some(site) = fleet.applications.sites.iter().find(|s| s.name == name)
    {
        context.insert("site", site);
    }
}

/// How many other machines an edge turns to when its own service does not answer.
const OTHERS: usize = 2;

/// Adds the services, and to `site` the machines that stand in for this one, to the variables of a node.
pub(crate) fn extend_node_context(
    context: &mut Context,
    fleet: &Fleet,
    role: &RoleName,
    node: &Node,
    members: &[(&Node, &[RoleName])],
) {
    let services: Vec<_> = fleet
        .applications
        .services
        .iter()
        .map(|service| {
            json!({
                "name": service.name,
                "port": service.port,
                "health": service.health,
                "role": service.role().as_str(),
            })
        })
        .collect();
    context.insert("services", &services);
    let site = role
        .as_str()
        .strip_prefix(SITE_PREFIX)
        .and_then(|name| fleet.applications.sites.iter().find(|s| s.name == name));
    let Some(site) = site else { return };
    let mut described = serde_json::to_value(site).expect("a site has a JSON form");
    for (route, value) in site.routes.iter().zip(0..) {
        let Some(service) = fleet.applications.service(&route.service) else {
            continue;
        };
        described["routes"][value]["others"] = json!(others(fleet, &service.role(), node, members));
    }
    context.insert("site", &described);
}

/// The next machines after this one, in the order of names and round about, that have the service and an edge: so that the load of one that
/// fails is spread.
fn others(
    fleet: &Fleet,
    service: &RoleName,
    node: &Node,
    members: &[(&Node, &[RoleName])],
) -> Vec<serde_json::Value> {
    let fit = |(other, roles): &&(&Node, &[RoleName])| {
        other.name != node.name
            && other.address.is_some()
            && roles.contains(service)
            && roles.iter().any(|role| role.as_str() == SITE.role)
    };
    let (before, after): (Vec<_>, Vec<_>) = members
        .iter()
        .filter(fit)
        .partition(|(other, _)| other.name < node.name);
    after
        .into_iter()
        .chain(before)
        .take(OTHERS)
        .filter_map(|(other, _)| {
            Some(json!({
                "address": other.address?.to_string(),
                "fqdn": format!("{}.{}", other.name, fleet.domain),
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::unit_words;

    #[test]
    fn words_reach_the_program_as_they_were_written() {
        let words = |words: &[&str]| {
            unit_words(
                &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(),
                "/d",
                "",
            )
        };
        assert_eq!(words(&["node", "server.js"]), "/usr/bin/node server.js");
        assert_eq!(words(&["./run", "%i"]), "/d/run \"%%i\"");
        assert_eq!(words(&["bin/run"]), "/d/bin/run");
        assert_eq!(
            words(&["sh", "-c", "echo \"$HOME\" 100%"]),
            "/usr/bin/sh -c \"echo \\\"$$HOME\\\" 100%%\""
        );
        assert_eq!(words(&["node", ""]), "/usr/bin/node \"\"");
        let migrate = ["./migrate".to_owned(), "--all 5%".to_owned()];
        assert_eq!(
            unit_words(&migrate, "/d", "--command="),
            "--command=/d/migrate \"--command=--all 5%%\""
        );
    }
}
