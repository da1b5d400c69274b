//! The pinned packages, and the file that keeps them.

use serde::{Deserialize, Serialize};

use rolesmith_formats::apt::Sha256;

/// The format of `mirror.lock`.
const FORMAT: u32 = 1;

/// Which of Debian's archives a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// The release and its updates.
    Main,
    /// Security updates.
    Security,
}

/// One package of a closure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MirrorPackage {
    /// Package name.
    pub name: String,
    /// Full version.
    pub version: String,
    /// Architecture, `all` included.
    pub architecture: String,
    /// Where it comes from.
    pub archive: Archive,
    /// Path below the archive's URI; which mirror is used is each machine's business.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// Digest in the index that Debian signed.
    pub sha256: Sha256,
}

/// Packages of one suite that can be installed together on a machine that has none of them yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    format: u32,
    /// Debian's code name.
    pub suite: String,
    /// Debian's architecture name.
    pub architecture: String,
    /// When apt was asked, Unix seconds.
    pub resolved: u64,
    /// Names that were asked for, sorted.
    pub requested: Vec<String>,
    /// Sorted by name.
    #[serde(rename = "package")]
    pub packages: Vec<MirrorPackage>,
}

/// A file that is not a `mirror.lock`.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// Not TOML of this shape.
    #[error("mirror.lock cannot be read")]
    Toml(#[from] toml::de::Error),
    /// Written by another version of this program.
    #[error("mirror.lock has format {0}, this program reads {FORMAT}: run the mirror again")]
    Format(u32),
    /// A value that would lead out of the archive.
    #[error("mirror.lock: {0:?} is not a path of a package in an archive")]
    Path(String),
}

impl Closure {
    /// Sorts what apt answered.
    pub(super) fn new(
        suite: &str,
        architecture: &str,
        resolved: u64,
        requested: &[String],
        mut packages: Vec<MirrorPackage>,
    ) -> Self {
        packages.sort();
        let mut requested = requested.to_vec();
        requested.sort();
        requested.dedup();
        let (suite, architecture) = (suite.to_owned(), architecture.to_owned());
        Self {
            format: FORMAT,
            suite,
            architecture,
            resolved,
            requested,
            packages,
        }
    }

    /// Bytes of all packages.
    pub fn size(&self) -> u64 {
        self.packages.iter().map(|package| package.size).sum()
    }

    /// Seconds since apt was asked; see [`STALE_AFTER_SECONDS`](super::STALE_AFTER_SECONDS).
    pub fn age(&self, epoch: u64) -> u64 {
        epoch.saturating_sub(self.resolved)
    }

    /// The text of `mirror.lock`.
    pub fn to_toml(&self) -> String {
        let body = toml::to_string(self).expect("strings and numbers are always TOML");
        format!(
            "# Debian packages that this fleet's repository carries. Written by `rolesmith mirror`; commit it.\n{body}"
        )
    }

    /// Reads `mirror.lock`.
    ///
    /// # Errors
    /// [`ClosureError`].
    pub fn from_toml(text: &str) -> Result<Self, ClosureError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let Head { format } = toml::from_str(text)?;
        if format != FORMAT {
            return Err(ClosureError::Format(format));
        }
        let closure: Self = toml::from_str(text)?;
        for package in &closure.packages {
            let inside = package
                .path
                .split('/')
                .all(|part| !part.is_empty() && part != ".." && part != ".");
            if !inside || package.path.contains(char::is_whitespace) {
                return Err(ClosureError::Path(package.path.clone()));
            }
        }
        Ok(closure)
    }
}

#[cfg(test)]
mod tests;
