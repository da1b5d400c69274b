//! Lines of sysusers.d(5), tmpfiles.d(5) and sysctl.d(5).

use std::fmt::Write as _;

use tera::Context;
use toml::Spanned;

use crate::{
    finding::Findings,
    resolve::files::inline,
    role::{Layer, Role},
    validate::syntax,
};

/// Lines of sysusers.d(5) or tmpfiles.d(5), each with its template rendered.
pub(in crate::resolve) fn lines(
    role: &Role,
    pick: impl Fn(&Layer) -> &Vec<Spanned<String>>,
    valid: impl Fn(&str) -> Result<(), String>,
    code: &'static str,
    man_page: &str,
    context: &Context,
    findings: &mut Findings,
) -> String {
    let mut text = String::new();
    for layer in &role.layers {
        for line in pick(layer) {
            let Some(rendered) = inline(layer, line, context, findings) else {
                continue;
            };
            match valid(&rendered) {
                Ok(()) => {
                    let _ = writeln!(text, "{rendered}");
                }
                Err(why) => findings.error(
                    code,
                    layer.place(line.span()),
                    format!("the line {why}"),
                    format!("not a line that {man_page} describes"),
                    format!("the manual page {man_page} describes each column"),
                ),
            }
        }
    }
    text
}

/// A line of sysusers.d(5).
pub(in crate::resolve) fn sysusers_line(line: &str) -> Result<(), String> {
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().unwrap_or("");
    if !["u", "u!", "g", "m", "r"].contains(&kind) {
        return Err(format!("begins with {kind:?} instead of u, g, m or r"));
    }
    let name = words.next().unwrap_or("");
    let good = !name.is_empty()
        && name.len() <= 31
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    if !good && kind != "r" {
        return Err(format!("names {name:?}, which is not a system user's name"));
    }
    if kind == "m" && words.next().is_none() {
        return Err("adds a user to no group".into());
    }
    if line.contains('\n') {
        return Err("holds a line break".into());
    }
    Ok(())
}

/// A line of tmpfiles.d(5).
pub(in crate::resolve) fn tmpfiles_line(line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let kind = words.first().copied().unwrap_or("");
    let letter = kind.chars().next().unwrap_or(' ');
    if !"fFwdDeqQpLcbCxXrRzZtTaAhH".contains(letter)
        || !kind[letter.len_utf8()..]
            .bytes()
            .all(|b| b"+!-=~^$?".contains(&b))
    {
        return Err(format!("begins with {kind:?}, which is not a type"));
    }
    let path = words.get(1).copied().unwrap_or("");
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("has {path:?} where an absolute path stands"));
    }
    if let Some(mode) = words.get(2) {
        let digits = mode.trim_start_matches(['~', ':']);
        if digits != "-" && syntax::mode(digits).is_none() {
            return Err(format!("has {mode:?} where a mode stands"));
        }
    }
    if line.contains('\n') {
        return Err("holds a line break".into());
    }
    Ok(())
}

/// The role's part of sysctl.d(5).
pub(in crate::resolve) fn sysctl(role: &Role, findings: &mut Findings) -> String {
    let mut text = String::new();
    for layer in &role.layers {
        for (key, value) in &layer.file.sysctl {
            let valid = key.contains(['.', '/'])
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-/*".contains(&b));
            let rendered = match value.get_ref() {
                toml::Value::Integer(number) => Some(number.to_string()),
                toml::Value::String(text) if !text.contains('\n') && !text.is_empty() => {
                    Some(text.clone())
                }
                _ => None,
            };
            match rendered {
                Some(value) if valid => {
                    let _ = writeln!(text, "{key} = {value}");
                }
                _ => findings.error(
                    "role::sysctl",
                    layer.place(value.span()),
                    format!("{key:?} is not a kernel parameter with a number or one line of text"),
                    "sysctl.d(5) takes NAME = VALUE",
                    "write it as \"vm.swappiness\" = 10",
                ),
            }
        }
    }
    text
}
