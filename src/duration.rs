//! Durations in Go's syntax, which is what Kubernetes users write.
//!
//! [`parse`] reads what Go's `time.ParseDuration` reads, and plain seconds;
//! [`display`] writes what Go's `Duration.String` writes.

use std::fmt;
use std::time::Duration;

/// The longest duration in Go, where it is an `int64` of nanoseconds.
const MAX: u64 = i64::MAX as u64;

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds in each unit. Go takes the micro sign (U+00B5) and the Greek letter
/// (U+03BC).
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Nothing, or something else than digits where a number has to be.
    NoNumber,
    /// A number without a unit, where it is not the whole text.
    MissingUnit,
    /// A unit that does not exist; a long one is cut.
    UnknownUnit(String),
    /// More than 2^63-1 nanoseconds, some 292 years.
    TooLong,
    /// Less than zero: well-formed in Go, but no time-out.
    Negative,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::NoNumber => f.write_str("not a duration: a number is missing"),
            ParseError::MissingUnit => f.write_str("a number has no unit"),
            ParseError::UnknownUnit(unit) => write!(f, "unknown unit {unit:?}"),
            ParseError::TooLong => f.write_str("too long: the limit is 2562047h"),
            ParseError::Negative => f.write_str("is negative"),
        }
    }
}

impl std::error::Error for ParseError {}

/// Reads a duration: `1h30m`, `300ms`, `.5s`, or plain seconds, `300` or `1.5`.
///
/// The syntax is that of Go's `time.ParseDuration`, with two differences: a number
/// without a unit is seconds if it is the whole text, and a duration below zero is an
/// error, because no setting has one. What is less than a nanosecond is cut off.
///
/// # Errors
/// Which part of `text` is wrong.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let nanoseconds = match Decimal::split_from(unsigned)? {
        (seconds, "") => seconds.times(SECOND),
        _ => sum(unsigned)?,
    };
    match u64::try_from(nanoseconds) {
        Ok(0) => Ok(Duration::ZERO),
        _ if text.starts_with('-') => Err(ParseError::Negative),
        Ok(nanoseconds @ 1..=MAX) => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(ParseError::TooLong),
    }
}

/// The sum of numbers with units, in nanoseconds.
fn sum(mut text: &str) -> Result<u128, ParseError> {
    let mut total = 0u128;
    while !text.is_empty() {
        let (number, rest) = Decimal::split_from(text)?;
        let (unit, rest) = split_unit(rest)?;
        total = total.saturating_add(number.times(unit));
        text = rest;
    }
    Ok(total)
}

/// The size of the unit at the start of `text`, and the rest of `text`.
fn split_unit(text: &str) -> Result<(u64, &str), ParseError> {
    let end = text.find(|c: char| c == '.' || c.is_ascii_digit());
    let (name, rest) = text.split_at(end.unwrap_or(text.len()));
    if name.is_empty() {
        return Err(ParseError::MissingUnit);
    }
    match UNITS.iter().find(|(known, _)| *known == name) {
        Some((_, size)) => Ok((*size, rest)),
        None => Err(ParseError::UnknownUnit(name.chars().take(12).collect())),
    }
}

/// A decimal number: `whole + fraction / scale`.
struct Decimal {
    whole: u64,
    fraction: u64,
    scale: u64,
}

impl Decimal {
    /// As many digits as make a difference to an hour, and fit into 64 bits.
    const FRACTION_DIGITS: usize = 18;

    /// The number at the start of `text`, and the rest of `text`.
    fn split_from(text: &str) -> Result<(Self, &str), ParseError> {
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseError::NoNumber);
        }
        let fraction = &fraction[..fraction.len().min(Self::FRACTION_DIGITS)];
        let number = Decimal {
            whole: number(whole)?,
            fraction: number(fraction)?,
            scale: 10u64.pow(fraction.len() as u32),
        };
        Ok((number, rest))
    }

    /// So many units, in nanoseconds: less than 2^64 times an hour.
    fn times(&self, unit: u64) -> u128 {
        let [whole, fraction, scale, unit] =
            [self.whole, self.fraction, self.scale, unit].map(u128::from);
        whole * unit + fraction * unit / scale
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// The number that `digits` write; none write zero.
fn number(digits: &str) -> Result<u64, ParseError> {
    if digits.is_empty() {
        return Ok(0);
    }
    digits.parse().map_err(|_| ParseError::TooLong)
}

/// Writes a duration as Go does: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub fn display(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(nanoseconds, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanoseconds, 6)),
        _ => hours_minutes_seconds(duration),
    }
}

/// Hours and minutes if there are any, and seconds always.
fn hours_minutes_seconds(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    let below_a_minute = duration.as_nanos() % u128::from(60 * SECOND);
    let seconds = decimal(below_a_minute, 9);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `number / 10^places`, without trailing zeros.
fn decimal(number: u128, places: usize) -> String {
    let scale = 10u128.pow(places as u32);
    let digits = format!("{}.{:0places$}", number / scale, number % scale);
    digits
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTES: u64 = 60 * SECOND;
    const HOURS: u64 = 60 * MINUTES;

    #[test]
    fn reads_what_go_reads() {
        // From the table of Go's own test, `parseDurationTests`.
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("5s", 5 * SECOND),
            ("+5s", 5 * SECOND),
            ("5.s", 5 * SECOND),
            (".5s", SECOND / 2),
            ("100.00100s", 100_001_000_000),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("10.5s4m", 4 * MINUTES + 10_500_000_000),
            ("1h2m3s4ms5us6ns", HOURS + 2 * MINUTES + 3_004_005_006),
            ("39h9m14.425s", 39 * HOURS + 9 * MINUTES + 14_425_000_000),
            ("9223372036854775807ns", MAX),
            ("9223372036854775.807us", MAX),
            ("9223372036s854ms775us807ns", MAX),
            ("0.100000000000000000000h", 6 * MINUTES),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(Duration::from_nanos(expected)), "{text}");
        }
    }

    #[test]
    fn reads_a_lone_number_as_seconds() {
        for (text, expected) in [("300", 300_000), ("1.5", 1_500), (".5", 500), ("2.", 2_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(expected)), "{text}");
        }
    }

    #[test]
    fn says_why_a_text_is_no_duration() {
        use ParseError::*;
        let unknown = |unit: &str| UnknownUnit(unit.to_owned());
        let cases = [
            ("", NoNumber),
            ("-", NoNumber),
            (".", NoNumber),
            ("-.", NoNumber),
            (".s", NoNumber),
            ("+.s", NoNumber),
            ("s", NoNumber),
            (" 5s", NoNumber),
            ("--5s", NoNumber),
            ("1h30", MissingUnit),
            ("1.2.3", MissingUnit),
            ("5x", unknown("x")),
            ("5S", unknown("S")),
            ("5 s", unknown(" s")),
            ("5s ", unknown("s ")),
            ("1d", unknown("d")),
            ("1\u{85}\u{85}", unknown("\u{85}\u{85}")),
            ("1\u{b5}", unknown("\u{b5}")),
            ("1abcdefghijklmnop", unknown("abcdefghijkl")),
            ("-5s", Negative),
            ("-9223372036854775808ns", Negative),
            ("9223372036854775808ns", TooLong),
            ("9223372036854775.808us", TooLong),
            ("9223372036854ms775us808ns", TooLong),
            ("3000000h", TooLong),
            ("9223372036854775808ns9223372036854775808ns", TooLong),
            ("99999999999999999999", TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        // The table of Go's own test, `durationTests`.
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (300_000_000, "300ms"),
            (3_300_000_000, "3.3s"),
            (4 * MINUTES + 5 * SECOND, "4m5s"),
            (4 * MINUTES + 5_001_000_000, "4m5.001s"),
            (5 * HOURS + 6 * MINUTES + 7_001_000_000, "5h6m7.001s"),
            (8 * MINUTES + 1, "8m0.000000001s"),
            (HOURS, "1h0m0s"),
            (20 * SECOND, "20s"),
            (MAX, "2562047h47m16.854775807s"),
        ];
        for (nanoseconds, expected) in cases {
            assert_eq!(display(Duration::from_nanos(nanoseconds)), expected);
        }
    }

    #[test]
    fn writes_what_no_go_program_can_hold() {
        assert_eq!(display(Duration::MAX), "5124095576030431h0m15.999999999s");
    }

    /// The same in 128 bits and without cutting anything off before the end.
    fn exact(whole: u32, fraction: &str, unit: u64) -> u128 {
        let scale = 10u128.pow(fraction.len() as u32);
        let numerator: u128 = fraction.parse().unwrap_or(0);
        let unit = u128::from(unit);
        u128::from(whole) * unit + numerator * unit / scale
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(nanoseconds in 0..=MAX) {
            let duration = Duration::from_nanos(nanoseconds);
            prop_assert_eq!(parse(&display(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
        }

        #[test]
        fn no_text_of_the_right_letters_panics(text in "[-+]?[0-9.a-z\u{b5}\u{3bc}]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn agrees_with_exact_arithmetic(
            terms in prop::collection::vec((any::<u32>(), "[0-9]{0,18}", 0..UNITS.len()), 1..6)
        ) {
            let mut text = String::new();
            let mut expected = 0;
            for (whole, fraction, unit) in &terms {
                let (name, size) = UNITS[*unit];
                text += &format!("{whole}.{fraction}{name}");
                expected += exact(*whole, fraction, size);
            }
            match parse(&text) {
                Ok(duration) => prop_assert_eq!(duration.as_nanos(), expected),
                Err(error) => {
                    prop_assert_eq!(error, ParseError::TooLong);
                    prop_assert!(expected > u128::from(MAX));
                }
            }
        }
    }
}
