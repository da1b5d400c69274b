//! One issuer at a time. Pure.
//!
//! An edge that wants to issue asks every edge, itself included, for a promise. Who has promised promises nobody else until the promise
//! has run out or was given back. A majority of promises makes a lease: two of them at once would have a voter in common. A voter's
//! promise outlasts the use that is made of it, so it does not matter when the question was sent.

use serde::{Deserialize, Serialize};

/// For how long a promise binds the voter, in seconds.
pub const TERM: u64 = 600;

/// For how long the holder may use it, from before it asked, in seconds.
pub const USE: u64 = 480;

/// What a voter has promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// To whom.
    pub holder: String,
    /// Until when, by the voter's own clock (Unix seconds).
    pub until: u64,
}

/// What still binds. A clock that was set back would make a promise last for as long again; nothing binds for longer than [`TERM`].
#[must_use]
pub fn in_force(promise: Option<Promise>, now: u64) -> Option<Promise> {
    let mut promise = promise.filter(|promise| promise.until > now)?;
    promise.until = promise.until.min(now.saturating_add(TERM));
    Some(promise)
}

/// Decides about a question for a promise. Either way the result is what the voter has promised afterwards.
///
/// # Errors
/// Somebody else has the promise.
pub fn ask(promise: Option<Promise>, who: &str, now: u64) -> Result<Promise, Promise> {
    match in_force(promise, now) {
        Some(other) if other.holder != who => Err(other),
        _ => Ok(Promise {
            holder: who.to_owned(),
            until: now.saturating_add(TERM),
        }),
    }
}

/// Gives a promise back; nobody but its holder can.
#[must_use]
pub fn release(promise: Option<Promise>, who: &str, now: u64) -> Option<Promise> {
    in_force(promise, now).filter(|promise| promise.holder != who)
}

/// How many of so many voters are a majority.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn promise(holder: &str, until: u64) -> Promise {
        Promise {
            holder: holder.into(),
            until,
        }
    }

    #[test]
    fn a_promise_binds_until_it_runs_out_or_comes_back() {
        let first = ask(None, "a", 1000).unwrap();
        assert_eq!(first, promise("a", 1000 + TERM));
        assert_eq!(ask(Some(first.clone()), "b", 1001), Err(first.clone()));
        assert_eq!(
            ask(Some(first.clone()), "a", 1100),
            Ok(promise("a", 1100 + TERM)),
            "it may be asked for again"
        );
        assert_eq!(
            ask(Some(first.clone()), "b", 1000 + TERM),
            Ok(promise("b", 1000 + 2 * TERM))
        );
        assert_eq!(
            release(Some(first.clone()), "b", 1001),
            Some(first.clone()),
            "it is not theirs"
        );
        assert_eq!(release(Some(first), "a", 1001), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_bind_for_ever() {
        let ahead = promise("a", 1_000_000);
        assert_eq!(in_force(Some(ahead), 1000), Some(promise("a", 1000 + TERM)));
    }

    #[test]
    fn majorities_meet() {
        for voters in 1..20 {
            assert!(2 * majority(voters) > voters && majority(voters) <= voters);
        }
    }

    /// Who asks, after how many seconds, which of the voters hear it, and whether it gives the lease back at once.
    type Turn = (usize, u64, Vec<bool>, bool);

    proptest! {
        /// Whoever asks whom, and whatever is lost: nobody has the use of a lease while another one has.
        #[test]
        fn never_two_at_once(
            voters in 1..6_usize,
            turns in prop::collection::vec((0..6_usize, 0..300_u64, prop::collection::vec(any::<bool>(), 6), any::<bool>()), 1..60)
        ) {
            let turns: Vec<Turn> = turns;
            let mut promises: Vec<Option<Promise>> = vec![None; voters];
            let (mut now, mut used): (u64, Option<(usize, u64)>) = (1_000_000, None);
            for (who, wait, heard, back) in turns {
                let (who, name) = (who % voters, format!("n{}", who % voters));
                now += wait;
                let mut granted = 0;
                for (voter, promise) in promises.iter_mut().enumerate() {
                    if !heard[voter] { continue; }
                    match ask(promise.clone(), &name, now) {
                        Ok(new) => { granted += 1; *promise = Some(new); }
                        Err(old) => *promise = Some(old),
                    }
                }
                if granted < majority(voters) { continue; }
                if let Some((other, until)) = used {
                    prop_assert!(other == who || now >= until, "{other} has it until {until}, and {who} got it at {now}");
                }
                used = Some((who, now + USE));
                if back {
                    used = None;
                    for (voter, promise) in promises.iter_mut().enumerate() {
                        if heard[voter] { *promise = release(promise.clone(), &name, now); }
                    }
                }
            }
        }
    }
}
