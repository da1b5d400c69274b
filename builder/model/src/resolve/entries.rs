//! The structured entries of role.toml: what they say becomes the text of a configuration file or a part of the manifest.

mod cluster;
mod firewall;
mod health;
mod jails;
mod lines;
mod logs;

use tera::Context;
use toml::Spanned;

use super::files::inline;
use crate::{finding::Findings, role::Layer, role_file::PortValue};

pub(super) use cluster::{cluster, makes_databases};
pub(super) use firewall::openings;
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
