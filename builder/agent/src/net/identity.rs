//! Who may speak: certificates, judged by the facts in force.
//!
//! The CA's signature is not enough. The facts say which members there are, which incarnation of each counts, and which
//! certificate it has; a machine that was replaced or removed keeps a certificate that the CA signed, and is refused all
//! the same.
//!
//! Members take new facts at different times, so that a renewed certificate reaches some before others, and an older one
//! is shown to some that know its successor. Renewals keep the key. So a certificate is a member's if it is the one that
//! the facts name, or is signed by the CA for the same incarnation and the same key as that one.

use std::collections::{BTreeMap, BTreeSet};

use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use crate::files::digest;

/// Why somebody is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// No certificate of a node was shown.
    #[error("it showed no certificate of a node: {0}")]
    NoIdentity(String),
    /// The fleet's CA did not sign it, or not for this use.
    #[error("the fleet's CA did not sign its certificate for this: {0}")]
    Foreign(String),
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not come; one of the two clocks is wrong.
    #[error("its certificate is not valid yet: one of the two clocks is wrong")]
    NotYet,
    /// Facts do not know that name.
    #[error("{0:?} is not a member of the fleet")]
    Undeclared(String),
    /// Facts knew that name before.
    #[error("{0:?} was removed from the fleet")]
    Removed(String),
    /// The machine that had the name before.
    #[error("it is incarnation {has} of {name:?}, which was replaced by incarnation {wanted}")]
    OldIncarnation {
        /// The name.
        name: String,
        /// What the certificate says.
        has: u64,
        /// What the facts say.
        wanted: u64,
    },
    /// A machine that newer facts than ours declare, or none.
    #[error("it is incarnation {has} of {name:?}, and the facts here know {wanted}")]
    NewIncarnation {
        /// The name.
        name: String,
        /// What the certificate says.
        has: u64,
        /// What the facts say.
        wanted: u64,
    },
    /// Right name and incarnation with another key.
    #[error("its certificate for {0:?} is not the one that the facts name, and has another key")]
    OtherKey(String),
    /// A member, but not the one that was called.
    #[error("it is {has:?}, and {wanted:?} was called")]
    OtherMember {
        /// Who it is.
        has: String,
        /// Who was wanted.
        wanted: String,
    },
    /// Two machines with one identity.
    #[error("a second machine is running as {0:?}")]
    SecondMachine(String),
    /// It speaks another version of the protocol.
    #[error("it speaks version {0} of the protocol")]
    Protocol(u32),
    /// It did not keep to TLS 1.3 or to the form of frames.
    #[error("{0}")]
    Malformed(String),
    /// It uses more than its share.
    #[error("{0}")]
    TooMuch(&'static str),
}

impl Refusal {
    /// A word for counters.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoIdentity(_) => "no-identity",
            Self::Foreign(_) => "foreign",
            Self::Expired => "expired",
            Self::NotYet => "not-yet-valid",
            Self::Undeclared(_) => "undeclared",
            Self::Removed(_) => "removed",
            Self::OldIncarnation { .. } => "old-incarnation",
            Self::NewIncarnation { .. } => "new-incarnation",
            Self::OtherKey(_) => "other-key",
            Self::OtherMember { .. } => "other-member",
            Self::SecondMachine(_) => "second-machine",
            Self::Protocol(_) => "protocol",
            Self::Malformed(_) => "malformed",
            Self::TooMuch(_) => "too-much",
        }
    }

    fn from_webpki(error: &Error) -> Self {
        match error {
            Error::CertExpired { .. } => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYet,
            error => Self::Foreign(format!("{error:?}")),
        }
    }

    /// What a failed handshake says about the other side; nothing when it is an ordinary loss of the connection.
    #[must_use]
    pub fn from_tls(error: &std::io::Error) -> Option<Self> {
        use rustls::CertificateError as C;
        let tls = error.get_ref()?.downcast_ref::<rustls::Error>().cloned()?;
        Some(match tls {
            rustls::Error::NoCertificatesPresented => Self::NoIdentity("none at all".to_owned()),
            rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
                Self::Expired
            }
            rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
                Self::NotYet
            }
            rustls::Error::InvalidCertificate(why) => Self::Foreign(format!("{why:?}")),
            // Who was refused by the other side has refused nobody.
            rustls::Error::AlertReceived(_) => return None,
            other => Self::Malformed(other.to_string()),
        })
    }
}

/// What a certificate is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// By who opened the connection.
    Client,
    /// By who was called.
    Server,
}

/// A member as the facts have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    incarnation: u64,
    certificate: String,
    /// That certificate with its SubjectPublicKeyInfo, where the facts package holds it.
    held: Option<Held>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

/// The facts in force, as far as identities go.
#[derive(Debug, Clone)]
pub struct Book {
    fleet: String,
    version: u64,
    authorities: Vec<CertificateDer<'static>>,
    members: BTreeMap<String, Known>,
    former: BTreeSet<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why there can be no [`Book`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// The CA's file.
    #[error("the fleet's CA cannot be read: {0}")]
    Authority(String),
}

impl Book {
    /// From the facts, the CA's certificates (PEM; two of them while one takes the other's place) and the members'
    /// certificates (PEM) by name.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn new(
        facts: &rolesmith_model::facts::Facts,
        authorities: &[u8],
        certificates: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, BookError> {
        let refuse = |why: &dyn std::fmt::Display| BookError::Authority(why.to_string());
        let authorities: Vec<_> = CertificateDer::pem_slice_iter(authorities)
            .collect::<Result<_, _>>()
            .map_err(|error| refuse(&error))?;
        if authorities.is_empty() {
            return Err(refuse(&"no certificate in it"));
        }
        for authority in &authorities {
            anchor_from_trusted_cert(authority).map_err(|error| refuse(&error))?;
        }
        let members = facts.members.iter().map(|member| {
            let held = certificates
                .get(&member.name)
                .and_then(|pem| CertificateDer::from_pem_slice(pem).ok())
                // A package that is being unpacked may hold another certificate than the facts name.
                .filter(|der| digest(der) == member.certificate)
                .and_then(|certificate| {
                    let key = key_of(&certificate)?;
                    Some(Held { certificate, key })
                });
            let known = Known {
                incarnation: member.incarnation,
                certificate: member.certificate.clone(),
                held,
            };
            (member.name.clone(), known)
        });
        Ok(Self {
            fleet: facts.fleet.clone(),
            version: facts.version,
            members: members.collect(),
            former: BTreeSet::new(),
            authorities,
            algorithms: ring::default_provider().signature_verification_algorithms,
        })
    }

    /// Remembers the names that a former book knew and this one does not, so that they are refused in the right words.
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        if self.fleet == former.fleet {
            self.former = former
                .members
                .keys()
                .chain(&former.former)
                .filter(|name| !self.members.contains_key(*name))
                .cloned()
                .collect();
        }
        self
    }

    /// Version of the facts.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The CA's certificates.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// Judges a certificate that was shown by this side at this time: the member's name and incarnation.
    ///
    /// That the other side has its key, TLS has proved.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(String, u64), Refusal> {
        let (shown, others) = chain
            .split_first()
            .ok_or_else(|| Refusal::NoIdentity("none at all".to_owned()))?;
        let certificate = EndEntityCert::try_from(shown)
            .map_err(|error| Refusal::NoIdentity(format!("{error:?}")))?;
        let anchors: Vec<_> = self
            .authorities
            .iter()
            .filter_map(|authority| anchor_from_trusted_cert(authority).ok())
            .collect();
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &anchors,
                others,
                now,
                usage,
                None,
                None,
            )
            .map_err(|error| Refusal::from_webpki(&error))?;
        let (name, has) = self
            .claim(&certificate)
            .ok_or_else(|| Refusal::NoIdentity("it names no node of this fleet".to_owned()))?;
        let Some(known) = self.members.get(&name) else {
            return Err(if self.former.contains(&name) {
                Refusal::Removed(name)
            } else {
                Refusal::Undeclared(name)
            });
        };
        let wanted = known.incarnation;
        match has.cmp(&wanted) {
            std::cmp::Ordering::Less => {
                return Err(Refusal::OldIncarnation { name, has, wanted });
            }
            std::cmp::Ordering::Greater => {
                return Err(Refusal::NewIncarnation { name, has, wanted });
            }
            std::cmp::Ordering::Equal => {}
        }
        let key = certificate.subject_public_key_info();
        let same_key = known.held.as_ref().is_some_and(|held| held.key == *key);
        if digest(shown) == known.certificate || same_key {
            Ok((name, has))
        } else {
            Err(Refusal::OtherKey(name))
        }
    }

    /// Judges a connection that was made with this certificate and stands: it is as good as one that would be made now.
    ///
    /// The other side has proved that it has the key. Where the facts name a certificate for the same key, made since, it could
    /// show that one; so a connection outlives the certificate and the CA that it was made with.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge_open(
        &self,
        chain: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(String, u64), Refusal> {
        self.judge(chain, side, now).or_else(|refusal| {
            let renewed = self.renewed(chain).ok_or(refusal)?;
            self.judge(std::slice::from_ref(renewed), side, now)
        })
    }

    /// The facts' certificate for the key of the one that was shown, of the member that it names.
    fn renewed(&self, chain: &[CertificateDer<'_>]) -> Option<&CertificateDer<'static>> {
        let shown = EndEntityCert::try_from(chain.first()?).ok()?;
        let known = self.members.get(&self.claim(&shown)?.0)?;
        let held = known.held.as_ref()?;
        (held.key == *shown.subject_public_key_info()).then_some(&held.certificate)
    }

    /// Which node of this fleet a certificate is for: `rolesmith:<fleet>/<node>/<incarnation>` among its names.
    fn claim(&self, certificate: &EndEntityCert<'_>) -> Option<(String, u64)> {
        certificate.valid_uri_names().find_map(|uri| {
            let rest = uri.strip_prefix("rolesmith:")?.strip_prefix(&self.fleet)?;
            let (node, incarnation) = rest.strip_prefix('/')?.split_once('/')?;
            Some((node.to_owned(), incarnation.parse().ok()?))
        })
    }
}

fn key_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    Some(parsed.subject_public_key_info().to_vec())
}

#[cfg(test)]
mod tests;
