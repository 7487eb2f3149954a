//! The text of the page: durations, counts and times in words, and escaped text.

use std::fmt::{self, Display, Write};
use std::time::Duration;

/// A text that comes from outside, safe between tags and between double quotes.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Nothing that reorders or hides what follows.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}'),
            char if char.is_control() => f.write_char(' '),
            char => f.write_char(char),
        })
    }
}

/// `1 app`, `2 apps`.
pub fn plural(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// A duration for people, in its two largest units: `3 d 4 h`, `2 h 5 min`, `7 s`.
pub fn long(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, 1..10) => with_rest(minutes, "min", seconds % 60, "s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => with_rest(hours, "h", minutes % 60, "min"),
        _ => with_rest(days, "d", hours % 24, "h"),
    }
}

fn with_rest(count: u64, unit: &str, rest: u64, smaller: &str) -> String {
    match rest {
        0 => format!("{count} {unit}"),
        rest => format!("{count} {unit} {rest} {smaller}"),
    }
}

/// A duration that may be short, with some three digits: `0.4 ms`, `250 ms`, `3.2 s`.
pub fn short(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..999.5 => format!("{ms:.0} ms"),
        ..60_000.0 => format!("{:.1} s", ms / 1000.0),
        _ => long(duration),
    }
}

/// How long ago something was.
pub fn ago(duration: Duration) -> String {
    format!("{} ago", long(duration))
}

/// The time of day of a moment in seconds since 1970, in UTC.
pub fn clock(unix: u64) -> String {
    let (hours, minutes, seconds) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (599, "9 min 59 s"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (7_530, "2 h 5 min"),
            (86_400, "1 d"),
            (100_000, "1 d 3 h"),
            (86_400 * 400, "400 d"),
        ] {
            assert_eq!(long(Duration::from_secs(seconds)), text);
        }
        for (micros, text) in [
            (0, "0.0 ms"),
            (430, "0.4 ms"),
            (12_400, "12 ms"),
            (999_400, "999 ms"),
            (999_600, "1.0 s"),
            (3_210_000, "3.2 s"),
            (75_000_000, "1 min 15 s"),
        ] {
            assert_eq!(short(Duration::from_micros(micros)), text);
        }
        assert_eq!(clock(1_795_000_000), "11:06:40");
    }

    #[test]
    fn no_text_from_outside_is_markup_or_moves_what_follows() {
        let text = Escaped("<b a='\"'>&\u{202e}\n\u{7}é").to_string();
        assert_eq!(text, "&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{fffd}  é");
    }
}
