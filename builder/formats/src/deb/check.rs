//! What dpkg rejects, and what it accepts in silence although it is a mistake.

use std::collections::BTreeSet;

use super::{DebError, DebInput};
use crate::tarball::Tree;

const RELATIONS: [&str; 10] = [
    "Pre-Depends",
    "Depends",
    "Recommends",
    "Suggests",
    "Enhances",
    "Breaks",
    "Conflicts",
    "Provides",
    "Replaces",
    "Built-Using",
];

pub(super) fn check(input: &DebInput, tree: &Tree<'_>) -> Result<(), DebError> {
    fields(input)?;
    conffiles(input, tree)?;
    for (script, text) in input.scripts.iter() {
        script_text(text).map_err(|reason| DebError::Script { script, reason })?;
    }
    input.triggers.as_deref().map_or(Ok(()), triggers)
}

fn fields(input: &DebInput) -> Result<(), DebError> {
    let required = |name| input.control.get(name).ok_or(DebError::MissingField(name));
    let single = |name| {
        let value = required(name)?;
        if value.contains('\n') {
            Err(bad(name, value, "has more than one line"))
        } else {
            Ok(value)
        }
    };
    let package = single("Package")?;
    if !is_package_name(package) {
        return Err(bad(
            "Package",
            package,
            "is not a package name (Policy 5.6.1)",
        ));
    }
    let version = single("Version")?;
    check_version(version).map_err(|reason| bad("Version", version, reason))?;
    let architecture = single("Architecture")?;
    if !is_architecture(architecture) {
        return Err(bad(
            "Architecture",
            architecture,
            "is not the name of one architecture",
        ));
    }
    single("Maintainer")?;
    required("Description")?;
    for (field, allowed) in [
        ("Essential", &["yes", "no"][..]),
        ("Protected", &["yes", "no"]),
        ("Multi-Arch", &["no", "same", "foreign", "allowed"]),
    ] {
        if let Some(value) = input
            .control
            .get(field)
            .filter(|value| !allowed.contains(value))
        {
            return Err(bad(
                field,
                value,
                "is not one of the values that dpkg knows",
            ));
        }
    }
    for field in RELATIONS {
        if let Some(value) = input.control.get(field) {
            check_relations(field, value).map_err(|(part, reason)| bad(field, &part, reason))?;
        }
    }
    Ok(())
}

fn bad(field: &'static str, value: &str, reason: &'static str) -> DebError {
    DebError::Field {
        field,
        value: value.to_owned(),
        reason,
    }
}

/// Whether this is a package name: two or more lower-case letters, digits and `+-.`, the first no sign (Policy 5.6.1).
pub fn is_package_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b))
}

fn is_architecture(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Checks a version, `[epoch:]upstream[-revision]` (deb-version(7)).
///
/// # Errors
/// What is wrong with it, to be read after the version.
pub fn check_version(version: &str) -> Result<(), &'static str> {
    let (epoch, rest) = version
        .split_once(':')
        .map_or((None, version), |(epoch, rest)| (Some(epoch), rest));
    if let Some(epoch) = epoch {
        let digits = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit());
        // dpkg keeps the epoch in an int.
        if !digits || epoch.parse::<i32>().is_err() {
            return Err("has an epoch that is not a number up to 2147483647");
        }
    }
    let (upstream, revision) = rest
        .rsplit_once('-')
        .map_or((rest, None), |(up, revision)| (up, Some(revision)));
    if !upstream.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("does not start with a digit");
    }
    let allowed = |text: &str, signs: &[u8]| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || signs.contains(&b))
    };
    if !allowed(upstream, if epoch.is_some() { b".+-~:" } else { b".+-~" }) {
        return Err("has characters that a version cannot have");
    }
    match revision {
        Some("") => Err("has an empty revision"),
        Some(revision) if !allowed(revision, b".+~") => {
            Err("has characters that a revision cannot have")
        }
        _ => Ok(()),
    }
}

/// Checks the value of a relationship field such as Depends (Policy 7.1).
///
/// # Errors
/// The part concerned and what is wrong with it, to be read after it.
pub fn check_relations(field: &str, value: &str) -> Result<(), (String, &'static str)> {
    let alternatives_allowed = matches!(
        field,
        "Pre-Depends" | "Depends" | "Recommends" | "Suggests" | "Enhances"
    );
    for group in value.split(',') {
        if !alternatives_allowed && group.contains('|') {
            return Err((
                group.trim().to_owned(),
                "has alternatives, which this field cannot have",
            ));
        }
        for relation in group.split('|') {
            relation_of(field, relation.trim())
                .map_err(|reason| (relation.trim().to_owned(), reason))?;
        }
    }
    Ok(())
}

fn relation_of(field: &str, relation: &str) -> Result<(), &'static str> {
    if relation.is_empty() {
        return Err("is an empty relation: a comma or bar too many");
    }
    let (name, restriction) = match relation.split_once('(') {
        Some((name, rest)) => {
            let rest = rest
                .strip_suffix(')')
                .ok_or("has no closing parenthesis at its end")?;
            (name.trim_end(), Some(rest.trim()))
        }
        None => (relation, None),
    };
    let (name, qualifier) = name
        .split_once(':')
        .map_or((name, None), |(name, arch)| (name, Some(arch)));
    if !is_package_name(name) {
        return Err("does not name a package");
    }
    if qualifier.is_some_and(|arch| !is_architecture(arch)) {
        return Err("has no architecture after its colon");
    }
    let Some(restriction) = restriction else {
        return Ok(());
    };
    let (operator, version) = ["<<", "<=", ">=", ">>", "="]
        .into_iter()
        .find_map(|operator| {
            restriction
                .strip_prefix(operator)
                .map(|version| (operator, version.trim()))
        })
        .ok_or("has none of the operators << <= = >= >> before its version")?;
    if matches!(field, "Provides" | "Built-Using") && operator != "=" {
        return Err("needs the operator = in this field");
    }
    check_version(version)
}

fn conffiles(input: &DebInput, tree: &Tree<'_>) -> Result<(), DebError> {
    let error = |path: &str, reason| {
        Err(DebError::Conffile {
            path: path.to_owned(),
            reason,
        })
    };
    let mut seen = BTreeSet::new();
    for path in input.conffiles.iter().chain(&input.removed_conffiles) {
        if !seen.insert(path) {
            return error(path, "is listed twice");
        }
    }
    for path in &input.conffiles {
        if !tree.is_file(path) {
            return error(path, "is not a regular file of the package");
        }
    }
    for path in &input.removed_conffiles {
        let normal = path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|p| !matches!(p, "" | "." | "..")));
        if !normal || path.contains(['\n', '\r', '\0']) {
            return error(path, "is not an absolute path");
        }
        if tree.contains(path) {
            return error(path, "is to be removed on upgrade but shipped");
        }
    }
    // dpkg trims the lines of `conffiles`.
    match input
        .conffiles
        .iter()
        .find(|path| path.ends_with(|c: char| c.is_ascii_whitespace()))
    {
        Some(path) => error(path, "ends in white space"),
        None => Ok(()),
    }
}

fn script_text(text: &str) -> Result<(), &'static str> {
    let interpreter = text.strip_prefix("#!").ok_or("does not start with #!")?;
    if !interpreter.trim_start_matches([' ', '\t']).starts_with('/') {
        return Err("does not name its interpreter by an absolute path");
    }
    if text.contains('\r') {
        return Err("has carriage returns");
    }
    if !text.ends_with('\n') {
        return Err("does not end in a newline");
    }
    Ok(())
}

/// deb-triggers(5).
fn triggers(text: &str) -> Result<(), DebError> {
    if !text.ends_with('\n') {
        return Err(DebError::Trigger(
            text.lines().last().unwrap_or_default().to_owned(),
        ));
    }
    // Not lines(): it would hide a carriage return.
    for line in text.split('\n') {
        let words: Vec<_> = line
            .split('#')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let valid = match words[..] {
            [] => true,
            [directive, name] => {
                let base = directive
                    .strip_suffix("-await")
                    .or(directive.strip_suffix("-noawait"))
                    .unwrap_or(directive);
                matches!(base, "interest" | "activate")
                    && name.bytes().all(|b| b.is_ascii_graphic())
            }
            _ => false,
        };
        if !valid || line.contains('\r') {
            return Err(DebError::Trigger(line.to_owned()));
        }
    }
    Ok(())
}
