//! Public keys and the verification of our own signatures. What clients do is decided by gpgv and sqv, not here.

use pgp::{
    composed::{
        ArmorOptions, CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey,
    },
    crypto::hash::HashAlgorithm,
    packet::Signature,
    ser::Serialize,
    types::{Duration, KeyDetails},
};

use super::OpenPgpError;

/// A public key with its subkeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: SignedPublicKey,
}

impl PublicKey {
    /// Reads an armored public key. Its bindings (user ids, subkeys) are checked.
    ///
    /// # Errors
    /// [`OpenPgpError::Format`].
    pub fn from_armored(text: &str) -> Result<Self, OpenPgpError> {
        let (key, _) =
            SignedPublicKey::from_string(text).map_err(OpenPgpError::format("public key"))?;
        key.verify_bindings()
            .map_err(OpenPgpError::format("public key"))?;
        Ok(Self { key })
    }

    pub(super) fn new(key: SignedPublicKey) -> Self {
        Self { key }
    }

    /// The key in armor, as apt reads it from `Signed-By` and from files named `.asc`.
    ///
    /// # Errors
    /// Does not happen with a key that was read or generated here.
    pub fn to_armored(&self) -> Result<String, OpenPgpError> {
        self.key
            .to_armored_string(ArmorOptions::default())
            .map_err(OpenPgpError::format("public key"))
    }

    /// The key without armor, as gpgv and apt read it from keyrings named `.gpg` or `.pgp`.
    ///
    /// # Errors
    /// Does not happen with a key that was read or generated here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, OpenPgpError> {
        self.key
            .to_bytes()
            .map_err(OpenPgpError::format("public key"))
    }

    /// Fingerprint of the primary key: 40 upper-case hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.key.fingerprint())
    }

    /// Creation of the primary key, Unix seconds.
    pub fn created(&self) -> u64 {
        self.key.created_at().as_secs().into()
    }

    /// Expiry of the primary key, Unix seconds; None when it has none.
    pub fn expires(&self) -> Option<u64> {
        let signatures = self
            .key
            .details
            .users
            .iter()
            .flat_map(|user| &user.signatures);
        latest_expiry(
            self.created(),
            signatures.map(|signature| signature.key_expiration_time()),
        )
    }

    /// The user ids, e.g. `acme repository <root@example.org>`.
    pub fn user_ids(&self) -> Vec<String> {
        self.key
            .details
            .users
            .iter()
            .map(|user| String::from_utf8_lossy(user.id.id()).into_owned())
            .collect()
    }

    /// Verifies a detached signature, armored or not, and returns when it was made (Unix seconds). One signature by this
    /// key is enough. Expiry is not judged: the caller has the clock.
    ///
    /// # Errors
    /// [`OpenPgpError::Format`], [`OpenPgpError::BadSignature`].
    pub fn verify_detached(&self, data: &[u8], signature: &[u8]) -> Result<u64, OpenPgpError> {
        let read = || -> pgp::errors::Result<Vec<DetachedSignature>> {
            if signature.starts_with(b"-----BEGIN ") {
                DetachedSignature::from_armor_many(signature)?.0.collect()
            } else {
                DetachedSignature::from_bytes_many(signature)?.collect()
            }
        };
        let signatures = read().map_err(OpenPgpError::format("signature"))?;
        signatures
            .iter()
            .find_map(|detached| self.verify(&detached.signature, data))
            .ok_or_else(|| OpenPgpError::BadSignature(self.fingerprint()))
    }

    /// Verifies a cleartext signed message and returns the text that was signed, ending in a newline, and when it was
    /// signed (Unix seconds).
    ///
    /// # Errors
    /// [`OpenPgpError::NotCanonical`] when there is anything before or after the message, [`OpenPgpError::Format`],
    /// [`OpenPgpError::BadSignature`].
    pub fn verify_clearsigned(&self, message: &str) -> Result<(String, u64), OpenPgpError> {
        if !message.starts_with("-----BEGIN PGP SIGNED MESSAGE-----\n") {
            return Err(OpenPgpError::NotCanonical("text before the message"));
        }
        if !message.ends_with("\n-----END PGP SIGNATURE-----\n") {
            return Err(OpenPgpError::NotCanonical("text after the signature"));
        }
        let (parsed, _) = CleartextSignedMessage::from_string(message)
            .map_err(OpenPgpError::format("signed message"))?;
        let signed = parsed.signed_text();
        let time = parsed
            .signatures()
            .iter()
            .find_map(|signature| self.verify(signature, signed.as_bytes()))
            .ok_or_else(|| OpenPgpError::BadSignature(self.fingerprint()))?;
        let mut text = signed.replace("\r\n", "\n");
        text.push('\n');
        Ok((text, time))
    }

    /// The signature's time when it was made by this key or one of its signing subkeys with a sound hash.
    fn verify(&self, signature: &Signature, data: &[u8]) -> Option<u64> {
        if !matches!(
            signature.hash_alg(),
            Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
        ) {
            return None;
        }
        let by_subkey = || {
            let signing = |subkey: &&pgp::composed::SignedPublicSubKey| {
                subkey
                    .signatures
                    .iter()
                    .any(|binding| binding.key_flags().sign())
            };
            self.key
                .public_subkeys
                .iter()
                .filter(signing)
                .any(|subkey| signature.verify(&subkey.key, data).is_ok())
        };
        let valid = signature.verify(&self.key.primary_key, data).is_ok() || by_subkey();
        valid.then(|| signature.created().map(|time| time.as_secs().into()))?
    }
}

/// Of several self-signatures the most generous counts; one without an expiry means none.
pub(super) fn latest_expiry(
    created: u64,
    lifetimes: impl Iterator<Item = Option<Duration>>,
) -> Option<u64> {
    let lifetimes: Option<Vec<u64>> = lifetimes
        .map(|d| d.map(|d| u64::from(d.as_secs())).filter(|d| *d > 0))
        .collect();
    lifetimes?
        .into_iter()
        .max()
        .map(|seconds| created + seconds)
}
