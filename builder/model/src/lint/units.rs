//! Units and drop-ins (systemd.unit(5), systemd.syntax(7)).

use super::{find, first};
use crate::{
    archive_names::closest,
    finding::{Findings, Place},
};

/// Targets that are reached only after cloud-init is done; a unit that waits for them and is started while cloud-init
/// installs packages waits for ever.
const LATE_TARGETS: [&str; 6] = [
    "cloud-init.target",
    "cloud-final.service",
    "cloud-config.service",
    "cloud-init.service",
    "multi-user.target",
    "graphical.target",
];

/// Sections of the units that a package may ship.
const SECTIONS: [&str; 11] = [
    "Unit",
    "Install",
    "Service",
    "Socket",
    "Timer",
    "Path",
    "Mount",
    "Automount",
    "Slice",
    "Swap",
    "Scope",
];

fn is_section(line: &str) -> bool {
    line.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|name| SECTIONS.contains(&name) || name.starts_with("X-"))
}

/// A whole unit.
pub fn unit(name: &str, bytes: &[u8], enable: bool, place: Place, findings: &mut Findings) {
    let Some(text) = unit_text(name, bytes, place.clone(), findings) else {
        return;
    };
    let has = |wanted: &str| text.lines().any(|line| line.trim() == wanted);
    if enable && !has("[Install]") {
        findings.error(
            "unit::no-install",
            place.clone(),
            format!("{name} is to be enabled but has no [Install] section"),
            "nothing says what starts it at boot (systemd.unit(5))",
            "add [Install] with WantedBy=multi-user.target, or set enable = false",
        );
    }
    if name.ends_with(".service") {
        let slip = text
            .lines()
            .map(str::trim)
            .any(|line| line.starts_with('[') && !is_section(line));
        if slip {
            // Told already; whatever else seems to be missing is probably in it.
        } else if !has("[Service]") {
            findings.error(
                "unit::no-service",
                place.clone(),
                format!("{name} has no [Service] section"),
                "systemd would not load it (systemd.service(5))",
                "add [Service] with ExecStart=",
            );
        } else if !text
            .lines()
            .any(|l| l.trim_start().starts_with("ExecStart="))
        {
            findings.error(
                "unit::no-exec-start",
                place.clone(),
                format!("{name} has no ExecStart="),
                "systemd would not load it (systemd.service(5))",
                "add ExecStart= with the absolute path of a program",
            );
        }
        for line in text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("ExecStart="))
        {
            let program = line.trim_start_matches(['@', '-', ':', '+', '!']);
            if !program.is_empty() && !program.starts_with('/') {
                findings.error(
                    "unit::relative-program",
                    find(&text, line, &place),
                    format!("{name} starts {program:?}"),
                    "not an absolute path; which program runs would depend on the search path",
                    "write the program's absolute path",
                );
            }
        }
    }
    if !text
        .lines()
        .any(|l| l.trim_start().starts_with("Description="))
    {
        findings.warning(
            "unit::no-description",
            place,
            format!("{name} has no Description="),
            "systemctl and the journal show it",
            "add one under [Unit]",
        );
    }
}

/// The text of a unit or a drop-in.
pub fn unit_text(
    name: &str,
    bytes: &[u8],
    place: Place,
    findings: &mut Findings,
) -> Option<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        findings.error(
            "unit::not-utf8",
            place,
            format!("{name} is not UTF-8"),
            "systemd would not load it",
            "convert it, for example with iconv(1)",
        );
        return None;
    };
    if text.contains('\r') {
        findings.error(
            "unit::carriage-return",
            first(text, "\r", &place),
            format!("{name} has carriage returns at the ends of its lines"),
            "systemd would take them for a part of each value",
            "save it with Unix line endings",
        );
        return None;
    }
    let mut continued = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if !continued && trimmed.starts_with('[') && !is_section(trimmed) {
            let known = SECTIONS.iter().copied();
            let bare = trimmed.trim_matches(['[', ']']);
            findings.error(
                "unit::unknown-section",
                find(text, line, &place),
                format!("{trimmed} is not a section of a unit"),
                "systemd would ignore everything in it (systemd.syntax(7))",
                closest(bare, known).map_or_else(
                    || "see systemd.unit(5); a section of your own begins with X-".to_owned(),
                    |near| format!("did you mean [{near}]?"),
                ),
            );
        }
        let skip = continued || trimmed.is_empty() || trimmed.starts_with(['#', ';', '[']);
        continued = trimmed.ends_with('\\');
        if skip {
            continue;
        }
        let Some((key, value)) = trimmed.split_once('=') else {
            findings.error(
                "unit::syntax",
                find(text, line, &place),
                format!("{:?} is not KEY=VALUE", trimmed),
                "systemd would ignore it",
                "see systemd.syntax(7)",
            );
            continue;
        };
        let order = ["After", "Requires", "Requisite", "BindsTo"].contains(&key.trim());
        if let Some(late) = order
            .then(|| {
                value
                    .split_ascii_whitespace()
                    .find(|v| LATE_TARGETS.contains(v))
            })
            .flatten()
        {
            findings.error(
                "unit::late-order",
                find(text, line, &place),
                format!("{name} waits for {late} ({})", key.trim()),
                "started while cloud-init installs packages, it would wait for ever",
                "order it after network-online.target or the service that it needs",
            );
        }
    }
    Some(text.to_owned())
}
