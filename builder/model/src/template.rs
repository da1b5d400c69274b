//! Templates: tera's language, in which an undefined variable is an error.

use std::{collections::BTreeSet, ops::Range};

pub use tera::Context;
use tera::{ErrorKind, Tera};

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// What is wrong, in tera's words.
    pub message: String,
    /// Where in the template, in bytes; `None` where tera does not know.
    pub span: Option<Range<usize>>,
}

fn describe(error: &tera::Error, text: &str) -> TemplateError {
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => TemplateError {
            message: plain(report.message()),
            span: Some(clamp(report.span().range.clone(), text)),
        },
        other => from_report(error, text).unwrap_or_else(|| TemplateError {
            message: other.to_string(),
            span: None,
        }),
    }
}

/// As the other findings are written: one sentence that begins in lower case.
fn plain(message: &str) -> String {
    let message = message
        .trim_end_matches('.')
        .replace(". Available variables: ", "; there are ")
        .replace(". Available fields: ", "; there are ");
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => message,
    }
}

/// Errors about a whole template come as a text with the place in it: `error: REASON`, `--> template:LINE:COLUMN`.
fn from_report(error: &tera::Error, text: &str) -> Option<TemplateError> {
    let told = error.to_string();
    let mut lines = told.lines();
    let message = plain(lines.next()?.strip_prefix("error: ")?);
    let place = lines.next()?.trim().strip_prefix("--> ")?;
    let mut parts = place.rsplit(':');
    let column: usize = parts.next()?.parse().ok()?;
    let line: usize = parts.next()?.parse().ok()?;
    let begin: usize = text
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let at = text[begin..]
        .char_indices()
        .nth(column.checked_sub(1)?)
        .map_or(text.len(), |(offset, _)| begin + offset);
    Some(TemplateError {
        message,
        span: Some(clamp(at..at + 1, text)),
    })
}

fn clamp(range: Range<usize>, text: &str) -> Range<usize> {
    let boundary = |index: usize| {
        (index..=text.len())
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(text.len())
    };
    let end = boundary(range.end);
    boundary(range.start).min(end)..end
}

/// A parsed template.
#[derive(Debug)]
pub struct Template<'a> {
    tera: Tera,
    text: &'a str,
}

const NAME: &str = "template";

impl<'a> Template<'a> {
    /// Parses `text`.
    ///
    /// # Errors
    /// The template's syntax is wrong.
    pub fn parse(text: &'a str) -> Result<Self, TemplateError> {
        let mut tera = Tera::default();
        tera.autoescape_on(Vec::<&'static str>::new());
        tera.add_raw_template(NAME, text)
            .map_err(|e| describe(&e, text))?;
        Ok(Self { tera, text })
    }

    /// The top-level variables that it reads.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        self.tera
            .get_template_variables(NAME)
            .map(|names| names.into_iter().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    /// Renders it.
    ///
    /// # Errors
    /// A variable is undefined, or a filter got a value that it cannot take.
    pub fn render(&self, context: &Context) -> Result<String, TemplateError> {
        self.tera
            .render(NAME, context)
            .map_err(|e| describe(&e, self.text))
    }
}

/// Parses and renders a short template such as a path.
///
/// # Errors
/// As [`Template::parse`] and [`Template::render`].
pub fn render(text: &str, context: &Context) -> Result<String, TemplateError> {
    if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
        return Ok(text.to_owned());
    }
    Template::parse(text)?.render(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undefined_variable_is_an_error_with_its_place() {
        let text = "a\n{{ nothing }}\n";
        let error = render(text, &Context::new()).unwrap_err();
        let span = error.span.unwrap();
        assert!(text[span].contains("nothing"), "{}", error.message);
    }

    #[test]
    fn an_undefined_field_is_an_error() {
        let mut context = Context::new();
        context.insert(
            "fleet",
            &std::collections::BTreeMap::from([("name", "acme")]),
        );
        assert_eq!(render("{{ fleet.name }}", &context).unwrap(), "acme");
        assert!(render("{{ fleet.nam }}", &context).is_err());
        assert!(render("{{ fleet.name", &context).is_err());
    }

    #[test]
    fn nothing_is_escaped_as_html() {
        let mut context = Context::new();
        context.insert("x", "<&>\"'/");
        assert_eq!(render("{{ x }}", &context).unwrap(), "<&>\"'/");
    }

    #[test]
    fn variables_are_found() {
        let template =
            Template::parse("{{ secret.a }} {% for m in members %}{{ m.name }}{% endfor %}")
                .unwrap();
        let names = template.variables();
        assert!(
            names.contains("secret") && names.contains("members"),
            "{names:?}"
        );
    }
}
