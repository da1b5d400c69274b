use crate::cli::End;
use crate::fetch::{Fetched, fetch};
use crate::files::Root;
use crate::program::Machine;

/// Take new facts from the fleet's repository (root; run by rolesmith-facts.service)
///
/// Lets apt look at the fleet's repository alone and upgrades the facts package, and nothing else. Waits for other
/// package managers. Older facts than the installed ones are never taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {}

impl Fetch {
    pub(crate) fn run(self) -> End {
        match fetch(&Root::machine(), &Machine) {
            Ok(Fetched::Nothing(why)) => End::Good(format!("nothing to fetch: {why}\n")),
            Ok(Fetched::UpToDate) => End::Good("the facts are up to date\n".to_owned()),
            Ok(Fetched::Installed) => End::Good("new facts are installed\n".to_owned()),
            Err(error) => End::Error(error.to_string()),
        }
    }
}
