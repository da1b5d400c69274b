//! Who a node is: made once by the operator, kept among the secrets, brought to the machine by its seed or by `enroll`.

pub mod pins;

use rolesmith_keys::{ApplicationKey, KeyError};
use rolesmith_model::{
    facts::{Identity, Origin},
    ids::{FleetName, NodeName},
};
use serde::{Deserialize, Serialize};

use crate::ca::{Authority, CaError, Certificate, NODE_LIFETIME, Subject, generate_key};

/// A node's identity with its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeIdentity {
    fleet: FleetName,
    node: NodeName,
    fqdn: String,
    incarnation: u64,
    key: String,
    certificate: Certificate,
}

impl std::fmt::Debug for NodeIdentity {
    /// Without the key: a secret must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeIdentity")
            .field("fleet", &self.fleet)
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .field("certificate", &self.certificate.fingerprint())
            .finish_non_exhaustive()
    }
}

impl NodeIdentity {
    /// Makes a key and has the authority certify it; `now` is Unix seconds.
    pub(crate) fn make(ca: &Authority, subject: &Subject<'_>, now: u64) -> Result<Self, CaError> {
        let key = generate_key()?;
        Self::certified(ca, subject, key, now)
    }

    /// The same machine with a new certificate: its key stays, so nothing secret has to travel. `fqdn` may differ.
    pub(crate) fn renewed(&self, ca: &Authority, fqdn: &str, now: u64) -> Result<Self, CaError> {
        let subject = Subject {
            fqdn,
            ..self.subject()
        };
        Self::certified(ca, &subject, self.key.clone(), now)
    }

    fn certified(
        ca: &Authority,
        subject: &Subject<'_>,
        key: String,
        now: u64,
    ) -> Result<Self, CaError> {
        let certificate = ca.issue(subject, &key, now, NODE_LIFETIME)?;
        Ok(Self {
            fleet: subject.fleet.clone(),
            node: subject.node.clone(),
            fqdn: subject.fqdn.to_owned(),
            incarnation: subject.incarnation,
            key,
            certificate,
        })
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            fleet: &self.fleet,
            node: &self.node,
            fqdn: &self.fqdn,
            incarnation: self.incarnation,
        }
    }

    /// The fleet that it belongs to.
    #[must_use]
    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// The node's name with its domain.
    #[must_use]
    pub fn fqdn(&self) -> &str {
        &self.fqdn
    }

    /// Counts the machines that had this name; 1 is the first.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The private key (PKCS #8, PEM): secret.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// The private key of the node's applications, which the node works out as well: secret.
    ///
    /// # Errors
    /// [`KeyError`] when the node's own is none.
    pub fn application_key(&self) -> Result<ApplicationKey, KeyError> {
        ApplicationKey::of(&self.key, self.fleet.as_str(), self.node.as_str())
    }

    /// The certificate: public.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// What the machine reads as its identity file.
    #[must_use]
    pub fn document(&self, origin: Origin) -> Identity {
        Identity {
            fleet: self.fleet.to_string(),
            node: self.node.to_string(),
            incarnation: self.incarnation,
            origin,
        }
    }

    /// As the operator's secrets keep it.
    pub(crate) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&Record {
            fleet: self.fleet.clone(),
            node: self.node.clone(),
            fqdn: self.fqdn.clone(),
            incarnation: self.incarnation,
            certificate: self.certificate.pem().to_owned(),
            key: self.key.clone(),
        })
    }

    /// Reads what [`NodeIdentity::to_toml`] wrote. The error's text does not quote the file.
    pub(crate) fn from_toml(text: &str) -> Result<Self, String> {
        // Only the place: the error's text could quote the line, which may be the key's.
        let record: Record = toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            format!("not an identity as this program writes it (line {line})")
        })?;
        let certificate =
            Certificate::from_pem(&record.certificate).map_err(|error| error.to_string())?;
        Ok(Self {
            fleet: record.fleet,
            node: record.node,
            fqdn: record.fqdn,
            incarnation: record.incarnation,
            key: record.key,
            certificate,
        })
    }
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    fleet: FleetName,
    node: NodeName,
    fqdn: String,
    incarnation: u64,
    certificate: String,
    key: String,
}
