//! Times of day as formats write them, from seconds since 1970; always UTC.

/// A time split into calendar fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year of the Gregorian calendar.
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59; leap seconds do not exist in POSIX time.
    pub second: u32,
    /// 0 is Sunday.
    pub weekday: usize,
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Utc {
    /// Splits seconds since 1970-01-01 00:00:00 UTC.
    #[must_use]
    pub fn from_epoch(epoch: u64) -> Self {
        let days = i64::try_from(epoch / 86_400).unwrap_or(i64::MAX / 2);
        let rest = u32::try_from(epoch % 86_400).expect("less than a day");
        // Days since 0000-03-01, so that the leap day ends the year; an era is 400 years.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_index = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_index + 2) / 5 + 1;
        let month = if month_index < 10 {
            month_index + 3
        } else {
            month_index - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self {
            year,
            month: u32::try_from(month).expect("1 to 12"),
            day: u32::try_from(day).expect("1 to 31"),
            hour: rest / 3_600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: usize::try_from((days + 4).rem_euclid(7)).expect("0 to 6"),
        }
    }

    /// RFC 5322 as Debian changelogs write it: `Mon, 02 Jan 2006 15:04:05 +0000`.
    #[must_use]
    pub fn rfc5322(self) -> String {
        format!(
            "{}, {:02} {} {} {:02}:{:02}:{:02} +0000",
            DAYS[self.weekday],
            self.day,
            MONTHS[self.month as usize - 1],
            self.year,
            self.hour,
            self.minute,
            self.second
        )
    }

    /// RFC 3339: `2006-01-02T15:04:05Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Utc;

    #[test]
    fn known_days() {
        assert_eq!(Utc::from_epoch(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Utc::from_epoch(951_782_400).rfc3339(),
            "2000-02-29T00:00:00Z"
        );
        assert_eq!(
            Utc::from_epoch(1_136_214_245).rfc5322(),
            "Mon, 02 Jan 2006 15:04:05 +0000"
        );
        assert_eq!(
            Utc::from_epoch(4_102_444_799).rfc3339(),
            "2099-12-31T23:59:59Z"
        );
    }
}
