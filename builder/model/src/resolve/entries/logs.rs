//! [[logs]]: the role's file in /etc/logrotate.d (logrotate(8)).

use std::{collections::BTreeSet, fmt::Write as _};

use tera::Context;
use toml::Spanned;

use super::number;
use crate::{
    finding::Findings,
    role::{Layer, Role},
    role_file::{LogEntry, Rotate},
    validate::syntax,
};

/// The text of the file; empty where the role has no logs.
pub(in crate::resolve) fn logrotate(
    role: &Role,
    context: &Context,
    findings: &mut Findings,
) -> String {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    for layer in &role.layers {
        for entry in &layer.file.logs {
            let path = entry.path.get_ref();
            if !seen.insert(path) {
                findings.error(
                    "role::log-twice",
                    layer.place(entry.path.span()),
                    format!("{path} is rotated twice"),
                    "logrotate refuses a file that names a log twice",
                    "remove one of the entries",
                );
                continue;
            }
            if let Some(part) = stanza(layer, entry, context, findings) {
                text.push_str(&part);
            }
        }
    }
    text
}

fn stanza(
    layer: &Layer,
    entry: &LogEntry,
    context: &Context,
    findings: &mut Findings,
) -> Option<String> {
    let path = entry.path.get_ref();
    if !path.starts_with("/var/log/")
        || path.split('/').any(|p| p == "..")
        || path.contains([' ', '"', '\n', '{', '}'])
    {
        findings.error(
            "role::log-path",
            layer.place(entry.path.span()),
            format!("{path:?} is not a log file"),
            "log files stand below /var/log (Policy 10.8)",
            "write a path such as \"/var/log/rolesmith/app.log\"",
        );
        return None;
    }
    let keep = number(layer, &entry.keep, context, 0..=3650, "`keep`", findings)?;
    let every = match entry.rotate {
        Rotate::Daily => "daily",
        Rotate::Weekly => "weekly",
        Rotate::Monthly => "monthly",
    };
    let mut text = format!(
        "{path}\n{{\n\t{every}\n\trotate {keep}\n\tmissingok\n\tnotifempty\n\tcompress\n\tdelaycompress\n"
    );
    let options: [(&str, &Option<Spanned<String>>, Valid, &str); 3] = [
        (
            "maxsize",
            &entry.max_size,
            size,
            "write a number with k, M or G, such as \"100M\"",
        ),
        (
            "create",
            &entry.create,
            mode_and_owner,
            "write \"mode user group\", such as \"0640 syslog adm\"",
        ),
        (
            "su",
            &entry.su,
            owner,
            "write \"user group\", such as \"root adm\"",
        ),
    ];
    for (option, value, valid, help) in options {
        let Some(value) = value else { continue };
        if valid(value.get_ref()) {
            let _ = writeln!(text, "\t{option} {}", value.get_ref());
        } else {
            findings.error(
                "role::log-option",
                layer.place(value.span()),
                format!("logrotate cannot read {:?}", value.get_ref()),
                format!("becomes the option `{option}` of logrotate(8)"),
                help,
            );
        }
    }
    if let Some(unit) = &entry.signal {
        if !syntax::unit_name(unit.get_ref()) {
            findings.error(
                "role::log-signal",
                layer.place(unit.span()),
                format!("{:?} is not a unit's name", unit.get_ref()),
                "the unit that gets SIGHUP after the rotation",
                "write it with its suffix, such as rsyslog.service",
            );
            return None;
        }
        let unit = unit.get_ref();
        let _ = writeln!(
            text,
            "\tsharedscripts\n\tpostrotate\n\t\t[ ! -d /run/systemd/system ] || systemctl kill --signal=HUP --kill-whom=main {unit} || true\n\tendscript"
        );
    }
    text.push_str("}\n");
    Some(text)
}

type Valid = fn(&str) -> bool;

fn size(text: &str) -> bool {
    let digits = text.trim_end_matches(['k', 'M', 'G']);
    text.len() - digits.len() <= 1
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
}

fn owner(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    words.len() == 2 && words.iter().all(|word| syntax::user_name(word))
}

fn mode_and_owner(text: &str) -> bool {
    text.split_once(' ')
        .is_some_and(|(mode, rest)| syntax::mode(mode).is_some() && owner(rest))
}
