//! A [`Token`] is a bearer token.

use ureq::http::HeaderValue;

/// A bearer token. Opaque: no `Debug`, no `Display`, no comparison.
#[derive(Clone)]
pub(super) struct Token(HeaderValue);

impl Token {
    /// The token in `text` without white space around it; `None` if it is empty or has other
    /// characters than a header may have.
    pub(super) fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let mut header = HeaderValue::try_from(format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        Some(Token(header))
    }

    /// The value of the `Authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_header_does_not_show_itself() {
        let header = Token::new("canary").unwrap().header();
        assert!(!format!("{header:?}").contains("canary"));
        assert!(Token::new("two\nlines").is_none());
    }
}
