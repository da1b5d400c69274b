//! rolesmith enroll

use crate::{
    app::App,
    args::Enroll,
    report::{Failure, Outcome},
};

/// Brings an existing machine into the fleet.
pub fn run(_app: &App, _args: &Enroll) -> Outcome {
    Err(Failure::new(
        "enroll is not there yet",
        "boot a fresh machine with `rolesmith user-data`",
    ))
}
