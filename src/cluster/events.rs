//! [`Event`]: what `kubectl describe` is to show of an object, and the object itself
//! ([`ObjectReference`]).

/// The longest note of an Event, in bytes (`NoteLengthLimit` in
/// `pkg/apis/core/validation/events.go`).
pub const MAX_NOTE_LEN: usize = 1024;

/// The type of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// Nothing is wrong.
    Normal,
    /// Somebody should look at it.
    Warning,
}

impl EventType {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// An Event about an object. Equal ones about the same object are counted as a series, so that
/// the note has no number that is another each time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// Its type.
    pub event_type: EventType,
    /// Why it exists, in one word for programs (`ScaledToZero`).
    pub reason: &'static str,
    /// What was done, in one word for programs.
    pub action: &'static str,
    /// The text for people, of at most [`MAX_NOTE_LEN`] bytes.
    pub note: String,
    /// Whether every proxy that sees the object says the same: then one of them creates it.
    pub is_shared: bool,
}

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectReference {
    /// Group and version, as `apps/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID, by which `kubectl describe` finds the Events of an object.
    pub uid: String,
}

/// The beginning of `text`, of at most `most` bytes and whole characters.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Event {
    /// An Event of this proxy's, with the note cut to the length that is allowed.
    pub fn new(
        event_type: EventType,
        reason: &'static str,
        action: &'static str,
        note: &str,
    ) -> Event {
        Event {
            event_type,
            reason,
            action,
            note: cut(note, MAX_NOTE_LEN).to_owned(),
            is_shared: false,
        }
    }

    /// The same of all proxies that see the object.
    pub fn shared(self) -> Event {
        Event {
            is_shared: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_at_most_the_length_that_the_api_server_takes() {
        let note = |text: &str| Event::new(EventType::Normal, "R", "A", text).note;
        assert_eq!(note("short"), "short");
        assert_eq!(note(&"x".repeat(3000)).len(), MAX_NOTE_LEN);
        assert_eq!(
            note(&"€".repeat(1000)).len(),
            MAX_NOTE_LEN - 1,
            "whole characters"
        );
    }
}
