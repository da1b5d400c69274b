//! Names as types, so that a role's name is never taken for a node's.
//!
//! Every name is checked when it is made; what exists is valid. The rules follow Debian Policy 5.6.7 (package names) and
//! RFC 1123 section 2.1 (host names), narrowed to what both accept so that names can be combined.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a name was refused. The text completes the sentence "the name … ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No character at all.
    #[error("is empty")]
    Empty,
    /// Longer than `max` characters.
    #[error("has {len} characters; at most {max} are allowed")]
    TooLong {
        /// Characters found.
        len: usize,
        /// Characters allowed.
        max: usize,
    },
    /// Does not begin with a lower-case letter.
    #[error("begins with {0:?}; it has to begin with a lower-case letter a-z")]
    BadStart(char),
    /// Contains a character outside the allowed set.
    #[error("contains {0:?}; allowed are lower-case letters, digits and {1}")]
    BadCharacter(char, &'static str),
    /// Ends with a hyphen, which RFC 1123 forbids.
    #[error("ends with a hyphen")]
    TrailingHyphen,
}

fn check(name: &str, max: usize, extra: &str, extra_words: &'static str) -> Result<(), NameError> {
    let first = name.chars().next().ok_or(NameError::Empty)?;
    let len = name.chars().count();
    if len > max {
        return Err(NameError::TooLong { len, max });
    }
    if !first.is_ascii_lowercase() {
        return Err(NameError::BadStart(first));
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || extra.contains(c);
    if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
        return Err(NameError::BadCharacter(bad, extra_words));
    }
    if name.ends_with('-') {
        return Err(NameError::TrailingHyphen);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, max $max:expr, extra $extra:expr, $words:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `name` and takes it.
            ///
            /// # Errors
            /// [`NameError`] says which rule the name breaks.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check(&name, $max, $extra, $words)?;
                Ok(Self(name))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// A fleet. It begins every package name of the fleet and names its PostgreSQL cluster, so it is short.
    FleetName, max 20, extra "-", "hyphens"
);
name_type!(
    /// A role: what a machine does.
    RoleName, max 40, extra "-", "hyphens"
);
name_type!(
    /// A node: one machine, by its host name without a domain (RFC 1123 label).
    NodeName, max 63, extra "-", "hyphens"
);
name_type!(
    /// A secret of the fleet. The value stands in the operator's secrets directory and on the nodes, never in a package.
    SecretName, max 63, extra "-", "hyphens"
);
name_type!(
    /// An image: a disk with roles on it. It names its files.
    ImageName, max 40, extra "-", "hyphens"
);
name_type!(
    /// A Debian package (Policy 5.6.7).
    PackageName, max 120, extra "+-.", "the characters + - ."
);

/// A Debian release that nodes run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[cfg_attr(feature = "build", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    #[default]
    Trixie,
}

impl Suite {
    /// Every suite that is supported, oldest first.
    pub const ALL: [Suite; 2] = [Suite::Bookworm, Suite::Trixie];

    /// The code name, as apt's sources write it.
    #[must_use]
    pub const fn codename(self) -> &'static str {
        match self {
            Suite::Bookworm => "bookworm",
            Suite::Trixie => "trixie",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.codename())
    }
}

impl std::str::FromStr for Suite {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Suite::ALL
            .into_iter()
            .find(|suite| suite.codename() == s)
            .ok_or_else(|| format!("unknown suite {s:?}; supported are bookworm and trixie"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_policy_and_rfc_1123() {
        for good in ["acme", "a", "db-primary-capable", "app-1"] {
            assert!(RoleName::new(good).is_ok(), "{good}");
        }
        assert_eq!(RoleName::new(""), Err(NameError::Empty));
        assert_eq!(RoleName::new("Acme"), Err(NameError::BadStart('A')));
        assert_eq!(RoleName::new("1a"), Err(NameError::BadStart('1')));
        assert_eq!(
            RoleName::new("a_b"),
            Err(NameError::BadCharacter('_', "hyphens"))
        );
        assert_eq!(RoleName::new("a-"), Err(NameError::TrailingHyphen));
        assert!(matches!(
            FleetName::new("a".repeat(21)),
            Err(NameError::TooLong { len: 21, max: 20 })
        ));
        assert!(PackageName::new("libstdc++6").is_ok());
    }
}
