//! Counters that only grow, until they begin anew.

/// How much a counter grew. One that is lower than before began anew in between, at zero.
#[must_use]
pub fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// The same where it may be unknown.
#[must_use]
pub fn grown_if_known(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    Some(grown(before?, now?))
}

/// Two decimal places: what percentages of a minute are worth.
#[must_use]
pub fn two_places(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_began_anew_counts_from_zero() {
        assert_eq!(grown(7, 10), 3);
        assert_eq!(grown(7, 7), 0);
        assert_eq!(grown(7, 2), 2);
        assert_eq!(grown_if_known(None, Some(2)), None);
        assert_eq!(grown_if_known(Some(1), Some(2)), Some(1));
    }
}
