//! Fragments for maintainer scripts (Policy 6).

use super::{find, first};
use crate::finding::{Findings, Place};

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
    let spaced = code.replace([';', '&', '|', '{', '}'], " ; ");
    let words: Vec<&str> = spaced.split_ascii_whitespace().collect();
    let early = words
        .iter()
        .position(|word| *word == "exit")
        .is_some_and(|at| matches!(words.get(at + 1), None | Some(&"0" | &";")));
    // In quotes it may be a trap's, in parentheses a subshell's.
    let quoted = code.contains(['"', '\'', '(']);
    (starts("exit") || early && !quoted).then_some("exit")
}

/// The verb of a systemctl call that returns only when its job is done.
fn waits(line: &str) -> Option<&'static str> {
    let calls = line.contains("systemctl") && !line.contains("--no-block");
    ["start", "restart", "reload-or-restart", "try-restart"]
        .into_iter()
        .find(|verb| calls && line.split_ascii_whitespace().any(|word| word == *verb))
}

#[cfg(test)]
mod tests {
    use super::{leaves, waits};

    #[test]
    fn what_ends_the_whole_script_is_told_from_what_fails() {
        for line in [
            "exit",
            "exit 0",
            "exit 3",
            "    exit 0",
            "[ -d /x ] || exit 0",
            "if true; then exit; fi",
            "exec /bin/true",
            "{ true; exit 0; }",
        ] {
            assert!(leaves(line).is_some(), "{line}");
        }
        for line in [
            "    exit 1",
            "[ -d /x ] || exit 1",
            "trap 'exit 0' TERM",
            "( cd /x; exit 0 )",
            "exit_now 0",
            "exit_code=0",
            "exec_path=/bin",
            "executable --run",
            "true # exit 0",
        ] {
            assert!(leaves(line).is_none(), "{line}");
        }
    }

    #[test]
    fn only_jobs_that_are_waited_for_are_told() {
        assert_eq!(waits("systemctl restart nginx"), Some("restart"));
        assert_eq!(
            waits("[ -d /x ] && systemctl -q start nginx"),
            Some("start")
        );
        for line in [
            "systemctl --no-block start nginx",
            "systemctl daemon-reload",
            "systemctl is-active start.service",
            "service restart",
        ] {
            assert_eq!(waits(line), None, "{line}");
        }
    }
}
