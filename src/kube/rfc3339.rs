//! Points in time as the API writes them.

/// The last second that has a year of four digits, which is all that RFC 3339
/// knows.
const LAST: u64 = 253_402_300_799;
const DAY: u64 = 24 * 60 * 60;

/// `unix`, which is seconds since 1970, in UTC: `2026-11-22T02:13:01Z`, the
/// form of `metav1.Time`. What lies beyond the year 9999 is its last second.
pub(super) fn utc(unix: u64) -> String {
    let unix = unix.min(LAST);
    let (year, month, day) = civil(unix / DAY);
    let second = unix % DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The seconds since 1970 of a point in time in the form of RFC 3339, with any
/// offset; a fraction of a second is cut off. None if it is no such text, or
/// before 1970.
pub(super) fn unix(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let offset = offset(after_fraction(rest)?)?;
    let in_range = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        // 60 is a leap second.
        && hour < 24 && minute < 60 && second <= 60;
    let days = in_range.then(|| days_since_1970(year, month, day))?;
    let local = days * DAY as i64 + (hour * 3600 + minute * 60 + second) as i64;
    u64::try_from(local - offset).ok()
}

/// Three numbers of these many digits.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(between);
    let mut next = |digits: usize| {
        let part = parts.next()?;
        let good = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        good.then(|| part.parse().ok())?
    };
    Some([next(digits[0])?, next(digits[1])?, next(digits[2])?])
}

fn after_fraction(text: &str) -> Option<&str> {
    let Some(fraction) = text.strip_prefix('.') else {
        return Some(text);
    };
    let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    (rest.len() < fraction.len()).then_some(rest)
}

/// How many seconds the local time is ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let [hours, minutes, _] = numbers(&format!("{rest}:00"), ':', [2, 2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60) as i64)
}

fn days_of(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The inverse of [`civil`]: Hinnant's `days_from_civil`.
fn days_since_1970(year: u64, month: u64, day: u64) -> i64 {
    // One era later, so that no number is below zero.
    let year = year + 400 - u64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let year_of_era = year % 400;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (year / 400 * 146_097 + day_of_era) as i64 - 719_468 - 146_097
}

/// Year, month and day of the day that comes `days` after 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last one, and in
/// eras of 400 years, after which the calendar repeats: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march_of_year_0 = days + 719_468;
    let era = since_march_of_year_0 / 146_097;
    let day_of_era = since_march_of_year_0 % 146_097;
    let leap_days = day_of_era / 1460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_seconds_are_written_as_everybody_writes_them() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_795_313_581, "2026-11-22T02:13:01Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(utc(unix), text, "{unix}");
        }
    }

    /// Counts year by year and month by month.
    fn counted(text: &str) -> u64 {
        let field = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap();
        let is_leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (year, month, day) = (field(0, 4), field(5, 7), field(8, 10));
        let february = 28 + u64::from(is_leap(year));
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        assert!((1..=12).contains(&month), "{text}");
        assert!((1..=months[month as usize - 1]).contains(&day), "{text}");
        let before: u64 = (1970..year)
            .map(|year| 365 + u64::from(is_leap(year)))
            .sum();
        let days = before + months[..month as usize - 1].iter().sum::<u64>() + day - 1;
        days * DAY + field(11, 13) * 3600 + field(14, 16) * 60 + field(17, 19)
    }

    #[test]
    fn a_time_is_read_in_every_form_that_go_writes() {
        for (text, expected) in [
            ("2026-11-22T02:13:01Z", Some(1_795_313_581)),
            ("2026-11-22t02:13:01z", Some(1_795_313_581)),
            ("2026-11-22T02:13:01.999999999Z", Some(1_795_313_581)),
            ("2026-11-22T03:13:01+01:00", Some(1_795_313_581)),
            ("2026-11-21T20:43:01-05:30", Some(1_795_313_581)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:00+00:01", None),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-11-22T24:00:00Z", None),
            ("2026-11-22T02:13:01", None),
            ("2026-11-22T02:13:01.Z", None),
            ("2026-11-22T02:13:01+1:00", None),
            ("2026-11-22", None),
            ("2026-11-2\u{fc}T02:13:01Z", None),
            ("", None),
        ] {
            assert_eq!(unix(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(second in 0..=LAST) {
            prop_assert_eq!(unix(&utc(second)), Some(second));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}|[0-9T:.+Z-]{0,30}") {
            let _ = unix(&text);
        }

        #[test]
        fn what_is_written_counts_back_to_the_same_second(unix in 0..=LAST) {
            let text = utc(unix);
            prop_assert_eq!(counted(&text), unix, "{}", text);
            prop_assert_eq!(text.len(), 20);
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_there_once_and_in_order() {
        let mut last = String::new();
        for day in 0..146_097 {
            let text = utc(day * DAY);
            assert_eq!(counted(&text), day * DAY, "{text}");
            assert!(text > last, "{text} after {last}");
            last = text;
        }
    }
}
