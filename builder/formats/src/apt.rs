//! The formats of an apt repository: `Packages`, `Contents`, `Release` and the signatures over it.
//!
//! Everything here is a function of values. [`DebDescription`] tells what a .deb contributes, [`PackageEntry::new`] places it
//! in a pool, [`index()`] gives a component's indexes, [`Repository`] puts them under a `Release` and
//! [`Repository::sign`] makes the [`SignedRepository`], the only type that can be published.
//!
//! Shape of the repository:
//!
//! ```text
//! dists/<codename>/InRelease, Release, Release.gpg
//! dists/<codename>/<component>/binary-amd64/Packages.gz               packages for amd64 and for all
//! dists/<codename>/<component>/Contents-amd64.gz, Contents-all.gz
//! …/by-hash/SHA512/<digest>, …/by-hash/SHA256/<digest>                each of these again; apt asks for the strongest
//! pool/<component>/<a>/<source>/<name>_<version>_<architecture>.deb
//! ```

mod date;
mod digest;
mod entry;
mod index;
mod release;
mod sign;

pub use date::{format_date, parse_date};
pub use digest::{DigestError, Sha256, Sha512};
pub use entry::{DebDescription, EntryError, PackageEntry, field, pool_path, without_fields};
pub use index::{Body, IndexFile, IndexText, index};
pub use release::{
    ListedFile, ParsedRelease, ReleaseError, ReleaseFields, Repository, parse_release,
};
pub use sign::SignedRepository;

#[cfg(test)]
mod tests;
