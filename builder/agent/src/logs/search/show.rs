//! How found lines are shown.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

use super::entry::{Entry, SEVERITIES};
use crate::logs::line::stamp;

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people, as `journalctl --output=short-iso-precise` has it.
    Short,
    /// The bytes of the file.
    Raw,
    /// An object a line.
    Json,
}

/// A line for programs.
#[derive(Serialize)]
struct Shown<'a> {
    time: Cow<'a, str>,
    node: Cow<'a, str>,
    service: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<Cow<'a, str>>,
    severity: &'a str,
    facility: &'a str,
    /// INCARNATION.SESSION.SEQUENCE, as `logs verify` writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    stamp: Option<String>,
    message: Cow<'a, str>,
}

/// Writes a line. What would move a terminal's cursor is not in it: rsyslog replaces control characters (`escape-cc`).
///
/// # Errors
/// What writing gives.
pub fn show(out: &mut impl Write, line: &[u8], form: Form) -> io::Result<()> {
    let entry = Entry::parse(line);
    match (form, entry) {
        (Form::Raw, _) | (_, None) => out.write_all(line)?,
        (Form::Short, Some(entry)) => {
            out.write_all(entry.time_text())?;
            out.write_all(b" ")?;
            out.write_all(entry.node())?;
            out.write_all(b" ")?;
            out.write_all(entry.service())?;
            if entry.process() != b"-" {
                out.write_all(b"[")?;
                out.write_all(entry.process())?;
                out.write_all(b"]")?;
            }
            out.write_all(b": ")?;
            out.write_all(entry.message())?;
        }
        (Form::Json, Some(entry)) => serde_json::to_writer(&mut *out, &shown(&entry))?,
    }
    out.write_all(b"\n")
}

fn shown<'a>(entry: &Entry<'a>) -> Shown<'a> {
    let text = String::from_utf8_lossy;
    let data = std::str::from_utf8(entry.data()).ok();
    Shown {
        time: text(entry.time_text()),
        node: text(entry.node()),
        service: text(entry.service()),
        process: (entry.process() != b"-").then(|| text(entry.process())),
        severity: SEVERITIES[usize::from(entry.severity())],
        facility: entry.facility(),
        stamp: data.and_then(stamp).map(|stamp| stamp.to_string()),
        message: text(entry.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_(form: Form, line: &str) -> String {
        let mut out = Vec::new();
        show(&mut out, line.as_bytes(), form).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_shown_in_three_ways() {
        let line = "<27>1 2026-03-01T12:00:00.5+00:00 app-3 nginx 812 - [rolesmith@0 inc=\"1\" ses=\"7\" seq=\"9\"] said \"no\"";
        assert_eq!(as_(Form::Raw, line), format!("{line}\n"));
        assert_eq!(
            as_(Form::Short, line),
            "2026-03-01T12:00:00.5+00:00 app-3 nginx[812]: said \"no\"\n"
        );
        assert_eq!(
            as_(Form::Json, line),
            "{\"time\":\"2026-03-01T12:00:00.5+00:00\",\"node\":\"app-3\",\"service\":\"nginx\",\"process\":\"812\",\
             \"severity\":\"err\",\"facility\":\"daemon\",\"stamp\":\"1.7.9\",\"message\":\"said \\\"no\\\"\"}\n"
        );
        let bare = "<6>1 2026-03-01T12:00:00Z app-3 kernel - - - up";
        assert_eq!(
            as_(Form::Short, bare),
            "2026-03-01T12:00:00Z app-3 kernel: up\n"
        );
        assert!(as_(Form::Json, bare).ends_with("\"service\":\"kernel\",\"severity\":\"info\",\"facility\":\"kern\",\"message\":\"up\"}\n"));
    }
}
