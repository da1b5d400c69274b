//! The private key of the node's applications. It follows from the node's own, so that it is there without having travelled;
//! units take it by `LoadCredential=`, and never see what it follows from.

use rolesmith_keys::ApplicationKey;
use rolesmith_model::facts::{Identity, KEY_FILE};

use crate::files::{self, Root};
use crate::inputs::Missing;

/// Permission bits of its file: root's alone.
pub const MODE: u32 = 0o600;

/// Works the key out (PEM).
///
/// # Errors
/// [`Missing::Key`].
pub fn key(root: &Root, identity: &Identity) -> Result<String, Missing> {
    let missing = |why: &dyn std::fmt::Display| Missing::Key(why.to_string());
    let own = files::read(&root.join(KEY_FILE))
        .map_err(|error| missing(&error))?
        .ok_or_else(|| missing(&"it is not there"))?;
    ApplicationKey::of(
        &String::from_utf8_lossy(&own),
        &identity.fleet,
        &identity.node,
    )
    .map(|key| key.to_pem())
    .map_err(|error| missing(&error))
}
