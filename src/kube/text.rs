//! What is said: foreign text made harmless, and nothing said twice.

use log::Level;

/// The longest piece of foreign text that goes into a line, in characters.
const LONGEST: usize = 500;

/// `text` from elsewhere, fit for a log line: control characters escaped, so
/// that it cannot pretend to be another line or talk to a terminal, and capped.
pub(super) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(LONGEST));
    for char in text.trim().chars().take(LONGEST) {
        if char.is_control() {
            clean.extend(char.escape_default());
        } else {
            clean.push(char);
        }
    }
    clean
}

/// Says that something is wrong when it begins to be, and when it changes its
/// kind, and when it is over: a fault that lasts for hours is one line.
#[derive(Debug, Default)]
pub(super) struct LogOnce {
    kind: Option<&'static str>,
}

impl LogOnce {
    /// There is something of this `kind` to say; at debug if it was said.
    pub(super) fn raise(&mut self, level: Level, kind: &'static str, text: &str) {
        log::log!(self.level(level, kind), "{text}");
    }

    /// It is over: `text` says so, if there was anything to be over.
    pub(super) fn clear(&mut self, text: &str) {
        if self.end() {
            log::info!("{text}");
        }
    }

    /// At which level something of this `kind` is said now.
    pub(super) fn level(&mut self, level: Level, kind: &'static str) -> Level {
        match self.kind.replace(kind) {
            Some(said) if said == kind => Level::Debug,
            _ => level,
        }
    }

    /// It is over; whether there was anything to be over.
    pub(super) fn end(&mut self) -> bool {
        self.kind.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_length_is_capped() {
        assert_eq!(
            printable("a\nb\u{1b}[31m\u{85}ü"),
            "a\\nb\\u{1b}[31m\\u{85}ü"
        );
        assert_eq!(printable(&"x".repeat(10_000)).len(), LONGEST);
    }
}
