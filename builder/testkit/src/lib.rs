//! Hermetic tests of the `rolesmith` program: a directory of their own, a cleared environment, a fixed clock, keys that
//! are thrown away.
//!
//! A test starts from one of the constructors of [`TestFleet`], changes files, runs the program and looks at the [`Run`]:
//!
//! ```no_run
//! use rolesmith_testkit::TestFleet;
//! # let program = "rolesmith";
//! let fleet = TestFleet::example(program);
//! fleet.edit("fleet.toml", "suite = \"trixie\"", "suite = \"bookworm\"");
//! let before = fleet.tree();
//! fleet.run(&["check"]).succeeded();
//! before.assert_unchanged(&fleet.tree());
//! ```
//!
//! Every place that the program may write to is below the fleet's temporary directory, which is removed with the value.
//! Nothing here panics for any other reason than a failed test.

pub mod deb;
mod fleet;
mod run;
mod tree;

pub use fleet::TestFleet;
pub use run::{Rolesmith, Run};
pub use tree::{Entry, Tree, copy};

/// The clock of hermetic tests, in seconds since 1970: 2026-01-01T00:00:00Z.
pub const EPOCH: u64 = 1_767_225_600;
