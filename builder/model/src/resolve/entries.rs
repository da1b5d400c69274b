//! The structured entries of role.toml: what they say becomes the text of a configuration file or a part of the manifest.

mod cluster;
mod health;
mod jails;
mod lines;
mod logs;

use tera::Context;
use toml::Spanned;

use super::files::inline;
use crate::{
    finding::Findings,
    manifest::Opening,
    role::{Layer, Role},
    role_file::PortValue,
};

pub(super) use cluster::{cluster, makes_databases};
pub(super) use health::health;
pub(super) use jails::jails;
pub(super) use lines::{lines, sysctl, sysusers_line, tmpfiles_line};
pub(super) use logs::logrotate;

/// A port or another number that may be a template.
pub(super) fn number(
    layer: &Layer,
    value: &Spanned<PortValue>,
    context: &Context,
    range: std::ops::RangeInclusive<i64>,
    what: &str,
    findings: &mut Findings,
) -> Option<i64> {
    let (number, shown) = match value.get_ref() {
        PortValue::Number(number) => (Some(*number), number.to_string()),
        PortValue::Template(text) => {
            let text = Spanned::new(value.span(), text.clone());
            let rendered = inline(layer, &text, context, findings)?;
            (rendered.trim().parse().ok(), format!("{rendered:?}"))
        }
    };
    let good = number.filter(|n| range.contains(n));
    if good.is_none() {
        findings.error(
            "role::number",
            layer.place(value.span()),
            format!("{what} cannot be {shown}"),
            format!("not a number from {} to {}", range.start(), range.end()),
            "write the number, or a template such as \"{{ redis.port }}\" that gives it",
        );
    }
    good
}

/// The openings of a role. Ports that depend on the node are known only with a node's context.
pub(super) fn openings(role: &Role, context: &Context, findings: &mut Findings) -> Vec<Opening> {
    let mut all: Vec<Opening> = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.firewall {
            let Some(port) = number(layer, &entry.port, context, 1..=65535, "the port", findings)
            else {
                continue;
            };
            let name = entry.name.get_ref();
            if name.is_empty() || name.len() > 60 || name.contains(['"', '\n', '\\']) {
                findings.error(
                    "role::firewall-name",
                    layer.place(entry.name.span()),
                    "the opening's name is empty, longer than 60 characters or holds a quote",
                    "it becomes the comment of a firewall rule",
                    "write a word or two, such as \"postgresql\"",
                );
                continue;
            }
            let opening = Opening {
                name: name.clone(),
                port: u16::try_from(port).expect("checked against 65535"),
                protocol: entry.protocol,
                from: entry.from,
            };
            if all.iter().any(|o| {
                (o.port, o.protocol, o.from) == (opening.port, opening.protocol, opening.from)
            }) {
                findings.error(
                    "role::firewall-twice",
                    layer.place(entry.port.span()),
                    format!(
                        "role {} opens port {port} twice to the same peers",
                        role.name
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
