//! Log messages: [`printable`] escapes foreign text, and [`LogOnce`] logs a lasting fault once.

use log::Level;

/// The longest piece of foreign text in a line, in characters.
const MAX_LEN: usize = 500;

/// Escapes the control characters of `text`, so that it can neither pretend to be another
/// line nor send commands to a terminal, and truncates it.
pub(super) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(MAX_LEN));
    for char in text.trim().chars().take(MAX_LEN) {
        if char.is_control() {
            clean.extend(char.escape_default());
        } else {
            clean.push(char);
        }
    }
    clean
}

/// Logs a fault when it begins, when its kind changes, and when it ends: a fault that lasts
/// for hours is one line.
#[derive(Debug, Default)]
pub(super) struct LogOnce {
    kind: Option<&'static str>,
}

impl LogOnce {
    /// Logs a fault of this `kind`; at debug if it was logged before.
    pub(super) fn raise(&mut self, level: Level, kind: &'static str, text: &str) {
        log::log!(self.level(level, kind), "{text}");
    }

    /// Logs `text` if a fault was logged, which is over now.
    pub(super) fn clear(&mut self, text: &str) {
        if self.end() {
            log::info!("{text}");
        }
    }

    /// The level at which a fault of this `kind` is to be logged now.
    pub(super) fn level(&mut self, level: Level, kind: &'static str) -> Level {
        match self.kind.replace(kind) {
            Some(said) if said == kind => Level::Debug,
            _ => level,
        }
    }

    /// Ends the fault; returns whether one was logged.
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
        assert_eq!(printable(&"x".repeat(10_000)).len(), MAX_LEN);
    }
}
