//! [[firewall]]: who may reach which port.

use tera::Context;
use toml::Spanned;

use super::number;
use crate::{
    finding::Findings,
    ids::RoleName,
    opening::{OpenTo, OpenToError, Opening, Written},
    role::{Layer, Role, Roles},
    role_file::FirewallEntry,
};

/// The openings of a role. Ports that depend on the node are known only with a node's context.
pub(in crate::resolve) fn openings(
    role: &Role,
    roles: &Roles,
    context: &Context,
    findings: &mut Findings,
) -> Vec<Opening> {
    let mut all: Vec<Opening> = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.firewall {
            let Some(opening) = opening(layer, entry, roles, context, findings) else {
                continue;
            };
            if all.iter().any(|o| {
                (o.port, o.protocol, &o.from) == (opening.port, opening.protocol, &opening.from)
            }) {
                findings.error(
                    "role::firewall-twice",
                    layer.place(entry.port.span()),
                    format!(
                        "role {} opens port {} twice to the same peers",
                        role.name, opening.port
                    ),
                    "a duplicate",
                    "remove one of them",
                );
                continue;
            }
            all.push(opening);
        }
    }
    all
}

fn opening(
    layer: &Layer,
    entry: &FirewallEntry,
    roles: &Roles,
    context: &Context,
    findings: &mut Findings,
) -> Option<Opening> {
    let port = number(layer, &entry.port, context, 1..=65535, "the port", findings);
    let name = entry.name.get_ref();
    let named = !name.is_empty() && name.len() <= 60 && !name.contains(['"', '\n', '\\']);
    if !named {
        findings.error(
            "role::firewall-name",
            layer.place(entry.name.span()),
            "the opening's name is empty, longer than 60 characters or holds a quote",
            "it becomes the comment of a firewall rule",
            "write a word or two, such as \"postgresql\"",
        );
    }
    let from = from(layer, &entry.from, roles, findings);
    // Whoever needs more than a thousand a minute needs no limit.
    let per_minute = match &entry.per_minute {
        None => Some(None),
        Some(value) => number(layer, value, context, 1..=1000, "`per_minute`", findings).map(Some),
    };
    Some(Opening {
        name: named.then(|| name.clone())?,
        port: u16::try_from(port?).ok()?,
        protocol: entry.protocol,
        from: from?,
        per_minute: per_minute?.and_then(|most| u16::try_from(most).ok()),
    })
}

/// Whom `from` means, where it means somebody.
fn from(
    layer: &Layer,
    written: &Spanned<Written>,
    roles: &Roles,
    findings: &mut Findings,
) -> Option<OpenTo> {
    let mut error = |what: String, why: &str, help: String| {
        let place = layer.place(written.span());
        findings.error("role::firewall-from", place, what, why, help);
    };
    let open = match OpenTo::try_from(written.get_ref().clone()) {
        Ok(open) => open,
        Err(why) => {
            let reason = match &why {
                OpenToError::Empty => "nobody could reach the port",
                OpenToError::NoRole(_) | OpenToError::Name(..) => {
                    "a list holds the roles whose members may reach the port"
                }
                OpenToError::Twice(_) => "a duplicate",
            };
            error(
                format!("`from` is {why}"),
                reason,
                "write a list such as [\"role:app\", \"role:redis\"], or one of \"public\", \"load-balancer\" and \"fleet\""
                    .to_owned(),
            );
            return None;
        }
    };
    let OpenTo::Roles(wanted) = &open else {
        return Some(open);
    };
    let unknown =
        |name: &&RoleName| roles.get(name.as_str()).is_none() && !roles.is_broken(name.as_str());
    let Some(name) = wanted.iter().find(unknown) else {
        return Some(open);
    };
    let help = roles.similar(name.as_str()).map_or_else(
        || format!("known roles are {}", roles.names().join(", ")),
        |near| format!("did you mean \"role:{near}\"?"),
    );
    error(
        format!("the port is opened to members with the role {name}, which is not a role"),
        "neither built in nor a directory in roles/",
        help,
    );
    None
}
