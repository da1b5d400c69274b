//! Times as people write them, as far as journalctl(1) takes them (systemd.time(7), "Parsing timestamps").

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, ZonedDateTime};

/// What could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time; write it as \"2026-03-01 12:00:00\", \"2026-03-01T12:00:00Z\", \"12:00\", \"yesterday\", \"-1h\" or \"2 days ago\""
)]
pub struct NotATime(String);

/// Days that a month and a year have on average (systemd.time(7), "Parsing time spans"), in seconds.
const MONTH: i64 = 2_629_800;
const YEAR: i64 = 31_557_600;

/// Reads a time: microseconds since 1970. Whatever has no zone is of `now`'s.
///
/// # Errors
/// [`NotATime`].
pub fn parse(text: &str, now: &ZonedDateTime) -> Result<i64, NotATime> {
    let text = text.trim();
    named(text, now)
        .or_else(|| relative(text, now))
        .or_else(|| absolute(text, now))
        .map(Timestamp::as_microsecond)
        .ok_or_else(|| NotATime(text.to_owned()))
}

fn named(text: &str, now: &ZonedDateTime) -> Option<Timestamp> {
    let midnight = |zoned: ZonedDateTime| zoned.start_of_day().ok();
    let day = match text {
        "now" => return Some(now.timestamp()),
        "today" => midnight(now.clone()),
        "yesterday" => midnight(now.checked_sub(1.day()).ok()?),
        "tomorrow" => midnight(now.checked_add(1.day()).ok()?),
        _ => None,
    };
    day.map(|day| day.timestamp())
}

/// `-1h`, `+5min`, `2 days ago`, `3h left`, `@1772366400`.
fn relative(text: &str, now: &ZonedDateTime) -> Option<Timestamp> {
    if let Some(seconds) = text.strip_prefix('@') {
        let duration = span(&format!("{seconds}s"))?;
        return Timestamp::UNIX_EPOCH.checked_add(duration).ok();
    }
    let now = now.timestamp();
    if let Some(rest) = text.strip_prefix('-').or_else(|| text.strip_suffix(" ago")) {
        return now.checked_sub(span(rest)?).ok();
    }
    let rest = text
        .strip_prefix('+')
        .or_else(|| text.strip_suffix(" left"))?;
    now.checked_add(span(rest)?).ok()
}

/// `1h`, `2h 30min`, `1.5 days`.
fn span(text: &str) -> Option<SignedDuration> {
    let mut rest = text.trim();
    let mut sum = SignedDuration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..end].parse().ok()?;
        rest = rest[end..].trim_start();
        let end = rest
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(rest.len());
        let seconds = unit(&rest[..end])?;
        sum = sum.checked_add(SignedDuration::try_from_secs_f64(amount * seconds).ok()?)?;
        rest = rest[end..].trim_start();
    }
    (!text.trim().is_empty()).then_some(sum)
}

/// Seconds of a unit.
#[expect(
    clippy::cast_precision_loss,
    reason = "a year has fewer than 2^52 seconds"
)]
fn unit(word: &str) -> Option<f64> {
    Some(match word {
        "usec" | "us" | "µs" | "μs" => 1e-6,
        "msec" | "ms" => 1e-3,
        "seconds" | "second" | "sec" | "s" => 1.0,
        "minutes" | "minute" | "min" | "m" => 60.0,
        "hours" | "hour" | "hr" | "h" => 3_600.0,
        "days" | "day" | "d" => 86_400.0,
        "weeks" | "week" | "w" => 604_800.0,
        "months" | "month" | "M" => MONTH as f64,
        "years" | "year" | "y" => YEAR as f64,
        _ => return None,
    })
}

/// A date, a time of today, or both; a weekday before it is passed over, UTC or an offset after it is heeded.
fn absolute(text: &str, now: &ZonedDateTime) -> Option<Timestamp> {
    // With T it is RFC 3339, zone included.
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp);
    }
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.len() > 1 && is_weekday(words[0]) {
        words.remove(0);
    }
    let zone = match words.last() {
        Some(&"UTC") if words.len() > 1 => {
            words.pop();
            TimeZone::UTC
        }
        _ => now.time_zone().clone(),
    };
    let joined = words.join("T");
    let local: DateTime = match words.as_slice() {
        [word] if !word.contains('T') => match date(word) {
            Some(date) => date.to_datetime(Time::midnight()),
            None => now.date().to_datetime(time(word)?),
        },
        [_] | [_, _] => {
            let (day, clock) = joined.split_once('T')?;
            date(day)?.to_datetime(time(clock)?)
        }
        _ => return None,
    };
    Some(local.to_zoned_datetime(zone).ok()?.timestamp())
}

fn is_weekday(word: &str) -> bool {
    const DAYS: [&str; 7] = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let word = word.trim_end_matches(',').to_ascii_lowercase();
    word.len() >= 3 && DAYS.iter().any(|day| *day == word || day[..3] == word)
}

/// `2026-03-01`
fn date(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || parts.next().is_some() {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// `12:00`, `12:00:30`, `12:00:30.5`
fn time(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = whole.split(':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let second = parts.next();
    let digits = |part: &str| {
        let plain = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i8>().ok().filter(|_| plain)
    };
    let clean = fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
    if parts.next().is_some() || !clean || (second.is_none() && !fraction.is_empty()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    let second = second.map_or(Some(0), digits)?;
    Time::new(digits(hour)?, digits(minute)?, second, nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Half past twelve on the day after Europe's clocks were put forward.
    fn now() -> ZonedDateTime {
        "2026-03-30T12:30:00[Europe/Berlin]".parse().unwrap()
    }

    #[test]
    fn times_are_read_as_journalctl_reads_them() {
        for (text, expected) in [
            ("now", "2026-03-30T10:30:00Z"),
            ("today", "2026-03-29T22:00:00Z"),
            // It began in winter time.
            ("yesterday", "2026-03-28T23:00:00Z"),
            ("tomorrow", "2026-03-30T22:00:00Z"),
            ("-1h", "2026-03-30T09:30:00Z"),
            ("-1h 30min", "2026-03-30T09:00:00Z"),
            ("+5m", "2026-03-30T10:35:00Z"),
            ("90s ago", "2026-03-30T10:28:30Z"),
            ("1.5 days ago", "2026-03-28T22:30:00Z"),
            ("2 weeks ago", "2026-03-16T10:30:00Z"),
            ("@1772366400", "2026-03-01T12:00:00Z"),
            ("@1772366400.25", "2026-03-01T12:00:00.25Z"),
            ("10:00", "2026-03-30T08:00:00Z"),
            ("10:00:30.5", "2026-03-30T08:00:30.5Z"),
            ("2026-03-01", "2026-02-28T23:00:00Z"),
            ("2026-03-01 10:00", "2026-03-01T09:00:00Z"),
            ("2026-03-01T10:00:01", "2026-03-01T09:00:01Z"),
            ("Sun 2026-03-01 10:00:00", "2026-03-01T09:00:00Z"),
            ("2026-03-01 10:00:00 UTC", "2026-03-01T10:00:00Z"),
            ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z"),
            (
                "2026-03-01T10:00:00.123456+05:30",
                "2026-03-01T04:30:00.123456Z",
            ),
        ] {
            let read = parse(text, &now()).map(|at| Timestamp::from_microsecond(at).unwrap());
            assert_eq!(read, Ok(expected.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "-",
            "noon",
            "1h",
            "-1",
            "-1x",
            "25:00",
            "10:60",
            "2026-13-01",
            "26-03-01",
            "10",
            "10:0a",
            "2026-03-01 10:00 CEST",
            "@",
            "12:00.5",
        ] {
            assert!(parse(text, &now()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}", likely in "[-+@]?[0-9:. TZa-z-]{0,25}( ago)?") {
            let _ = parse(&text, &now());
            let _ = parse(&likely, &now());
        }
    }
}
