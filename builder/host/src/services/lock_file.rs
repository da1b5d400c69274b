//! Lock files: whose they are, and what in them cannot be relied on.
//!
//! What a package manager downloads has to be what the project's people had. npm and yarn 1 check that only where the lock file has
//! a digest, so each dependency must have one. yarn 4 demands digests itself.

use serde_json::{Map, Value};

use super::error::ServiceError;

/// A lock file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Npm,
    Yarn1,
    Yarn4,
}

/// The lock files of package managers.
pub(super) const LOCK_FILES: [&str; 6] = [
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
];

/// A dependency that cannot be relied on.
enum Fault {
    /// It comes from a git repository.
    Git,
    /// Nothing says what its archive has to be.
    NoDigest,
}

/// Finds out the format of a lock file, and that it can be relied on.
pub(super) fn format(file: &str, text: &str) -> Result<Format, ServiceError> {
    if let Some(line) = line_of(text, |line| line.starts_with("<<<<<<< ")) {
        let help = "resolve it, then let the package manager write the file";
        let reason = "is in the middle of a merge";
        return Err(ServiceError::source_says(file, Some(line), reason, help));
    }
    let (format, fault) = match (file, metadata_version(text)) {
        ("yarn.lock", None) => (Format::Yarn1, yarn_1(text)),
        ("yarn.lock", Some((line, version))) if version < 8 => {
            let reason = format!(
                "is of yarn 2 or 3 (__metadata version {version}); rolesmith runs yarn 1 and yarn 4"
            );
            let help = "`yarn set version 4 && yarn install` writes it anew";
            return Err(ServiceError::source_says(file, Some(line), reason, help));
        }
        ("yarn.lock", Some(_)) => (Format::Yarn4, yarn_4(text)),
        _ => (Format::Npm, npm(file, text)?),
    };
    let Some((line, fault)) = fault else {
        return Ok(format);
    };
    let (reason, help) = match fault {
        Fault::Git => (
            "a dependency comes from a git repository",
            "neither git nor the building of a dependency is part of an install: name a published version, an archive by its URL, or keep the package in the source (\"file:vendor/name.tgz\")",
        ),
        Fault::NoDigest => (
            "a dependency without a digest: whatever the registry has tomorrow would be taken",
            "let the package manager write the entry anew: delete it here and in node_modules, then run `npm install` or `yarn install`",
        ),
    };
    Err(ServiceError::source_says(file, line, reason, help))
}

type Found = Option<(Option<usize>, Fault)>;

/// The first fault in a lock file of npm.
fn npm(file: &str, text: &str) -> Result<Found, ServiceError> {
    let help = "let npm write it: `npm install --package-lock-only`";
    let lock: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        ServiceError::source_says(file, Some(error.line()), error.to_string(), help)
    })?;
    if !lock.get("lockfileVersion").is_some_and(Value::is_u64) {
        let reason = "has no lockfileVersion";
        return Err(ServiceError::source_says(file, None, reason, help));
    }
    let faulty = match lock.get("packages") {
        // Others than these are the project's own directories.
        Some(Value::Object(packages)) => packages
            .iter()
            .filter(|(path, _)| path.contains("node_modules/"))
            .find_map(|(path, package)| Some((path.as_str(), npm_fault(package, "resolved")?))),
        _ => npm_1(lock.get("dependencies")),
    };
    Ok(faulty.map(|(key, fault)| {
        let start = format!("\"{key}\": {{");
        (
            line_of(text, |line| line.trim_start().starts_with(&start)),
            fault,
        )
    }))
}

/// Of format 1, which nests dependencies and has their source as their version.
fn npm_1(dependencies: Option<&Value>) -> Option<(&str, Fault)> {
    let mut all = dependencies?.as_object()?.iter();
    all.find_map(|(name, package)| match npm_fault(package, "version") {
        Some(fault) => Some((name.as_str(), fault)),
        None => npm_1(package.get("dependencies")),
    })
}

fn npm_fault(package: &Value, source: &str) -> Option<Fault> {
    let text = |field: &str| package.get(field).and_then(Value::as_str);
    let is = |field: &str| package.get(field) == Some(&Value::Bool(true));
    let source = text(source).unwrap_or_default();
    if is_git(source) {
        return Some(Fault::Git);
    }
    let inside = is("link") || is("inBundle") || is("bundled") || source.starts_with("file:");
    (!inside && text("integrity").is_none()).then_some(Fault::NoDigest)
}

/// The first fault in a lock file of yarn 1.
fn yarn_1(text: &str) -> Found {
    let lines: Vec<&str> = text.lines().collect();
    let is_head = |line: &str| !line.starts_with([' ', '#']) && line.ends_with(':');
    for (index, head) in lines.iter().enumerate().filter(|(_, line)| is_head(line)) {
        let fields = || {
            lines[index + 1..]
                .iter()
                .take_while(|line| line.starts_with("  "))
        };
        let field =
            |key: &str| fields().find_map(|line| line.strip_prefix("  ")?.strip_prefix(key));
        let resolved = field("resolved ").unwrap_or_default().trim_matches('"');
        if is_git(resolved) {
            return Some((Some(index + 1), Fault::Git));
        }
        let own = head.contains("@file:") || head.contains("@link:");
        // Without `resolved` yarn asks the registry and checks nothing, whatever `integrity` says.
        let checked =
            resolved.contains('#') || !resolved.is_empty() && field("integrity ").is_some();
        if !own && !checked {
            return Some((Some(index + 1), Fault::NoDigest));
        }
    }
    None
}

/// The first fault in a lock file of yarn 4.
fn yarn_4(text: &str) -> Found {
    let from_git = |line: &str| {
        let resolution = line.trim_start().strip_prefix("resolution: ");
        resolution.is_some_and(|resolution| resolution.contains("#commit="))
    };
    line_of(text, from_git).map(|line| (Some(line), Fault::Git))
}

fn is_git(source: &str) -> bool {
    const STARTS: [&str; 7] = [
        "git+",
        "git:",
        "git@",
        "ssh:",
        "github:",
        "gitlab:",
        "bitbucket:",
    ];
    let url = source.split('#').next().unwrap_or_default();
    url.ends_with(".git") || STARTS.iter().any(|start| url.starts_with(start))
}

fn line_of(text: &str, matches: impl Fn(&str) -> bool) -> Option<usize> {
    text.lines().position(matches).map(|index| index + 1)
}

/// Line and value of the version that yarn 2 and later write.
fn metadata_version(text: &str) -> Option<(usize, u64)> {
    let mut lines = text.lines().enumerate();
    lines.find(|(_, line)| line.starts_with("__metadata:"))?;
    lines.find_map(|(index, line)| {
        let version = line.trim_start().strip_prefix("version:")?;
        Some((index + 1, version.trim().parse().ok()?))
    })
}

#[cfg(test)]
mod tests;
