//! What a TOML error means to the person who wrote the file.
//!
//! The parser speaks of structs, fields and variants; people know tables, keys and words.

use std::fmt::Write as _;

use crate::{
    archive_names::closest,
    finding::{Findings, Place},
    source::SourceId,
};

/// A file that could not be read as what it should be.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    /// Its source.
    pub id: SourceId,
    /// Its text.
    pub text: &'a str,
    /// What it is called: `fleet.toml`.
    pub name: &'a str,
    /// Where its keys are described.
    pub docs: &'a str,
}

struct Told {
    code: &'static str,
    message: String,
    why: String,
    help: String,
}

/// Adds the finding that explains `error`.
pub fn report(document: Document<'_>, error: &toml::de::Error, findings: &mut Findings) {
    let span = error.span().unwrap_or(0..0);
    let marked = document.text.get(span.clone()).unwrap_or("");
    let message = error.message().trim();
    let key = key_before(document.text, span.start);
    let told = unknown_key(message, document)
        .or_else(|| missing_key(message, marked, document))
        .or_else(|| wrong_type(message, marked, key))
        .or_else(|| unknown_word(message, key))
        .or_else(|| twice(message, marked))
        .unwrap_or_else(|| syntax(message));
    findings.error(
        told.code,
        Place::new(document.id, span),
        told.message,
        told.why,
        told.help,
    );
}

/// The key of the value that begins at `start`, where both stand on one line.
fn key_before(text: &str, start: usize) -> Option<&str> {
    let before = text.get(..start)?;
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    let key = line.trim_end().strip_suffix('=')?.trim();
    (!key.is_empty() && !key.contains(['=', '{', '['])).then_some(key)
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// `a`, `b` or `c`.
fn alternatives(words: &[&str], quote: char) -> String {
    let mut text = String::new();
    for (n, word) in words.iter().enumerate() {
        let before = match n {
            0 => "",
            _ if n + 1 == words.len() => " or ",
            _ => ", ",
        };
        let _ = write!(text, "{before}{quote}{word}{quote}");
    }
    text
}

fn unknown_key(message: &str, document: Document<'_>) -> Option<Told> {
    let rest = message.strip_prefix("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let allowed = quoted(rest);
    let help = match closest(key, allowed.iter().copied()) {
        Some(near) => format!(
            "did you mean `{near}`? Known here: {} ({})",
            allowed.join(", "),
            document.docs
        ),
        None => format!("known here: {} ({})", allowed.join(", "), document.docs),
    };
    Some(Told {
        code: "toml::unknown-key",
        message: format!("{} has no key `{key}` here", document.name),
        why: "not known, so it would have no effect".into(),
        help,
    })
}

fn missing_key(message: &str, marked: &str, document: Document<'_>) -> Option<Told> {
    let rest = message.strip_prefix("missing field `")?;
    let key = rest.split('`').next()?;
    // The tables at the top are the only mandatory tables.
    let what = if document.text.trim().is_empty() {
        format!("{} is empty", document.name)
    } else if ["fleet", "repository", "network", "role"].contains(&key) {
        format!("{} has no table [{key}]", document.name)
    } else {
        let header = marked.lines().next().unwrap_or("").trim();
        if header.starts_with('[') {
            format!("{header} has no key `{key}`")
        } else {
            format!("the key `{key}` is missing")
        }
    };
    let help = if document.text.trim().is_empty() {
        format!("begin with a table [{key}]; {} describes it", document.docs)
    } else {
        format!("add it; {} says what it means", document.docs)
    };
    Some(Told {
        code: "toml::missing-key",
        message: what,
        why: "it has no default".into(),
        help,
    })
}

/// What the parser found, in words.
fn found(text: &str, marked: &str) -> String {
    if let Some(text) = text.strip_prefix("string ") {
        format!("the text {text}")
    } else if text.starts_with("integer") || text.starts_with("floating point") {
        format!("the number {marked}")
    } else if text.starts_with("boolean") {
        marked.to_owned()
    } else if text == "map" {
        "a table".into()
    } else if text == "sequence" {
        "a list".into()
    } else {
        text.to_owned()
    }
}

fn wrong_type(message: &str, marked: &str, key: Option<&str>) -> Option<Told> {
    let untagged = "data did not match any variant of untagged enum PortValue";
    if message == untagged {
        return Some(Told {
            code: "toml::type",
            message: format!(
                "{} is neither a number nor a template",
                key.map_or_else(|| marked.to_owned(), |key| format!("`{key}`"))
            ),
            why: "the wrong type".into(),
            help: "write a number, or a template in quotes that gives one".into(),
        });
    }
    if message == "data did not match any variant of untagged enum Written" {
        return Some(Told {
            code: "toml::unknown-word",
            message: format!("`{}` cannot be {marked}", key.unwrap_or("from")),
            why: "only some words have a meaning here".into(),
            help: "write \"public\", \"load-balancer\" or \"fleet\", or a list of roles such as [\"role:app\", \"role:redis\"]"
                .into(),
        });
    }
    let (rest, range) = match message.strip_prefix("invalid type: ") {
        Some(rest) => (rest, false),
        None => (message.strip_prefix("invalid value: ")?, true),
    };
    let (got, wanted) = rest.rsplit_once(", expected ")?;
    let bare = marked.trim_matches(['"', '\'']);
    let (wanted, help) = match wanted {
        "a string" => (
            "a text",
            if marked.contains(['[', '{', '\n', '"']) {
                "write one text in quotes".to_owned()
            } else {
                // A file mode is octal in TOML and in quotes alike, but with another prefix.
                format!("put it in quotes: \"{}\"", marked.replace("0o", "0"))
            },
        ),
        "a boolean" => (
            "true or false",
            "write true or false, without quotes".into(),
        ),
        "a sequence" => (
            "a list",
            if marked.contains('\n') {
                "write a list: [ … ]".into()
            } else {
                format!("write [{marked}]")
            },
        ),
        "a map" => ("a table", "write a table with its keys".into()),
        number if number.len() <= 5 && number.starts_with(['i', 'u']) => (
            "a whole number",
            if bare.parse::<i64>().is_ok() && !range {
                format!("write {bare}, without quotes")
            } else {
                "write a whole number, not below zero and not too large".into()
            },
        ),
        table if table.starts_with("struct ") => (
            "a table",
            "write a table with its keys, such as { key = \"value\" } or one under a [header]"
                .into(),
        ),
        other => (other, "write what is expected".into()),
    };
    Some(Told {
        code: "toml::type",
        message: match key {
            Some(key) => format!("`{key}` is {}, not {wanted}", found(got, marked)),
            None => format!("{} stands where {wanted} is expected", found(got, marked)),
        },
        why: if range {
            "out of range"
        } else {
            "the wrong type"
        }
        .into(),
        help,
    })
}

fn unknown_word(message: &str, key: Option<&str>) -> Option<Told> {
    let rest = message.strip_prefix("unknown variant `")?;
    let (word, rest) = rest.split_once('`')?;
    let allowed = quoted(rest);
    let near = closest(word, allowed.iter().copied())
        .map(|near| format!("did you mean \"{near}\"? "))
        .unwrap_or_default();
    Some(Told {
        code: "toml::unknown-word",
        message: match key {
            Some(key) => format!("`{key}` cannot be {word:?}"),
            None => format!("{word:?} cannot stand here"),
        },
        why: "only some words have a meaning here".into(),
        help: format!("{near}write {}", alternatives(&allowed, '"')),
    })
}

fn twice(message: &str, marked: &str) -> Option<Told> {
    (message == "duplicate key").then(|| Told {
        code: "toml::twice",
        message: format!("`{}` stands here for the second time", marked.trim()),
        why: "a key or table can stand once (TOML)".into(),
        help: "remove one of the two, or rename it".into(),
    })
}

fn syntax(message: &str) -> Told {
    // The parser's own words say what it expected; some messages have more than one line.
    let message = message
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(", ");
    Told {
        code: "toml::syntax",
        message: format!("not TOML: {message}"),
        why: "reading ended here".into(),
        help: "look for a quote or bracket that is missing here or on the line before; TOML is described at https://toml.io".into(),
    }
}
