//! A line of a log server's files, taken apart without copying it (RFC 5424, 6; docs/logs.md for the stamp).

use std::ops::Range;

/// The words of journalctl(1) for severities, by number.
pub const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];
/// The words of syslog(3) for facilities, by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Where the parts of a line are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The whole line, without its newline.
    pub line: &'a [u8],
    priority: u8,
    time: Range<usize>,
    node: Range<usize>,
    service: Range<usize>,
    process: Range<usize>,
    data: Range<usize>,
    message: usize,
}

impl<'a> Entry<'a> {
    /// Takes a line apart; `None` is no line of ours, such as one that was cut off by a crash.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let end = memchr::memchr(b'>', line.get(..6).unwrap_or(line))?;
        let priority = number(line.get(1..end)?).filter(|n| *n < 192)?;
        if line.first() != Some(&b'<') || line.get(end + 1..end + 3) != Some(b"1 ".as_slice()) {
            return None;
        }
        let mut at = end + 3;
        let mut word = || {
            let length = memchr::memchr(b' ', &line[at..])?;
            let found = at..at + length;
            at += length + 1;
            Some(found)
        };
        let (time, node, service, process) = (word()?, word()?, word()?, word()?);
        word()?;
        let data = at..at + structured(&line[at..])?;
        // A line without text ends here.
        let message = (data.end + 1).min(line.len());
        Some(Self {
            line,
            priority: u8::try_from(priority).ok()?,
            time,
            node,
            service,
            process,
            data,
            message,
        })
    }

    /// The machine.
    #[must_use]
    pub fn node(&self) -> &'a [u8] {
        &self.line[self.node.clone()]
    }

    /// The program, which is SYSLOG_IDENTIFIER= in the machine's journal.
    #[must_use]
    pub fn service(&self) -> &'a [u8] {
        &self.line[self.service.clone()]
    }

    /// Its process, or `-`.
    #[must_use]
    pub fn process(&self) -> &'a [u8] {
        &self.line[self.process.clone()]
    }

    /// What was said.
    #[must_use]
    pub fn message(&self) -> &'a [u8] {
        &self.line[self.message..]
    }

    /// When, as it stands there.
    #[must_use]
    pub fn time_text(&self) -> &'a [u8] {
        &self.line[self.time.clone()]
    }

    /// When: microseconds since 1970. `None`: not a time of RFC 3339.
    #[must_use]
    pub fn time(&self) -> Option<i64> {
        microseconds(self.time_text())
    }

    /// From 0, the worst, to 7.
    #[must_use]
    pub fn severity(&self) -> u8 {
        self.priority & 7
    }

    /// The word for its facility.
    #[must_use]
    pub fn facility(&self) -> &'static str {
        FACILITIES
            .get(usize::from(self.priority >> 3))
            .copied()
            .unwrap_or("?")
    }

    /// The structured data.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        &self.line[self.data.clone()]
    }
}

/// The length of STRUCTURED-DATA at the beginning: `-`, or elements in brackets, in whose values `"`, `\` and `]` have a `\` before them.
fn structured(text: &[u8]) -> Option<usize> {
    if text.first() == Some(&b'-') {
        return Some(1);
    }
    let (mut quoted, mut escaped, mut open) = (false, false, false);
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if open => quoted = !quoted,
            _ if quoted => {}
            b'[' if !open => open = true,
            b']' if open => {
                open = false;
                if text.get(place + 1) != Some(&b'[') {
                    return Some(place + 1);
                }
            }
            _ if open => {}
            _ => return None,
        }
    }
    None
}

fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0_i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    (!digits.is_empty() && digits.len() <= 9).then_some(value)
}

/// A time as rsyslog writes it (RFC 3339): `2026-03-01T12:00:00.123456+00:00`. By hand, since every line is looked at.
fn microseconds(text: &[u8]) -> Option<i64> {
    let part = |range: Range<usize>| number(text.get(range)?);
    for (place, sign) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if text.get(place) != Some(&sign) {
            return None;
        }
    }
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !in_range {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut fraction = 0;
    if let Some(digits) = rest.strip_prefix(b".") {
        let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        let kept = length.min(6);
        fraction = number(&digits[..kept])?;
        for _ in kept..6 {
            fraction *= 10;
        }
        rest = &digits[length..];
    }
    let offset = match rest {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let minutes = number(&[*h1, *h2])? * 60 + number(&[*m1, *m2])?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some((seconds - offset * 60) * 1_000_000 + fraction)
}

/// Days from 1970-01-01 in the Gregorian calendar: years begin in March here, so that the leap day is the last of them.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = if month <= 2 { month + 9 } else { month - 3 };
    let century = year / 100;
    let of_century = year % 100;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    century * 146_097 / 4 + of_century * 1_461 / 4 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = br#"<27>1 2026-03-01T12:00:00.123456+01:00 app-3 nginx 812 - [rolesmith@0 inc="1" ses="7" seq="4711"] GET /a b"#;
        let entry = Entry::parse(line).unwrap();
        assert_eq!(
            (entry.node(), entry.service()),
            (&b"app-3"[..], &b"nginx"[..])
        );
        assert_eq!(
            (entry.process(), entry.message()),
            (&b"812"[..], &b"GET /a b"[..])
        );
        assert_eq!((entry.severity(), entry.facility()), (3, "daemon"));
        assert_eq!(entry.data(), br#"[rolesmith@0 inc="1" ses="7" seq="4711"]"#);
        assert_eq!(entry.time(), Some(1_772_362_800_123_456));
    }

    #[test]
    fn structured_data_ends_where_it_ends() {
        for (line, message) in [
            (
                "<13>1 2026-03-01T12:00:00Z n s - - - [a b=\"c\"] x",
                "[a b=\"c\"] x",
            ),
            (
                "<13>1 2026-03-01T12:00:00Z n s - - [a b=\"\\\"]\"][c d=\"]\"] x",
                "x",
            ),
            ("<13>1 2026-03-01T12:00:00Z n s - - [a]", ""),
            ("<13>1 2026-03-01T12:00:00Z n s - - - ", ""),
        ] {
            let entry = Entry::parse(line.as_bytes()).unwrap();
            assert_eq!(entry.message(), message.as_bytes(), "{line}");
        }
        for strange in [
            "",
            "text",
            "<13>2 2026-03-01T12:00:00Z n s - - - x",
            "<192>1 2026-03-01T12:00:00Z n s - - - x",
            "<13>1 2026-03-01T12:00:00Z n s - - [a",
            "<13>1 2026-03-01T12:00:00Z n s -",
        ] {
            assert_eq!(Entry::parse(strange.as_bytes()), None, "{strange}");
        }
    }

    proptest! {
        /// jiff knows calendars.
        #[test]
        fn times_are_those_of_the_calendar(
            at in 0_i64..4_000_000_000_000_000, hours in -12_i32..=14, digits in 0_usize..=6,
        ) {
            let unit = 10_i64.pow(6 - u32::try_from(digits).unwrap());
            let at = at / unit * unit;
            let zone = jiff::tz::Offset::constant(i8::try_from(hours).unwrap()).to_time_zone();
            let zoned = jiff::Timestamp::from_microsecond(at).unwrap().to_zoned_datetime(zone);
            let format = if digits == 0 { "%Y-%m-%dT%H:%M:%S%:z".to_owned() } else { format!("%Y-%m-%dT%H:%M:%S.%{digits}f%:z") };
            let text = zoned.strftime(&format).to_string();
            prop_assert_eq!(microseconds(text.as_bytes()), Some(at), "{}", text);
        }

        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200), tail in ".{0,100}") {
            let _ = Entry::parse(&line).map(|entry| (entry.time(), entry.message().len()));
            let line = format!("<30>1 2026-03-01T12:00:00.1+00:00 {tail}");
            let _ = Entry::parse(line.as_bytes()).map(|entry| (entry.time(), entry.facility()));
        }
    }
}
