use std::fmt::Write as _;

use crate::cli::{End, json};
use crate::files::{Root, Seen};
use crate::observe;

/// Show the installed facts: their version and the fleet's members
#[derive(Debug, clap::Args)]
pub(crate) struct FactsArgs {
    /// For programs: the facts as they are
    #[arg(long)]
    json: bool,
}

impl FactsArgs {
    pub(crate) fn run(self) -> End {
        let facts = match observe::facts(&Root::machine()) {
            Seen::Is(facts) => facts,
            Seen::Absent => return End::Error("no facts are installed".to_owned()),
            Seen::Broken(why) => return End::Error(format!("the facts cannot be read: {why}")),
        };
        if self.json {
            return End::Good(json(&facts));
        }
        let mut text = format!(
            "{} ({}), version {}\n",
            facts.fleet, facts.domain, facts.version
        );
        for member in &facts.members {
            let address = member.address.as_deref().unwrap_or("-");
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:<20} {address:<16} {}",
                member.name,
                member.roles.join(" ")
            );
        }
        End::Good(text)
    }
}
