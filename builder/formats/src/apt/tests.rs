use super::*;

#[test]
fn date_round_trip() {
    assert_eq!(format_date(0), "Thu, 01 Jan 1970 00:00:00 UTC");
    assert_eq!(format_date(1_754_731_099), "Sat, 09 Aug 2025 09:18:19 UTC");
}
