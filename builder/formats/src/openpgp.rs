//! OpenPGP signatures (RFC 9580) in process: the repository's and those inside packages.
//!
//! Keys are version 4 ed25519 and hashes SHA-512, the combination that apt 2.6 with gpgv and apt 3.0 with sqv both accept.
//! A signature is a function of key, data and time: nothing random goes into it, so that a rebuilt repository has the
//! same bytes. A key may also live elsewhere (an agent, a token): whatever implements [`Signer`] will do.

mod clearsign;
mod public;
mod secret;

use std::error::Error;

pub use clearsign::{clearsign, sign_armored};
pub use public::PublicKey;
pub use secret::SecretKey;

/// Why a key or signature was refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenPgpError {
    /// The bytes are not what they should be, or their cryptography is not supported.
    #[error("{what}: {source}")]
    Format {
        /// What was being read or made.
        what: &'static str,
        /// What the OpenPGP library says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Version 4 packets hold 32-bit times, which end in 2106.
    #[error("{0} is not a time that an OpenPGP packet can hold")]
    TimeOutOfRange(u64),
    /// A signature must not be older than its key; gpgv and sqv refuse it.
    #[error("the signature's time {time} is before the key's creation {created}")]
    BeforeKey {
        /// Time of the signature, Unix seconds.
        time: u64,
        /// Creation of the key, Unix seconds.
        created: u64,
    },
    /// The key has expired; gpgv refuses its signatures.
    #[error("the signature's time {time} is after the key's expiry {expires}")]
    KeyExpired {
        /// Time of the signature, Unix seconds.
        time: u64,
        /// Expiry of the key, Unix seconds.
        expires: u64,
    },
    /// The file holds no key that may sign, is not revoked and not protected by a passphrase.
    #[error(
        "no version 4 key that may sign, is not revoked and has no passphrase; a protected key is used through the gpg program"
    )]
    NoSigningKey,
    /// Text to clearsign holds a carriage return, which readers treat in different ways.
    #[error("text to sign holds a carriage return")]
    CarriageReturn,
    /// A signature needs at least one signer.
    #[error("nobody to sign")]
    NoSigner,
    /// No signature by this key over these data.
    #[error("no valid signature by the key {0}")]
    BadSignature(String),
    /// Something stands before or after the signed part: apt would refuse it.
    #[error("not exactly one cleartext signed message: {0}")]
    NotCanonical(&'static str),
    /// A signer outside this crate failed.
    #[error(transparent)]
    External(Box<dyn Error + Send + Sync>),
}

impl OpenPgpError {
    /// Wraps the error of a signer outside this crate.
    pub fn external(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::External(error.into())
    }

    fn format(what: &'static str) -> impl FnOnce(pgp::errors::Error) -> Self {
        move |source| Self::Format {
            what,
            source: Box::new(source),
        }
    }
}

/// Something that signs with one key. Signers take bytes, never file names.
///
/// `time` is the signature's creation time in Unix seconds: no clock is read.
pub trait Signer: Send + Sync {
    /// Signs bytes as they are: a binary signature packet (type 0x00), not armored.
    ///
    /// # Errors
    /// When the key cannot sign at that time, or the signer fails.
    fn sign_detached(&self, data: &[u8], time: u64) -> Result<Vec<u8>, OpenPgpError>;

    /// Signs the concatenation of parts. Signers that can hash them one by one need no copy.
    ///
    /// # Errors
    /// As [`Signer::sign_detached`].
    fn sign_parts(&self, parts: &[&[u8]], time: u64) -> Result<Vec<u8>, OpenPgpError> {
        self.sign_detached(&parts.concat(), time)
    }

    /// Signs text in its canonical form, line ends being CR LF (type 0x01): a binary packet, not armored. The text has
    /// neither trailing white space in a line nor a final newline that counts; `gpg --textmode --detach-sign` makes the
    /// same signature.
    ///
    /// # Errors
    /// As [`Signer::sign_detached`].
    fn sign_text(&self, text: &str, time: u64) -> Result<Vec<u8>, OpenPgpError>;

    /// The public key, armored, as it goes into `Signed-By`.
    ///
    /// # Errors
    /// When the signer fails.
    fn public_key_armored(&self) -> Result<String, OpenPgpError>;

    /// Fingerprint of the primary key: 40 upper-case hexadecimal digits.
    fn fingerprint(&self) -> String;

    /// Creation of the signing key, Unix seconds: the earliest time of a signature.
    fn created(&self) -> u64;

    /// Expiry of the key, Unix seconds; None when it has none.
    fn expires(&self) -> Option<u64>;

    /// Wraps text into a cleartext signed message, as `InRelease` is one; see [`clearsign`].
    ///
    /// # Errors
    /// As [`Signer::sign_detached`], and [`OpenPgpError::CarriageReturn`].
    fn clearsign(&self, text: &str, time: u64) -> Result<String, OpenPgpError> {
        clearsign::assemble(text, |canonical| self.sign_text(canonical, time))
    }

    /// A detached signature in armor, as `Release.gpg` is one; see [`sign_armored`].
    ///
    /// # Errors
    /// As [`Signer::sign_detached`].
    fn sign_detached_armored(&self, data: &[u8], time: u64) -> Result<String, OpenPgpError> {
        clearsign::armor_signature(&self.sign_detached(data, time)?)
    }
}

/// Seconds since 1970 as the 32 bits of a packet.
fn timestamp(time: u64) -> Result<pgp::types::Timestamp, OpenPgpError> {
    u32::try_from(time)
        .map(pgp::types::Timestamp::from_secs)
        .map_err(|_| OpenPgpError::TimeOutOfRange(time))
}
