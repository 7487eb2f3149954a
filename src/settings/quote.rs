//! [`quote`] quotes a value for an error.

use std::ffi::OsStr;

/// The most characters of a value in an error.
const SHOWN: usize = 60;

/// Quotes a value, with its control characters escaped for terminals and logs, and
/// truncated.
pub(super) fn quote(value: &OsStr) -> String {
    let Some(text) = value.to_str() else {
        let bytes = value.as_encoded_bytes();
        let cut = &bytes[..bytes.len().min(SHOWN)];
        return format!(
            "\"{}{}\"",
            cut.escape_ascii(),
            ellipsis(bytes.len() > SHOWN)
        );
    };
    let end = text.char_indices().nth(SHOWN).map(|(end, _)| end);
    let cut = &text[..end.unwrap_or(text.len())];
    format!("\"{}{}\"", cut.escape_debug(), ellipsis(end.is_some()))
}

fn ellipsis(cut: bool) -> &'static str {
    if cut { "..." } else { "" }
}
