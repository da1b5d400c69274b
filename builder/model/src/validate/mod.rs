//! From what was written to what cannot be wrong.

pub mod fleet;
pub mod image;
pub mod syntax;
pub mod toml_error;
