//! Dates of HTTP in their three forms, as seconds since the Unix epoch (RFC 9110 section 5.6.7).
//!
//! Letters match in any case, as RFC 9111 section 4.2 wants; everything else is to the letter, for
//! an Expires that is not well formed is a time in the past (5.3).

const MONTHS: [&[u8; 3]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];
const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const DAY_S: u64 = 86_400;

/// A date and time of day, in UTC.
struct Civil {
    year: u64,
    /// 1 to 12.
    month: u64,
    day: u64,
    second_of_day: u64,
}

/// Reads a date. `now_s` decides the century of a year with two digits.
///
/// A time before 1970 is 1970: there is no difference to a cache.
pub fn parse(text: &[u8], now_s: u64) -> Option<u64> {
    let text = text.trim_ascii();
    // The longest form has 33 letters.
    if !text.is_ascii() || text.len() > 40 {
        return None;
    }
    let lowered = text.to_ascii_lowercase();
    let comma = memchr::memchr(b',', &lowered);
    let civil = match comma {
        Some(3) => imf_fixdate(&lowered)?,
        Some(at) => rfc_850(&lowered[..at], &lowered[at + 1..], now_s)?,
        None => asctime(&lowered)?,
    };
    civil.seconds()
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(text: &[u8]) -> Option<Civil> {
    let [day_name, rest] = split(text, [3, 26])?;
    is_short_day(day_name).then_some(())?;
    let rest = rest.strip_prefix(b", ")?;
    let [day, s1, month, s2, year, s3, time, zone] = split(rest, [2, 1, 3, 1, 4, 1, 8, 4])?;
    ([s1, s2, s3] == [b" "; 3] && zone == b" gmt").then_some(())?;
    Some(Civil {
        year: digits(year)?,
        month: month_number(month)?,
        day: digits(day)?,
        second_of_day: time_of_day(time)?,
    })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`.
fn rfc_850(day_name: &[u8], rest: &[u8], now_s: u64) -> Option<Civil> {
    DAYS.iter().any(|day| day.as_bytes() == day_name).then_some(())?;
    let rest = rest.strip_prefix(b" ")?;
    let [day, s1, month, s2, year, s3, time, zone] = split(rest, [2, 1, 3, 1, 2, 1, 8, 4])?;
    (s1 == b"-" && s2 == b"-" && s3 == b" " && zone == b" gmt").then_some(())?;
    let mut civil = Civil {
        year: 0,
        month: month_number(month)?,
        day: digits(day)?,
        second_of_day: time_of_day(time)?,
    };
    // More than 50 years ahead is the latest year in the past that ends in these digits.
    let this_year = 1970 + now_s / (365 * DAY_S + DAY_S / 4);
    civil.year = this_year / 100 * 100 + digits(year)?;
    let fifty_years_s = 50 * (365 * DAY_S + DAY_S / 4);
    while civil.year > this_year + 51
        || civil.seconds().is_some_and(|seconds| seconds > now_s + fifty_years_s)
    {
        civil.year -= 100;
    }
    while civil.year + 50 < this_year {
        civil.year += 100;
    }
    Some(civil)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &[u8]) -> Option<Civil> {
    let [day_name, s1, month, s2, day, s3, time, s4, year] =
        split(text, [3, 1, 3, 1, 2, 1, 8, 1, 4])?;
    ([s1, s2, s3, s4] == [b" "; 4] && is_short_day(day_name)).then_some(())?;
    let day = day.strip_prefix(b" ").unwrap_or(day);
    Some(Civil {
        year: digits(year)?,
        month: month_number(month)?,
        day: digits(day)?,
        second_of_day: time_of_day(time)?,
    })
}

/// Cuts `text` into pieces of these lengths, if they are exactly what it has.
fn split<const N: usize>(text: &[u8], lengths: [usize; N]) -> Option<[&[u8]; N]> {
    (lengths.iter().sum::<usize>() == text.len()).then_some(())?;
    let mut rest = text;
    Some(lengths.map(|length| {
        let (piece, after) = rest.split_at(length);
        rest = after;
        piece
    }))
}

fn digits(text: &[u8]) -> Option<u64> {
    let all = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    all.then(|| text.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

fn is_short_day(text: &[u8]) -> bool {
    DAYS.iter().any(|day| &day.as_bytes()[..3] == text)
}

fn month_number(text: &[u8]) -> Option<u64> {
    MONTHS.iter().position(|month| month[..] == *text).map(|at| at as u64 + 1)
}

/// `08:49:37`; a second of 60 is a leap second.
fn time_of_day(text: &[u8]) -> Option<u64> {
    let [hour, c1, minute, c2, second] = split(text, [2, 1, 2, 1, 2])?;
    let (hour, minute, second) = (digits(hour)?, digits(minute)?, digits(second)?);
    let valid = c1 == b":" && c2 == b":" && hour < 24 && minute < 60 && second <= 60;
    valid.then_some(hour * 3_600 + minute * 60 + second)
}

impl Civil {
    /// Seconds since the epoch, or `None` for a day that the month does not have.
    fn seconds(&self) -> Option<u64> {
        let is_leap = self.year.is_multiple_of(4)
            && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let length = *lengths.get(self.month as usize - 1)?;
        (1..=length).contains(&self.day).then_some(())?;
        if self.year < 1970 {
            return Some(0);
        }
        let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
        let days = (self.year - 1970) * 365 + leap_days(self.year - 1) - leap_days(1969)
            + lengths[..self.month as usize - 1].iter().sum::<u64>()
            + (self.day - 1);
        Some(days * DAY_S + self.second_of_day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28.
    const NOW_S: u64 = 1_795_824_000;

    #[track_caller]
    fn check(text: &str, want: Option<u64>) {
        assert_eq!(parse(text.as_bytes(), NOW_S), want, "{text}");
    }

    #[test]
    fn rfc_9110_section_5_6_7_the_three_forms() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Thu, 18 Aug 2050 02:01:18 GMT", Some(2_544_400_878));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(0));
        check("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
    }

    #[test]
    fn rfc_9110_section_5_6_7_two_digits_are_at_most_fifty_years_ahead() {
        check("Thursday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878));
        // 2080 would be 53 years ahead; 1980 it is.
        check("Monday, 18-Aug-80 02:01:18 GMT", Some(335_412_078));
        check("Friday, 27-Nov-76 00:00:00 GMT", Some(3_373_660_800));
    }

    #[test]
    fn section_4_2_letters_match_in_any_case() {
        for text in [
            "THU, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 AUG 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 gMT",
            "tHURSDAY, 18-aUG-50 02:01:18 gMT",
        ] {
            check(text, Some(2_544_400_878));
        }
    }

    #[test]
    fn section_5_3_what_is_not_well_formed_is_no_date() {
        for text in [
            "",
            "0",
            "-1",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Xyz, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
            "Sun Nov 6 08:49:37 1994",
        ] {
            check(text, None);
        }
        assert_eq!(parse(b"\xff\xff\xff, 18 Aug 2050 02:01:18 GMT", NOW_S), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_date_or_none(text in proptest::collection::vec(0_u8.., 0..40)) {
            let _ = parse(&text, NOW_S);
        }

        #[test]
        fn near_dates_are_a_date_or_none(
            text in "[A-Z][a-z]{2}(day|sday)?, [0-9]{2}[ -][A-Z][a-z]{2}[ -]([0-9]{2}|[0-9]{4}) [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        ) {
            let _ = parse(text.as_bytes(), NOW_S);
        }
    }
}
