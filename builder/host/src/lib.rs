//! The operator's machine: loading fleets, keys, publishing, mirroring.

pub mod atomic;
pub mod publish;
pub mod load;
