//! What dpkg accepts in silence and lintian, systemd or an administrator would complain about.
//!
//! lintian needs seconds a package; these checks give the findings that matter in milliseconds, at the place where the
//! mistake was made.

mod scripts;
mod units;

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    finding::{Findings, Place},
    plan::{Content, Package},
    source::SourceId,
    validate::syntax,
};

pub use scripts::fragment;
pub use units::{unit, unit_text};

/// Synopsis (Policy 3.4.1).
pub fn summary(text: &str, place: Place, findings: &mut Findings) {
    let problem = if text.trim().is_empty() {
        "is empty"
    } else if text.contains('\n') {
        "is more than one line"
    } else if text.contains(char::is_control) {
        "holds a tab or another control character"
    } else if text.chars().count() >= 80 {
        "has 80 characters or more"
    } else if text.ends_with('.') {
        "ends with a full stop"
    } else if text != text.trim() {
        "begins or ends with a space"
    } else if ["A ", "An ", "The ", "a ", "an ", "the "]
        .iter()
        .any(|article| text.starts_with(article))
    {
        "begins with an article"
    } else {
        return;
    };
    findings.error(
        "role::summary",
        place,
        format!("the summary {problem}"),
        "shown in one line by apt (Policy 3.4.1)",
        "write a phrase such as \"Redis with Sentinel\"",
    );
}

/// Extended description (Policy 3.4.2).
pub fn description(summary: &str, text: &str, place: Place, findings: &mut Findings) {
    let problem = if text.trim().is_empty() {
        "is empty"
    } else if text.trim() == summary.trim() {
        "only repeats the summary"
    } else if text.contains('\t') {
        "holds a tab"
    } else if text.contains(|c: char| c.is_control() && c != '\n') {
        "holds a carriage return or another control character"
    } else if text.trim_start_matches('\n').starts_with(' ') {
        "begins with a space"
    } else if text.lines().any(|line| line.trim_start().starts_with('.')) {
        "has a line that begins with a full stop, which control files use for empty lines"
    } else if text
        .lines()
        .filter(|line| line.starts_with(['-', '*']))
        .count()
        > 1
    {
        "has a list whose lines do not begin with a space, so that apt would run them together"
    } else {
        return;
    };
    findings.error(
        "role::description",
        place,
        format!("the description {problem}"),
        "tells people what the package is (Policy 3.4.2)",
        "write two or three sentences",
    );
}

/// Directories in which a package ships nothing, with the reason.
const FORBIDDEN: [(&str, &str); 18] = [
    ("/usr/local/", "belongs to the administrator (Policy 9.1.2)"),
    ("/home/", "belongs to users (Policy 9.1.2)"),
    ("/root/", "belongs to the administrator"),
    ("/tmp/", "is emptied at boot"),
    ("/var/tmp/", "is emptied from time to time"),
    (
        "/run/",
        "is emptied at boot (Policy 9.3.2); make it with [tmpfiles] or RuntimeDirectory=",
    ),
    ("/var/run/", "is a link to /run (Policy 9.1.4)"),
    ("/var/lock/", "is a link to /run/lock (Policy 9.1.4)"),
    ("/bin/", "is a link to /usr/bin on every supported suite"),
    ("/sbin/", "is a link to /usr/sbin on every supported suite"),
    ("/lib/", "is a link to /usr/lib on every supported suite"),
    (
        "/lib64/",
        "is a link to /usr/lib64 on every supported suite",
    ),
    ("/proc/", "is made by the kernel"),
    ("/sys/", "is made by the kernel"),
    ("/dev/", "is made by the kernel and udev"),
    ("/mnt/", "belongs to the administrator"),
    ("/srv/", "belongs to the administrator"),
    (
        "/etc/rolesmith/",
        "holds what the seed brings; packages do not ship it",
    ),
];

/// A path that a package may ship. Gives whether it may.
pub fn path(path: &str, place: &Place, findings: &mut Findings) -> bool {
    if let Err(why) = syntax::absolute_path(path) {
        findings.error(
            "role::path",
            place.clone(),
            format!("the path {path:?} {why}"),
            "packages hold absolute paths",
            "write a path such as \"/etc/rolesmith.d/app.conf\"",
        );
        return false;
    }
    if let Some((dir, why)) = FORBIDDEN.iter().find(|(dir, _)| path.starts_with(dir)) {
        findings.error(
            "role::path-forbidden",
            place.clone(),
            format!("a package cannot ship {path}"),
            format!("{} {why}", dir.trim_end_matches('/')),
            "ship it below /usr/lib, /usr/share or /etc",
        );
        return false;
    }
    if let Some(rest) = path.strip_prefix("/etc/systemd/system/") {
        findings.error(
            "role::path-forbidden",
            place.clone(),
            format!("a package cannot ship {path}"),
            "/etc/systemd/system belongs to the administrator (systemd.unit(5))",
            format!("declare {rest} under [[units]] or [[drop_ins]]"),
        );
        return false;
    }
    if !path.is_ascii() {
        findings.warning(
            "role::path-not-ascii",
            place.clone(),
            format!("{path} holds characters outside ASCII"),
            "administrators with another locale cannot type it",
            "rename it",
        );
    }
    true
}

/// Octal permission bits of a file.
pub fn mode(text: &str, place: Place, findings: &mut Findings) -> Option<u32> {
    let Some(mode) = syntax::mode(text) else {
        findings.error(
            "role::mode",
            place,
            format!("{text:?} is not a file mode"),
            "a mode is three or four octal digits",
            "write it as a string, such as \"0644\"",
        );
        return None;
    };
    if mode & 0o7000 != 0 {
        findings.error(
            "role::mode-special",
            place,
            format!("mode {text} sets setuid, setgid or the sticky bit"),
            "no role ships a privileged program (Policy 10.9)",
            "use a systemd unit with AmbientCapabilities= where a program needs a privilege",
        );
        return None;
    }
    if mode & 0o022 != 0 {
        findings.error(
            "role::mode-writable",
            place,
            format!("mode {text} lets others than the owner write"),
            "a packaged file is changed by dpkg alone (Policy 10.9)",
            "write 0644, 0640, 0755 or less",
        );
        return None;
    }
    if mode & 0o400 == 0 {
        findings.error(
            "role::mode-unreadable",
            place,
            format!("mode {text} keeps even the owner from reading it"),
            "the owner has to read it",
            "write 0600, 0640 or 0644",
        );
        return None;
    }
    Some(mode)
}

/// Where a line of `text` (a slice of it) stands, without the space around it.
fn find(text: &str, line: &str, place: &Place) -> Place {
    let trimmed = line.trim();
    let offset = (trimmed.as_ptr() as usize).checked_sub(text.as_ptr() as usize);
    match offset {
        Some(at) if at + trimmed.len() <= text.len() => {
            Place::new(place.source, at..at + trimmed.len())
        }
        _ => first(text, trimmed, place),
    }
}

/// Where `part` stands first.
fn first(text: &str, part: &str, place: &Place) -> Place {
    match text.find(part) {
        Some(at) => Place::new(place.source, at..at + part.len()),
        None => place.clone(),
    }
}

/// The finished package: what can be seen only when everything is together.
pub fn package(
    package: &Package,
    places: &BTreeMap<String, SourceId>,
    whole: Place,
    findings: &mut Findings,
) {
    for file in &package.files {
        let place = places
            .get(&file.path)
            .map_or(whole.clone(), |id| Place::whole(*id));
        let Content::File(bytes) = &file.content else {
            continue;
        };
        if bytes.starts_with(b"\x7fELF") {
            findings.error(
                "package::elf",
                place.clone(),
                format!("{} is a compiled program", file.path),
                "the package is Architecture: all and would break on another architecture",
                "install the program from a package of its own",
            );
        }
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(128)]);
        if let Some(line) = head.lines().next().filter(|l| l.starts_with("#!")) {
            if line.ends_with('\r') || bytes.windows(2).any(|w| w == b"\r\n") {
                findings.error(
                    "package::script-carriage-return",
                    place.clone(),
                    format!("{} is a script with carriage returns", file.path),
                    "the kernel would look for an interpreter whose name ends in one",
                    "save it with Unix line endings",
                );
            }
            if file.mode & 0o111 == 0 && !file.path.starts_with("/etc/") {
                findings.warning(
                    "package::script-not-executable",
                    place.clone(),
                    format!(
                        "{} has an interpreter line but is not executable",
                        file.path
                    ),
                    "nobody can run it",
                    "set mode = \"0755\", or remove the #! line",
                );
            }
            let interpreter: Cow<'_, str> = line[2..]
                .trim()
                .split(' ')
                .next()
                .unwrap_or("")
                .to_owned()
                .into();
            if interpreter.contains("/usr/local/") || !interpreter.starts_with('/') {
                findings.error(
                    "package::interpreter",
                    place,
                    format!("{} wants the interpreter {interpreter:?}", file.path),
                    "not a program that a Debian package installs",
                    "write #!/bin/sh or the path of a packaged interpreter",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
