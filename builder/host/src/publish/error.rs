//! What can go wrong while publishing.

use std::io;
use std::path::PathBuf;

use rolesmith_formats::apt::{EntryError, Sha256, format_date};
use rolesmith_formats::deb::ReadError;
use rolesmith_formats::openpgp::OpenPgpError;

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
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
    /// Another publisher holds the lock.
    #[error("another publisher is at work ({holder}, lock {})", lock.display())]
    Busy {
        /// The lock file.
        lock: PathBuf,
        /// What the holder wrote of itself.
        holder: String,
    },
    /// A name that cannot be a directory of the repository.
    #[error(
        "{name:?} cannot be a {what}: only letters, digits and + - . _, a letter or digit first"
    )]
    BadName {
        /// Code name, component or architecture.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A file to publish is not a Debian package.
    #[error("{package} is not a usable package")]
    Inspect {
        /// Its path, or where it stood in the input.
        package: String,
        /// Why.
        source: ReadError,
    },
    /// A package's control file cannot stand in an index.
    #[error("{package} cannot be published")]
    Entry {
        /// Its path, or where it stood in the input.
        package: String,
        /// Why.
        source: EntryError,
    },
    /// A version is a promise: clients and mirrors would see two different files under one name.
    #[error(transparent)]
    SameVersionOtherBytes(Box<OtherBytes>),
    /// A file was changed between looking at it and copying it.
    #[error("{} has changed while it was being published (expected {expected}, found {found})", path.display())]
    ChangedFile {
        /// The file.
        path: PathBuf,
        /// Digest in the index.
        expected: Sha256,
        /// Digest of what was read.
        found: Sha256,
    },
    /// Clients would refuse the repository before its Valid-Until.
    #[error("key {fingerprint} expires on {}, before the repository's Valid-Until, {}", format_date(*expires), format_date(*valid_until))]
    KeyExpires {
        /// The key.
        fingerprint: String,
        /// Unix seconds.
        expires: u64,
        /// Unix seconds.
        valid_until: u64,
    },
    /// Signing failed.
    #[error("the repository cannot be signed")]
    Sign(#[from] OpenPgpError),
    /// A generation's record is damaged.
    #[error("the record {} cannot be read", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The directory has a repository that this program did not make.
    #[error("{} has a pool or dists that rolesmith did not publish", root.display())]
    NotOurs {
        /// The repository's root.
        root: PathBuf,
    },
    /// The pool has a file of another origin under the name of a package.
    #[error("{} exists already and was not published from here", path.display())]
    NotOurFile {
        /// The file.
        path: PathBuf,
    },
    /// The directory has the repository of another fleet.
    #[error("{} is the repository of {published:?}, not of {offered:?}", root.display())]
    OtherOrigin {
        /// The repository's root.
        root: PathBuf,
        /// Origin of what is there.
        published: String,
        /// Origin of what was to be published.
        offered: String,
    },
    /// Clients have not been told of the key and would refuse the repository.
    #[error("the clients of this repository do not know the key {fingerprint} yet; they trust {}", trusted.join(", "))]
    UnknownKey {
        /// The key that was to sign.
        fingerprint: String,
        /// Those that the current generation's Signed-By names.
        trusted: Vec<String>,
    },
    /// Clients keep the higher versions that they have.
    #[error(transparent)]
    LowerVersions(LowerVersions),
    /// Facts would let a second database be made.
    #[error(
        "genesis would be open again: the published facts know the database {published}, and cluster.lock knows none"
    )]
    Reopened {
        /// The database that the current generation's facts know.
        published: String,
    },
    /// Nodes would refuse the data that they have.
    #[error("the published facts know the database {published}, and cluster.lock names {offered}")]
    OtherDatabase {
        /// The database that the current generation's facts know.
        published: String,
        /// The one of the facts that were to be published.
        offered: String,
    },
    /// An earlier generation's facts know another database than today's, or none.
    #[error(
        "generation {id} was published with facts that know {}, and those of today know {}",
        database(earlier),
        database(known)
    )]
    RollbackReopens {
        /// The generation.
        id: u64,
        /// What its facts know.
        earlier: Option<String>,
        /// What today's know.
        known: Option<String>,
    },
    /// The database that was named as gone for good is not the published one.
    #[error("the published facts know the database {published}, not {named}")]
    NotAbandoned {
        /// What the facts know.
        published: String,
        /// The database that was named.
        named: String,
    },
    /// The generation to go back to is not kept.
    #[error("{codename} has no generation {id} any more")]
    NoGeneration {
        /// The suite.
        codename: String,
        /// The generation asked for.
        id: u64,
    },
}

fn database(id: &Option<String>) -> String {
    id.as_ref().map_or_else(
        || "no database".to_owned(),
        |id| format!("the database {id}"),
    )
}

/// Packages whose versions went back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerVersions(pub Vec<LowerVersion>);

/// A package whose version is lower than one that was published before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerVersion {
    /// Package name.
    pub name: String,
    /// Version that was to be published.
    pub offered: String,
    /// Highest version that ever was.
    pub published: String,
}

impl std::fmt::Display for LowerVersions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("versions went back:")?;
        for (number, one) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(
                f,
                "{comma} {} is {}, but {} was published",
                one.name, one.offered, one.published
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for LowerVersions {}

/// A package that exists already under its name, version and architecture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} {version} ({architecture}) exists already with other bytes ({published}, now {offered}); raise the version"
)]
pub struct OtherBytes {
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// Package architecture.
    pub architecture: String,
    /// Digest of the earlier file.
    pub published: Sha256,
    /// Digest of the one to be published.
    pub offered: Sha256,
}

/// What was published all the same, but deserves attention.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishWarning {
    /// The Date is before that of the generation before: clients that have seen that one keep it and ignore this one.
    DateWentBack {
        /// Date of the generation before, Unix seconds.
        previous: u64,
        /// Date of this one, Unix seconds.
        now: u64,
    },
    /// This machine's clock is behind the Date of the generation before, which was taken again: either was wrong.
    ClockBehind {
        /// Date of the generation before, and of this one, Unix seconds.
        previous: u64,
        /// What the clock said, Unix seconds.
        now: u64,
    },
    /// The record of an earlier generation could not be read; it is forgotten, and its files stay where they are.
    RecordLost {
        /// The record.
        path: PathBuf,
    },
    /// A package of another program was published before under the same version with other content, and stays as it is.
    KeptPublished {
        /// Package name.
        name: String,
        /// Its version.
        version: String,
    },
    /// A signing key expires within 30 days after Valid-Until: the next key has to be shipped to the clients soon.
    KeyExpiresSoon {
        /// The key.
        fingerprint: String,
        /// Unix seconds.
        expires: u64,
    },
}
