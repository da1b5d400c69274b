//! Certificates: public documents, read back from what was written.

use rcgen::{KeyPair, PublicKeyData as _};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::{CaError, decode_pem};

/// A certificate with what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pem: String,
    fingerprint: String,
    public_key: Vec<u8>,
    issued: u64,
    expires: u64,
    dns_names: Vec<String>,
    uris: Vec<String>,
    subject_key: Option<Vec<u8>>,
    authority_key: Option<Vec<u8>>,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`CaError::NotACertificate`].
    pub fn from_pem(text: &str) -> Result<Self, CaError> {
        let refuse = |why: &dyn std::fmt::Display| CaError::NotACertificate(why.to_string());
        let der =
            decode_pem(text, "CERTIFICATE").ok_or_else(|| refuse(&"no PEM block CERTIFICATE"))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| refuse(&error))?;
        let time = |stamp: x509_parser::time::ASN1Time| {
            u64::try_from(stamp.timestamp()).map_err(|_| refuse(&"a time before 1970"))
        };
        let (mut dns_names, mut uris) = (Vec::new(), Vec::new());
        let (mut subject_key, mut authority_key) = (None, None);
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                            _ => {}
                        }
                    }
                }
                ParsedExtension::SubjectKeyIdentifier(id) => subject_key = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        Ok(Self {
            pem: text.to_owned(),
            fingerprint: hex(&Sha256::digest(&der)),
            public_key: parsed.public_key().raw.to_vec(),
            issued: time(parsed.validity().not_before)?,
            expires: time(parsed.validity().not_after)?,
            dns_names,
            uris,
            subject_key,
            authority_key,
        })
    }

    /// The certificate in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the DER form: 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// First second in which it is valid, Unix time.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// When it ends, Unix time. OpenSSL refuses it from that second on, though RFC 5280 still counts it in.
    #[must_use]
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether it is no longer valid `seconds` after `now` (Unix seconds): time to renew it.
    #[must_use]
    pub fn expires_within(&self, now: u64, seconds: u64) -> bool {
        now.saturating_add(seconds) >= self.expires
    }

    /// Whether two thirds of its lifetime are over at `now` (Unix seconds), which leaves a third to spread its successor.
    #[must_use]
    pub fn renewal_due(&self, now: u64) -> bool {
        now >= self.expires - (self.expires - self.issued.min(self.expires)) / 3
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER): it outlives renewals. 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn key_fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.public_key))
    }

    /// Whether it names the key of that authority as its issuer's (RFC 5280, 4.2.1.1). Both come from files of ours, so the
    /// signature is not verified again.
    #[must_use]
    pub fn is_issued_by(&self, authority: &Self) -> bool {
        self.authority_key.is_some() && self.authority_key == authority.subject_key
    }

    /// Whether it is for that key (PKCS #8, PEM).
    ///
    /// # Errors
    /// [`CaError::Make`] when that is no key.
    pub fn is_for(&self, key: &str) -> Result<bool, CaError> {
        let key = KeyPair::from_pem(key).map_err(CaError::make("a certificate's key"))?;
        Ok(self.public_key == key.subject_public_key_info())
    }

    /// DNS names that it is for.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// URIs that it is for; see [`super::Subject::uri`].
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
