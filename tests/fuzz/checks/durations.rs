//! Durations: what is displayed is read as the same again.

use zpa::duration;

/// Any text.
pub type Input<'a> = &'a str;

pub fn check(text: Input) {
    match duration::parse(text) {
        Ok(read) => assert_eq!(
            duration::parse(&duration::display(read)),
            Ok(read),
            "{text:?}"
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
