//! When another service is asked where members are: while somebody is lost, less and less often, and never all nodes at once.
//!
//! The question is a file that is written; rolesmith-discovery.service asks it, and its answer is a file too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use rolesmith_model::facts::{DIGITALOCEAN_TOKEN, Facts, SECRETS_DIR};

use crate::discovery::{Found, WANTED};
use crate::files::Root;
use crate::net::limits::Jitter;

/// Before the first question; members that boot together find each other without one most of the time.
const FIRST: Duration = Duration::from_secs(3);
/// Between the first two questions, and between later ones at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(300));

/// What was asked, and what was told.
#[derive(Debug)]
pub struct Discovery {
    jitter: Jitter,
    /// When it may be asked next, and how long it is waited after that; nothing while nobody is lost.
    next: Option<(u64, Duration)>,
    problem: Option<String>,
}

impl Discovery {
    /// `seed` spreads the members of a fleet over the time.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            jitter: Jitter::new(seed),
            next: None,
            problem: None,
        }
    }

    /// Asks if it is time to, and gives what was told last. To be called every second or so; `now` is in milliseconds.
    pub fn look(
        &mut self,
        root: &Root,
        facts: &Facts,
        lost: &BTreeSet<String>,
        now: u64,
    ) -> BTreeMap<String, Vec<IpAddr>> {
        let place = match &facts.discovery.digitalocean {
            Some(place) if !lost.is_empty() => place,
            _ => {
                (self.next, self.problem) = (None, None);
                return BTreeMap::new();
            }
        };
        // Without one the unit would fail each time, and say less well why.
        let token = root.join(SECRETS_DIR).join(DIGITALOCEAN_TOKEN).is_file();
        match self.next {
            None => self.next = Some((now + self.milliseconds(FIRST), PAUSES.0)),
            Some((at, pause)) if now >= at => {
                if token {
                    // In place, which is what the path unit looks for. Where it fails the next question is tried.
                    let _ = fs::write(root.join(WANTED), format!("{}\n", place.tag));
                }
                let at = now + self.milliseconds(pause);
                self.next = Some((at, (pause * 2).min(PAUSES.1)));
            }
            Some(_) => {}
        }
        let found = Found::read(root).filter(|found| found.tag == place.tag);
        self.problem = if token {
            found.as_ref().and_then(|found| found.problem.clone())
        } else {
            Some(format!(
                "this node has no secret {DIGITALOCEAN_TOKEN} and cannot look for its peers: bring it with `rolesmith enroll NODE \
                 --ssh HOST --secrets`"
            ))
        };
        let addresses = found.into_iter().flat_map(|found| found.addresses);
        addresses
            .filter(|(name, _)| lost.contains(name))
            .map(|(name, list)| (name, list.into_iter().map(IpAddr::V4).collect()))
            .collect()
    }

    /// Why nothing, or nothing new, is known; nothing while nobody is lost.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn milliseconds(&mut self, time: Duration) -> u64 {
        u64::try_from(self.jitter.around(time).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use rolesmith_model::facts::DigitalOcean;
    use serde_json::json;

    use super::*;
    use crate::discovery::FOUND;
    use crate::files::{self, Access};
    use crate::net::testing::Fleet;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.root().join(WANTED).parent().unwrap()).unwrap();
            machine
        }

        fn root(&self) -> Root {
            Root::at(self.0.path())
        }

        fn write(&self, path: &str, text: &str) {
            files::write(&self.root().join(path), text.as_bytes(), Access::PUBLIC).unwrap();
        }

        /// Whether it was asked since the last time.
        fn asked(&self) -> bool {
            fs::remove_file(self.root().join(WANTED)).is_ok()
        }
    }

    fn facts(tag: Option<&str>) -> Facts {
        let mut facts = Fleet::new(&["n1", "n2"]).facts;
        facts.discovery.digitalocean = tag.map(|tag| DigitalOcean {
            tag: tag.to_owned(),
        });
        facts
    }

    #[test]
    fn it_is_asked_while_somebody_is_lost_and_less_and_less_often() {
        let (machine, facts) = (Machine::new(), facts(Some("acme")));
        machine.write("/etc/rolesmith/secrets/digitalocean-token", "x");
        let nobody = BTreeSet::new();
        let lost = BTreeSet::from(["n2".to_owned()]);
        let mut discovery = Discovery::new(7);
        let mut times = Vec::new();
        for second in 0..7200 {
            discovery.look(&machine.root(), &facts, &lost, second * 1000);
            if machine.asked() {
                times.push(second);
            }
        }
        assert!(times[0] <= 5, "{times:?}");
        // At most every five minutes on average, and spread over half to one and a half of that.
        assert!((20..=40).contains(&times.len()), "{times:?}");
        let pauses: BTreeSet<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            pauses.len() > 10 && pauses.iter().all(|pause| *pause <= 451),
            "{pauses:?}"
        );
        // Who came back ends it, and the next one who is lost is asked for soon.
        discovery.look(&machine.root(), &facts, &nobody, 7_200_000);
        for second in 7201..7210 {
            discovery.look(&machine.root(), &facts, &lost, second * 1000);
        }
        assert!(machine.asked());
    }

    #[test]
    fn only_what_was_told_of_lost_members_by_this_tag_is_taken() {
        let machine = Machine::new();
        let lost = BTreeSet::from(["n2".to_owned()]);
        let told = |tag: &str, problem: Option<&str>| {
            json!({
                "format": 1, "tag": tag, "at": 5, "problem": problem,
                "addresses": {"n1": ["10.0.0.1"], "n2": ["10.0.0.2"]},
            })
        };
        let mut discovery = Discovery::new(7);
        let mut look = |facts: &Facts| {
            let mut found = BTreeMap::new();
            for now in 0..10 {
                found = discovery.look(&machine.root(), facts, &lost, now * 1000);
            }
            (found, discovery.problem().map(ToOwned::to_owned))
        };
        let there: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap()];
        // Without a token nobody is asked, and that is said.
        let (found, problem) = look(&facts(Some("acme")));
        assert!(found.is_empty() && problem.unwrap().contains("digitalocean-token"));
        assert!(!machine.asked());
        machine.write("/etc/rolesmith/secrets/digitalocean-token", "x");
        machine.write(FOUND, &told("acme", None).to_string());
        let wanted = BTreeMap::from([("n2".to_owned(), there)]);
        assert_eq!(look(&facts(Some("acme"))), (wanted.clone(), None));
        machine.write(FOUND, &told("acme", Some("refused")).to_string());
        assert_eq!(look(&facts(Some("acme"))), (wanted, Some("refused".into())));
        machine.write(FOUND, &told("other", Some("refused")).to_string());
        assert_eq!(look(&facts(Some("acme"))), (BTreeMap::new(), None));
        // A fleet that does not want it takes nothing and asks nobody.
        let _ = machine.asked();
        machine.write(FOUND, &told("acme", Some("refused")).to_string());
        assert_eq!(look(&facts(None)), (BTreeMap::new(), None));
        assert!(!machine.asked());
    }
}
