//! What this node proves itself with to services of other members that are not agents, and what they have to show.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Key or certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {what}: {why}")]
pub struct BadCredentials {
    /// Which file.
    pub what: String,
    /// What is wrong.
    pub why: String,
}

/// Reads them. Peers have to show a certificate of the fleet's authority with the name by which they are called.
///
/// # Errors
/// [`BadCredentials`], of the file that cannot be read or used.
pub fn credentials(
    key: &Path,
    cert: &Path,
    ca: &Path,
) -> Result<Arc<ClientConfig>, BadCredentials> {
    fn bad<E: std::fmt::Display>(what: &Path) -> impl Fn(E) -> BadCredentials + '_ {
        move |error| BadCredentials {
            what: what.display().to_string(),
            why: error.to_string(),
        }
    }
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(ca).map_err(bad(ca))? {
        roots.add(authority.map_err(bad(ca))?).map_err(bad(ca))?;
    }
    let chain = CertificateDer::pem_file_iter(cert)
        .map_err(bad(cert))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad(cert))?;
    let own = PrivateKeyDer::from_pem_file(key).map_err(bad(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bad(ca))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, own)
        .map_err(bad(cert))?;
    Ok(Arc::new(config))
}
