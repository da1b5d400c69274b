//! Certificates of nodes' applications. Only these are kept: their keys follow from the nodes' own.

use std::path::PathBuf;

use rolesmith_model::ids::NodeName;

use super::{
    Secrets, SecretsError,
    files::{lock, make_directory, read_optional, replace},
};
use crate::{ca::Certificate, identity::NodeIdentity};

const DIRECTORY: &str = "applications";

impl Secrets {
    /// The certificate of a node's applications; None when none was issued yet for the key that they have.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn application(
        &self,
        identity: &NodeIdentity,
    ) -> Result<Option<Certificate>, SecretsError> {
        let path = self.application_path(identity.node());
        // What cannot be read is issued anew: it is no secret, and nothing else is lost with it.
        let Some(kept) = read_optional(&path)?.and_then(|text| Certificate::from_pem(&text).ok())
        else {
            return Ok(None);
        };
        let fits = kept
            .is_for(&self.application_key(identity)?)
            .map_err(SecretsError::ca(path))?;
        Ok(fits.then_some(kept))
    }

    /// The certificate of a node's applications, issued now (`now`, Unix seconds) unless there is one by the present CA that ends
    /// when the node's own does: what brings another key or another certificate to the node brings one to its applications.
    /// Below a CA that has ended nothing is issued, and the one stays that is there.
    ///
    /// # Errors
    /// [`SecretsError::NoIdentity`] when the node has no identity yet.
    pub fn ensure_application(
        &self,
        node: &NodeName,
        now: u64,
    ) -> Result<Option<Certificate>, SecretsError> {
        let _lock = lock(&self.directory)?;
        let identity = self
            .node(node)?
            .ok_or_else(|| SecretsError::NoIdentity(node.clone()))?;
        let (ca, end) = (self.ca()?, identity.certificate().expires());
        let kept = self.application(&identity)?;
        let current = kept
            .as_ref()
            .is_some_and(|kept| kept.is_issued_by(ca.certificate()) && kept.expires() == end);
        if current || now >= ca.certificate().expires() {
            return Ok(kept);
        }
        let path = self.application_path(node);
        let issued = ca
            .issue_application(node, &self.application_key(&identity)?, now, end)
            .map_err(SecretsError::ca(&path))?;
        make_directory(&self.directory.join(DIRECTORY))?;
        replace(&path, issued.pem().as_bytes())?;
        Ok(Some(issued))
    }

    fn application_key(&self, identity: &NodeIdentity) -> Result<String, SecretsError> {
        let key = identity
            .application_key()
            .map_err(|error| SecretsError::malformed(self.node_path(identity.node()), error))?;
        Ok(key.to_pem())
    }

    fn application_path(&self, node: &NodeName) -> PathBuf {
        self.directory.join(DIRECTORY).join(format!("{node}.pem"))
    }
}
