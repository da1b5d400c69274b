//! Digests as apt writes them: lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// A text that is not the hexadecimal form of the digest it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind} digest ({digits} hexadecimal digits): {text:?}")]
pub struct DigestError {
    kind: &'static str,
    digits: usize,
    text: String,
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal, $hasher:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The digest of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(<$hasher>::digest(bytes).into())
            }

            /// A digest that was computed elsewhere, for example in chunks while a file was copied.
            pub fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw digest.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut text = [0_u8; $bytes * 2];
                for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = DIGITS[usize::from(byte >> 4)];
                    pair[1] = DIGITS[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let bad = || DigestError { kind: $kind, digits: $bytes * 2, text: text.to_owned() };
                if text.len() != $bytes * 2 {
                    return Err(bad());
                }
                let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
                let mut bytes = [0_u8; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    *byte = digit(pair[0]).zip(digit(pair[1])).map(|(h, l)| h << 4 | l).ok_or_else(bad)?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest!(
    /// SHA-256 (FIPS 180-4), 64 hexadecimal digits: what a `Packages` paragraph states of its file.
    Sha256,
    32,
    "SHA-256",
    sha2::Sha256
);
digest!(
    /// SHA-512 (FIPS 180-4), 128 hexadecimal digits: the strongest digest apt knows, hence the one it asks by-hash paths with.
    Sha512,
    64,
    "SHA-512",
    sha2::Sha512
);
