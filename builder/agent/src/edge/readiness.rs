//! Whether the machine may get requests. Pure: looks come in with their time, verdicts go out.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long something may fail, and how long it has to work, before the verdict changes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A part that fails for this long takes the machine out. Longer than the restart of a service, and shorter than the
    /// load balancer needs to see it.
    pub out: Duration,
    /// A part has to work for this long before the machine comes back, so that one that comes and goes stays out.
    pub back: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            out: Duration::from_secs(3),
            back: Duration::from_secs(2),
        }
    }
}

/// Where one part of the machine stands.
#[derive(Debug, Clone)]
struct Part {
    /// What the looks say: the problem, if there is one.
    seen: Option<String>,
    /// Since when they agree on whether there is one.
    since: Duration,
    /// What counts.
    problem: Option<String>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether requests may come.
    pub ready: bool,
    /// Why not, a line each.
    pub problems: Vec<String>,
}

/// All parts, with their history.
#[derive(Debug, Clone)]
pub struct Readiness {
    limits: Limits,
    parts: BTreeMap<String, Part>,
    drained: bool,
}

impl Readiness {
    /// A machine of these parts of which nothing is known yet: it is not ready before each was seen to work.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>, limits: Limits) -> Self {
        let unknown = || Some("was not looked at yet".to_owned());
        let parts = names.into_iter().map(|name| {
            let part = Part {
                seen: unknown(),
                since: Duration::ZERO,
                problem: unknown(),
            };
            (name, part)
        });
        Self {
            limits,
            parts: parts.collect(),
            drained: false,
        }
    }

    /// The operator, or an upgrade, wants nobody here. Takes effect at once, both ways.
    pub fn drain(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// A look at a part, at a time that only grows.
    pub fn saw(&mut self, name: &str, problem: Option<String>, now: Duration) {
        let Some(part) = self.parts.get_mut(name) else {
            return;
        };
        if part.seen.is_some() != problem.is_some() {
            part.since = now;
        }
        part.seen = problem;
        let lasted = now.saturating_sub(part.since);
        let (was, is) = (part.problem.is_some(), part.seen.is_some());
        // Nothing is known about a part that was never well: it may come at once when it is.
        let settled = match (was, is) {
            (false, true) => lasted >= self.limits.out,
            (true, false) => lasted >= self.limits.back,
            _ => true,
        };
        if settled {
            part.problem.clone_from(&part.seen);
        }
    }

    /// What is answered now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let drained = self.drained.then(|| "drained".to_owned());
        let failing = self.parts.iter().filter_map(|(name, part)| {
            let problem = part.problem.as_ref()?;
            Some(format!("{name}: {problem}"))
        });
        let problems: Vec<String> = drained.into_iter().chain(failing).collect();
        Verdict {
            ready: problems.is_empty(),
            problems,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn one() -> Readiness {
        Readiness::new(["shop".to_owned()], Limits::default())
    }

    #[test]
    fn a_machine_is_not_ready_before_it_was_seen_to_work() {
        let mut readiness = one();
        assert!(!readiness.verdict().ready);
        readiness.saw("shop", None, seconds(10));
        assert!(!readiness.verdict().ready, "one look is not enough");
        readiness.saw("shop", None, seconds(12));
        assert!(readiness.verdict().ready);
    }

    #[test]
    fn a_short_failure_is_passed_over_and_a_long_one_counts() {
        let mut readiness = one();
        for second in 0..5 {
            readiness.saw("shop", None, seconds(second));
        }
        readiness.saw("shop", Some("refused".into()), seconds(5));
        readiness.saw("shop", Some("refused".into()), seconds(7));
        assert!(readiness.verdict().ready);
        readiness.saw("shop", Some("refused".into()), seconds(8));
        assert_eq!(readiness.verdict().problems, ["shop: refused"]);
    }

    #[test]
    fn draining_acts_at_once() {
        let mut readiness = Readiness::new([], Limits::default());
        assert!(readiness.verdict().ready);
        readiness.drain(true);
        assert_eq!(readiness.verdict().problems, ["drained"]);
        readiness.drain(false);
        assert!(readiness.verdict().ready);
    }

    proptest! {
        /// Whatever the looks are: while all of the last `out` seconds were good the machine is ready at most `back` later, and it
        /// is never ready when all of them were bad for longer than `out`.
        #[test]
        fn the_verdict_follows_what_lasts(looks in prop::collection::vec(any::<bool>(), 1..60)) {
            let mut readiness = one();
            let (mut good, mut bad) = (0_u64, 0_u64);
            for (second, well) in looks.into_iter().enumerate() {
                readiness.saw("shop", (!well).then(|| "bad".to_owned()), seconds(second as u64));
                (good, bad) = if well { (good + 1, 0) } else { (0, bad + 1) };
                let ready = readiness.verdict().ready;
                if good > 2 { prop_assert!(ready); }
                if bad > 3 { prop_assert!(!ready); }
            }
        }
    }
}
