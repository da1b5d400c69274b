//! When a certificate is due, and who asks for it. Pure, and the same on every edge.

use serde::{Deserialize, Serialize};

use super::bundle::Offer;

/// Without a certificate, or with one for other names: how long a majority is waited for, in seconds.
pub const PATIENCE: u64 = 600;

/// Failures after which another edge tries.
const FAILING: u32 = 2;

/// Seconds between attempts that failed. Let's Encrypt takes five failed validations of a name in an hour and one more every twelve
/// minutes after that.
const BACK_OFF: [u64; 5] = [60, 300, 900, 1800, 3600];

/// After an authority has said that it was asked too much, in seconds, at least.
pub const LIMITED: u64 = 3 * 3600;

/// Where a site's certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// There is none, or one for other names.
    Missing,
    /// It has to be renewed.
    Old {
        /// When a majority is no longer waited for (Unix seconds).
        alone: u64,
    },
    /// It is good.
    Nothing {
        /// Until when (Unix seconds).
        until: u64,
    },
}

/// How long before its end (Unix seconds both) a certificate is renewed, in seconds: those days, or a third of its life if that is
/// less, so that short-lived ones are renewed in time too.
#[must_use]
pub fn window(offer: &Offer, renew_days: u64) -> u64 {
    let life = offer.not_after.saturating_sub(offer.not_before);
    (renew_days.saturating_mul(86_400)).min(life / 3)
}

/// What a site needs.
#[must_use]
pub fn need(offer: Option<&Offer>, hosts: &[String], renew_days: u64, now: u64) -> Need {
    let Some(offer) = offer.filter(|offer| offer.fits(hosts)) else {
        return Need::Missing;
    };
    let window = window(offer, renew_days);
    let due = offer.not_after.saturating_sub(window);
    if now < due {
        return Need::Nothing { until: due };
    }
    Need::Old {
        alone: offer.not_after.saturating_sub(window / 2),
    }
}

/// Whether a certificate is asked for without a majority: it is missing for long, or will not last much longer. A lease spares the
/// authority; a site without a certificate helps nobody.
#[must_use]
pub const fn alone(need: Need, missing_since: u64, now: u64) -> bool {
    match need {
        Need::Missing => now >= missing_since.saturating_add(PATIENCE),
        Need::Old { alone } => now >= alone,
        Need::Nothing { .. } => false,
    }
}

/// What others have for a site and is better than its own, the best first. Several may have the same, and some may not keep what they
/// promise.
#[must_use]
pub fn better<'a>(
    own: Option<&Offer>,
    others: impl IntoIterator<Item = (&'a str, &'a Offer)>,
    hosts: &[String],
    now: u64,
) -> Vec<(&'a str, &'a Offer)> {
    let mut better: Vec<_> = others
        .into_iter()
        .filter(|(_, offer)| offer.fits(hosts) && offer.sound(now))
        .filter(|(_, offer)| own.is_none_or(|own| offer.beats(own, hosts)))
        .collect();
    better.sort_by(|(_, one), (_, other)| {
        let beats = |one: &Offer, other: &Offer| one.beats(other, hosts);
        beats(other, one).cmp(&beats(one, other))
    });
    better
}

/// An edge as one that could ask for a certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate<'a> {
    /// How often it has had its turn and failed ([`Attempts::turns`]).
    pub turns: u32,
    /// Its name.
    pub name: &'a str,
}

/// Whether it is this edge's turn: the first by name of those that had fewest turns, so that it goes round while all fail. Those that the load
/// balancer leaves out, or that do not answer, are no candidates.
#[must_use]
pub fn turn(me: &Candidate<'_>, others: &[Candidate<'_>]) -> bool {
    others.iter().all(|other| me < other)
}

/// What was tried for a site, and when it may be tried again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Failures in a row.
    pub failures: u32,
    /// Not before (Unix seconds).
    pub not_before: u64,
}

impl Attempts {
    /// One more has failed; `limited` if the authority wants to be left alone.
    #[must_use]
    pub fn failed(self, now: u64, limited: bool) -> Self {
        let index = usize::try_from(self.failures).unwrap_or(usize::MAX);
        let wait = BACK_OFF[index.min(BACK_OFF.len() - 1)];
        Self {
            failures: self.failures.saturating_add(1),
            not_before: now.saturating_add(if limited { LIMITED } else { wait }),
        }
    }

    /// Whether it may be tried now. A clock that was set back makes nobody wait for longer than the longest pause.
    #[must_use]
    pub const fn may(self, now: u64) -> bool {
        now >= self.not_before || self.not_before > now.saturating_add(LIMITED)
    }

    /// How many turns have failed: after some failures somebody else had better try.
    #[must_use]
    pub const fn turns(self) -> u32 {
        self.failures / FAILING
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn offer(from: u64, until: u64) -> Offer {
        Offer {
            not_before: from,
            not_after: until,
            print: "x".into(),
            names: vec!["shop.example.com".into()],
        }
    }

    fn hosts(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn long_lives_are_renewed_by_days_and_short_ones_by_a_third() {
        let site = hosts(&["shop.example.com"]);
        let ninety = offer(0, 90 * DAY);
        assert_eq!(
            need(Some(&ninety), &site, 20, 60 * DAY),
            Need::Nothing { until: 70 * DAY }
        );
        assert_eq!(
            need(Some(&ninety), &site, 30, 60 * DAY),
            Need::Old { alone: 75 * DAY }
        );
        // Six days, as Let's Encrypt's shortest.
        let short = offer(0, 6 * DAY);
        assert_eq!(
            need(Some(&short), &site, 30, DAY),
            Need::Nothing { until: 4 * DAY }
        );
    }

    #[test]
    fn another_name_needs_another_certificate() {
        let site = hosts(&["shop.example.com", "www.example.com"]);
        assert_eq!(need(Some(&offer(0, 90 * DAY)), &site, 30, 1), Need::Missing);
        assert_eq!(need(None, &site, 30, 1), Need::Missing);
    }

    /// Who of so many edges, that had so many turns each, thinks that it is its own.
    fn whose(turns: &[u32]) -> Vec<usize> {
        let names: Vec<String> = (0..turns.len()).map(|n| format!("app-{n}")).collect();
        let candidate = |(name, &turns)| Candidate { turns, name };
        let mut all: Vec<Candidate<'_>> = names
            .iter()
            .map(String::as_str)
            .zip(turns)
            .map(candidate)
            .collect();
        let mut own = Vec::new();
        for me in 0..all.len() {
            let candidate = all.remove(me);
            if turn(&candidate, &all) {
                own.push(me);
            }
            all.insert(me, candidate);
        }
        own
    }

    #[test]
    fn while_all_fail_it_goes_round() {
        let (mut attempts, mut order) = ([Attempts::default(); 3], Vec::new());
        for _ in 0..12 {
            let turns = attempts.map(Attempts::turns);
            let me = whose(&turns)[0];
            attempts[me] = attempts[me].failed(0, false);
            order.push(me);
        }
        assert_eq!(order, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_best_that_may_be_believed_comes_first_and_all_that_have_it() {
        let site = hosts(&["shop.example.com"]);
        let now = 100 * DAY;
        let (old, new) = (offer(90 * DAY, 180 * DAY), offer(95 * DAY, 185 * DAY));
        let (later, longer) = (offer(200 * DAY, 290 * DAY), offer(96 * DAY, 9000 * DAY));
        let others = [
            ("a", &old),
            ("b", &later),
            ("c", &new),
            ("d", &longer),
            ("e", &new),
        ];
        let names = |own, hosts: &[String]| -> Vec<_> {
            let better = better(own, others, hosts, now);
            better.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(None, &site), ["c", "e", "a"]);
        assert_eq!(names(Some(&old), &site), ["c", "e"]);
        assert!(names(Some(&new), &site).is_empty());
        assert!(names(None, &hosts(&["www.example.com"])).is_empty());
    }

    #[test]
    fn a_majority_is_not_waited_for_until_it_is_too_late() {
        assert!(!alone(Need::Missing, 1000, 1000 + PATIENCE - 1));
        assert!(alone(Need::Missing, 1000, 1000 + PATIENCE));
        assert!(!alone(Need::Old { alone: 50 }, 0, 49));
        assert!(alone(Need::Old { alone: 50 }, 0, 50));
        assert!(!alone(Need::Nothing { until: 5 }, 0, 1_000_000));
    }

    #[test]
    fn attempts_become_rare_and_stay_within_five_an_hour() {
        let (mut attempts, mut now, mut times) = (Attempts::default(), 0, vec![]);
        while now < 7200 {
            if attempts.may(now) {
                times.push(now);
                attempts = attempts.failed(now, false);
            }
            now += 1;
        }
        for begin in &times {
            let within = times.iter().filter(|t| (*begin..begin + 3600).contains(t));
            assert!(within.count() <= 5, "{times:?}");
        }
        assert!(attempts.turns() > 0);
        let limited = Attempts::default().failed(0, true);
        assert!(!limited.may(LIMITED - 1) && limited.may(LIMITED));
    }

    proptest! {
        /// Of edges that see the same, exactly one has its turn.
        #[test]
        fn one_has_its_turn(turns in prop::collection::vec(0..4_u32, 1..8)) {
            prop_assert_eq!(whose(&turns).len(), 1);
        }

        /// Whatever its life: it is renewed before its end, and before a majority is no longer waited for.
        #[test]
        fn renewal_comes_before_the_end(life in 60..400 * DAY, days in 1..60_u64) {
            let site = hosts(&["shop.example.com"]);
            let new = offer(1000, 1000 + life);
            let Need::Nothing { until } = need(Some(&new), &site, days, 1000) else { panic!("it is new") };
            let Need::Old { alone } = need(Some(&new), &site, days, until) else { panic!("it is due") };
            prop_assert!(until <= alone && alone <= new.not_after && until < new.not_after);
        }
    }
}
