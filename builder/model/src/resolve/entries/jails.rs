//! [[jails]]: fail2ban.

use tera::Context;
use toml::Spanned;

use super::number;
use crate::{
    finding::Findings,
    plan::Jail,
    resolve::files::inline,
    role::{Layer, Role},
    role_file::JailEntry,
};

/// The role's jails.
pub(in crate::resolve) fn jails(
    role: &Role,
    context: &Context,
    findings: &mut Findings,
) -> Vec<Jail> {
    let mut all: Vec<Jail> = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.jails {
            if let Some(jail) = jail(layer, entry, context, findings) {
                all.retain(|j| j.name != jail.name);
                all.push(jail);
            }
        }
    }
    all
}

fn jail(
    layer: &Layer,
    entry: &JailEntry,
    context: &Context,
    findings: &mut Findings,
) -> Option<Jail> {
    let named = name(layer, &entry.name, entry.name.get_ref(), "jail", findings)
        && name(
            layer,
            &entry.filter,
            entry.filter.get_ref(),
            "filter",
            findings,
        );
    if !named {
        return None;
    }
    let find_time = time(layer, &entry.find_time, context, findings);
    let ban_time = time(layer, &entry.ban_time, context, findings);
    let max_retry = number(
        layer,
        &entry.max_retry,
        context,
        1..=1_000_000,
        "`max_retry`",
        findings,
    );
    let action = actions(layer, &entry.action, context, findings);
    let port = port(layer, &entry.port, context, findings)?;
    let mut options = vec![
        ("enabled", "true".to_owned()),
        ("filter", entry.filter.get_ref().clone()),
        ("port", port),
        ("maxretry", max_retry?.to_string()),
        ("findtime", find_time?),
        ("bantime", ban_time?),
    ];
    let action = action?;
    if !action.is_empty() {
        options.push(("action", action.join("\n         ")));
    }
    if entry.log_path.is_empty() {
        options.push(("backend", "systemd".into()));
        if let Some(matches) = &entry.journal_match {
            options.push(("journalmatch", matches.clone()));
        }
    } else {
        options.push(("backend", "pyinotify".into()));
        options.push(("logpath", entry.log_path.join("\n          ")));
    }
    Some(Jail {
        name: entry.name.get_ref().clone(),
        options,
    })
}

/// Whether `text`, written at `at`, can name a jail, or a filter or an action with its parameters.
fn name(
    layer: &Layer,
    at: &Spanned<String>,
    text: &str,
    what: &str,
    findings: &mut Findings,
) -> bool {
    let marks: &[u8] = if what == "jail" { b"-_" } else { b"-_.[]=,%()" };
    let good = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || marks.contains(&b));
    if !good {
        findings.error(
            "role::jail-name",
            layer.place(at.span()),
            format!(
                "{text:?} is not the name of {} {what}",
                if what == "action" { "an" } else { "a" }
            ),
            "fail2ban takes letters, digits, hyphens and underscores",
            "see jail.conf(5)",
        );
    }
    good
}

/// What a ban does; nothing where the defaults of all jails say it.
fn actions(
    layer: &Layer,
    written: &[Spanned<String>],
    context: &Context,
    findings: &mut Findings,
) -> Option<Vec<String>> {
    written
        .iter()
        .map(|action| {
            let text = inline(layer, action, context, findings)?;
            name(layer, action, &text, "action", findings).then_some(text)
        })
        .collect()
}

/// How long, in fail2ban's words.
fn time(
    layer: &Layer,
    written: &Spanned<String>,
    context: &Context,
    findings: &mut Findings,
) -> Option<String> {
    let time = inline(layer, written, context, findings)?;
    if is_time(&time) {
        return Some(time);
    }
    findings.error(
        "role::jail-time",
        layer.place(written.span()),
        format!("fail2ban cannot read the time {time:?}"),
        "not a number with a unit",
        "write 600, 10m, 1h or 1d",
    );
    None
}

/// A number, with a unit of one or two letters.
fn is_time(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && text.len() - digits.len() <= 2
}

/// The ports that a ban closes: numbers and names of services(5), separated by commas.
fn port(
    layer: &Layer,
    text: &Spanned<String>,
    context: &Context,
    findings: &mut Findings,
) -> Option<String> {
    let rendered = inline(layer, text, context, findings)?;
    let good = rendered.split(',').all(|part| {
        let part = part.trim();
        match part.split_once(':') {
            Some((from, to)) => [from, to].iter().all(|p| p.parse::<u16>().is_ok()),
            None if part.bytes().all(|b| b.is_ascii_digit()) => {
                part.parse::<u16>().is_ok_and(|port| port != 0)
            }
            None => part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'),
        }
    });
    if !good {
        findings.error(
            "role::jail-port",
            layer.place(text.span()),
            format!("{rendered:?} is not a list of ports"),
            "the ports that a ban closes (jail.conf(5))",
            "write \"22\", \"80,443\", or a template such as \"{{ node.ssh_port }}\"",
        );
        return None;
    }
    Some(rendered)
}
