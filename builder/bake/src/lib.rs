//! Disk images in which everything is installed and nothing is decided: no identity, no key, no cluster.
//!
//! A recipe (`images/<name>/image.toml`) becomes layers, each kept under the hash of its inputs: Debian, the roles on top, the
//! disk. No step needs root, a loop device, a mount or KVM: packages are installed in a user namespace, and file systems are
//! written by their own tools straight into files.

pub mod bake;
pub mod boot;
pub mod cache;
pub mod disk;
pub mod error;
pub mod execute;
pub mod lint;
pub mod manifest;
pub mod program;
pub mod tools;
pub mod tree;

pub use bake::{Baked, Inputs, bake, known_tree, tree};
pub use error::BakeError;

/// Hears what is being done.
pub trait Progress {
    /// A numbered step begins.
    fn step(&self, number: usize, of: usize, what: &str);
}
