//! What nginx writes to standard error.

use std::process::ExitStatus;

/// How much a complaint weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// nginx starts all the same.
    Warning,
    /// It does not start.
    Error,
}

/// Something that nginx does not like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// How much it weighs.
    pub level: Level,
    /// nginx's own words, without the place.
    pub message: String,
    /// The file on the node and the line in it (from 1), where nginx names them.
    pub place: Option<(String, usize)>,
}

impl Complaint {
    /// nginx failed and does not say why in a form that is known.
    pub(super) fn unspecific(status: ExitStatus, text: &str) -> Self {
        let said = text.lines().next_back().unwrap_or_default();
        Self {
            level: Level::Error,
            message: format!("nginx -t ended with {status}: {said}"),
            place: None,
        }
    }
}

/// The complaints in a text such as `nginx: [emerg] unknown directive "x" in /etc/nginx/nginx.conf:3`, one a line.
pub(super) fn complaints(text: &str) -> Vec<Complaint> {
    text.lines().filter_map(complaint).collect()
}

fn complaint(line: &str) -> Option<Complaint> {
    let level = |word: &str| match word {
        "emerg" | "alert" | "crit" | "error" => Some(Level::Error),
        "warn" => Some(Level::Warning),
        _ => None,
    };
    // Where it writes to its log instead, process and thread stand between level and message.
    let (_, rest) = line.split_once('[')?;
    let (word, rest) = rest.split_once("] ")?;
    let level = level(word)?;
    let numbers = |text: &str| text.split('#').all(|n| n.parse::<u32>().is_ok());
    let message = match rest.split_once(": ") {
        Some((first, message)) if numbers(first) => message,
        _ => rest,
    };
    let place = message.rsplit_once(" in /").and_then(|(message, place)| {
        let (path, line) = place.rsplit_once(':')?;
        Some((message, format!("/{path}"), line.parse().ok()?))
    });
    Some(match place {
        Some((message, path, line)) => Complaint {
            level,
            message: message.to_owned(),
            place: Some((path, line)),
        },
        None => Complaint {
            level,
            message: message.to_owned(),
            place: None,
        },
    })
}

/// The version in `nginx version: nginx/1.26.3 (Ubuntu)`.
pub(super) fn version(text: &str) -> Option<(u32, u32, u32)> {
    let (_, rest) = text.split_once("nginx version: ")?;
    let (_, rest) = rest.split_once('/')?;
    let number = rest
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    let mut parts = number.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_read_in_both_forms() {
        let text = "nginx: [warn] conflicting server name \"a\" on 10.0.0.1:443, ignored\n\
                    2026/01/02 03:04:05 [emerg] 12#12: invalid value in \"x\" in /etc/nginx/conf.d/a.conf:7\n\
                    nginx: [emerg] host not found in upstream \"db\" in /var/lib/b.conf:12\n\
                    nginx: configuration file /tmp/nginx.conf test failed\n";
        let complaint = |level, message: &str, place: Option<(&str, usize)>| Complaint {
            level,
            message: message.to_owned(),
            place: place.map(|(path, line)| (path.to_owned(), line)),
        };
        assert_eq!(
            complaints(text),
            [
                complaint(
                    Level::Warning,
                    "conflicting server name \"a\" on 10.0.0.1:443, ignored",
                    None
                ),
                complaint(
                    Level::Error,
                    "invalid value in \"x\"",
                    Some(("/etc/nginx/conf.d/a.conf", 7))
                ),
                complaint(
                    Level::Error,
                    "host not found in upstream \"db\"",
                    Some(("/var/lib/b.conf", 12))
                ),
            ]
        );
    }

    #[test]
    fn versions_are_read() {
        let of = |text: &str| version(&format!("nginx version: {text}\n"));
        assert_eq!(of("nginx/1.26.3"), Some((1, 26, 3)));
        assert_eq!(of("nginx/1.22.1 (Ubuntu)"), Some((1, 22, 1)));
        assert_eq!(version("bash: nginx: command not found"), None);
    }
}
