//! How findings and failures are shown.
//!
//! On a terminal with the text around the place; elsewhere as plain lines that programs and people can search.

use std::{error::Error, fmt::Write as _, io::Write as _};

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource,
    Severity as Level,
};
use rolesmith_host::{mirror::ClosureError, secrets::SecretsError};
use rolesmith_model::{
    finding::{Finding, Severity},
    source::{Sources, line_column},
};
use serde_json::json;

use crate::app::line;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The fleet's files are wrong; the findings were shown already.
    Findings,
    /// Something else.
    Message {
        /// What happened and why.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// Whoever read standard output has gone away: nothing to complain about.
    Unread,
    /// A program run in a node ended with this status.
    Status(i32),
}

impl Failure {
    /// A failure with a way out.
    pub fn new(message: impl std::fmt::Display, help: impl Into<String>) -> Self {
        Self::Message {
            message: message.to_string(),
            help: Some(help.into()),
        }
    }
}

impl Failure {
    /// What happened, in one line, where it is not the failure but a remark that is to be made.
    pub fn text(&self) -> &str {
        match self {
            Self::Message { message, .. } => message,
            Self::Findings => "the fleet's files are wrong",
            Self::Unread | Self::Status(_) => "a program failed",
        }
    }

    /// An error with all its causes, and a way out. Errors that have a way out of their own keep it.
    pub fn because(error: &(dyn Error + 'static), help: impl Into<String>) -> Self {
        Self::new(
            chain(error),
            hint(error).map_or_else(|| help.into(), Into::into),
        )
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Message {
            message: chain(&error),
            help: hint(&error).map(Into::into),
        }
    }
}

/// The way out of errors that many commands meet.
fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.is::<ClosureError>() {
        return Some("take mirror.lock from version control, or run `rolesmith mirror` again");
    }
    if error.is::<std::io::Error>() {
        return Some("see whether the file exists, may be written, and the disk has room");
    }
    match error.downcast_ref::<SecretsError>()? {
        SecretsError::Exposed { .. } => Some(
            "then run the same command again; new secrets are made with `rolesmith init` in an empty directory",
        ),
        SecretsError::OtherFleet { .. } => {
            Some("bring this fleet's own secrets/, or correct the name under [fleet] in fleet.toml")
        }
        SecretsError::Owner { .. } => {
            Some("run the command as that user, or give the directory to yourself with chown(1)")
        }
        SecretsError::Format { .. } => {
            Some("use the version of rolesmith that wrote it, or a later one")
        }
        SecretsError::Empty(_) => Some("write the value into the file, with mode 0600"),
        SecretsError::Unfit { .. } => {
            Some("choose another value; `openssl rand -hex 32` makes a good one")
        }
        SecretsError::Raced(_) => Some("run the same command again"),
        SecretsError::Malformed { .. } | SecretsError::OpenPgp { .. } | SecretsError::Ca { .. } => {
            Some("bring the file from your copy of the secrets")
        }
        _ => None,
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        // Errors that show their source in their own text would say it twice.
        if !message.contains(&text) {
            let _ = write!(message, ": {text}");
        }
        source = inner.source();
    }
    message.truncate(message.trim_end().len());
    message
}

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Shows findings on standard error, or as JSON on standard output.
pub fn show(
    sources: &Sources,
    findings: &[Finding],
    json: bool,
    terminal: bool,
    color: bool,
) -> Outcome {
    if json {
        return line(as_json(sources, findings));
    }
    let mut stderr = anstream::stderr();
    for finding in findings {
        // Where nobody can be told, the exit status still says it.
        let _ = if terminal {
            writeln!(stderr, "{}", graphical(sources, finding, color))
        } else {
            write!(stderr, "{}", plain(sources, finding))
        };
    }
    Ok(())
}

fn as_json(sources: &Sources, findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|f| {
            let source = sources.get(f.place.source);
            let (line, column) = line_column(source.text().unwrap_or(""), f.place.span.start);
            json!({
                "code": f.code,
                "severity": f.severity.as_str(),
                "message": f.message,
                "file": source.path,
                "line": line,
                "column": column,
                "reason": f.why,
                "help": f.help,
            })
        })
        .collect();
    serde_json::to_string_pretty(&json!({ "findings": list })).expect("findings have a JSON form")
}

/// One finding as plain lines.
pub fn plain(sources: &Sources, finding: &Finding) -> String {
    let source = sources.get(finding.place.source);
    let (line, column) = line_column(source.text().unwrap_or(""), finding.place.span.start);
    format!(
        "{}: {} [{}]\n  at: {}:{line}:{column}\n  why: {}\n  help: {}\n",
        finding.severity.as_str(),
        finding.message,
        finding.code,
        source.path,
        finding.why,
        finding.help
    )
}

fn graphical(sources: &Sources, finding: &Finding, color: bool) -> String {
    let source = sources.get(finding.place.source);
    let level = match finding.severity {
        Severity::Error => Level::Error,
        Severity::Warning => Level::Warning,
        Severity::Advice => Level::Advice,
    };
    let text = source.text().unwrap_or("").to_owned();
    let label = LabeledSpan::new_with_span(Some(finding.why.clone()), finding.place.span.clone());
    let diagnostic = MietteDiagnostic::new(finding.message.clone())
        .with_code(finding.code)
        .with_severity(level)
        .with_help(finding.help.clone())
        .with_label(label);
    let report =
        miette::Report::new(diagnostic).with_source_code(NamedSource::new(&source.path, text));
    let theme = if color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let mut out = String::new();
    match GraphicalReportHandler::new_themed(theme).render_report(&mut out, report.as_ref()) {
        Ok(()) => out,
        Err(_) => plain(sources, finding),
    }
}

/// "1 node", "2 nodes".
pub fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// "2 errors and 1 warning".
pub fn count(findings: &[Finding]) -> String {
    let number = |severity: Severity| findings.iter().filter(|f| f.severity == severity).count();
    format!(
        "{}, {} and {}",
        plural(number(Severity::Error), "error", "errors"),
        plural(number(Severity::Warning), "warning", "warnings"),
        plural(
            number(Severity::Advice),
            "piece of advice",
            "pieces of advice"
        ),
    )
}
