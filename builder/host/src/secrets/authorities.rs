//! The file of the fleet's authorities. One file, replaced as a whole: a step of a roll-over has happened or has not, whoever is
//! killed when.

use std::path::Path;

use super::{
    Secrets, SecretsError,
    files::{self, lock, read_optional},
};
use crate::{
    atomic,
    ca::{Authorities, Authority, Step, StepError},
};

pub(super) const FILE: &str = "ca.toml";

/// Where directories made by earlier versions have the one authority.
const EARLIER: (&str, &str) = ("ca.key", "ca.crt");

/// The authorities; None where none were made yet.
pub(super) fn read(directory: &Path) -> Result<Option<Authorities>, SecretsError> {
    let path = directory.join(FILE);
    if let Some(text) = read_optional(&path)? {
        return Authorities::from_toml(&text)
            .map(Some)
            .map_err(|error| SecretsError::malformed(&path, error));
    }
    let (key, certificate) = (directory.join(EARLIER.0), directory.join(EARLIER.1));
    // The certificate was written last, so an authority without one was never used.
    let Some(certificate) = read_optional(&certificate)? else {
        return Ok(None);
    };
    Authority::from_pem(&files::read(&key)?, &certificate)
        .map(|authority| Some(Authorities::first(authority)))
        .map_err(SecretsError::ca(&key))
}

/// Keeps them; what an earlier version, or an interrupted call, left beside them goes.
pub(super) fn write(directory: &Path, authorities: &Authorities) -> Result<(), SecretsError> {
    let path = directory.join(FILE);
    let text = authorities
        .to_toml()
        .map_err(|error| SecretsError::malformed(&path, error))?;
    files::replace(&path, text.as_bytes())?;
    // From here on these are not read. A key that nobody uses is still one that somebody could find.
    for name in files::temporary(directory)?
        .iter()
        .map(String::as_str)
        .chain([EARLIER.1, EARLIER.0])
    {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SecretsError::io(&path)(error));
            }
            _ => {}
        }
    }
    atomic::sync_directory(directory).map_err(SecretsError::io(directory))
}

impl Secrets {
    /// The certificate authority that issues.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn ca(&self) -> Result<Authority, SecretsError> {
        self.authorities().map(Authorities::into_issuer)
    }

    /// All authorities that members trust.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn authorities(&self) -> Result<Authorities, SecretsError> {
        read(&self.directory)?.ok_or_else(|| SecretsError::Missing(self.directory.join(FILE)))
    }

    /// Makes a step of a roll-over, durably; `now` is Unix seconds. It was made completely or not at all.
    ///
    /// # Errors
    /// [`SecretsError::Step`] where it is not the one that is due.
    pub fn step(&self, step: Step, now: u64) -> Result<Authorities, SecretsError> {
        let _lock = lock(&self.directory)?;
        let before = self.authorities()?;
        let after = match step {
            Step::Next => before.next(&self.fleet, now),
            Step::Switch => before.switch(),
            Step::Retire => before.retire(),
        }
        .map_err(|error| match error {
            StepError::Ca(source) => SecretsError::ca(self.directory.join(FILE))(source),
            StepError::OutOfOrder { .. } => SecretsError::Step(error),
        })?;
        write(&self.directory, &after)?;
        Ok(after)
    }
}
