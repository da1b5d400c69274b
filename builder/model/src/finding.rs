//! What `check` reports: a place, a reason and a way out.

use std::ops::Range;

use crate::source::SourceId;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing stops.
    Advice,
    /// Probably wrong; nothing stops.
    Warning,
    /// Wrong; nothing is written.
    Error,
}

impl Severity {
    /// The word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Advice => "advice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Where a finding points to: bytes of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Which source.
    pub source: SourceId,
    /// Byte range in its text; empty where the whole file is meant.
    pub span: Range<usize>,
}

impl Place {
    /// The whole of a source.
    #[must_use]
    pub const fn whole(source: SourceId) -> Self {
        Self { source, span: 0..0 }
    }

    /// A part of a source.
    #[must_use]
    pub const fn new(source: SourceId, span: Range<usize>) -> Self {
        Self { source, span }
    }
}

/// One thing that is wrong, or could be better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable name such as `fleet::unknown-role`, for searching the documentation and for `--json`.
    pub code: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What the marked text is, in a few words shown beside it: the reason.
    pub why: String,
    /// What to do about it.
    pub help: String,
}

/// Collects findings of one stage.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// An empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error.
    pub fn error(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, code, place, message, why, help);
    }

    /// Adds a warning.
    pub fn warning(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, code, place, message, why, help);
    }

    /// Adds a piece of advice.
    pub fn advice(
        &mut self,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Advice, code, place, message, why, help);
    }

    fn push(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place,
        message: impl Into<String>,
        why: impl Into<String>,
        help: impl Into<String>,
    ) {
        let finding = Finding {
            code,
            severity,
            message: message.into(),
            place,
            why: why.into(),
            help: help.into(),
        };
        // A role that several nodes hold is looked at several times; its findings are told once.
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    /// Takes over another collection.
    pub fn extend(&mut self, other: Findings) {
        for finding in other.0 {
            if !self.0.contains(&finding) {
                self.0.push(finding);
            }
        }
    }

    /// Whether an error is among them.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|f| f.severity == Severity::Error)
    }

    /// All findings in the order of their places: by source, then by position.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Finding> {
        self.0.sort_by(|a, b| {
            (
                a.place.source,
                a.place.span.start,
                std::cmp::Reverse(a.severity),
                a.code,
            )
                .cmp(&(
                    b.place.source,
                    b.place.span.start,
                    std::cmp::Reverse(b.severity),
                    b.code,
                ))
        });
        self.0
    }

    /// The findings as they were added.
    #[must_use]
    pub fn as_slice(&self) -> &[Finding] {
        &self.0
    }
}
