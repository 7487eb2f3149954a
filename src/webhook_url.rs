//! [`WebhookUrl`]: where the events of an app are posted.
//!
//! Such a URL is a secret: whoever has that of a chat may write there. So it has no `Display`,
//! and its `Debug` shows no more than its [origin](WebhookUrl::origin).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;

use crate::address::split_host;
use crate::kubeconfig_flags::Secret;

/// The longest URL, in bytes.
const MAX_LEN: usize = 2048;

/// An http or https URL.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl {
    is_tls: bool,
    host: String,
    port: Option<u16>,
    /// Without the user information.
    url: Secret,
    /// The header made of the user information.
    authorization: Option<Secret>,
}

impl WebhookUrl {
    /// Whether it is an https URL.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The name or the address of its host; an IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `scheme://host:port`, which is no secret: nothing is posted with that alone.
    pub fn origin(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// The whole URL, without user information.
    pub fn url(&self) -> &Secret {
        &self.url
    }

    /// The value of the header `Authorization` (RFC 7617), if the URL has user information.
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({}, hidden)", self.origin())
    }
}

impl FromStr for WebhookUrl {
    type Err = String;

    /// Reads `https://example.com/hook` and `http://user:password@my-app.default.svc:8080/`. An
    /// error does not quote the text.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LEN {
            return Err(format!("is longer than {MAX_LEN} bytes"));
        }
        // Of the other characters that no URL has (RFC 3986, section 2), servers take some.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("has a character that no URL has; write it as %XX".to_owned());
        }
        if text.contains('#') {
            return Err("has a fragment (#), which is never sent".to_owned());
        }
        let (scheme, rest) = text.split_once("://").ok_or(NO_SCHEME)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(NO_SCHEME.to_owned()),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        // What cannot be a host may be a part of a password.
        let (host, port) = split_host(address).map_err(|why| why.to_string())?;
        let authorization = user.map(basic).transpose()?;
        let mut url = WebhookUrl {
            is_tls,
            host,
            port,
            url: Secret::new(""),
            authorization,
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        url.url = Secret::new(&format!("{}{slash}{path}", url.origin()));
        Ok(url)
    }
}

const NO_SCHEME: &str = "does not begin with https:// or http://";

/// The header of `user:password`, both percent-encoded.
fn basic(user: &str) -> Result<Secret, String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    let (name, password) = (decoded(name), decoded(password));
    if name.contains(&b':') {
        return Err("has a user name with a colon, which no header can say".to_owned());
    }
    let encoded = BASE64_STANDARD.encode([&name[..], b":", &password].concat());
    Ok(Secret::new(&format!("Basic {encoded}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> WebhookUrl {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn a_url_is_read_in_its_parts() {
        for (text, origin, url) in [
            (
                "https://a.example",
                "https://a.example",
                "https://a.example/",
            ),
            (
                "HTTP://a:8080/x?y=z",
                "http://a:8080",
                "http://a:8080/x?y=z",
            ),
            (
                "https://[fd00::1]?t=1",
                "https://[fd00::1]",
                "https://[fd00::1]/?t=1",
            ),
            (
                "https://u:p@a.example/hook",
                "https://a.example",
                "https://a.example/hook",
            ),
        ] {
            let read = read(text);
            assert_eq!(read.origin(), origin, "{text}");
            assert_eq!(read.url().expose(), url, "{text}");
        }
        assert_eq!(read("https://[fd00::1]:1").host(), "fd00::1");
        assert!(read("https://a").is_tls() && !read("http://a").is_tls());
    }

    /// The examples of RFC 7617, and what has to be encoded in a URL.
    #[test]
    fn user_information_becomes_a_header() {
        for (user, header) in [
            (
                "Aladdin:open%20sesame",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
            ("test:123%C2%A3", "Basic dGVzdDoxMjPCow=="),
            ("alone", "Basic YWxvbmU6"),
            ("a:b%3Ac%40d", "Basic YTpiOmNAZA=="),
        ] {
            let url = read(&format!("https://{user}@a.example/"));
            let authorization = url.authorization().map(Secret::expose);
            assert_eq!(authorization, Some(header), "{user}");
        }
        assert_eq!(read("https://a.example").authorization(), None);
    }

    #[test]
    fn what_is_no_such_url_is_refused_and_not_quoted() {
        for (text, expected) in [
            ("", "does not begin with"),
            ("a.example/canary", "does not begin with"),
            ("ftp://a.example/canary", "does not begin with"),
            ("https:///canary", "has no host"),
            ("https://user:canary@", "has no host"),
            ("https://a:canary/", "has a port that is not"),
            ("https://u:cana/ry@a.example/", "has a port that is not"),
            (
                "https://a.example/canary x",
                "has a character that no URL has",
            ),
            (
                "https://a.example/canaryé",
                "has a character that no URL has",
            ),
            ("https://a.example/#canary", "has a fragment"),
            (
                "https://can%3Aary@a.example/",
                "has a user name with a colon",
            ),
        ] {
            let why = text.parse::<WebhookUrl>().unwrap_err();
            assert!(why.starts_with(expected), "{text}: {why}");
            assert!(!why.contains("canary"), "{why}");
        }
        let long = format!("https://a.example/{}", "x".repeat(MAX_LEN));
        assert!(long.parse::<WebhookUrl>().unwrap_err().contains("longer"));
    }

    #[test]
    fn it_does_not_show_itself() {
        let shown = format!("{:?}", read("https://u:canary@a.example/canary?canary"));
        assert_eq!(shown, "WebhookUrl(https://a.example, hidden)");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_a_uri(text in "https?://\\PC{0,30}") {
            if let Ok(url) = text.parse::<WebhookUrl>() {
                let uri: Result<ureq::http::Uri, _> = url.url().expose().parse();
                prop_assert!(uri.is_ok(), "{text}");
            }
        }
    }
}
