//! RFC 3339 timestamps, as the API and the annotations of the ancestors have them.

use jiff::Timestamp;

/// Formats `unix`, in seconds since 1970, in UTC like `metav1.Time`: `2026-11-22T02:13:01Z`.
/// Later times than jiff supports (the year 9999) become its last second.
pub(super) fn utc(unix: u64) -> String {
    timestamp(unix).to_string()
}

/// The same with microseconds, as `metav1.MicroTime`, which takes nothing else:
/// `2026-11-22T02:13:01.000000Z`.
pub(super) fn utc_with_microseconds(unix: u64) -> String {
    format!("{}", timestamp(unix).strftime("%Y-%m-%dT%H:%M:%S.000000Z"))
}

/// The same with microseconds and an offset, as Python's `datetime.isoformat`
/// writes it: `2026-11-22T02:13:01.000000+00:00`.
pub(super) fn utc_of_python(unix: u64) -> String {
    format!(
        "{}",
        timestamp(unix).strftime("%Y-%m-%dT%H:%M:%S.000000+00:00")
    )
}

/// Parses `text` as seconds since 1970; `None` if it is earlier, or no timestamp with an
/// offset.
pub(super) fn unix(text: &str) -> Option<u64> {
    let time: Timestamp = text.trim().parse().ok()?;
    time.as_second().try_into().ok()
}

fn timestamp(unix: u64) -> Timestamp {
    let last = Timestamp::MAX.as_second();
    let seconds = i64::try_from(unix).unwrap_or(last).min(last);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// jiff's last second, 9999-12-30T22:00:00Z: from there every offset leads to a
    /// year of four digits.
    const LAST: u64 = 253_402_207_200;

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
            (LAST, "9999-12-30T22:00:00Z"),
            (u64::MAX, "9999-12-30T22:00:00Z"),
        ] {
            assert_eq!(utc(unix), text, "{unix}");
        }
    }

    #[test]
    fn both_ancestors_times_are_read_and_what_is_none_is_not() {
        let second = Some(1_795_313_581);
        for (label, text, unix) in [
            ("Go's", "2026-11-22T02:13:01Z", second),
            ("with an offset", "2026-11-22T04:13:01+02:00", second),
            ("Python's", "2026-11-22T02:13:01.999999+00:00", second),
            ("in whole seconds", "2026-11-22T02:13:01+00:00", second),
            ("with a line end", "2026-11-22T02:13:01Z\n", second),
            ("without an offset", "2026-11-22T02:13:01", None),
            ("of a day that is not", "2026-02-30T02:13:01Z", None),
            ("before 1970", "1969-12-31T23:59:59Z", None),
            ("a number", "1795313581", None),
            ("nothing", "", None),
        ] {
            assert_eq!(super::unix(text), unix, "{label}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_to_the_same_second(unix in 0..=LAST) {
            prop_assert_eq!(super::unix(&utc(unix)), Some(unix));
            prop_assert_eq!(super::unix(&utc_of_python(unix)), Some(unix));
            prop_assert_eq!(utc(unix).len(), 20);
            prop_assert_eq!(utc_of_python(unix).len(), 32);
        }

        #[test]
        fn later_seconds_are_later_texts(one in 0..=LAST, two in 0..=LAST) {
            prop_assert_eq!(utc(one).cmp(&utc(two)), one.cmp(&two));
        }

        #[test]
        fn no_text_leads_to_a_panic(text in ".{0,40}") {
            let _ = super::unix(&text);
        }
    }
}
