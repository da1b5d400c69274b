use rolesmith_model::manifest::POKE_FILE;

use crate::cli::End;
use crate::files::{self, Access, Root};

/// Wake rolesmith-apply.service (root)
///
/// Creates /run/rolesmith/poke, as packages do from their maintainer scripts. Returns at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Poke {}

impl Poke {
    pub(crate) fn run(self) -> End {
        poke(&Root::machine())
    }
}

pub(super) fn poke(root: &Root) -> End {
    match files::write(&root.join(POKE_FILE), b"", Access::PUBLIC) {
        Ok(()) => End::Good(String::new()),
        Err(error) => End::Error(format!("{POKE_FILE}: {error}")),
    }
}
