//! The operator's machine: loading fleets, keys, publishing, mirroring.

pub mod applications;
pub mod archive;
pub mod atomic;
pub mod build;
pub mod ca;
pub mod clusters;
pub mod enroll;
pub mod gpg;
pub mod identity;
pub mod lab_authority;
pub mod load;
pub mod lock;
pub mod mail;
pub mod mirror;
pub mod nginx;
pub mod publish;
pub mod scan;
pub mod secrets;
pub mod services;
