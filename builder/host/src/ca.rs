//! The fleet's certificate authority: it stays with the operator, only its certificate travels.
//!
//! Keys are ECDSA on P-256, which OpenSSL, PostgreSQL, Redis and Go all verify. Certificates are bound to names, never to
//! addresses: providers assign addresses after a machine was made, and moving a machine must not need a new certificate.

mod certificate;
mod pem;
mod roll_over;

use rand::{RngCore as _, rngs::OsRng};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber, SigningKey as _, date_time_ymd,
};
use rolesmith_model::{
    facts::application_name,
    ids::{FleetName, NodeName},
    recovery::{ORDER_FORMAT, Order, SignedOrder},
};

pub use certificate::Certificate;
pub(crate) use certificate::hex;
pub(crate) use pem::decode as decode_pem;
pub use roll_over::{Authorities, Step, StepError};

/// Seconds in a day.
pub const DAY: u64 = 86_400;
/// How long the authority's own certificate lasts, in seconds: ten years with their leap days.
pub const AUTHORITY_LIFETIME: u64 = 3_652 * DAY;
/// How long a node's certificate lasts unless it is renewed, in seconds: one year.
pub const NODE_LIFETIME: u64 = 365 * DAY;
/// Certificates begin that many seconds before they are made, so that a node whose clock is late accepts them.
pub const BACKDATE: u64 = 3_600;

/// The last second of the year 9999: RFC 5280 section 4.1.2.5 has no later time.
const LAST_TIME: u64 = 253_402_300_799;

/// Why a key or certificate could not be made or read. Texts never hold a key.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The library that makes certificates failed.
    #[error("{what}: {source}")]
    Make {
        /// What was being made.
        what: &'static str,
        /// What the library says.
        source: rcgen::Error,
    },
    /// Not a certificate in PEM.
    #[error("not a certificate: {0}")]
    NotACertificate(String),
    /// The key does not belong to the certificate beside it.
    #[error("the key does not belong to the certificate")]
    KeyMismatch,
    /// A time that a certificate cannot hold.
    #[error("{0} is not a time that a certificate can hold")]
    TimeOutOfRange(u64),
    /// The authority's certificate has run out, so that nothing can be issued below it.
    #[error("the fleet's CA certificate ran out at {0} (Unix seconds)")]
    AuthorityExpired(u64),
}

impl CaError {
    fn make(what: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Make { what, source }
    }
}

/// Whom a node's certificate is for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The fleet.
    pub fleet: &'a FleetName,
    /// The node: common name, and a DNS name.
    pub node: &'a NodeName,
    /// Its name with the domain: another DNS name.
    pub fqdn: &'a str,
    /// Counts the machines that had this name.
    pub incarnation: u64,
}

impl Subject<'_> {
    /// The URI among the certificate's names that says which incarnation it is for: `rolesmith:<fleet>/<node>/<n>`.
    #[must_use]
    pub fn uri(&self) -> String {
        format!(
            "rolesmith:{}/{}/{}",
            self.fleet, self.node, self.incarnation
        )
    }
}

/// The authority with its key.
pub struct Authority {
    key: KeyPair,
    certificate: Certificate,
}

impl std::fmt::Debug for Authority {
    /// Shows the certificate's fingerprint only: a key must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.certificate.fingerprint())
    }
}

impl Authority {
    /// Makes a new authority called `<fleet> fleet CA`; `now` is Unix seconds.
    ///
    /// # Errors
    /// [`CaError::TimeOutOfRange`]; [`CaError::Make`] when the system has no random numbers.
    pub fn generate(fleet: &FleetName, now: u64) -> Result<Self, CaError> {
        Self::named(&format!("{fleet} fleet CA"), now)
    }

    fn named(name: &str, now: u64) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(CaError::make("the CA's key"))?;
        let mut params = params(name, now, now.saturating_add(AUTHORITY_LIFETIME))?;
        // It signs nodes and no further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params
            .self_signed(&key)
            .map_err(CaError::make("the CA's certificate"))?;
        let certificate = Certificate::from_pem(&made.pem())?;
        Ok(Self { key, certificate })
    }

    /// Takes up an authority from its key (PKCS #8) and certificate, both PEM.
    ///
    /// # Errors
    /// [`CaError::Make`], [`CaError::NotACertificate`], [`CaError::KeyMismatch`].
    pub fn from_pem(key: &str, certificate: &str) -> Result<Self, CaError> {
        let pair = KeyPair::from_pem(key).map_err(CaError::make("the CA's key"))?;
        let certificate = Certificate::from_pem(certificate)?;
        if !certificate.is_for(key)? {
            return Err(CaError::KeyMismatch);
        }
        Ok(Self {
            key: pair,
            certificate,
        })
    }

    /// The key as PKCS #8 in PEM: secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The certificate, which nodes trust.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Signs an order that nodes verify with the authority's certificate.
    ///
    /// # Errors
    /// [`CaError::Make`].
    pub fn sign_order(&self, order: Order) -> Result<SignedOrder, CaError> {
        let signature = self
            .key
            .sign(&order.statement())
            .map_err(CaError::make("the order's signature"))?;
        Ok(SignedOrder {
            format: ORDER_FORMAT,
            order,
            signature: hex(&signature),
        })
    }

    /// Issues a certificate for the key (PKCS #8, PEM) of a node. It begins [`BACKDATE`] before `now` (Unix seconds) and
    /// ends `lifetime` seconds after it, but never after the authority's own.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issue(
        &self,
        subject: &Subject<'_>,
        key: &str,
        now: u64,
        lifetime: u64,
    ) -> Result<Certificate, CaError> {
        let name = |text: &str| {
            rcgen::string::Ia5String::try_from(text).map_err(CaError::make("a name for the node"))
        };
        let mut names = vec![SanType::DnsName(name(subject.node.as_str())?)];
        if subject.fqdn != subject.node.as_str() {
            names.push(SanType::DnsName(name(subject.fqdn)?));
        }
        names.push(SanType::URI(name(&subject.uri())?));
        let mut params = self.leaf(subject.node.as_str(), now, now.saturating_add(lifetime))?;
        params.subject_alt_names = names;
        // Nodes are servers to their clients and clients to each other (mutual TLS).
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(params, key, "the node's key")
    }

    /// Issues a certificate for the key (PKCS #8, PEM) of a node's applications. It begins [`BACKDATE`] before `now` and ends at
    /// `until` (Unix seconds), but never after the authority's own.
    ///
    /// Whoever trusts the authority may see it, and nobody may take it for a member's: it is a client's alone, its common name
    /// is no member's, and it has no other name, above all no [`Subject::uri`], by which agents know each other.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn issue_application(
        &self,
        node: &NodeName,
        key: &str,
        now: u64,
        until: u64,
    ) -> Result<Certificate, CaError> {
        let mut params = self.leaf(&application_name(node.as_str()), now, until)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, key, "the key of the node's applications")
    }

    /// What all certificates have in common that are no authority's.
    fn leaf(&self, common_name: &str, now: u64, until: u64) -> Result<CertificateParams, CaError> {
        let end = self.certificate.expires();
        if now >= end {
            return Err(CaError::AuthorityExpired(end));
        }
        let mut params = params(common_name, now, until.min(end))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn sign(
        &self,
        params: CertificateParams,
        key: &str,
        whose: &'static str,
    ) -> Result<Certificate, CaError> {
        let key = KeyPair::from_pem(key).map_err(CaError::make(whose))?;
        let issuer = Issuer::from_ca_cert_pem(self.certificate.pem(), &self.key)
            .map_err(CaError::make("the CA's certificate"))?;
        let made = params
            .signed_by(&key, &issuer)
            .map_err(CaError::make("a certificate below the CA"))?;
        Certificate::from_pem(&made.pem())
    }
}

/// Makes a key for a node: ECDSA P-256, PKCS #8 in PEM.
///
/// # Errors
/// [`CaError::Make`] when the system has no random numbers.
pub fn generate_key() -> Result<String, CaError> {
    KeyPair::generate()
        .map(|key| key.serialize_pem())
        .map_err(CaError::make("the node's key"))
}

/// What all certificates have in common. The serial number is random and positive (RFC 5280, 4.1.2.2): one authority
/// issues many certificates for the same key, so the library's default, a hash of the key, would repeat.
fn params(common_name: &str, now: u64, until: u64) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let moment = |time: u64| {
        if time > LAST_TIME {
            return Err(CaError::TimeOutOfRange(time));
        }
        Ok(date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(time))
    };
    params.not_before = moment(now.saturating_sub(BACKDATE))?;
    params.not_after = moment(until)?;
    let mut serial = [0_u8; 16];
    OsRng.fill_bytes(&mut serial);
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
