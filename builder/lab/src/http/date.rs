//! HTTP's dates (RFC 9110, 5.6.7), in the one form that is to be sent and the only one that is read here.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Unix seconds as an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn format(seconds: u64) -> String {
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, date) = civil(day);
    let name = DAYS[(day % 7) as usize];
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{name}, {date:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT",
        MONTHS[month as usize]
    )
}

/// An IMF-fixdate as Unix seconds; nothing for any other text. The name of the day is not compared.
pub(super) fn parse(text: &str) -> Option<u64> {
    let mut words = text.trim().split_once(", ")?.1.split(' ');
    let (date, month, year): (u64, &str, u64) = (
        words.next()?.parse().ok()?,
        words.next()?,
        words.next()?.parse().ok()?,
    );
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let mut time = words
        .next()?
        .split(':')
        .map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let sound = (1970..10_000).contains(&year)
        && (1..=31).contains(&date)
        && hour < 24
        && minute < 60
        && second <= 60;
    (sound && words.next() == Some("GMT")).then(|| {
        (days_before(year, month) + date - 1) * 86_400 + hour * 3600 + minute * 60 + second
    })
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn length(year: u64, month: u64) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the first of a month, January being 0.
fn days_before(year: u64, month: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    years + (0..month).map(|month| length(year, month)).sum::<u64>()
}

/// Year, month (January is 0) and day of the month of a day since 1970.
fn civil(day: u64) -> (u64, u64, u64) {
    // Never more than one year too late: a year has 365 days or more.
    let mut year = 1970 + day / 365;
    while days_before(year, 0) > day {
        year -= 1;
    }
    let mut rest = day - days_before(year, 0);
    let mut month = 0;
    while rest >= length(year, month) {
        rest -= length(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_rfc_and_what_date_1_says() {
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(format(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        for wrong in [
            "",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_second_comes_back(seconds in 0u64..253_402_300_800) {
            prop_assert_eq!(parse(&format(seconds)), Some(seconds));
        }
    }
}
