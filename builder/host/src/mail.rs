//! The certificates that a smarthost's own has to be signed by, read from the fleet's directory.

use std::{io, path::Path};

use x509_parser::{pem::Pem, prelude::FromDer as _, prelude::X509Certificate};

/// Largest file: Debian's own bundle has a quarter of that.
const LIMIT: u64 = 1024 * 1024;

/// Why a file names nobody who could be trusted.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It is not there.
    #[error("there is no file {0}")]
    Missing(String),
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// It is too large to be what it should be.
    #[error("{0} has more than 1 MiB")]
    TooLarge(String),
    /// No certificate is in it, or one that is damaged.
    #[error("{0} holds {1}")]
    Content(String, &'static str),
}

impl AuthoritiesError {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Missing(_) => "create it, or correct `ca` in fleet.toml",
            Self::Io(..) => "see whether it may be read",
            Self::TooLarge(_) | Self::Content(..) => {
                "write the certificates of the CAs that sign for the smarthost, in PEM, and nothing else"
            }
        }
    }
}

/// Reads certificates (PEM); the text holds them alone, since it becomes part of a package. `shown` is how people know the file.
///
/// # Errors
/// [`AuthoritiesError`].
pub fn read_authorities(path: &Path, shown: &str) -> Result<String, AuthoritiesError> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => AuthoritiesError::Missing(shown.to_owned()),
        _ => AuthoritiesError::Io(shown.to_owned(), error),
    };
    if std::fs::metadata(path).map_err(io)?.len() > LIMIT {
        return Err(AuthoritiesError::TooLarge(shown.to_owned()));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    certificates(&bytes).map_err(|what| AuthoritiesError::Content(shown.to_owned(), what))
}

/// The certificates of a PEM text, one after the other without what stands between them.
fn certificates(bytes: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no text")?;
    let mut out = String::new();
    for block in Pem::iter_from_buffer(bytes) {
        let block = block.map_err(|_| "a damaged PEM block")?;
        if block.label != "CERTIFICATE" {
            return Err("something else than certificates");
        }
        X509Certificate::from_der(&block.contents).map_err(|_| "a damaged certificate")?;
    }
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        inside |= line == BEGIN;
        if inside {
            out.push_str(line);
            out.push('\n');
        }
        inside &= line != END;
    }
    if out.is_empty() {
        return Err("no certificate");
    }
    Ok(out)
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["smtp.example.com".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn certificates_and_nothing_else() {
        let ((one, key), (two, _)) = (certificate(), certificate());
        let both = format!("# one\n{one}\n# two\n{two}");
        let kept = certificates(both.as_bytes()).expect("two certificates");
        assert_eq!(kept.matches(BEGIN).count(), 2);
        assert!(!kept.contains('#'), "{kept}");
        assert_eq!(
            certificates(format!("{one}{key}").as_bytes()),
            Err("something else than certificates"),
            "a key would be published"
        );
        assert_eq!(certificates(b"nothing"), Err("no certificate"));
        let damaged = one.replacen("MII", "MIIA", 1);
        assert!(certificates(damaged.as_bytes()).is_err());
    }

    #[test]
    fn files_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.pem");
        let error = read_authorities(&path, "ca.pem").expect_err("it is missing");
        assert_eq!(error.to_string(), "there is no file ca.pem");
        std::fs::write(&path, certificate().0).expect("written");
        assert!(read_authorities(&path, "ca.pem").is_ok());
    }
}
