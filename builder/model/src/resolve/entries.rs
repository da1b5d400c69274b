//! The structured entries of role.toml: what they say becomes the text of a configuration file or a part of the manifest.

use std::fmt::Write as _;

use tera::Context;
use toml::Spanned;

use super::files::inline;
use crate::{
    finding::Findings,
    manifest::{Cluster, ClusterKind, HealthCheck, Opening, Probe},
    plan::Jail,
    role::{Layer, Role},
    role_file::{HealthEntry, JailEntry, LogEntry, PortValue, Rotate},
    validate::syntax,
};

/// A port or another number that may be a template.
pub(super) fn number(
    layer: &Layer,
    value: &Spanned<PortValue>,
    context: &Context,
    range: std::ops::RangeInclusive<i64>,
    what: &str,
    findings: &mut Findings,
) -> Option<i64> {
    let number = match value.get_ref() {
        PortValue::Number(number) => Some(*number),
        PortValue::Template(text) => {
            let text = Spanned::new(value.span(), text.clone());
            inline(layer, &text, context, findings)?.trim().parse().ok()
        }
    };
    let good = number.filter(|n| range.contains(n));
    if good.is_none() {
        findings.error(
            "role::number",
            layer.place(value.span()),
            format!(
                "{what} is not a number from {} to {}",
                range.start(),
                range.end()
            ),
            "out of range, or not a number once its template is rendered",
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

/// Lines of sysusers.d(5) or tmpfiles.d(5), each with its template rendered.
pub(super) fn lines(
    role: &Role,
    pick: impl Fn(&Layer) -> &Vec<Spanned<String>>,
    valid: impl Fn(&str) -> Result<(), String>,
    code: &'static str,
    man_page: &str,
    context: &Context,
    findings: &mut Findings,
) -> String {
    let mut text = String::new();
    for layer in &role.layers {
        for line in pick(layer) {
            let Some(rendered) = inline(layer, line, context, findings) else {
                continue;
            };
            match valid(&rendered) {
                Ok(()) => {
                    let _ = writeln!(text, "{rendered}");
                }
                Err(why) => findings.error(
                    code,
                    layer.place(line.span()),
                    format!("the line {why}"),
                    format!("not a line that {man_page} describes"),
                    format!("see man {man_page}"),
                ),
            }
        }
    }
    text
}

/// A line of sysusers.d(5).
pub(super) fn sysusers_line(line: &str) -> Result<(), String> {
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().unwrap_or("");
    if !["u", "u!", "g", "m", "r"].contains(&kind) {
        return Err(format!("begins with {kind:?} instead of u, g, m or r"));
    }
    let name = words.next().unwrap_or("");
    let good = !name.is_empty()
        && name.len() <= 31
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if !good && kind != "r" {
        return Err(format!("names {name:?}, which is not a system user's name"));
    }
    if kind == "m" && words.next().is_none() {
        return Err("adds a user to no group".into());
    }
    if line.contains('\n') {
        return Err("holds a line break".into());
    }
    Ok(())
}

/// A line of tmpfiles.d(5).
pub(super) fn tmpfiles_line(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let kind = words.first().copied().unwrap_or("");
    let letter = kind.chars().next().unwrap_or(' ');
    if !"fFwdDeqQpLcbCxXrRzZtTaAhH".contains(letter)
        || !kind[letter.len_utf8()..]
            .bytes()
            .all(|b| b"+!-=~^$?".contains(&b))
    {
        return Err(format!("begins with {kind:?}, which is not a type"));
    }
    let path = words.get(1).copied().unwrap_or("");
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("has {path:?} where an absolute path stands"));
    }
    if let Some(mode) = words.get(2) {
        let digits = mode.trim_start_matches(['~', ':']);
        if digits != "-" && syntax::mode(digits).is_none() {
            return Err(format!("has {mode:?} where a mode stands"));
        }
    }
    if line.contains('\n') {
        return Err("holds a line break".into());
    }
    Ok(())
}

/// The role's part of sysctl.d(5).
pub(super) fn sysctl(role: &Role, findings: &mut Findings) -> String {
    let mut text = String::new();
    for layer in &role.layers {
        for (key, value) in &layer.file.sysctl {
            let valid = key.contains(['.', '/'])
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-/*".contains(&b));
            let rendered = match value.get_ref() {
                toml::Value::Integer(number) => Some(number.to_string()),
                toml::Value::String(text) if !text.contains('\n') && !text.is_empty() => {
                    Some(text.clone())
                }
                _ => None,
            };
            match rendered {
                Some(value) if valid => {
                    let _ = writeln!(text, "{key} = {value}");
                }
                _ => findings.error(
                    "role::sysctl",
                    layer.place(value.span()),
                    format!("{key:?} is not a kernel parameter with a number or one line of text"),
                    "sysctl.d(5) takes NAME = VALUE",
                    "write it as \"vm.swappiness\" = 10",
                ),
            }
        }
    }
    text
}

/// The role's file in /etc/logrotate.d (logrotate(8)).
pub(super) fn logrotate(role: &Role, context: &Context, findings: &mut Findings) -> String {
    let mut text = String::new();
    for layer in &role.layers {
        for entry in &layer.file.logs {
            logrotate_entry(layer, entry, context, &mut text, findings);
        }
    }
    text
}

fn logrotate_entry(
    layer: &Layer,
    entry: &LogEntry,
    context: &Context,
    text: &mut String,
    findings: &mut Findings,
) {
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
        return;
    }
    let Some(keep) = number(layer, &entry.keep, context, 0..=3650, "`keep`", findings) else {
        return;
    };
    let every = match entry.rotate {
        Rotate::Daily => "daily",
        Rotate::Weekly => "weekly",
        Rotate::Monthly => "monthly",
    };
    let _ = writeln!(
        text,
        "{path}\n{{\n\t{every}\n\trotate {keep}\n\tmissingok\n\tnotifempty\n\tcompress\n\tdelaycompress"
    );
    for (option, value) in [
        ("maxsize", &entry.max_size),
        ("create", &entry.create),
        ("su", &entry.su),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "\t{option} {value}");
        }
    }
    if let Some(unit) = &entry.signal {
        let _ = writeln!(
            text,
            "\tsharedscripts\n\tpostrotate\n\t\t[ ! -d /run/systemd/system ] || systemctl kill --signal=HUP --kill-whom=main {unit} || true\n\tendscript"
        );
    }
    text.push_str("}\n");
}

/// The role's jails.
pub(super) fn jails(role: &Role, context: &Context, findings: &mut Findings) -> Vec<Jail> {
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
    for (field, pattern) in [(&entry.name, "-_"), (&entry.filter, "-_.[]=,%()")] {
        let text = field.get_ref();
        if text.is_empty()
            || !text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || pattern.as_bytes().contains(&b))
        {
            findings.error(
                "role::jail-name",
                layer.place(field.span()),
                format!("{text:?} is not the name of a jail or filter"),
                "fail2ban takes letters, digits, hyphens and underscores",
                "see jail.conf(5)",
            );
            return None;
        }
    }
    let seconds = |text: &str| {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && text.len() - digits.len() <= 2
    };
    if !seconds(&entry.find_time) || !seconds(&entry.ban_time) {
        findings.error(
            "role::jail-time",
            layer.place(entry.name.span()),
            format!(
                "jail {:?} has a time that fail2ban cannot read",
                entry.name.get_ref()
            ),
            "find_time and ban_time are numbers with a unit",
            "write 600, 10m, 1h or 1d",
        );
        return None;
    }
    let port = crate::template::render(&entry.port, context).unwrap_or_else(|_| entry.port.clone());
    let mut options = vec![
        ("enabled", "true".to_owned()),
        ("filter", entry.filter.get_ref().clone()),
        ("port", port),
        ("maxretry", entry.max_retry.to_string()),
        ("findtime", entry.find_time.clone()),
        ("bantime", entry.ban_time.clone()),
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

/// The role's health checks, rendered for a node.
pub(super) fn health(role: &Role, context: &Context, findings: &mut Findings) -> Vec<HealthCheck> {
    let mut all: Vec<HealthCheck> = Vec::new();
    for layer in &role.layers {
        for entry in &layer.file.health {
            if let Some(probe) = probe(layer, entry, context, findings) {
                let name = entry.name.get_ref().clone();
                all.retain(|c| c.name != name);
                all.push(HealthCheck { name, probe });
            }
        }
    }
    all
}

fn probe(
    layer: &Layer,
    entry: &HealthEntry,
    context: &Context,
    findings: &mut Findings,
) -> Option<Probe> {
    let place = layer.place(entry.name.span());
    let mut problem = |message: String, help: &str| {
        findings.error(
            "role::health",
            place.clone(),
            message,
            "this health check",
            help,
        );
    };
    let given = [
        entry.unit.is_some(),
        entry.tcp.is_some(),
        entry.http.is_some(),
        entry.command.is_some(),
    ];
    if given.iter().filter(|g| **g).count() != 1 {
        problem(
            format!(
                "health check {:?} does not name exactly one of unit, tcp, http, command",
                entry.name.get_ref()
            ),
            "keep the one that says best whether the service works",
        );
        return None;
    }
    let mut render = |text: &str| match crate::template::render(text, context) {
        Ok(text) => Some(text),
        Err(error) => {
            problem(
                format!("{text:?} cannot be rendered: {}", error.message),
                "docs/roles.md lists the variables that templates may read",
            );
            None
        }
    };
    if let Some(unit) = &entry.unit {
        let unit = render(unit)?;
        if !syntax::unit_name(&unit) {
            problem(
                format!("{unit:?} is not a unit's name"),
                "write it with its suffix, such as nginx.service",
            );
            return None;
        }
        return Some(Probe::Unit(unit));
    }
    if let Some(tcp) = &entry.tcp {
        let address = render(tcp)?;
        let good = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0)
        });
        if !good {
            problem(
                format!("{address:?} is not host:port"),
                "write an address such as \"127.0.0.1:6432\"",
            );
            return None;
        }
        return Some(Probe::Tcp(address));
    }
    if let Some(http) = &entry.http {
        let url = render(http)?;
        if !url.starts_with("http://") {
            problem(
                format!("{url:?} is not a plain-HTTP URL"),
                "write a URL such as \"http://127.0.0.1:80/health\"",
            );
            return None;
        }
        return Some(Probe::Http(url));
    }
    let command = entry.command.as_ref()?;
    if !command
        .first()
        .is_some_and(|program| program.starts_with('/'))
    {
        problem(
            "the command does not begin with an absolute path".into(),
            "write [\"/usr/bin/pg_isready\", …]",
        );
        return None;
    }
    let words: Option<Vec<String>> = command.iter().map(|word| render(word)).collect();
    words.map(Probe::Command)
}

/// How the role joins its cluster; the uppermost layer that says so counts.
pub(super) fn cluster(role: &Role, context: &Context, findings: &mut Findings) -> Option<Cluster> {
    let (layer, entry) = role
        .layers
        .iter()
        .rev()
        .find_map(|l| l.file.cluster.as_ref().map(|c| (l, c)))?;
    match (&entry.kind, &entry.join) {
        (Some(kind), None) => match kind.get_ref().as_str() {
            "postgresql" => Some(Cluster::Kind(ClusterKind::Postgresql)),
            "redis" => Some(Cluster::Kind(ClusterKind::Redis)),
            "rsyslog" => Some(Cluster::Kind(ClusterKind::Rsyslog)),
            other => {
                findings.error(
                    "role::cluster-kind",
                    layer.place(kind.span()),
                    format!("there is no cluster kind {other:?}"),
                    "the agent does not know it",
                    "write postgresql, redis or rsyslog; for anything else name a program of your own with `join`",
                );
                None
            }
        },
        (None, Some(join)) => {
            let path = inline(layer, join, context, findings)?;
            let shipped = role.layers.iter().flat_map(|l| &l.file.files).any(|f| {
                crate::template::render(f.path.get_ref(), context).is_ok_and(|p| p == path)
            });
            if !shipped {
                findings.error(
                    "role::join-missing",
                    layer.place(join.span()),
                    format!("the role ships no file {path:?}"),
                    "`join` names a program of the role's own package by its absolute path",
                    "add it under [[files]] with mode = \"0755\"",
                );
                return None;
            }
            Some(Cluster::Join(path))
        }
        (Some(span), Some(_)) => {
            findings.error(
                "role::cluster-both",
                layer.place(span.span()),
                "[cluster] has both `kind` and `join`",
                "either the agent knows how to join, or the role does",
                "keep one of them",
            );
            None
        }
        (None, None) => {
            findings.error(
                "role::cluster-none",
                crate::finding::Place::whole(layer.manifest),
                "[cluster] has neither `kind` nor `join`",
                "nothing says how the role joins",
                "add one of them, or remove [cluster]",
            );
            None
        }
    }
}
