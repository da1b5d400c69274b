//! Secret keys held in memory.

use std::{fmt, io::Read};

use pgp::{
    composed::{ArmorOptions, Deserializable, KeyType, SignedKeyDetails, SignedSecretKey},
    crypto::hash::HashAlgorithm,
    packet::{
        self, KeyFlags, PacketTrait, PubKeyInner, SignatureConfig, SignatureType, Subpacket,
        SubpacketData, UserId,
    },
    types::{KeyDetails, KeyVersion, Password, SecretParams, SigningKey, Tag},
};
use rand::{CryptoRng, Rng};

use super::{OpenPgpError, PublicKey, Signer, timestamp};

/// A secret key that may sign, without a passphrase. The file it is kept in must be readable by its owner alone.
pub struct SecretKey {
    key: SignedSecretKey,
    public: PublicKey,
    /// Which key of the file signs: a subkey when there is one for that, as gpg chooses, else the primary key.
    signing: Signing,
}

#[derive(Clone, Copy)]
enum Signing {
    Primary,
    Subkey(usize),
}

impl fmt::Debug for SecretKey {
    /// Shows the fingerprint only: a secret must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public.fingerprint())
    }
}

impl SecretKey {
    /// Makes a version 4 ed25519 key that may certify and sign and does not expire. `created` is Unix seconds. With the
    /// same random numbers it is the same key.
    ///
    /// # Errors
    /// [`OpenPgpError::TimeOutOfRange`], or a user id that is too long.
    pub fn generate(
        user_id: &str,
        created: u64,
        rng: impl Rng + CryptoRng,
    ) -> Result<Self, OpenPgpError> {
        Self::generate_expiring(user_id, created, None, rng)
    }

    /// As [`SecretKey::generate`], with a lifetime in seconds.
    ///
    /// # Errors
    /// As [`SecretKey::generate`].
    pub fn generate_expiring(
        user_id: &str,
        created: u64,
        lifetime: Option<u64>,
        rng: impl Rng + CryptoRng,
    ) -> Result<Self, OpenPgpError> {
        let created = timestamp(created)?;
        let lifetime = lifetime
            .map(|seconds| timestamp(seconds).map(|time| time.as_secs()))
            .transpose()?;
        let make = || -> pgp::errors::Result<SignedSecretKey> {
            let (public, secret) = KeyType::Ed25519Legacy.generate(rng)?;
            let inner = PubKeyInner::new(
                KeyVersion::V4,
                KeyType::Ed25519Legacy.to_alg(),
                created,
                None,
                public,
            )?;
            let public = packet::PublicKey::from_inner(inner)?;
            let key = packet::SecretKey::new(public.clone(), secret)?;
            let user = UserId::from_str(Default::default(), user_id)?;
            let mut flags = KeyFlags::default();
            flags.set_certify(true);
            flags.set_sign(true);
            let mut config = SignatureConfig::v4(
                SignatureType::CertPositive,
                key.algorithm(),
                HashAlgorithm::Sha512,
            );
            config.hashed_subpackets = vec![
                Subpacket::regular(SubpacketData::SignatureCreationTime(created))?,
                Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
                Subpacket::regular(SubpacketData::KeyFlags(flags))?,
                Subpacket::regular(SubpacketData::PreferredHashAlgorithms(
                    [HashAlgorithm::Sha512, HashAlgorithm::Sha256]
                        .into_iter()
                        .collect(),
                ))?,
                Subpacket::regular(SubpacketData::IsPrimary(true))?,
            ];
            if let Some(seconds) = lifetime {
                let duration = pgp::types::Duration::from_secs(seconds);
                config.hashed_subpackets.push(Subpacket::regular(
                    SubpacketData::KeyExpirationTime(duration),
                )?);
            }
            config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(
                key.legacy_key_id(),
            ))?];
            let signature =
                config.sign_certification(&key, &public, &Password::empty(), Tag::UserId, &user)?;
            let details =
                SignedKeyDetails::new(vec![], vec![], vec![user.into_signed(signature)], vec![]);
            Ok(SignedSecretKey::new(key, details, vec![], vec![]))
        };
        Self::new(make().map_err(OpenPgpError::format("key generation"))?)
    }

    /// Reads an armored secret key, as [`SecretKey::to_armored`] or `gpg --export-secret-keys --armor` writes it.
    ///
    /// # Errors
    /// [`OpenPgpError::Format`]; [`OpenPgpError::NoSigningKey`] also when the key has a passphrase.
    pub fn from_armored(text: &str) -> Result<Self, OpenPgpError> {
        let (key, _) =
            SignedSecretKey::from_string(text).map_err(OpenPgpError::format("secret key"))?;
        key.verify_bindings()
            .map_err(OpenPgpError::format("secret key"))?;
        Self::new(key)
    }

    /// The key in armor, not protected by a passphrase.
    ///
    /// # Errors
    /// Does not happen with a key that was read or generated here.
    pub fn to_armored(&self) -> Result<String, OpenPgpError> {
        self.key
            .to_armored_string(ArmorOptions::default())
            .map_err(OpenPgpError::format("secret key"))
    }

    /// The public part.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn new(key: SignedSecretKey) -> Result<Self, OpenPgpError> {
        let plain = |params: &SecretParams| matches!(params, SecretParams::Plain(_));
        let subkey = key.secret_subkeys.iter().rposition(|sub| {
            sub.key.version() == KeyVersion::V4
                && plain(sub.key.secret_params())
                && sub
                    .signatures
                    .iter()
                    .any(|signature| signature.key_flags().sign())
                && !sub
                    .signatures
                    .iter()
                    .any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation))
        });
        if !key.details.revocation_signatures.is_empty() {
            return Err(OpenPgpError::NoSigningKey);
        }
        let primary = key.primary_key.version() == KeyVersion::V4
            && plain(key.primary_key.secret_params())
            && key
                .details
                .users
                .iter()
                .flat_map(|user| &user.signatures)
                .any(|s| s.key_flags().sign());
        let signing = match subkey {
            Some(number) => Signing::Subkey(number),
            None if primary => Signing::Primary,
            None => return Err(OpenPgpError::NoSigningKey),
        };
        let public = PublicKey::new(key.to_public_key());
        Ok(Self {
            key,
            public,
            signing,
        })
    }

    fn sign(
        &self,
        kind: SignatureType,
        data: impl Read,
        time: u64,
    ) -> Result<Vec<u8>, OpenPgpError> {
        let created = self.created();
        if time < created {
            return Err(OpenPgpError::BeforeKey { time, created });
        }
        if let Some(expires) = self.expires().filter(|expires| time >= *expires) {
            return Err(OpenPgpError::KeyExpired { time, expires });
        }
        match self.signing {
            Signing::Primary => sign_with(&self.key.primary_key, kind, data, time),
            Signing::Subkey(number) => {
                sign_with(&self.key.secret_subkeys[number].key, kind, data, time)
            }
        }
    }
}

/// Only what the inputs determine goes into the packet: no salt, no notation.
fn sign_with(
    key: &impl SigningKey,
    kind: SignatureType,
    data: impl Read,
    time: u64,
) -> Result<Vec<u8>, OpenPgpError> {
    let time = timestamp(time)?;
    let make = || -> pgp::errors::Result<Vec<u8>> {
        let mut config = SignatureConfig::v4(kind, key.algorithm(), HashAlgorithm::Sha512);
        config.hashed_subpackets = vec![
            Subpacket::regular(SubpacketData::SignatureCreationTime(time))?,
            Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
        ];
        config.unhashed_subpackets = vec![Subpacket::regular(SubpacketData::IssuerKeyId(
            key.legacy_key_id(),
        ))?];
        let signature = config.sign(key, &Password::empty(), data)?;
        let mut packet = Vec::with_capacity(128);
        signature.to_writer_with_header(&mut packet)?;
        Ok(packet)
    };
    make().map_err(OpenPgpError::format("signature"))
}

/// Reads parts one after the other.
struct Parts<'a>(std::slice::Iter<'a, &'a [u8]>, &'a [u8]);

impl Read for Parts<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.1.is_empty() {
            match self.0.next() {
                Some(part) => self.1 = part,
                None => return Ok(0),
            }
        }
        self.1.read(buf)
    }
}

impl Signer for SecretKey {
    fn sign_detached(&self, data: &[u8], time: u64) -> Result<Vec<u8>, OpenPgpError> {
        self.sign(SignatureType::Binary, data, time)
    }

    fn sign_parts(&self, parts: &[&[u8]], time: u64) -> Result<Vec<u8>, OpenPgpError> {
        self.sign(SignatureType::Binary, Parts(parts.iter(), &[]), time)
    }

    fn sign_text(&self, text: &str, time: u64) -> Result<Vec<u8>, OpenPgpError> {
        self.sign(SignatureType::Text, text.as_bytes(), time)
    }

    fn public_key_armored(&self) -> Result<String, OpenPgpError> {
        self.public.to_armored()
    }

    fn fingerprint(&self) -> String {
        self.public.fingerprint()
    }

    fn created(&self) -> u64 {
        let created = match self.signing {
            Signing::Primary => self.key.primary_key.created_at(),
            Signing::Subkey(number) => self.key.secret_subkeys[number].key.created_at(),
        };
        created.as_secs().into()
    }

    fn expires(&self) -> Option<u64> {
        let subkey = match self.signing {
            Signing::Primary => None,
            Signing::Subkey(number) => {
                let lifetimes = self.key.secret_subkeys[number]
                    .signatures
                    .iter()
                    .map(|s| s.key_expiration_time());
                super::public::latest_expiry(self.created(), lifetimes)
            }
        };
        match (self.public.expires(), subkey) {
            (Some(primary), Some(subkey)) => Some(primary.min(subkey)),
            (primary, subkey) => primary.or(subkey),
        }
    }
}
