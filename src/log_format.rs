//! [`LogFormat`]: the format of a line of the log.

use std::fmt::Display;

use jiff::Timestamp;
use log::Level;

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `[2026-11-28T12:00:00.000Z INFO ] scaled from 0 to 1`.
    #[default]
    Text,
    /// One JSON object a line with the keys of Go's `log/slog`: `time` (RFC 3339, UTC),
    /// `level` (`error`, `warn`, `info` or `debug`) and `msg`.
    Json,
}

impl LogFormat {
    /// The line for a message, with its line feed. `time` is as RFC 3339 writes it.
    pub fn line(self, time: impl Display, level: Level, message: impl Display) -> String {
        match self {
            LogFormat::Text => format!("[{time} {level:<5}] {message}\n"),
            LogFormat::Json => {
                let level = level.as_str().to_ascii_lowercase();
                // A JSON string has no line break.
                let message = serde_json::Value::from(message.to_string());
                format!("{{\"time\":\"{time}\",\"level\":\"{level}\",\"msg\":{message}}}\n")
            }
        }
    }

    /// The line for a message of the program itself, which is no record of the `log`
    /// crate, at a time in seconds since 1970. As text it has the form of a command's
    /// error: `zpa: message`.
    pub fn line_of_program(self, unix: u64, level: Level, message: impl Display) -> String {
        match self {
            LogFormat::Text => format!("zpa: {message}\n"),
            LogFormat::Json => self.line(time(unix), level, message),
        }
    }
}

/// A time that jiff does not know, beyond the year 9999, is the epoch.
fn time(unix: u64) -> Timestamp {
    let seconds = i64::try_from(unix).unwrap_or_default();
    Timestamp::from_second(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_line_of_text_has_time_level_and_message() {
        assert_eq!(
            LogFormat::Text.line("2026-11-28T12:00:00.000Z", Level::Info, "scaled"),
            "[2026-11-28T12:00:00.000Z INFO ] scaled\n"
        );
        assert_eq!(
            LogFormat::Text.line_of_program(0, Level::Error, "no such file"),
            "zpa: no such file\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_object_whatever_the_message_is() {
        let message = "a \"quote\", a \\ and a line\nbreak";
        let line = LogFormat::Json.line("2026-11-28T12:00:00.000Z", Level::Warn, message);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            serde_json::from_str::<Value>(&line).unwrap(),
            json!({ "time": "2026-11-28T12:00:00.000Z", "level": "warn", "msg": message })
        );
    }

    #[test]
    fn a_line_of_the_program_has_the_same_keys() {
        let line = LogFormat::Json.line_of_program(1_795_313_581, Level::Error, "full");
        let expected = "{\"time\":\"2026-11-22T02:13:01Z\",\"level\":\"error\",\"msg\":\"full\"}\n";
        assert_eq!(line, expected);
        let line = LogFormat::Json.line_of_program(u64::MAX, Level::Error, "full");
        assert!(line.contains("1970-01-01T00:00:00Z"), "{line}");
    }
}
