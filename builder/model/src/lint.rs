//! What dpkg accepts in silence and lintian, systemd or an administrator would complain about.
//!
//! lintian needs seconds a package; these checks give the findings that matter in milliseconds, at the place where the
//! mistake was made.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    archive_names::closest,
    finding::{Findings, Place},
    plan::{Content, Package},
    source::SourceId,
    validate::syntax,
};

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

/// A fragment for a maintainer script. Gives its text with a final line break.
pub fn fragment(
    which: &str,
    bytes: &[u8],
    place: Place,
    findings: &mut Findings,
) -> Option<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        findings.error(
            "script::not-utf8",
            place,
            format!("the fragment {which} is not UTF-8"),
            "sh reads text",
            "convert it, for example with iconv(1)",
        );
        return None;
    };
    if text.contains('\r') {
        findings.error(
            "script::carriage-return",
            first(text, "\r", &place),
            format!("the fragment {which} has carriage returns at the ends of its lines"),
            "dpkg could not run the script",
            "save it with Unix line endings",
        );
        return None;
    }
    if text.starts_with("#!") {
        findings.error(
            "script::interpreter-line",
            Place::new(place.source, 0..text.lines().next().map_or(0, str::len)),
            format!("the fragment {which} begins with #!"),
            "it is put into a script that has its own first line (#!/bin/sh with set -e)",
            "remove the line; write POSIX sh",
        );
        return None;
    }
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('#') {
            continue;
        }
        let first = trimmed.split_ascii_whitespace().next().unwrap_or("");
        if let Some(call) = leaves(line) {
            findings.error(
                "script::exit",
                find(text, line, &place),
                format!("the fragment {which} calls {call}"),
                "what comes after it in the maintainer script would not run",
                "use if … fi around the rest, or `return` inside a function",
            );
        }
        // What runs at removal does not run under cloud-init.
        let installs = which == "preinst" || which == "postinst";
        if let Some(verb) = waits(trimmed).filter(|_| installs) {
            findings.error(
                "script::waits",
                find(text, line, &place),
                format!("the fragment {which} runs systemctl {verb} and waits for it"),
                "a maintainer script never waits for a job: started from cloud-init it could wait for ever",
                "let [[units]] start it, or use systemctl --no-block",
            );
        }
        if let Some(tool) = ["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"]
            .iter()
            .find_map(|dir| first.starts_with(dir).then_some(first))
        {
            findings.warning(
                "script::absolute-tool",
                find(text, line, &place),
                format!("the fragment calls {tool} by its path"),
                "maintainer scripts rely on PATH (Policy 6.1)",
                "write the program's name alone",
            );
        }
        if ["/etc/init.d/", "update-rc.d"]
            .iter()
            .any(|old| trimmed.contains(old))
        {
            findings.warning(
                "script::sysv",
                find(text, line, &place),
                "the fragment calls System V init",
                "nodes run systemd",
                "declare the unit under [[units]]",
            );
        }
    }
    let mut text = text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

/// What on a line ends the whole script, although nothing is wrong: `exit` with status 0 anywhere, `exit` and `exec` at
/// the beginning of a line. To fail inside a condition is a script's right.
fn leaves(line: &str) -> Option<&'static str> {
    let starts = |word: &str| {
        line.strip_prefix(word).is_some_and(|rest| {
            !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '=')
        })
    };
    if starts("exec") {
        return Some("exec");
    }
    let code = line.split(" #").next().unwrap_or(line);
    let words: Vec<&str> = code
        .split([' ', '\t', ';', '&', '|', '{', '}'])
        .filter(|w| !w.is_empty())
        .collect();
    let early = words
        .iter()
        .position(|w| *w == "exit")
        .is_some_and(|at| words.get(at + 1).is_none_or(|status| *status == "0"));
    let quoted = code.contains(['"', '\'']);
    (starts("exit") || early && !quoted).then_some("exit")
}

/// The verb of a systemctl call that returns only when its job is done.
fn waits(line: &str) -> Option<&'static str> {
    let calls = line.contains("systemctl") && !line.contains("--no-block");
    ["start", "restart", "reload-or-restart", "try-restart"]
        .into_iter()
        .find(|verb| calls && line.split_ascii_whitespace().any(|word| word == *verb))
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
