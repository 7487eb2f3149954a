//! Durations in Go's syntax, which is what Kubernetes users write.
//!
//! [`parse`] reads what Go's `time.ParseDuration` reads, and plain seconds;
//! [`display`] writes what Go's `Duration.String` writes.

use std::fmt;
use std::time::Duration;

/// Go's range, in nanoseconds: a duration is an `int64` there.
const MAX: u64 = i64::MAX as u64;

/// Nanoseconds in each unit. A micro sign may be U+00B5 or the Greek letter
/// U+03BC, as in Go.
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
const SECOND: u64 = 1_000_000_000;

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
/// The rules are those of Go's `time.ParseDuration` (`src/time/format.go`),
/// down to its rounding of fractions; two things differ. A number without a
/// unit is seconds if it is the whole text, and a duration below zero is an
/// error, since none of ours can be.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let nanoseconds = match Number::split_from(unsigned)? {
        (number, "") => number.times(SECOND)?,
        _ => sum(unsigned)?,
    };
    match nanoseconds {
        0 => Ok(Duration::ZERO),
        _ if text.starts_with('-') => Err(ParseError::Negative),
        1..=MAX => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err(ParseError::TooLong),
    }
}

/// Numbers with units, one after the other, added up.
fn sum(mut text: &str) -> Result<u64, ParseError> {
    let mut total = 0u64;
    loop {
        let (number, rest) = Number::split_from(text)?;
        let (unit, rest) = split_unit(rest)?;
        total = total
            .checked_add(number.times(unit)?)
            .ok_or(ParseError::TooLong)?;
        if rest.is_empty() {
            return Ok(total);
        }
        text = rest;
    }
}

/// The size of the unit at the start of `text`, and what follows it.
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

/// A decimal number, as digits before and after the point.
struct Number<'a> {
    whole: &'a str,
    fraction: &'a str,
}

impl<'a> Number<'a> {
    fn split_from(text: &'a str) -> Result<(Self, &'a str), ParseError> {
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseError::NoNumber);
        }
        Ok((Number { whole, fraction }, rest))
    }

    /// The number of nanoseconds in this many units.
    fn times(&self, unit: u64) -> Result<u64, ParseError> {
        let whole = digits(self.whole).ok_or(ParseError::TooLong)?;
        // A float here, because Go has one: `0.3333333333333333333h` is 20m.
        let (numerator, scale) = leading_fraction(self.fraction);
        let fraction = (numerator as f64 * (unit as f64 / scale)) as u64;
        whole
            .checked_mul(unit)
            .and_then(|whole| whole.checked_add(fraction))
            .ok_or(ParseError::TooLong)
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().try_fold(0, append)
}

/// As many digits as fit, and the power of ten below them. Those that follow
/// are worth nothing: the largest unit is 3.6e12 nanoseconds.
fn leading_fraction(text: &str) -> (u64, f64) {
    let (mut numerator, mut scale) = (0, 1.0);
    for digit in text.bytes() {
        match append(numerator, digit) {
            Some(more) => (numerator, scale) = (more, scale * 10.0),
            None => break,
        }
    }
    (numerator, scale)
}

fn append(number: u64, digit: u8) -> Option<u64> {
    let longer = number
        .checked_mul(10)?
        .checked_add(u64::from(digit - b'0'))?;
    (longer <= MAX + 1).then_some(longer)
}

/// Writes a duration as Go does: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub fn display(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    match nanoseconds {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(nanoseconds, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanoseconds, 6)),
        _ => clock_face(duration),
    }
}

/// A second or more: hours if there are any, minutes if there are any or
/// hours, and seconds always.
fn clock_face(duration: Duration) -> String {
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

    const SECONDS: u64 = SECOND;
    const MINUTES: u64 = 60 * SECOND;
    const HOURS: u64 = 60 * MINUTES;

    #[test]
    fn reads_what_go_reads() {
        // The table of Go's own test, `parseDurationTests`, as far as it is not
        // negative.
        let cases = [
            ("0", 0),
            ("5s", 5 * SECONDS),
            ("30s", 30 * SECONDS),
            ("1478s", 1478 * SECONDS),
            ("-0", 0),
            ("+0", 0),
            ("+5s", 5 * SECONDS),
            ("5.0s", 5 * SECONDS),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * SECONDS),
            (".5s", SECONDS / 2),
            ("1.0s", SECONDS),
            ("1.00s", SECONDS),
            ("1.004s", 1_004_000_000),
            ("1.0040s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("14s", 14 * SECONDS),
            ("15m", 15 * MINUTES),
            ("16h", 16 * HOURS),
            ("3h30m", 3 * HOURS + 30 * MINUTES),
            ("10.5s4m", 4 * MINUTES + 10_500_000_000),
            ("1h2m3s4ms5us6ns", HOURS + 2 * MINUTES + 3_004_005_006),
            ("39h9m14.425s", 39 * HOURS + 9 * MINUTES + 14_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 20 * MINUTES),
            ("9007199254740993ns", (1 << 53) + 1),
            ("9223372036854775807ns", MAX),
            ("9223372036854775.807us", MAX),
            ("9223372036s854ms775us807ns", MAX),
            ("0.100000000000000000000h", 6 * MINUTES),
            ("0.830103483285477580700h", 49 * MINUTES + 48_372_539_827),
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
            (4 * MINUTES + 5 * SECONDS, "4m5s"),
            (4 * MINUTES + 5_001_000_000, "4m5.001s"),
            (5 * HOURS + 6 * MINUTES + 7_001_000_000, "5h6m7.001s"),
            (8 * MINUTES + 1, "8m0.000000001s"),
            (HOURS, "1h0m0s"),
            (20 * SECONDS, "20s"),
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

    /// A number and a unit, far from clever: exact arithmetic in 128 bits.
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
            // Go's float may be a nanosecond off in each term.
            let slack = terms.len() as u128;
            match parse(&text) {
                Ok(duration) => prop_assert!(duration.as_nanos().abs_diff(expected) <= slack),
                Err(error) => {
                    prop_assert_eq!(error, ParseError::TooLong);
                    prop_assert!(expected + slack > u128::from(MAX));
                }
            }
        }
    }
}
