//! The operator's machine: loading fleets, keys, publishing, mirroring.

pub mod atomic;
pub mod mirror;
pub mod publish;
pub mod load;
pub mod ca;
pub mod gpg;
pub mod identity;
pub mod scan;
pub mod secrets;
pub mod build;
pub mod archive;
pub mod enroll;
