//! Debian control data: ordered paragraphs of `Field: value` lines ([deb822(5)], Debian Policy 5.1).
//!
//! One type serves `control`, `Packages`, `Release` and `.sources`. A [`Paragraph`] holds *logical* values: the lines of a
//! multi-line field without the leading space of their continuation lines, and an empty line where the file says ` .`.
//! What cannot be written so that dpkg reads the same again is refused when it is put in, not when it is written.
//!
//! [deb822(5)]: https://manpages.debian.org/deb822.5

mod parse;

use std::fmt;

pub use parse::{Paragraphs, parse, parse_many};

/// Why control data was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// A field name must be printable ASCII without colon or space, and start with neither `#` nor `-` (Policy 5.1).
    #[error("{0:?} is not a field name")]
    FieldName(String),
    /// The paragraph has the field already; names are compared without regard to case.
    #[error("field {0} occurs twice")]
    DuplicateField(String),
    /// The value is empty or only white space. Leave the field out instead.
    #[error("field {0} is empty")]
    EmptyValue(String),
    /// The value holds a carriage return or NUL byte, which dpkg refuses or would store as part of the value.
    #[error("field {0} holds a carriage return or NUL byte")]
    ControlCharacter(String),
    /// A continuation line is a single full stop, which would be read back as an empty line.
    #[error("field {0} has a line that is a single full stop, which stands for an empty line")]
    LoneFullStop(String),
    /// The value ends in an empty line, which would be lost.
    #[error("field {0} ends in an empty line")]
    TrailingBlankLine(String),
    /// The text does not follow the syntax. Lines are counted from 1.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Line in the text that was parsed, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// [`Paragraph::parse`] was given no paragraph, or more than one.
    #[error("expected one paragraph, found {0}")]
    NotOneParagraph(usize),
}

/// One paragraph: fields in their order, each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

impl Paragraph {
    /// A paragraph without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads exactly one paragraph, as in the `control` file of a binary package.
    ///
    /// # Errors
    /// [`ControlError::Syntax`] for a carriage return, a blank line, a missing final newline or a line that is no field;
    /// [`ControlError::NotOneParagraph`], [`ControlError::DuplicateField`].
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        parse(text)
    }

    /// Appends a field. Trailing white space of each line is dropped, as dpkg does when it reads.
    ///
    /// # Errors
    /// When the field exists already, or the name or value cannot be represented.
    pub fn push(
        &mut self,
        name: impl Into<String>,
        value: impl AsRef<str>,
    ) -> Result<&mut Self, ControlError> {
        let name = name.into();
        if self.contains(&name) {
            return Err(ControlError::DuplicateField(name));
        }
        let value = check_field(&name, value.as_ref())?;
        self.fields.push((name, value));
        Ok(self)
    }

    /// Sets a field: in its place when it exists, at the end otherwise.
    ///
    /// # Errors
    /// When the name or value cannot be represented.
    pub fn set(
        &mut self,
        name: impl Into<String>,
        value: impl AsRef<str>,
    ) -> Result<&mut Self, ControlError> {
        let name = name.into();
        let value = check_field(&name, value.as_ref())?;
        match self.position(&name) {
            Some(at) => self.fields[at].1 = value,
            None => self.fields.push((name, value)),
        }
        Ok(self)
    }

    /// Sets a field directly after another one (at the end when `anchor` is absent), moving it when it exists elsewhere.
    ///
    /// # Errors
    /// When the name or value cannot be represented.
    pub fn set_after(
        &mut self,
        anchor: &str,
        name: impl Into<String>,
        value: impl AsRef<str>,
    ) -> Result<&mut Self, ControlError> {
        let name = name.into();
        let value = check_field(&name, value.as_ref())?;
        self.remove(&name);
        let at = self.position(anchor).map_or(self.fields.len(), |at| at + 1);
        self.fields.insert(at, (name, value));
        Ok(self)
    }

    /// The value of a field; names are compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.position(name).map(|at| self.fields[at].1.as_str())
    }

    /// Whether the field is there.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Takes a field out and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.position(name).map(|at| self.fields.remove(at).1)
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Appends the paragraph, final newline included, to `out`. The blank line between paragraphs is the caller's.
    pub fn write_to(&self, out: &mut String) {
        for (name, value) in &self.fields {
            let mut lines = value.split('\n');
            let first = lines.next().unwrap_or_default();
            out.push_str(name);
            out.push(':');
            if !first.is_empty() {
                out.push(' ');
                out.push_str(first);
            }
            out.push('\n');
            for line in lines {
                out.push_str(if line.is_empty() { " ." } else { " " });
                out.push_str(line);
                out.push('\n');
            }
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.fields
            .iter()
            .position(|(field, _)| field.eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Paragraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write_to(&mut text);
        f.write_str(&text)
    }
}

/// Joins a synopsis and an extended description to the value of a `Description` field (Policy 5.6.13).
pub fn description(synopsis: &str, extended: &str) -> String {
    let extended = extended.trim_matches('\n').trim_end();
    if extended.is_empty() {
        return synopsis.trim().to_owned();
    }
    format!("{}\n{extended}", synopsis.trim())
}

fn is_field_name(name: &str) -> bool {
    !name.starts_with(['#', '-'])
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
}

fn check_field(name: &str, value: &str) -> Result<String, ControlError> {
    if !is_field_name(name) {
        return Err(ControlError::FieldName(name.to_owned()));
    }
    if value.trim().is_empty() {
        return Err(ControlError::EmptyValue(name.to_owned()));
    }
    if value.contains(['\r', '\0']) {
        return Err(ControlError::ControlCharacter(name.to_owned()));
    }
    if !value.contains('\n') {
        return Ok(trim(value).to_owned());
    }
    let mut clean = String::with_capacity(value.len());
    for (number, line) in value.split('\n').enumerate() {
        if number == 0 {
            clean.push_str(trim(line));
            continue;
        }
        let line = trim_end(line);
        if line == "." {
            return Err(ControlError::LoneFullStop(name.to_owned()));
        }
        clean.push('\n');
        clean.push_str(line);
    }
    if clean.ends_with('\n') {
        return Err(ControlError::TrailingBlankLine(name.to_owned()));
    }
    Ok(clean)
}

/// Space and tab are the white space of the format; other Unicode white space is text.
fn trim(line: &str) -> &str {
    line.trim_matches([' ', '\t'])
}

fn trim_end(line: &str) -> &str {
    line.trim_end_matches([' ', '\t'])
}

#[cfg(test)]
mod tests;
