//! What a source directory is: from its files alone.

use std::fmt;

use rolesmith_model::ids::Suite;

use super::error::ServiceError;
use super::lock_file::{self, Format, LOCK_FILES};
use super::package_json::{PACKAGE_JSON, PackageJson};
use super::source::Snapshot;
pub use super::yarn::Pin;
use super::yarn::vendored;

/// What a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any program: its files are shipped as they are.
    Program,
    /// A Node.js program: it has a package.json. Without a package manager when it depends on nothing.
    Node(Option<Manager>),
}

/// Who installs the dependencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// `npm ci`, with Debian's npm.
    Npm,
    /// `yarn install --frozen-lockfile` of yarn 1.
    Yarn1(Yarn),
    /// `yarn workspaces focus` of yarn 4.
    Yarn4(Yarn),
}

/// Where yarn comes from, in the order in which it is looked for: the project's own file, Debian's, the registry. Debian's is used
/// whatever release packageManager names: the lock file decides what comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Yarn {
    /// Debian's yarnpkg of the suite: 1.22 in bookworm, 4.1 in trixie.
    Debian,
    /// From the registry, by the digest in packageManager.
    Pinned(Pin),
    /// A file of the source, which `.yarnrc` (`yarn-path`) or `.yarnrc.yml` (`yarnPath`) names: its path.
    Vendored(String),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => write!(f, "a program, shipped as it is"),
            Self::Node(None) => write!(f, "Node.js without dependencies"),
            Self::Node(Some(manager)) => write!(f, "Node.js, dependencies by {manager}"),
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, yarn) = match self {
            Self::Npm => return write!(f, "Debian's npm"),
            Self::Yarn1(yarn) => ("yarn 1", yarn),
            Self::Yarn4(yarn) => ("yarn 4", yarn),
        };
        match yarn {
            Yarn::Debian => write!(f, "{name}, Debian's yarnpkg"),
            Yarn::Pinned(pin) => write!(f, "yarn {}, from the registry", pin.version),
            Yarn::Vendored(path) => write!(f, "{name}, {path}"),
        }
    }
}

/// The kind of a source directory.
pub(super) fn of(snapshot: &Snapshot, suite: Suite) -> Result<Kind, ServiceError> {
    let Some(text) = snapshot.text(PACKAGE_JSON)? else {
        return Ok(Kind::Program);
    };
    let package = PackageJson::parse(text)?;
    if !package.has_dependencies() {
        return Ok(Kind::Node(None));
    }
    let locks: Vec<&str> = LOCK_FILES
        .into_iter()
        .filter(|file| snapshot.has(file))
        .collect();
    let lock = match locks[..] {
        [] => {
            let help = "commit the lock file that your package manager writes (`npm install --package-lock-only`, `yarn install`): without one every build would get other versions";
            return Err(ServiceError::source_says(
                PACKAGE_JSON,
                None,
                "names dependencies, and there is no lock file",
                help,
            ));
        }
        [lock] => lock,
        [_, ref others @ ..] => {
            let reason = format!(
                "there is {} as well: two package managers' words on the same dependencies",
                locks[0]
            );
            let help = "delete the one that nobody uses any more";
            return Err(ServiceError::source_says(others[0], None, reason, help));
        }
    };
    if lock.starts_with("pnpm") || lock.starts_with("bun") {
        let help = "rolesmith knows npm, yarn 1 and yarn 4: delete this file and let one of these write its own";
        return Err(ServiceError::source_says(
            lock,
            None,
            "is of a package manager that is not supported",
            help,
        ));
    }
    let format = lock_file::format(lock, snapshot.text(lock)?.unwrap_or_default())?;
    let named = package.package_manager()?;
    if let Some((manager, line)) = named {
        agrees(lock, format, manager, line)?;
    }
    let yarn = || match vendored(snapshot, format)? {
        Some(path) => Ok(Yarn::Vendored(path)),
        None => available(lock, format, named, suite),
    };
    Ok(Kind::Node(Some(match format {
        Format::Npm => Manager::Npm,
        Format::Yarn1 => Manager::Yarn1(yarn()?),
        Format::Yarn4 => Manager::Yarn4(yarn()?),
    })))
}

/// Debian's yarn where it is of the lock file's kind, else the one that the project pins.
fn available(
    lock: &str,
    format: Format,
    named: Option<(&str, Option<usize>)>,
    suite: Suite,
) -> Result<Yarn, ServiceError> {
    let (there, reason) = match (format, suite) {
        (Format::Yarn1, Suite::Trixie) => ("4.1", "is of yarn 1"),
        (Format::Yarn4, Suite::Bookworm) => ("1.22", "is of yarn 4"),
        _ => return Ok(Yarn::Debian),
    };
    if let Some((text, line)) = named {
        return Ok(Yarn::Pinned(Pin::parse(text, line)?));
    }
    let reason = format!("{reason}, and the yarnpkg of Debian {suite} is yarn {there}");
    let help = if format == Format::Yarn1 {
        "say which one to fetch: add \"packageManager\": \"yarn@1.22.22\" to package.json"
    } else {
        "put yarn into the source: `yarn set version stable --yarn-path`, and commit .yarnrc.yml and .yarn/releases"
    };
    Err(ServiceError::source_says(lock, None, reason, help))
}

/// Whether packageManager names the package manager whose lock file is there.
fn agrees(
    lock: &str,
    format: Format,
    manager: &str,
    line: Option<usize>,
) -> Result<(), ServiceError> {
    let fits = match format {
        Format::Npm => manager.starts_with("npm@"),
        Format::Yarn1 => manager.starts_with("yarn@1."),
        Format::Yarn4 => manager.strip_prefix("yarn@").is_some_and(|rest| {
            let major = rest.split('.').next().unwrap_or_default();
            major.parse::<u64>().is_ok_and(|major| major >= 4)
        }),
    };
    if fits {
        return Ok(());
    }
    let reason = format!(
        "packageManager names {manager:?}, and {lock} was written by {}",
        match format {
            Format::Npm => "npm",
            Format::Yarn1 => "yarn 1",
            Format::Yarn4 => "yarn 4",
        }
    );
    let help = "let the package manager that you use write its lock file and this field (`corepack use`), and delete the other one's";
    Err(ServiceError::source_says(PACKAGE_JSON, line, reason, help))
}

#[cfg(test)]
mod tests;
