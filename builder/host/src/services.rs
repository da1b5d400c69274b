//! A service's source directory becomes the tree that its package ships.
//!
//! A Node.js program gets its dependencies from the package manager that its lock file names, run on Debian's own Node.js of the
//! fleet's suite, in a sandbox that sees of the machine the program's files and the network, and nothing else. No script of a
//! dependency runs. Any other program is shipped as it is.
//!
//! The steps of [`build()`]: read the source whole (`source`), find out what it is ([`inspect()`]), take the dependencies from the
//! cache or install them in a copy (`install`), join both, judge every file (`judge`). What comes out depends on the source,
//! the suite and what the lock file names by digest; not on the day, the umask, or where the source or the cache is.
//!
//! In the cache, below `services/`: `systems/` has Debian trees with a package manager, unpacked once; `installs/` what was
//! installed, by the digest of its inputs; `tools/` package managers that a program pins; `downloads/` what these keep. All of it
//! may be deleted at any time. Whatever is made gets its name only when it is complete and on the disk.

mod cache;
mod error;
mod install;
mod judge;
mod kind;
mod lock_file;
mod package_json;
mod registry;
mod sandbox;
mod source;
mod system;
mod yarn;

use std::path::Path;
use std::sync::Arc;

use rolesmith_model::ids::Suite;

pub use error::ServiceError;
pub use judge::SIZE_LIMIT;
pub use kind::{Kind, Manager, Pin, Yarn};
pub use registry::Registry;
pub use source::IGNORE_FILE;

use cache::Cache;
use source::Snapshot;

/// What to build.
#[derive(Clone, Copy, Debug)]
pub struct ServiceBuild<'a> {
    /// The service's name, for messages.
    pub name: &'a str,
    /// Its source directory.
    pub source: &'a Path,
    /// Debian's release that the fleet runs.
    pub suite: Suite,
    /// The user's cache directory; `services/` below it is used.
    pub cache: &'a Path,
    /// How package registries are reached.
    pub registry: &'a Registry,
    /// The service declares an architecture, so that programs and libraries of machine code may be in it.
    pub native: bool,
}

/// What stands at a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeContent {
    /// A file.
    File {
        /// Its bytes.
        bytes: Arc<[u8]>,
        /// Mode 0755 if true, else 0644.
        executable: bool,
    },
    /// A symbolic link and its target: relative, and not out of the tree.
    Symlink(String),
}

/// One file or symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path relative to the tree's root: no empty, `.` or `..` component, no control characters.
    pub path: String,
    /// What stands there.
    pub content: TreeContent,
}

/// What a service's package ships. Directories are those that the paths need; owner and time are the packager's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Sorted by path.
    pub entries: Vec<TreeEntry>,
    /// SHA-256, hexadecimal, of everything that the tree was made from.
    pub digest: String,
    /// Dependencies with install scripts or sources of machine code, as `name version`, sorted. Nothing of these was run or
    /// compiled, which some of them cannot do without.
    pub unbuilt: Vec<String>,
}

/// Builds a service's tree.
///
/// Milliseconds when nothing that the dependencies are installed from has changed. Else seconds, and the first time for a suite
/// and a package manager half a minute more; builds with the same cache then wait for each other. `progress` is told what takes
/// long, in words for people.
///
/// # Errors
/// [`ServiceError`]; the source is as it was, and nothing half-done is left in the cache under a name that counts.
pub fn build(
    request: &ServiceBuild<'_>,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<Tree, ServiceError> {
    let snapshot = Snapshot::read(request.source)?;
    let kind = kind::of(&snapshot, request.suite)?;
    let mut entries = snapshot.shipped();
    let mut digest = snapshot.digest();
    let mut unbuilt = Vec::new();
    if let Kind::Node(Some(manager)) = &kind {
        let cache = Cache::open(request.cache)?;
        let installed = install::ensure(request, &snapshot, manager, &cache, progress)?;
        digest = source::digest_of([digest.as_bytes(), installed.digest.as_bytes()]);
        entries.extend(installed.entries);
        unbuilt = installed.unbuilt;
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    judge::entries(&entries, request.native)?;
    Ok(Tree {
        entries,
        digest,
        unbuilt,
    })
}

/// Says what a source directory is, and what is wrong with it: without network, root or a Debian tree. `native` is as in
/// [`ServiceBuild`].
///
/// # Errors
/// [`ServiceError`] with the file, the reason and what to do.
pub fn inspect(source: &Path, suite: Suite, native: bool) -> Result<Kind, ServiceError> {
    let snapshot = Snapshot::read(source)?;
    let kind = kind::of(&snapshot, suite)?;
    judge::entries(&snapshot.shipped(), native)?;
    Ok(kind)
}
