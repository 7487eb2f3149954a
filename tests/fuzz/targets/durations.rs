//! Durations: what is displayed is read as the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zpa::duration;

fuzz_target!(|text: &str| {
    match duration::parse(text) {
        Ok(read) => assert_eq!(
            duration::parse(&duration::display(read)),
            Ok(read),
            "{text:?}"
        ),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
