//! What can go wrong while mirroring.

use std::io;
use std::path::PathBuf;

use rolesmith_formats::deb::ReadError;

/// Why there is no mirror.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A value that would break apt's configuration or a path.
    #[error("{value:?} cannot be a {what}")]
    BadValue {
        /// What it should be.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The keyring that verifies Debian's archive is not there.
    #[error("{} is missing; the package debian-archive-keyring has it", .0.display())]
    NoKeyring(PathBuf),
    /// A program of apt cannot be started.
    #[error("cannot start {program}; the package apt has it")]
    NoApt {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The archive's indexes cannot be fetched or are not trusted.
    #[error("apt cannot use Debian's archive for this suite:\n{0}")]
    Update(String),
    /// apt finds no way to install the packages together.
    #[error("apt finds no way to install these packages together:\n{0}")]
    Unresolvable(String),
    /// apt named a package that its own indexes do not describe.
    #[error("apt's answer does not fit its indexes: {0}")]
    Inconsistent(String),
    /// Packages cannot be downloaded. A pinned version that was superseded long ago leaves the archive.
    #[error(
        "packages cannot be downloaded (versions that were superseded leave the archive: run the mirror again):\n{0}"
    )]
    Download(String),
    /// A downloaded file is not what the signed index said.
    #[error("{package}: the downloaded file is not the one in the signed index")]
    WrongFile {
        /// Name and version.
        package: String,
    },
    /// A package is not in the cache; it has to be fetched.
    #[error("{package} has not been fetched")]
    NotFetched {
        /// Name and version.
        package: String,
    },
    /// A package of the cache cannot be read.
    #[error("{} is not a usable package", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
}

/// For `map_err`: an I/O error with what was being done to which file.
pub(super) fn io_error(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> MirrorError {
    let path = path.to_owned();
    move |source| MirrorError::Io {
        action,
        path,
        source,
    }
}
