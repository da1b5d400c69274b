use std::path::PathBuf;

use crate::cli::{End, now};
use crate::discovery::digitalocean::Api;
use crate::discovery::{Found, Looked, look};
use crate::files::Root;

/// Ask where the fleet's members are (run by rolesmith-discovery.service)
///
/// Asks DigitalOcean's API for the droplets with the fleet's tag, where the fleet opted in to that, and writes down what it
/// said. The token comes from systemd ($CREDENTIALS_DIRECTORY). Addresses are hints: certificates tell who is a member.
#[derive(Debug, clap::Args)]
pub(crate) struct Discover {}

impl Discover {
    pub(crate) fn run(self) -> End {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        match look(
            &Root::machine(),
            credentials.as_deref(),
            &Api::public(),
            now(),
        ) {
            Ok(Looked::Nothing(why)) => End::Good(format!("nothing was asked: {why}\n")),
            Ok(Looked::Asked(Found {
                problem: Some(why), ..
            })) => End::Error(why),
            Ok(Looked::Asked(found)) => {
                End::Good(format!("{} members were found\n", found.addresses.len()))
            }
            Err(error) => End::Error(error.to_string()),
        }
    }
}
