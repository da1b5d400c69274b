//! Signed packages and what an index says about them.

use std::fmt::{self, Write};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::{Deb, ReadError, build::file_name, read};
use crate::{
    ar,
    control::Paragraph,
    openpgp::{OpenPgpError, PublicKey, Signer},
};

/// Name of the member that holds the origin's signature (debsig-verify).
pub(super) const SIGNATURE_MEMBER: &str = "_gpgorigin";

/// Checksums of a file, lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// For old tools; apt does not trust it.
    pub md5: String,
    /// What apt trusts.
    pub sha256: String,
}

impl Digests {
    /// Checksums of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            md5: hex(&Md5::digest(bytes)),
            sha256: hex(&Sha256::digest(bytes)),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A package with its origin's signature: what may be published.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedDeb {
    bytes: Vec<u8>,
    control: Paragraph,
    file_name: String,
    paths: Vec<String>,
    digests: Digests,
}

impl fmt::Debug for SignedDeb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SignedDeb({}, {} bytes)",
            self.file_name,
            self.bytes.len()
        )
    }
}

impl Deb {
    /// Takes a package that another program built, so that it can be signed. Its epoch is the time of its first member.
    ///
    /// # Errors
    /// [`ReadError::Signed`] where it has a signature, or when the bytes are no package.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        let contents = read::read_deb(&bytes)?;
        if contents.signature.is_some() {
            return Err(ReadError::Signed);
        }
        let epoch = ar::read(&bytes)?.first().map_or(0, |member| member.mtime);
        Ok(Self {
            file_name: file_name(&contents.control),
            paths: contents.paths(),
            control: contents.control,
            epoch,
            bytes,
        })
    }

    /// Signs the package: a detached signature over the three members one after the other, as the last member
    /// (debsig-verify(1)). It is made at the package's epoch, or at the key's creation when that is later.
    ///
    /// # Errors
    /// What the signer returns.
    pub fn sign(self, signer: &dyn Signer) -> Result<SignedDeb, OpenPgpError> {
        let time = self.epoch.max(signer.created());
        let broken = |what| {
            move |error: ar::ArError| OpenPgpError::Format {
                what,
                source: Box::new(error),
            }
        };
        let members = ar::read(&self.bytes).map_err(broken("package to sign"))?;
        let parts: Vec<&[u8]> = members.iter().map(|member| member.data).collect();
        let signature = signer.sign_parts(&parts, time)?;
        let mut archive = ar::Writer::append_to(self.bytes, self.epoch.max(1));
        archive
            .member(SIGNATURE_MEMBER, &signature)
            .map_err(broken("signature member"))?;
        let bytes = archive.finish();
        let digests = Digests::of(&bytes);
        Ok(SignedDeb {
            bytes,
            control: self.control,
            file_name: self.file_name,
            paths: self.paths,
            digests,
        })
    }
}

impl SignedDeb {
    /// Takes back a package that was signed before, e.g. an unchanged one of the last build. Whether the signature is
    /// good is for [`SignedDeb::verify`] to say.
    ///
    /// # Errors
    /// [`ReadError::NotSigned`], or when the bytes are no package.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        let contents = read::read_deb(&bytes)?;
        if contents.signature.is_none() {
            return Err(ReadError::NotSigned);
        }
        Ok(Self {
            file_name: file_name(&contents.control),
            paths: contents.paths(),
            control: contents.control,
            digests: Digests::of(&bytes),
            bytes,
        })
    }

    /// Verifies the signature and returns when it was made (Unix seconds).
    ///
    /// # Errors
    /// [`OpenPgpError::BadSignature`], also when the signature is not the last member.
    pub fn verify(&self, key: &PublicKey) -> Result<u64, OpenPgpError> {
        let members = ar::read(&self.bytes).unwrap_or_default();
        match members.split_last() {
            Some((signature, signed)) if signature.name == SIGNATURE_MEMBER => {
                let data: Vec<&[u8]> = signed.iter().map(|member| member.data).collect();
                key.verify_detached(&data.concat(), signature.data)
            }
            _ => Err(OpenPgpError::BadSignature(key.fingerprint())),
        }
    }

    /// The package file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The package file's bytes, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Checksums of the file.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// The control paragraph with Installed-Size.
    pub fn control(&self) -> &Paragraph {
        &self.control
    }

    /// `name_version_architecture.deb`, the version without its epoch, as dpkg-deb names it.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Paths of files, links and special files without the leading slash, as a Contents index lists them.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }
}
