//! Looks for secrets in every byte that is about to be shipped: secrets never enter a package.
//!
//! A secret is found as it is, in hexadecimal, and in base64 at any alignment, wrapped into lines or not; of a key, only
//! the part that is secret is looked for, so that its certificate or public key may travel. Compressed or encrypted
//! forms are not seen: files are scanned before they are packed.

mod needle;

use aho_corasick::AhoCorasick;

/// A secret to look for.
#[derive(Clone)]
pub struct Known {
    name: String,
    value: Vec<u8>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Known({})", self.name)
    }
}

impl Known {
    /// A secret with the name under which people know it; a key in PEM or OpenPGP armor, or any other value.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// Why secrets cannot be looked for.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A value so short that it would be found everywhere by chance.
    #[error(
        "the secret {name} has {len} bytes; at least {} are needed, both to be a secret and to be told from other text",
        SecretScan::SHORTEST
    )]
    TooShort {
        /// The secret.
        name: String,
        /// Its length.
        len: usize,
    },
    /// The secrets together are too much to look for.
    #[error("too many secrets to look for: {0}")]
    TooMany(String),
}

/// A secret was found where it must not be. The text does not show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} holds the secret {name} ({form}, at byte {offset})")]
pub struct Leak {
    /// The secret's name.
    pub name: String,
    /// What was scanned, such as a package with the path in it.
    pub place: String,
    /// In which form.
    pub form: Form,
    /// Where in the bytes.
    pub offset: usize,
}

/// How a secret was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Plain,
    /// In base64 (RFC 4648, either alphabet), or in part of it.
    Base64,
    /// In hexadecimal digits.
    Hex,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::Plain => "as it is",
            Form::Base64 => "in base64",
            Form::Hex => "in hexadecimal",
        })
    }
}

/// All secrets of a fleet, ready to be looked for.
#[derive(Debug)]
pub struct SecretScan {
    automaton: AhoCorasick,
    /// For each pattern, whose it is and in which form.
    patterns: Vec<(usize, Form)>,
    names: Vec<String>,
}

impl SecretScan {
    /// Fewest bytes of a secret.
    pub const SHORTEST: usize = 8;

    /// Prepares the search; see [`crate::secrets::Secrets::all_values`].
    ///
    /// # Errors
    /// [`ScanError`].
    pub fn new(secrets: impl IntoIterator<Item = Known>) -> Result<Self, ScanError> {
        let (mut names, mut patterns, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for Known { name, value } in secrets {
            for needle in needle::secret_parts(&value) {
                if needle.len() < Self::SHORTEST {
                    let len = needle.len();
                    return Err(ScanError::TooShort { name, len });
                }
                for (form, pattern) in needle::forms(&needle) {
                    patterns.push((names.len(), form));
                    bytes.push(pattern);
                }
            }
            names.push(name);
        }
        let automaton =
            AhoCorasick::new(&bytes).map_err(|error| ScanError::TooMany(error.to_string()))?;
        Ok(Self {
            automaton,
            patterns,
            names,
        })
    }

    /// Bytes of the longest pattern. Whoever scans a file in pieces has them overlap by one less.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.automaton.max_pattern_len()
    }

    /// Refuses bytes that hold a secret. `place` names them for people.
    ///
    /// # Errors
    /// The first [`Leak`].
    pub fn check(&self, bytes: &[u8], place: &str) -> Result<(), Leak> {
        let Some(found) = self.automaton.find(bytes) else {
            return Ok(());
        };
        let (secret, form) = self.patterns[found.pattern().as_usize()];
        Err(Leak {
            name: self.names[secret].clone(),
            place: place.to_owned(),
            form,
            offset: found.start(),
        })
    }
}
