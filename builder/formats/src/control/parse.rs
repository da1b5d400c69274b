//! The reader of control data.

use super::{ControlError, Paragraph, is_field_name, trim, trim_end};

/// Reads exactly one paragraph; see [`Paragraph::parse`].
///
/// # Errors
/// See [`Paragraph::parse`].
pub fn parse(text: &str) -> Result<Paragraph, ControlError> {
    let mut paragraphs = parse_many(text);
    let Some(first) = paragraphs.next().transpose()? else {
        return Err(ControlError::NotOneParagraph(0));
    };
    let more = paragraphs.try_fold(0, |count, next| next.map(|_| count + 1))?;
    if more > 0 {
        return Err(ControlError::NotOneParagraph(more + 1));
    }
    if text.starts_with('\n') || text.ends_with("\n\n") {
        return Err(ControlError::Syntax {
            line: 1,
            reason: "blank line before or after the paragraph",
        });
    }
    Ok(first)
}

/// Reads paragraphs one after the other, as in `Packages`: separated by empty lines, read as they are asked for, so that
/// the index of a whole distribution needs no second copy in memory.
pub fn parse_many(text: &str) -> Paragraphs<'_> {
    Paragraphs {
        rest: text,
        line: 0,
        failed: false,
    }
}

/// The paragraphs of a text, in their order. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    rest: &'a str,
    /// Lines consumed so far.
    line: usize,
    failed: bool,
}

impl<'a> Paragraphs<'a> {
    /// The next line without its newline, or None at the end.
    fn next_line(&mut self) -> Result<Option<&'a str>, ControlError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let Some((line, rest)) = self.rest.split_once('\n') else {
            return Err(self.error("the last line does not end in a newline"));
        };
        self.rest = rest;
        if line.contains(['\r', '\0']) {
            return Err(self.error("carriage return or NUL byte"));
        }
        if !line.is_empty() && trim(line).is_empty() {
            return Err(self
                .error("line of only white space; an empty line within a field is written ` .`"));
        }
        Ok(Some(line))
    }

    fn error(&self, reason: &'static str) -> ControlError {
        ControlError::Syntax {
            line: self.line,
            reason,
        }
    }

    fn paragraph(&mut self) -> Result<Option<Paragraph>, ControlError> {
        let mut paragraph = Paragraph::new();
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                if paragraph.is_empty() {
                    continue;
                }
                break;
            }
            if let Some(continued) = line.strip_prefix([' ', '\t']) {
                let Some((_, value)) = paragraph.fields.last_mut() else {
                    return Err(self.error("continuation line without a field before it"));
                };
                let continued = trim_end(continued);
                value.push('\n');
                value.push_str(if continued == "." { "" } else { continued });
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(self.error("no colon after a field name"));
            };
            if !is_field_name(name) {
                return Err(ControlError::FieldName(name.to_owned()));
            }
            if paragraph.contains(name) {
                return Err(ControlError::DuplicateField(name.to_owned()));
            }
            paragraph
                .fields
                .push((name.to_owned(), trim(value).to_owned()));
        }
        Ok((!paragraph.is_empty()).then_some(paragraph))
    }
}

impl Iterator for Paragraphs<'_> {
    type Item = Result<Paragraph, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.paragraph().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
