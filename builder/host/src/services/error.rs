//! What can go wrong while a service's tree is built.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use super::judge::SIZE_LIMIT;

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The source directory is not there.
    #[error("there is no directory {}", .0.display())]
    NoSource(PathBuf),
    /// A file of the source says something that cannot be done.
    #[error("{}", place(file, *line, reason))]
    Source {
        /// The file, relative to the source directory.
        file: String,
        /// Line in it, from 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
        /// What to do.
        help: String,
    },
    /// A name that cannot be in a package: not UTF-8, or with control characters.
    #[error("{0:?} has a name that no Debian package can hold")]
    Name(PathBuf),
    /// Neither file, directory nor symbolic link.
    #[error("{0} is neither a file, a directory nor a symbolic link")]
    Special(String),
    /// A symbolic link that leads out of the tree.
    #[error("{path} is a symbolic link to {target}, which leads out of the service's directory")]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// Machine code in a package for all architectures.
    #[error("machine code in a package for all architectures: {}", list(.0))]
    Native(Vec<String>),
    /// More bytes than a service may have.
    #[error("{} MB, where {} are the limit; the largest parts: {}", size / 1_000_000, SIZE_LIMIT / 1_000_000, list(largest))]
    TooLarge {
        /// Bytes.
        size: u64,
        /// Directories with most of it.
        largest: Vec<String>,
    },
    /// A program is missing on this machine.
    #[error("cannot start {program}: {source}")]
    NoProgram {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No certificates of authorities on this machine.
    #[error(
        "this machine has no file with certificates of authorities, which registries are checked with"
    )]
    NoCertificates,
    /// The tree with Debian's package manager cannot be made.
    #[error("no tree of Debian {suite} with {packages} can be made:\n{said}")]
    System {
        /// The code name.
        suite: &'static str,
        /// What should be in it.
        packages: String,
        /// mmdebstrap's words.
        said: String,
    },
    /// The kernel gives no sandbox.
    #[error("the sandbox cannot be made:\n{0}")]
    Sandbox(String),
    /// The package manager failed.
    #[error("{manager} cannot install the dependencies:\n{said}")]
    Install {
        /// Which.
        manager: &'static str,
        /// The end of its words, without credentials.
        said: String,
    },
    /// The registry has another file under the pinned package manager's name.
    #[error(
        "packageManager in package.json names another {spec} than the registry has: that one's digest is {found}"
    )]
    WrongTool {
        /// Name and version.
        spec: String,
        /// Algorithm and digest of what came.
        found: String,
    },
    /// The operating system says no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ServiceError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> Cow<'static, str> {
        match self {
            Self::NoSource(_) => "create it, or correct its path in fleet.toml".into(),
            Self::Source { help, .. } => help.clone().into(),
            Self::Name(_) => "rename it, or leave it out with a line in .rolesmithignore".into(),
            Self::Special(_) => "remove it, or leave it out with a line in .rolesmithignore".into(),
            Self::Link { .. } => "put the file itself there, or link to one inside by a relative path such as ../lib/file".into(),
            Self::Native(_) => {
                "leave the files out with .rolesmithignore, or use a Debian package that has them (`depends`)".into()
            }
            Self::TooLarge { .. } => {
                "leave out what the running service does not need: development dependencies belong under devDependencies, other files into .rolesmithignore".into()
            }
            Self::NoProgram { package, .. } => format!("install it: sudo apt-get install {package}").into(),
            Self::NoCertificates => "install the package ca-certificates, or name a file with SSL_CERT_FILE".into(),
            Self::System { .. } => "see whether this machine's apt reaches a Debian mirror, and whether debian-archive-keyring is installed".into(),
            Self::Sandbox(_) => {
                "it needs user namespaces: where the system closes them to users (sysctl kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces), build as root".into()
            }
            Self::Install { .. } => {
                "run the same package manager in the source directory and commit its lock file; a registry other than the public one is named in ~/.npmrc or the environment (docs/services.md)".into()
            }
            Self::WrongTool { .. } => {
                "corepack writes the digest of yarn's own download, and registries have another file: put yarn into the source with `yarn set version VERSION --yarn-path`".into()
            }
            Self::Io { .. } => "see whether it exists, whether it may be read and written, and whether there is room".into(),
        }
    }

    /// The file of the source that is at fault, relative to the source directory, and the line in it.
    #[must_use]
    pub fn place(&self) -> Option<(&Path, Option<usize>)> {
        match self {
            Self::Source { file, line, .. } => Some((Path::new(file), *line)),
            Self::Name(path) => Some((path, None)),
            Self::Special(path) | Self::Link { path, .. } => Some((Path::new(path), None)),
            _ => None,
        }
    }

    /// Something that a file of the source says.
    pub(super) fn source_says(
        file: &str,
        line: Option<usize>,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::Source {
            file: file.to_owned(),
            line,
            reason: reason.into(),
            help: help.into(),
        }
    }
}

fn place(file: &str, line: Option<usize>, reason: &str) -> String {
    match line {
        Some(line) => format!("{file}:{line}: {reason}"),
        None => format!("{file}: {reason}"),
    }
}

/// The first few of many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// For `map_err`: an I/O error with what was being done to which file.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ServiceError {
    let path = path.to_owned();
    move |source| ServiceError::Io {
        action,
        path,
        source,
    }
}
