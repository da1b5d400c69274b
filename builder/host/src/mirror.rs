//! Debian's packages that a fleet needs, pinned: found by the real apt, kept by digest, published next to the fleet's own.
//!
//! [`resolve`] asks apt, in a root of its own with nothing installed, which packages the roles, the essential system
//! and everything of priority required or important need together. Recommends are left out; the nodes' apt is told the
//! same (`APT::Install-Recommends "false"`), else it would look for packages that the mirror does not have. The answer
//! is a [`Closure`], which [`Closure::to_toml`] writes as the fleet's `mirror.lock`: versions stay until the mirror is run
//! again. [`fetch`] brings the files of a closure into a cache by digest, and [`components`] hands them to
//! [`publish`](crate::publish::publish) as the components `debian` and `debian-security`.
//!
//! A node that is newer than the mirror (an image of next month, say) may have versions that the mirror's packages do not
//! fit: packages that depend on one exact version of a library cannot be installed then. The remedy is to run the mirror
//! again; it grows old in a week anyway, as security updates come.

mod apt;
mod closure;
mod error;
mod fetch;
mod publishing;
mod resolve;
mod sources;

use std::path::PathBuf;

pub use closure::{Archive, Closure, ClosureError, MirrorPackage};
pub use error::MirrorError;
pub use fetch::{Progress, fetch, forget_others};
pub use publishing::{DEBIAN, DEBIAN_SECURITY, components};
pub use resolve::resolve;
pub use sources::{Source, Sources, SourcesError, parse_sources};

/// Seconds after which a mirror has to be run again: security updates are missing by then.
pub const STALE_AFTER_SECONDS: u64 = 7 * 86_400;

/// What to mirror, from where and where to.
#[derive(Clone, Debug)]
pub struct MirrorRequest {
    /// Debian's code name: `trixie` or `bookworm`.
    pub suite: String,
    /// Debian's architecture name: `amd64`.
    pub architecture: String,
    /// Names of packages that the nodes install.
    pub packages: Vec<String>,
    /// Kept between runs: apt's lists and the packages by digest.
    pub cache_directory: PathBuf,
    /// Debian's archives and the keys that sign them.
    pub sources: Sources,
    /// Now, Unix seconds; recorded in the closure.
    pub epoch: u64,
}
