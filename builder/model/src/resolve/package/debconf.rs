//! Answers to what Debian's packages ask when they are configured.

use super::Work;
use crate::{finding::Findings, role::Layer};

/// Types of questions that have a value (debconf-devel(7)). A password would stand in the seed for every reader of metadata.
const TYPES: [&str; 5] = ["string", "boolean", "select", "multiselect", "text"];

impl Work<'_> {
    pub(super) fn debconf(&self, layer: &Layer, findings: &mut Findings) {
        for entry in &layer.file.debconf {
            if let Err(why) = answer(entry.get_ref()) {
                findings.error(
                    "role::debconf",
                    layer.place(entry.span()),
                    format!("the answer {:?} {why}", entry.get_ref()),
                    "not a line that debconf-set-selections(1) takes",
                    "write package, question, type and value: \"postfix postfix/main_mailer_type select No configuration\"",
                );
            }
        }
    }
}

/// A line of debconf-set-selections(1): the package that asks, its question, the question's type, the value.
fn answer(text: &str) -> Result<(), &'static str> {
    if text.chars().any(char::is_control) {
        return Err("is more than one line");
    }
    let mut words = text.splitn(4, ' ');
    let (Some(package), Some(question), Some(kind), Some(value)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("has fewer than four words");
    };
    let sound = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-._/".contains(&b))
    };
    if !sound(package) || package.contains('/') {
        return Err("does not begin with a package");
    }
    if !sound(question) || !question.contains('/') {
        return Err("has no question, such as PACKAGE/QUESTION, after the package");
    }
    if kind == "password" {
        return Err("is a password, and would be no secret");
    }
    if !TYPES.contains(&kind) {
        return Err("has no type of a question, such as select, before the value");
    }
    if value.trim() != value || value.is_empty() {
        return Err("has no value after the type");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn lines_of_debconf_set_selections() {
        for good in [
            "postfix postfix/main_mailer_type select No configuration",
            "libpam0g libraries/restart-without-asking boolean true",
        ] {
            assert_eq!(answer(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("postfix postfix/main_mailer_type select", "fewer"),
            ("postfix/x postfix/x select y", "package"),
            ("postfix main_mailer_type select x", "question"),
            ("postfix postfix/x password secret", "password"),
            ("postfix postfix/x choice y", "type"),
            ("postfix postfix/x select  y", "value"),
            ("postfix postfix/x select y\n", "line"),
        ] {
            let found = answer(bad).expect_err(bad);
            assert!(found.contains(why), "{bad}: {found}");
        }
    }
}
