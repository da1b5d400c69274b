//! From a repository to a signed one.

use super::index::IndexFile;
use super::release::{ReleaseFields, Repository};
use crate::openpgp::{OpenPgpError, Signer, clearsign, sign_armored};

/// A repository with its signatures: what can be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRepository {
    /// What `Release` says.
    pub fields: ReleaseFields,
    /// `Release`, for clients that want the signature apart.
    pub release: String,
    /// Armored detached signature over `release`.
    pub release_gpg: String,
    /// `release` with its signature around it; what apt asks for first.
    pub in_release: String,
    /// The indexes, sorted by path.
    pub files: Vec<IndexFile>,
}

impl Repository {
    /// Signs with every signer. Several are the middle step of a key rotation: clients that know one of them accept the
    /// repository. `time` (Unix seconds) goes into the signatures, so the same input gives the same bytes.
    ///
    /// # Errors
    /// What a signer returns, and [`OpenPgpError::NoSigner`] when there is none.
    pub fn sign(
        self,
        signers: &[&dyn Signer],
        time: u64,
    ) -> Result<SignedRepository, OpenPgpError> {
        let release = self.release();
        let release_gpg = sign_armored(signers, release.as_bytes(), time)?;
        let in_release = clearsign(signers, &release, time)?;
        let Self { fields, files } = self;
        Ok(SignedRepository {
            fields,
            release,
            release_gpg,
            in_release,
            files,
        })
    }
}
