//! How the lab's certificate authority shows who it is, by TLS: a CA that is made for one lab, lives as long as that, and is trusted by the
//! lab's machines alone. What the authority itself signs has nothing to do with it.

use std::{io, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

use crate::atomic;

/// The certificate of the authority's server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabAuthority {
    /// The name that it is for.
    pub host: String,
    /// The CA's certificate (PEM). Its key was thrown away.
    pub ca: String,
    /// The server's certificate (PEM).
    pub certificate: String,
    /// The server's key (PEM).
    pub key: String,
}

impl std::fmt::Debug for LabAuthority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabAuthority")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum LabAuthorityError {
    /// It cannot be made.
    #[error("the lab's certificate authority: {0}")]
    Make(#[from] rcgen::Error),
    /// Its file.
    #[error("{0}: {1}")]
    File(String, io::Error),
}

impl LabAuthority {
    /// Takes the one in this file, or makes one and leaves it there.
    ///
    /// # Errors
    /// [`LabAuthorityError`].
    pub fn keep(path: &Path, host: &str) -> Result<Self, LabAuthorityError> {
        let file = |error| LabAuthorityError::File(path.display().to_string(), error);
        match std::fs::read(path) {
            Ok(bytes) => {
                if let Ok(known) = serde_json::from_slice::<Self>(&bytes)
                    && known.host == host
                {
                    return Ok(known);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file(error)),
        }
        let made = Self::make(host)?;
        let text = serde_json::to_vec(&made).map_err(|error| file(error.into()))?;
        atomic::write_with_mode(path, &text, 0o600).map_err(file)?;
        Ok(made)
    }

    /// Labs do not grow old, so neither end is looked after.
    fn make(host: &str) -> Result<Self, rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, "rolesmith lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer)?.pem();
        Ok(Self {
            host: host.to_owned(),
            ca,
            certificate,
            key: key.serialize_pem(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_the_same_for_as_long_as_its_file_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lab/authority.json");
        let first = LabAuthority::keep(&path, "acme.lab.internal").expect("made");
        assert_eq!(
            LabAuthority::keep(&path, "acme.lab.internal").expect("kept"),
            first
        );
        assert_ne!(
            LabAuthority::keep(&path, "another.internal").expect("made"),
            first
        );
        assert!(!format!("{first:?}").contains("PRIVATE"));
    }
}
