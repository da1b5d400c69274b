//! Keys that follow from a node's own. The operator's machine and the node work them out alike, so none has to travel.
//!
//! Pure: texts in, texts out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

/// Octets of an Ed25519 private key (RFC 8032, 5.1.5).
const SEED: usize = 32;

/// Names the derivation. Another way to derive gets another number, so that no key is ever made in two ways.
const PURPOSE: &[u8] = b"rolesmith application key 1";

/// What stands before the seed in PKCS #8, version 1, without attributes (RFC 8410, 7): the key's algorithm, and an OCTET STRING
/// that holds an OCTET STRING of 32.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why there is no key. The text never holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The node's own cannot be read.
    #[error("the node's key is no private key in PEM")]
    NotAKey,
}

/// The private key of a node's applications: Ed25519.
///
/// Applications show that they run on a node of the fleet, and are no members of it: who has this key cannot work out the node's.
#[derive(Clone, PartialEq, Eq)]
pub struct ApplicationKey([u8; SEED]);

impl std::fmt::Debug for ApplicationKey {
    /// Without the key: a secret must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApplicationKey(…)")
    }
}

impl ApplicationKey {
    /// Works it out: HKDF with SHA-256 (RFC 5869), without a salt, of the octets that the node's key (PEM) holds. Its info is
    /// the purpose, the fleet and the node, with a NUL between two, which no name contains: each node has a key of its own,
    /// even where two were given the same one by mistake.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn of(node_key: &str, fleet: &str, node: &str) -> Result<Self, KeyError> {
        let key =
            PrivateKeyDer::from_pem_slice(node_key.as_bytes()).map_err(|_| KeyError::NotAKey)?;
        let info = [PURPOSE, fleet.as_bytes(), node.as_bytes()].join(&0);
        let mut seed = [0; SEED];
        Salt::new(HKDF_SHA256, &[])
            .extract(key.secret_der())
            .expand(&[&info], Seed)
            .and_then(|output| output.fill(&mut seed))
            .expect("HKDF gives up to 255 times the digest's length");
        Ok(Self(seed))
    }

    /// As PKCS #8 in PEM, which OpenSSL, GnuTLS, rustls, Go and Node.js read: secret.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let octets = [&PKCS8[..], &self.0].concat();
        // 48 octets are 64 characters: one line (RFC 7468, 2).
        format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(octets)
        )
    }
}

/// The length that is asked of HKDF.
#[derive(Debug, Clone, Copy)]
struct Seed;

impl KeyType for Seed {
    fn len(&self) -> usize {
        SEED
    }
}
