//! Pure writers and readers of the formats that a fleet is shipped in.

pub mod apt;
pub mod ar;
pub mod assemble;
pub mod cloud_config;
pub mod compress;
pub mod control;
pub mod date;
pub mod deb;
pub mod facts;
pub mod firewall;
pub mod gpt;
pub mod iso9660;
pub mod keyring;
pub mod openpgp;
pub mod seed;
pub mod tarball;
