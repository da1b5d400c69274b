//! Disk images in which everything is installed and nothing is decided: no identity, no key, no cluster.
//!
//! A recipe (`images/<name>/image.toml`) becomes layers, each kept under the hash of its inputs: the base tree, the roles on
//! top, the disk. No step needs root, a loop device, a mount or KVM: packages are installed in a user namespace, and file
//! systems are written by their own tools straight into files.

pub mod boot;
pub mod lint;
