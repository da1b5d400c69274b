//! The operator's `secrets/` directory of a fleet: the one place where secrets rest, apart from the nodes themselves.
//!
//! ```text
//! secrets/            0700
//!   about.toml        whose secrets these are
//!   archive.pgp       OpenPGP key that signs the repository
//!   ca.toml           the fleet's certificate authority, and another one while one takes the other's place
//!   nodes/<node>.toml identities; <node>.<incarnation>.old are the machines that had the name before
//!   applications/<node>.pem  certificates of nodes' applications, whose keys follow from the nodes'
//!   fleet/<secret>    values of the secrets that roles ask for, one file each
//! ```
//!
//! Files are 0600 and replaced atomically. What somebody else may read is refused, because a secret that was open once
//! is no secret. Whatever changes the directory holds a lock on it, so that two commands at a time make one identity.

mod applications;
mod authorities;
mod error;
mod files;

use std::path::{Path, PathBuf};

use rand::{RngCore as _, rngs::OsRng};
use rolesmith_formats::openpgp::SecretKey;
use rolesmith_model::ids::{FleetName, NodeName, SecretName};
use serde::{Deserialize, Serialize};

pub use error::SecretsError;

use crate::{
    ca::{Authorities, Authority, Subject},
    identity::NodeIdentity,
    scan::Known,
};
use files::{create, lock, make_directory, names, read, read_optional, replace};

const ABOUT: &str = "about.toml";
const ARCHIVE_KEY: &str = "archive.pgp";
const NODES: &str = "nodes";
const VALUES: &str = "fleet";

/// Format of the directory, for later versions to tell.
const FORMAT: u32 = 1;

/// Bytes of randomness in a generated value, which is written as twice as many hexadecimal digits: they need no quoting
/// in any configuration file.
const GENERATED_BYTES: usize = 32;

/// The value of a secret. It shows itself to nobody who does not ask for it by name.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it looks like one that [`Secrets::ensure_value`] made.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.0.len() == 2 * GENERATED_BYTES
            && self
                .0
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// `about.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u32,
    fleet: FleetName,
    /// When it was made, Unix seconds.
    made: u64,
}

/// An opened secrets directory.
#[derive(Debug)]
pub struct Secrets {
    directory: PathBuf,
    fleet: FleetName,
}

impl Secrets {
    /// Makes the directory with the repository's key and the CA. Nothing is ever overwritten: what an interrupted call
    /// made stays and is completed, and a finished directory is refused. `maintainer` is `Name <address>`, of which the
    /// address goes into the key's user id; `now` is Unix seconds.
    ///
    /// # Errors
    /// [`SecretsError::Exists`] when it is there already, and whatever else [`SecretsError`] names.
    pub fn init(
        directory: &Path,
        fleet: &FleetName,
        maintainer: &str,
        now: u64,
    ) -> Result<Self, SecretsError> {
        make_directory(directory)?;
        let _lock = lock(directory)?;
        if read_optional(&directory.join(ABOUT))?.is_some() {
            return Err(SecretsError::Exists(directory.to_owned()));
        }
        // Belongs in no repository, whatever the one around it ignores.
        create(&directory.join(".gitignore"), b"*\n")?;
        make_directory(&directory.join(NODES))?;
        make_directory(&directory.join(VALUES))?;
        let path = directory.join(ARCHIVE_KEY);
        if read_optional(&path)?.is_none() {
            let user = user_id(fleet, maintainer);
            let key = SecretKey::generate(&user, now, OsRng)
                .and_then(|key| key.to_armored())
                .map_err(SecretsError::openpgp(&path))?;
            create(&path, key.as_bytes())?;
        }
        if authorities::read(directory)?.is_none() {
            let path = directory.join(authorities::FILE);
            let ca = Authority::generate(fleet, now).map_err(SecretsError::ca(&path))?;
            authorities::write(directory, &Authorities::first(ca))?;
        }
        let about = About {
            format: FORMAT,
            fleet: fleet.clone(),
            made: now,
        };
        let path = directory.join(ABOUT);
        let text =
            toml::to_string(&about).map_err(|error| SecretsError::malformed(&path, error))?;
        create(&path, text.as_bytes())?;
        Self::open(directory)
    }

    /// Opens the directory that [`Secrets::init`] made.
    ///
    /// # Errors
    /// [`SecretsError::Missing`] when there is none, [`SecretsError::Exposed`] when others may read it.
    pub fn open(directory: &Path) -> Result<Self, SecretsError> {
        files::check_directory(directory)?;
        for inner in [NODES, VALUES] {
            files::check_directory(&directory.join(inner))?;
        }
        let path = directory.join(ABOUT);
        let about: About = toml::from_str(&read(&path)?)
            .map_err(|error: toml::de::Error| SecretsError::malformed(&path, error.message()))?;
        if about.format != FORMAT {
            return Err(SecretsError::Format {
                path,
                found: about.format,
            });
        }
        Ok(Self {
            directory: directory.to_owned(),
            fleet: about.fleet,
        })
    }

    /// Whose secrets these are.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// Refuses the secrets of another fleet: its keys would sign this one's packages.
    ///
    /// # Errors
    /// [`SecretsError::OtherFleet`].
    pub fn check_fleet(&self, fleet: &FleetName) -> Result<(), SecretsError> {
        if *fleet == self.fleet {
            return Ok(());
        }
        Err(SecretsError::OtherFleet {
            path: self.directory.clone(),
            found: self.fleet.clone(),
            wanted: fleet.clone(),
        })
    }

    /// The key that signs the repository and its packages.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn signer(&self) -> Result<SecretKey, SecretsError> {
        let path = self.directory.join(ARCHIVE_KEY);
        SecretKey::from_armored(&read(&path)?).map_err(SecretsError::openpgp(&path))
    }

    /// The identity of a node; None when none was made yet.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn node(&self, node: &NodeName) -> Result<Option<NodeIdentity>, SecretsError> {
        let path = self.node_path(node);
        let Some(text) = read_optional(&path)? else {
            return Ok(None);
        };
        let identity = NodeIdentity::from_toml(&text)
            .map_err(|error| SecretsError::malformed(&path, error))?;
        if identity.node() != node || *identity.fleet() != self.fleet {
            let error = "it is the identity of another node or fleet";
            return Err(SecretsError::malformed(&path, error));
        }
        Ok(Some(identity))
    }

    /// The identity of a node, made now (`now`, Unix seconds) if there is none. Only a changed `fqdn` gives an existing
    /// one a new certificate; key and incarnation stay.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn ensure_node(
        &self,
        node: &NodeName,
        fqdn: &str,
        now: u64,
    ) -> Result<NodeIdentity, SecretsError> {
        let _lock = lock(&self.directory)?;
        match self.node(node)? {
            Some(identity) if identity.fqdn() == fqdn => Ok(identity),
            Some(identity) => self.renew_to(&identity, fqdn, now),
            // A record of an older machine counts even when the current file was lost.
            None => self.make_node(node, fqdn, self.last_replaced(node)? + 1, now),
        }
    }

    /// A new identity for a machine that takes the place of another: new key, next incarnation. The old one stays as a
    /// record, and facts that name the new incarnation make nodes refuse it.
    ///
    /// # Errors
    /// [`SecretsError::NoIdentity`] when the node has none yet.
    pub fn replace_node(
        &self,
        node: &NodeName,
        fqdn: &str,
        now: u64,
    ) -> Result<NodeIdentity, SecretsError> {
        let next = self.next_node(node, fqdn, now)?;
        self.install_node(&next)?;
        Ok(next)
    }

    /// The identity that [`Secrets::replace_node`] would give, made and not yet kept: nothing has changed until
    /// [`Secrets::install_node`].
    ///
    /// # Errors
    /// [`SecretsError::NoIdentity`] when the node has none yet.
    pub fn next_node(
        &self,
        node: &NodeName,
        fqdn: &str,
        now: u64,
    ) -> Result<NodeIdentity, SecretsError> {
        let old = self
            .node(node)?
            .ok_or_else(|| SecretsError::NoIdentity(node.clone()))?;
        self.certify(node, fqdn, old.incarnation() + 1, now)
    }

    /// Keeps what [`Secrets::next_node`] made, in the place of the machine before it.
    ///
    /// # Errors
    /// [`SecretsError::Raced`] where that is no longer the machine before it.
    pub fn install_node(&self, next: &NodeIdentity) -> Result<(), SecretsError> {
        let _lock = lock(&self.directory)?;
        let node = next.node();
        let old = self
            .node(node)?
            .filter(|old| old.incarnation() + 1 == next.incarnation())
            .ok_or_else(|| SecretsError::Raced(node.clone()))?;
        // Already there when the call before was interrupted.
        create(
            &self.record_path(node, old.incarnation()),
            read(&self.node_path(node))?.as_bytes(),
        )?;
        self.write_node(next)
    }

    /// The record of a machine that was replaced; None when there is none.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn replaced(
        &self,
        node: &NodeName,
        incarnation: u64,
    ) -> Result<Option<NodeIdentity>, SecretsError> {
        let path = self.record_path(node, incarnation);
        let Some(text) = read_optional(&path)? else {
            return Ok(None);
        };
        NodeIdentity::from_toml(&text)
            .map(Some)
            .map_err(|error| SecretsError::malformed(&path, error))
    }

    /// Keeps other commands from changing the directory for as long as the value lives.
    pub(crate) fn lock(&self) -> Result<std::fs::File, SecretsError> {
        lock(&self.directory)
    }

    /// A new certificate for the same key, as it is due before the old one ends.
    ///
    /// # Errors
    /// [`SecretsError::NoIdentity`] when the node has none yet.
    pub fn renew_node(&self, node: &NodeName, now: u64) -> Result<NodeIdentity, SecretsError> {
        let _lock = lock(&self.directory)?;
        let old = self
            .node(node)?
            .ok_or_else(|| SecretsError::NoIdentity(node.clone()))?;
        self.renew_to(&old, old.fqdn(), now)
    }

    /// The value of a secret, without the line break at its end; None when it has none yet.
    ///
    /// # Errors
    /// [`SecretsError::Empty`] for an empty file, [`SecretsError::Unfit`] for a value that configuration files cannot
    /// carry, and whatever else [`SecretsError`] names.
    pub fn value(&self, name: &SecretName) -> Result<Option<SecretValue>, SecretsError> {
        let path = self.value_path(name);
        let Some(text) = read_optional(&path)? else {
            return Ok(None);
        };
        let value = text.strip_suffix('\n').unwrap_or(&text);
        check_value(&path, value)?;
        Ok(Some(SecretValue(value.to_owned())))
    }

    /// The value of a secret, made at random if it has none: 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn ensure_value(&self, name: &SecretName) -> Result<SecretValue, SecretsError> {
        let _lock = lock(&self.directory)?;
        if let Some(value) = self.value(name)? {
            return Ok(value);
        }
        let mut bytes = [0_u8; GENERATED_BYTES];
        OsRng.fill_bytes(&mut bytes);
        let value = crate::ca::hex(&bytes);
        create(&self.value_path(name), format!("{value}\n").as_bytes())?;
        Ok(SecretValue(value))
    }

    /// Gives a secret a value, in place of the one it has.
    ///
    /// # Errors
    /// [`SecretsError::Empty`], [`SecretsError::Unfit`], and what writing returns.
    pub fn set_value(&self, name: &SecretName, value: &str) -> Result<(), SecretsError> {
        let path = self.value_path(name);
        check_value(&path, value)?;
        let _lock = lock(&self.directory)?;
        replace(&path, format!("{value}\n").as_bytes())
    }

    /// Every secret that there is, for [`crate::scan::SecretScan`]: keys, identities of past and present machines, values.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn all_values(&self) -> Result<Vec<Known>, SecretsError> {
        let mut all = Vec::new();
        if let Some(text) = read_optional(&self.directory.join(ARCHIVE_KEY))? {
            all.push(Known::new(ARCHIVE_KEY, text));
        }
        for authority in self.authorities()?.all() {
            all.push(Known::new(authorities::FILE, authority.key_pem()));
        }
        let nodes = self.directory.join(NODES);
        for name in names(&nodes)? {
            let path = nodes.join(&name);
            let identity = NodeIdentity::from_toml(&read(&path)?)
                .map_err(|error| SecretsError::malformed(&path, error))?;
            all.push(Known::new(format!("{NODES}/{name}"), identity.key_pem()));
            // It stands in no file here, and is as secret as what it follows from.
            let application = identity
                .application_key()
                .map_err(|error| SecretsError::malformed(&path, error))?;
            all.push(Known::new(
                format!("{NODES}/{name} (its applications' key)"),
                application.to_pem(),
            ));
        }
        let values = self.directory.join(VALUES);
        for name in names(&values)? {
            let path = values.join(&name);
            let checked = SecretName::new(name.as_str())
                .map_err(|error| SecretsError::malformed(&path, format!("the name {error}")))?;
            if let Some(value) = self.value(&checked)? {
                all.push(Known::new(format!("{VALUES}/{name}"), value.expose()));
            }
        }
        Ok(all)
    }

    fn make_node(
        &self,
        node: &NodeName,
        fqdn: &str,
        incarnation: u64,
        now: u64,
    ) -> Result<NodeIdentity, SecretsError> {
        let identity = self.certify(node, fqdn, incarnation, now)?;
        self.write_node(&identity)?;
        Ok(identity)
    }

    fn certify(
        &self,
        node: &NodeName,
        fqdn: &str,
        incarnation: u64,
        now: u64,
    ) -> Result<NodeIdentity, SecretsError> {
        let subject = Subject {
            fleet: &self.fleet,
            node,
            fqdn,
            incarnation,
        };
        NodeIdentity::make(&self.ca()?, &subject, now)
            .map_err(SecretsError::ca(self.node_path(node)))
    }

    fn renew_to(
        &self,
        old: &NodeIdentity,
        fqdn: &str,
        now: u64,
    ) -> Result<NodeIdentity, SecretsError> {
        let path = self.node_path(old.node());
        let renewed = old
            .renewed(&self.ca()?, fqdn, now)
            .map_err(SecretsError::ca(&path))?;
        self.write_node(&renewed)?;
        Ok(renewed)
    }

    fn write_node(&self, identity: &NodeIdentity) -> Result<(), SecretsError> {
        let path = self.node_path(identity.node());
        let text = identity
            .to_toml()
            .map_err(|error| SecretsError::malformed(&path, error))?;
        replace(&path, text.as_bytes())
    }

    /// The highest incarnation of which a record was kept; 0 when there is none.
    fn last_replaced(&self, node: &NodeName) -> Result<u64, SecretsError> {
        let prefix = format!("{node}.");
        let number = |name: &String| {
            name.strip_prefix(&prefix)?
                .strip_suffix(".old")?
                .parse()
                .ok()
        };
        let records = names(&self.directory.join(NODES))?;
        Ok(records.iter().filter_map(number).max().unwrap_or(0))
    }

    fn node_path(&self, node: &NodeName) -> PathBuf {
        self.directory.join(NODES).join(format!("{node}.toml"))
    }

    fn record_path(&self, node: &NodeName, incarnation: u64) -> PathBuf {
        self.directory
            .join(NODES)
            .join(format!("{node}.{incarnation}.old"))
    }

    fn value_path(&self, name: &SecretName) -> PathBuf {
        self.directory.join(VALUES).join(name.as_str())
    }
}

/// Refuses what SQL, Redis's ACL files, INI files, JSON or a shell would read as something else than the value. Roles
/// put values into all of these, and one rule for all is one that people can keep.
fn check_value(path: &Path, value: &str) -> Result<(), SecretsError> {
    if value.is_empty() {
        return Err(SecretsError::Empty(path.to_owned()));
    }
    let found = value.chars().find_map(|character| match character {
        ' ' => Some("a space"),
        '"' | '\'' => Some("a quotation mark"),
        '\\' => Some("a backslash"),
        ';' => Some("a semicolon"),
        '#' => Some("a number sign"),
        c if c.is_ascii_control() => Some("a control character, such as a second line's beginning"),
        c if !c.is_ascii() => Some("a character outside ASCII"),
        _ => None,
    });
    match found {
        None => Ok(()),
        Some(found) => Err(SecretsError::Unfit {
            path: path.to_owned(),
            found,
        }),
    }
}

/// `acme repository <address>`, as people meet it in apt's messages.
fn user_id(fleet: &FleetName, maintainer: &str) -> String {
    match maintainer.rsplit_once('<') {
        Some((_, address)) => format!("{fleet} repository <{address}"),
        None => format!("{fleet} repository"),
    }
}
