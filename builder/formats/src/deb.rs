//! Binary packages ([deb(5)]): built from values, signed, and read.
//!
//! [`DebInput`] -> [`Deb`] -> [`SignedDeb`]; what dpkg would reject is a [`DebError`] or cannot be said. A `Deb` and a
//! `SignedDeb` are different types, so that nothing unsigned can be published by mistake.
//!
//! [deb(5)]: https://manpages.debian.org/deb.5

mod build;
mod check;
mod read;
mod signed;

use crate::{
    ar::ArError,
    control::{ControlError, Paragraph},
    tarball::{Entry, TreeError},
};

pub use build::Deb;
pub use check::{check_relations, check_version, is_package_name};
pub use read::{DebContents, ReadError, read_deb, read_entries, read_md5sums};
pub use signed::{Digests, SignedDeb};

/// The four maintainer scripts (Debian Policy 6.1), whole files with their `#!` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// Run before unpacking.
    pub preinst: Option<String>,
    /// Run to configure.
    pub postinst: Option<String>,
    /// Run before removal.
    pub prerm: Option<String>,
    /// Run after removal.
    pub postrm: Option<String>,
}

impl Scripts {
    /// Names and texts of those that are there, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("postinst", &self.postinst),
            ("postrm", &self.postrm),
            ("preinst", &self.preinst),
            ("prerm", &self.prerm),
        ]
        .into_iter()
        .filter_map(|(name, text)| text.as_deref().map(|text| (name, text)))
    }
}

/// Everything a package is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DebInput {
    /// Package, Version, Architecture, Maintainer and Description are required; Installed-Size is computed.
    pub control: Paragraph,
    /// Absolute paths of regular files in `entries` that dpkg keeps a person's changes to.
    pub conffiles: Vec<String>,
    /// Absolute paths of conffiles of earlier versions that an upgrade removes (`remove-on-upgrade`, deb-conffiles(5)).
    pub removed_conffiles: Vec<String>,
    /// Maintainer scripts.
    pub scripts: Scripts,
    /// The `triggers` file (deb-triggers(5)).
    pub triggers: Option<String>,
    /// The files, directories and symbolic links.
    pub entries: Vec<Entry>,
    /// Time of all members, Unix seconds.
    pub epoch: u64,
}

/// Why no package could be built.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// A field that dpkg or Policy 5.3 requires is missing.
    #[error("control has no {0} field")]
    MissingField(&'static str),
    /// A field's value is not of its syntax.
    #[error("control field {field}: {value:?} {reason}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// The value or the part concerned.
        value: String,
        /// What is wrong with it, to be read after the value.
        reason: &'static str,
    },
    /// A conffile that is no regular file of the package, is listed twice, or is both shipped and removed.
    #[error("conffile {path} {reason}")]
    Conffile {
        /// The path as given.
        path: String,
        /// What is wrong with it, to be read after the path.
        reason: &'static str,
    },
    /// A maintainer script that the kernel or dpkg could not run.
    #[error("{script} {reason}")]
    Script {
        /// Name of the script.
        script: &'static str,
        /// What is wrong with it, to be read after the name.
        reason: &'static str,
    },
    /// A line of `triggers` that dpkg refuses.
    #[error("triggers: {0:?} is not a directive and a trigger's name")]
    Trigger(String),
    /// The files are no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The control paragraph cannot be written.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A member cannot be written.
    #[error(transparent)]
    Ar(#[from] ArError),
    /// Compression failed, for want of memory.
    #[error("compression: {0}")]
    Compression(#[from] std::io::Error),
}
