//! Pure writers and readers of the formats that a fleet is shipped in.

pub mod apt;
pub mod ar;
pub mod compress;
pub mod control;
pub mod deb;
pub mod openpgp;
pub mod tarball;
