//! Parsers of addresses as users and kubeconfigs write them: [`HostPort`] and the URL
//! of the [`ApiServer`].
//!
//! No name is resolved here; a name is only checked for its syntax.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::cluster::{ApiServer, HostPort};

/// Why a text is not an address, as a clause that follows the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError(&'static str);

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ParseError {}

impl FromStr for HostPort {
    type Err = ParseError;

    /// Reads `my-app:80`, `10.0.0.7:80` or `[fd00::7]:80`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.contains("://") {
            return Err(ParseError("is a URL, not a host and a port"));
        }
        match split_host(text)? {
            (host, Some(port)) => Ok(HostPort { host, port }),
            (_, None) => Err(ParseError("has no port")),
        }
    }
}

impl FromStr for ApiServer {
    type Err = ParseError;

    /// Reads `https://10.96.0.1`, `https://api.example.com:6443/` or
    /// `http://127.0.0.1:8001`. The port, if absent, is the scheme's.
    ///
    /// Plain HTTP is accepted only for loopback addresses: elsewhere the bearer token
    /// could be read on the network, and so could the credentials of `kubectl proxy` be
    /// used by others.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (tls, rest) = split_scheme(text)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(ParseError("has a path, which is not supported"));
        }
        if authority.contains('@') {
            return Err(ParseError("has a user name, which is not supported"));
        }
        let (host, port) = split_host(authority)?;
        if !tls && !is_loopback(&host) {
            return Err(ParseError(
                "sends the token in the clear: plain http is for `kubectl proxy` on a \
                 loopback address only",
            ));
        }
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Ok(ApiServer { tls, host, port })
    }
}

fn split_scheme(text: &str) -> Result<(bool, &str), ParseError> {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => Ok((true, rest)),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => Ok((false, rest)),
        _ => Err(ParseError("does not begin with https://")),
    }
}

/// Splits `host:port` and `[ipv6]:port`; the brackets are removed.
pub(crate) fn split_host(text: &str) -> Result<(String, Option<u16>), ParseError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (ip, rest) = bracketed
            .split_once(']')
            .ok_or(ParseError("has no closing bracket"))?;
        let ip: Ipv6Addr = ip
            .parse()
            .map_err(|_| ParseError("has something else than an IPv6 address in its brackets"))?;
        return Ok((ip.to_string(), port_after(rest)?));
    }
    let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    if rest.matches(':').count() > 1 {
        return Err(ParseError(
            "has more than one colon: an IPv6 address goes in brackets",
        ));
    }
    check_host(host)?;
    Ok((host.to_owned(), port_after(rest)?))
}

/// Reads `:80`; an empty text is no port.
fn port_after(rest: &str) -> Result<Option<u16>, ParseError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let digits = rest
        .strip_prefix(':')
        .ok_or(ParseError("has something between its host and its port"))?;
    port(digits).map(Some)
}

/// Reads a port, 1 to 65535.
pub fn port(text: &str) -> Result<u16, ParseError> {
    let number = digits(text).and_then(|digits| digits.parse().ok());
    match number {
        Some(0) | None => Err(ParseError(
            "has a port that is not a number from 1 to 65535",
        )),
        Some(port) => Ok(port),
    }
}

/// `text` if it consists of digits: Rust's parser would accept a `+` too.
pub fn digits(text: &str) -> Option<&str> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then_some(text)
}

/// Accepts an IPv4 address, or a name as resolvers accept it: RFC 1123, with the
/// underscore and the final dot that DNS allows.
fn check_host(host: &str) -> Result<(), ParseError> {
    if host.is_empty() {
        return Err(ParseError("has no host"));
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    // Resolvers read a name that ends in a number as an IPv4 address.
    let last_is_number = name.rsplit('.').next().and_then(digits).is_some();
    if name.len() > 253 || last_is_number || !name.split('.').all(is_label) {
        return Err(ParseError(
            "has a host that is neither an IP address nor a DNS name",
        ));
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_host_and_a_port_are_read() {
        let cases = [
            ("my-app:80", "my-app:80"),
            (
                "my_app.ns.svc.cluster.local.:65535",
                "my_app.ns.svc.cluster.local.:65535",
            ),
            ("10.0.0.7:1", "10.0.0.7:1"),
            ("[fd00:0:0::7]:80", "[fd00::7]:80"),
        ];
        for (text, expected) in cases {
            let read = text.parse::<HostPort>().map(|read| read.to_string());
            assert_eq!(read, Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        let long_label = format!("{}:80", "a".repeat(64));
        let long_name = format!("{}:80", ["abcdefg"; 32].join("."));
        let cases = [
            ("", "has no host"),
            (":80", "has no host"),
            ("my-app", "has no port"),
            ("[::1]", "has no port"),
            ("my-app:", "has a port"),
            ("my-app:0", "has a port"),
            ("my-app:65536", "has a port"),
            ("my-app:+80", "has a port"),
            ("my-app:http", "has a port"),
            ("http://my-app:80", "is a URL"),
            ("fd00::7:80", "has more than one colon"),
            ("[fd00::7:80", "has no closing bracket"),
            ("[my-app]:80", "has something else than an IPv6 address"),
            ("[::1]80", "has something between"),
            ("10.0.0.256:80", "has a host that is neither"),
            ("-app:80", "has a host that is neither"),
            ("my app:80", "has a host that is neither"),
            ("my..app:80", "has a host that is neither"),
            (&long_label, "has a host that is neither"),
            (&long_name, "has a host that is neither"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_api_server_is_read() {
        let cases = [
            ("https://10.96.0.1", "https://10.96.0.1:443"),
            (
                "HTTPS://api.example.com:6443/",
                "https://api.example.com:6443",
            ),
            ("https://[fd00::1]", "https://[fd00::1]:443"),
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
            ("http://127.9.9.9", "http://127.9.9.9:80"),
            ("http://[::1]:8001/", "http://[::1]:8001"),
            ("http://localhost:8001", "http://localhost:8001"),
        ];
        for (text, expected) in cases {
            let read = text.parse::<ApiServer>().map(|read| read.to_string());
            assert_eq!(read, Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_api_server_is_refused() {
        let cases = [
            ("", "does not begin with https://"),
            ("10.96.0.1:443", "does not begin with https://"),
            ("ftp://10.96.0.1", "does not begin with https://"),
            ("https://", "has no host"),
            ("https:///", "has no host"),
            ("https://a.example/k8s", "has a path"),
            ("https://a.example?x", "has a path"),
            ("https://admin@a.example", "has a user name"),
            ("https://a.example:", "has a port"),
            ("http://10.96.0.1:80", "sends the token in the clear"),
            ("http://localhost.example", "sends the token in the clear"),
            ("http://127.0.0.1.example", "sends the token in the clear"),
            ("http://[::2]:8001", "sends the token in the clear"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<ApiServer>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_read_again_from_its_display(text in "https?://[0-9a-z.:\\[\\]/-]{0,20}") {
            if let Ok(server) = text.parse::<ApiServer>() {
                prop_assert_eq!(server.to_string().parse(), Ok(server));
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<HostPort>();
            let _ = text.parse::<ApiServer>();
        }
    }
}
