//! [[jails]]: fail2ban.

use tera::Context;
use toml::Spanned;

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
    for (field, pattern, what) in [
        (&entry.name, "-_", "jail"),
        (&entry.filter, "-_.[]=,%()", "filter"),
    ] {
        let text = field.get_ref();
        if text.is_empty()
            || !text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || pattern.as_bytes().contains(&b))
        {
            findings.error(
                "role::jail-name",
                layer.place(field.span()),
                format!("{text:?} is not the name of a {what}"),
                "fail2ban takes letters, digits, hyphens and underscores",
                "see jail.conf(5)",
            );
            return None;
        }
    }
    for time in [&entry.find_time, &entry.ban_time] {
        if !is_time(time.get_ref()) {
            findings.error(
                "role::jail-time",
                layer.place(time.span()),
                format!("fail2ban cannot read the time {:?}", time.get_ref()),
                "not a number with a unit",
                "write 600, 10m, 1h or 1d",
            );
            return None;
        }
    }
    if !(1..=1_000_000).contains(entry.max_retry.get_ref()) {
        findings.error(
            "role::jail-max-retry",
            layer.place(entry.max_retry.span()),
            format!(
                "a ban after {} matches has no meaning",
                entry.max_retry.get_ref()
            ),
            "not a number from 1 to 1000000",
            "write how many matches within find_time lead to a ban, such as 5",
        );
        return None;
    }
    let port = port(layer, &entry.port, context, findings)?;
    let mut options = vec![
        ("enabled", "true".to_owned()),
        ("filter", entry.filter.get_ref().clone()),
        ("port", port),
        ("maxretry", entry.max_retry.get_ref().to_string()),
        ("findtime", entry.find_time.get_ref().clone()),
        ("bantime", entry.ban_time.get_ref().clone()),
    ];
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
