//! What the network needs of the node's files: facts, certificates, the key.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rolesmith_model::facts::{
    CA_FILE, FACTS_FILE, FACTS_FORMAT, Facts, IDENTITY_FILE, Identity, KEY_FILE, Member, NODES_DIR,
};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::identity::{Book, BookError, Refusal, Side};
use crate::files::{self, Root, Seen, Stamp, stamp};
use crate::observe;
use crate::program::Programs;

/// Facts in force with everything that connections need. A value: new facts make a new one.
pub struct Material {
    /// This node.
    pub identity: Identity,
    /// The facts.
    pub facts: Facts,
    /// Who may speak.
    pub book: Book,
    /// Where this node listens.
    pub listen: Option<SocketAddr>,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// What is wrong with this node's own certificate: others will refuse it.
    pub problem: Option<Refusal>,
}

impl std::fmt::Debug for Material {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("node", &self.identity.node)
            .field("facts", &self.facts.version)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// Why there is none (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// Not enrolled.
    #[error("this machine is not enrolled")]
    NotEnrolled,
    /// Something that comes by itself is missing.
    #[error("{0}")]
    Waiting(String),
    /// A file that cannot be used.
    #[error("{0}")]
    Broken(String),
    /// The CA's file.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The facts do not know this node, or another incarnation of it.
    #[error("the facts do not know incarnation {incarnation} of {node:?}")]
    NotDeclared {
        /// This node.
        node: String,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Rolled-back facts.
    #[error(
        "the installed facts have version {installed}, but version {seen} was seen before: older facts are refused"
    )]
    Older {
        /// What is installed.
        installed: u64,
        /// What was seen.
        seen: u64,
    },
}

/// The texts of which a [`Material`] is made.
#[derive(Debug)]
pub struct Parts {
    /// This node.
    pub identity: Identity,
    /// The facts.
    pub facts: Facts,
    /// The CA's certificates (PEM).
    pub authorities: Vec<u8>,
    /// Members' certificates (PEM) by name; the own one may be followed by others that lead to the CA.
    pub certificates: BTreeMap<String, Vec<u8>>,
    /// The own key (PEM).
    pub key: Vec<u8>,
    /// The address of the private interface, for a node whose address the facts do not know.
    pub address: Option<IpAddr>,
}

impl Material {
    /// Reads the node's files. `seen` is the highest version of the facts that was ever acted upon.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn load(root: &Root, programs: &impl Programs, seen: u64) -> Result<Self, MaterialError> {
        let identity = match observe::identity(root) {
            Seen::Is(identity) => identity,
            Seen::Absent => return Err(MaterialError::NotEnrolled),
            Seen::Broken(why) => return Err(broken(IDENTITY_FILE, &why)),
        };
        let facts = match observe::facts(root) {
            Seen::Is(facts) => facts,
            Seen::Absent => return Err(waiting("the facts package is not installed yet")),
            Seen::Broken(why) => return Err(broken(FACTS_FILE, &why)),
        };
        if facts.version < seen {
            return Err(MaterialError::Older {
                installed: facts.version,
                seen,
            });
        }
        let mut certificates = BTreeMap::new();
        for member in &facts.members {
            let path = certificate_path(root, &member.name);
            if let Some(pem) =
                files::read(&path).map_err(|error| broken(&path.to_string_lossy(), &error))?
            {
                certificates.insert(member.name.clone(), pem);
            }
        }
        let own = facts.members.iter().find(|m| m.name == identity.node);
        let address = match own.and_then(|member| member.address.as_ref()) {
            Some(_) => None,
            None => match observe::node(root, &identity.node) {
                Seen::Is(node) => observe::address(programs, &node.private_interface)
                    .and_then(|address| address.parse().ok()),
                _ => None,
            },
        };
        Self::new(Parts {
            authorities: required(root, CA_FILE)?,
            key: required(root, KEY_FILE)?,
            identity,
            facts,
            certificates,
            address,
        })
    }

    /// From values.
    ///
    /// # Errors
    /// [`MaterialError`].
    pub fn new(parts: Parts) -> Result<Self, MaterialError> {
        let Parts {
            identity,
            facts,
            authorities,
            certificates,
            key,
            address,
        } = parts;
        if facts.format > FACTS_FORMAT {
            return Err(MaterialError::Broken(format!(
                "the facts have format {}, and this agent knows {FACTS_FORMAT}",
                facts.format
            )));
        }
        if facts.fleet != identity.fleet {
            return Err(MaterialError::Broken(format!(
                "the facts are those of the fleet {:?}, and this machine belongs to {:?}",
                facts.fleet, identity.fleet
            )));
        }
        let own = facts
            .members
            .iter()
            .find(|m| m.name == identity.node && m.incarnation == identity.incarnation)
            .ok_or_else(|| MaterialError::NotDeclared {
                node: identity.node.clone(),
                incarnation: identity.incarnation,
            })?;
        let address = own
            .address
            .as_ref()
            .and_then(|text| text.parse().ok())
            .or(address);
        let listen = address.map(|address| SocketAddr::new(address, facts.agent_port));
        let book = Book::new(&facts, &authorities, &certificates)?;
        let pem = certificates
            .get(&identity.node)
            .ok_or_else(|| waiting("the facts package does not hold this node's certificate"))?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| broken("this node's certificate", &error))?;
        let problem = book.judge(&chain, Side::Server, UnixTime::now()).err();
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| broken(KEY_FILE, &error))?;
        let provider = Arc::new(ring::default_provider());
        let roots = roots(&book)?;
        Ok(Self {
            server: Arc::new(server(&provider, &roots, chain.clone(), key.clone_key())?),
            client: Arc::new(client(&provider, &roots, chain, key)?),
            identity,
            facts,
            book,
            listen,
            problem,
        })
    }

    /// The same, after a former one: who was a member then is refused in the right words.
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        self.book = self.book.after(&former.book);
        self
    }

    /// This node as the facts have it.
    #[must_use]
    pub fn own(&self) -> Option<&Member> {
        let mut members = self.facts.members.iter();
        members.find(|member| member.name == self.identity.node)
    }

    /// The members besides this node.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.facts
            .members
            .iter()
            .map(|member| member.name.as_str())
            .filter(|name| *name != self.identity.node)
    }

    /// A member's address by the facts.
    pub(super) fn address(&self, name: &str) -> Option<IpAddr> {
        let member = self.facts.members.iter().find(|m| m.name == name)?;
        member.address.as_ref()?.parse().ok()
    }
}

fn waiting(why: &str) -> MaterialError {
    MaterialError::Waiting(why.to_owned())
}

fn broken(what: &str, why: &dyn std::fmt::Display) -> MaterialError {
    MaterialError::Broken(format!("{what}: {why}"))
}

fn required(root: &Root, path: &str) -> Result<Vec<u8>, MaterialError> {
    files::read(&root.join(path))
        .map_err(|error| broken(path, &error))?
        .ok_or_else(|| waiting(&format!("{path} is not there yet")))
}

fn certificate_path(root: &Root, node: &str) -> PathBuf {
    root.join(NODES_DIR).join(node).join("cert.pem")
}

fn roots(book: &Book) -> Result<Arc<RootCertStore>, MaterialError> {
    let mut store = RootCertStore::empty();
    for authority in book.authorities() {
        store
            .add(authority.clone())
            .map_err(|error| broken(CA_FILE, &error))?;
    }
    Ok(Arc::new(store))
}

/// No resumption: each connection shows its certificate, so that whoever was removed cannot come back on an old ticket.
fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, MaterialError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| broken(CA_FILE, &error))?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken("TLS", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| broken("this node's key and certificate", &error))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Keeps other TLS services, and clients that were led astray, from taking part by accident (RFC 7301).
const ALPN: &[u8] = b"rolesmith/1";

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, MaterialError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| broken(CA_FILE, &error))?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| broken("TLS", &error))?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(|error| broken("this node's key and certificate", &error))?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The state of all files that a [`Material`] is made of, to see when they change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stamps(Vec<Stamp>);

impl Stamps {
    /// Looks at the files; `former` is what was loaded last, whose members have certificates.
    #[must_use]
    pub fn look(root: &Root, former: Option<&Material>) -> Self {
        let fixed = [IDENTITY_FILE, KEY_FILE, FACTS_FILE, CA_FILE].map(|path| root.join(path));
        let members = former.map_or(&[][..], |material| &material.facts.members);
        let certificates = members
            .iter()
            .map(|member| certificate_path(root, &member.name));
        Self(
            fixed
                .into_iter()
                .chain(certificates)
                .map(|path| stamp(&path))
                .collect(),
        )
    }
}

impl Stamps {
    /// Adds what [`Stamps::look`] could not know before the material was loaded. A certificate that changes in between is
    /// noticed, since the files that every change touches were looked at before.
    #[must_use]
    pub fn look_again(self, root: &Root, material: &Material) -> Self {
        let mut now = Self::look(root, Some(material));
        for (seen, before) in now.0.iter_mut().zip(self.0) {
            *seen = before;
        }
        now
    }
}
