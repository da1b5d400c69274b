//! Services built with the real npm and yarn of both suites, in trees of Debian made for it.
//!
//! They need a Debian mirror and the npm registry, mmdebstrap and bubblewrap; `make test-services` runs them. Trees are kept in the
//! target directory between runs; what is installed is not.

mod failures;
mod fixtures;
mod installs;
mod interrupted;
mod support;
