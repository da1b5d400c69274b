//! `identities.lock`: what a fleet's sources remember of its secrets, so that two copies of `secrets/` cannot drift apart.
//!
//! Of each node it has the incarnation and the SHA-256 of its public key, of each value made at random a salted hash, and of
//! the CAs, once one takes the other's place, how many steps were made and the SHA-256 of the public keys that are trusted.
//! Nothing in it is secret, and it is committed: whoever has an older copy of the secrets, or none of a node that
//! somebody else has made, is told so instead of making a second identity of the same name. Values that an operator has
//! chosen are left out, since a hash would let others guess a weak one.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use rand::{RngCore as _, rngs::OsRng};
use rolesmith_model::ids::{NodeName, SecretName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::NodeIdentity;
use crate::{
    atomic,
    ca::{Authorities, hex},
    secrets::{SecretValue, Secrets, SecretsError},
};

/// The file, below the fleet's directory.
pub const FILE: &str = "identities.lock";

const HEADER: &str = "# What the secrets of this fleet have to agree with; it holds none. Written by rolesmith: commit it.\n";

/// Bytes of a hash's salt.
const SALT_BYTES: usize = 16;

/// Why the secrets at hand are not the ones that the fleet's sources know.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not what this program writes.
    #[error("{}: {message}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A node was made with other secrets.
    #[error(
        "{FILE} knows the node {node} (incarnation {incarnation}), and secrets/ has no identity of it"
    )]
    NodeMissing {
        /// The node.
        node: NodeName,
        /// Which machine of that name is known.
        incarnation: u64,
    },
    /// The node was replaced with other secrets.
    #[error(
        "{FILE} knows incarnation {pinned} of the node {node}, and secrets/ has incarnation {found}"
    )]
    NodeOlder {
        /// The node.
        node: NodeName,
        /// Which is known.
        pinned: u64,
        /// Which the secrets have.
        found: u64,
    },
    /// The node has another key.
    #[error("the key of the node {node} in secrets/ is not the one that {FILE} knows")]
    NodeOther {
        /// The node.
        node: NodeName,
    },
    /// A value was made with other secrets.
    #[error("{FILE} knows a value of the secret {name}, and secrets/ has none")]
    SecretMissing {
        /// The secret.
        name: SecretName,
    },
    /// Another value was made at random.
    #[error("the value of the secret {name} in secrets/ is not the one that {FILE} knows")]
    SecretOther {
        /// The secret.
        name: SecretName,
    },
    /// The CA's roll-over went on with other secrets.
    #[error("{FILE} knows {pinned} steps of the CA's roll-over, and secrets/ has made {found}")]
    CaOlder {
        /// How many are known.
        pinned: u64,
        /// How many the secrets have.
        found: u64,
    },
    /// It was made with other secrets.
    #[error("the CAs in secrets/ are not those that {FILE} knows")]
    CaOther,
    /// The secrets themselves.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl PinError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Io { .. } => "see whether it may be read and written",
            Self::Malformed { .. } => "take identities.lock from version control",
            Self::NodeMissing { .. } | Self::NodeOlder { .. } | Self::NodeOther { .. } => {
                "bring secrets/ up to date from where the other operators keep it; only if those keys are lost for good, remove the node's table from identities.lock"
            }
            Self::SecretMissing { .. } | Self::SecretOther { .. } => {
                "bring secrets/ up to date from where the other operators keep it; to change the value on purpose, remove its table from identities.lock"
            }
            Self::CaOlder { .. } | Self::CaOther => {
                "bring secrets/ up to date from where the other operators keep it: with these, certificates would be issued that the members do not trust"
            }
            Self::Secrets(_) => "bring the file from your copy of the secrets",
        }
    }
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<CaPin>,
    #[serde(default)]
    nodes: BTreeMap<NodeName, NodePin>,
    #[serde(default)]
    secrets: BTreeMap<SecretName, ValuePin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaPin {
    steps: u64,
    /// The issuer's key first.
    trusted: Vec<String>,
}

impl CaPin {
    fn of(authorities: &Authorities) -> Self {
        let keys = authorities.all();
        Self {
            steps: authorities.steps(),
            trusted: keys
                .map(|authority| authority.certificate().key_fingerprint())
                .collect(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodePin {
    incarnation: u64,
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValuePin {
    salt: String,
    hash: String,
}

impl ValuePin {
    fn new(value: &SecretValue) -> Self {
        let mut salt = [0_u8; SALT_BYTES];
        OsRng.fill_bytes(&mut salt);
        let salt = hex(&salt);
        let hash = salted(&salt, value);
        Self { salt, hash }
    }

    fn is_of(&self, value: &SecretValue) -> bool {
        salted(&self.salt, value) == self.hash
    }
}

fn salted(salt: &str, value: &SecretValue) -> String {
    hex(&Sha256::digest(format!("{salt}:{}", value.expose())))
}

/// Refuses secrets that are not those which the fleet's sources know; `directory` is the fleet's. A fleet without the
/// file knows none.
///
/// # Errors
/// [`PinError`].
pub fn check<'a>(
    directory: &Path,
    secrets: &Secrets,
    nodes: impl IntoIterator<Item = &'a NodeName>,
    values: impl IntoIterator<Item = &'a SecretName>,
) -> Result<(), PinError> {
    let pins = load(directory)?;
    pins.check_ca(secrets)?;
    for node in nodes {
        pins.check_node(secrets, node)?;
    }
    for name in values {
        pins.check_value(secrets, name)?;
    }
    Ok(())
}

/// Writes down what these nodes and values are now, after the same checks. True where the file changed.
///
/// # Errors
/// [`PinError`].
pub fn record<'a>(
    directory: &Path,
    secrets: &Secrets,
    nodes: impl IntoIterator<Item = &'a NodeName>,
    values: impl IntoIterator<Item = &'a SecretName>,
) -> Result<bool, PinError> {
    let _lock = secrets.lock()?;
    let mut pins = load(directory)?;
    let before = pins.clone();
    let authorities = pins.check_ca(secrets)?;
    // The CA that `init` made is told from another by the nodes, whose keys came with it.
    if authorities.steps() > 0 {
        pins.ca = Some(CaPin::of(&authorities));
    }
    for node in nodes {
        pins.check_node(secrets, node)?;
        if let Some(identity) = secrets.node(node)? {
            pins.nodes.insert(node.clone(), NodePin::of(&identity));
        }
    }
    for name in values {
        pins.check_value(secrets, name)?;
        match secrets.value(name)? {
            Some(value) if value.is_generated() => {
                pins.secrets
                    .entry(name.clone())
                    .or_insert_with(|| ValuePin::new(&value));
            }
            // Chosen by the operator from now on.
            _ => {
                pins.secrets.remove(name);
            }
        }
    }
    if pins == before {
        return Ok(false);
    }
    let path = directory.join(FILE);
    let text = toml::to_string(&pins).map_err(|error| PinError::Malformed {
        path: path.clone(),
        message: error.to_string(),
    })?;
    atomic::write(&path, format!("{HEADER}\n{text}").as_bytes())
        .map_err(|source| PinError::Io { path, source })?;
    Ok(true)
}

fn load(directory: &Path) -> Result<Pins, PinError> {
    let path = directory.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pins::default()),
        Err(source) => return Err(PinError::Io { path, source }),
    };
    toml::from_str(&text).map_err(|error: toml::de::Error| PinError::Malformed {
        path,
        message: error.message().to_owned(),
    })
}

impl NodePin {
    fn of(identity: &NodeIdentity) -> Self {
        Self {
            incarnation: identity.incarnation(),
            key: identity.certificate().key_fingerprint(),
        }
    }
}

impl Pins {
    fn check_ca(&self, secrets: &Secrets) -> Result<Authorities, PinError> {
        let authorities = secrets.authorities()?;
        let found = CaPin::of(&authorities);
        match &self.ca {
            Some(pin) if found.steps < pin.steps => Err(PinError::CaOlder {
                pinned: pin.steps,
                found: found.steps,
            }),
            Some(pin) if found.steps == pin.steps && found != *pin => Err(PinError::CaOther),
            // Secrets may be ahead, as after a step that was cut off.
            _ => Ok(authorities),
        }
    }

    fn check_node(&self, secrets: &Secrets, node: &NodeName) -> Result<(), PinError> {
        let Some(pin) = self.nodes.get(node) else {
            return Ok(());
        };
        let Some(identity) = secrets.node(node)? else {
            return Err(PinError::NodeMissing {
                node: node.clone(),
                incarnation: pin.incarnation,
            });
        };
        if identity.incarnation() < pin.incarnation {
            return Err(PinError::NodeOlder {
                node: node.clone(),
                pinned: pin.incarnation,
                found: identity.incarnation(),
            });
        }
        // Secrets may be ahead, as after a `--replace` that was cut off: then they remember the machine that is known.
        let known = if identity.incarnation() == pin.incarnation {
            Some(identity)
        } else {
            secrets.replaced(node, pin.incarnation)?
        };
        if known.is_some_and(|known| known.certificate().key_fingerprint() == pin.key) {
            Ok(())
        } else {
            Err(PinError::NodeOther { node: node.clone() })
        }
    }

    fn check_value(&self, secrets: &Secrets, name: &SecretName) -> Result<(), PinError> {
        let Some(pin) = self.secrets.get(name) else {
            return Ok(());
        };
        match secrets.value(name)? {
            None => Err(PinError::SecretMissing { name: name.clone() }),
            // Another value of the kind that is made at random was made elsewhere; any other was chosen.
            Some(value) if value.is_generated() && !pin.is_of(&value) => {
                Err(PinError::SecretOther { name: name.clone() })
            }
            Some(_) => Ok(()),
        }
    }
}
