//! How what the user has said is shown to him again.

use std::ffi::OsStr;

/// How much of a value an error shows, in characters.
const SHOWN: usize = 60;

/// A value in quotes, escaped and cut, so that it can do no harm to a terminal
/// or a log.
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
