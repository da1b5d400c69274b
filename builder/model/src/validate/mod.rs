//! From what was written to what cannot be wrong.

pub mod fleet;
pub mod syntax;

/// The message of a TOML error without the excerpt that the library adds: findings bring their own.
#[must_use]
pub fn toml_message(error: &toml::de::Error) -> String {
    let message = error.message().trim();
    // "unknown field `x`, expected one of `a`, `b`" is right, but TOML calls them keys.
    message
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
}
