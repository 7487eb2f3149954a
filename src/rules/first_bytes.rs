//! [`FirstBytes`] decides from the first bytes of a connection whether it counts as use of
//! the app: what they must look like ([`WakeOn`]), and which HTTP requests are health checks,
//! which never count ([`Probes`]).
//!
//! The bytes are peeked at and not consumed: a pod gets them all. Every decision is made on a
//! prefix, as soon as one is possible, and does not depend on how the bytes are segmented.

use std::fmt;
use std::str::FromStr;

use super::names;

use httparse::{EMPTY_HEADER, Request, Status};

/// The most bytes that are peeked at: the head of an HTTP request with a `User-Agent` fits.
/// What they do not decide is no match.
pub const MAX_PEEK: usize = 4096;

/// The most header fields of a request. One with more is not a health check.
pub(super) const MAX_FIELDS: usize = 64;

/// The rules about the first bytes of a connection. By default no byte is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstBytes {
    /// What makes a connection count.
    pub wake_on: WakeOn,
    /// Which requests are health checks, which never count.
    pub probes: Probes,
}

/// What a connection is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It takes more bytes to decide.
    Undecided,
    /// It counts as use of the app.
    Counted,
    /// It does not count as use of the app.
    Uncounted,
    /// It is a health check, which does not count either.
    Probe,
}

impl FirstBytes {
    /// Whether every connection counts, so that no byte need be looked at.
    pub fn is_off(&self) -> bool {
        self.wake_on == WakeOn::Accept && self.probes.is_off()
    }

    /// What a connection is that begins with these bytes.
    pub fn decide(&self, bytes: &[u8]) -> Decision {
        match self.probes.matches(bytes) {
            Match::Yes => return Decision::Probe,
            Match::Undecided => return Decision::Undecided,
            Match::No => {}
        }
        match self.wake_on.matches(bytes) {
            Match::Yes => Decision::Counted,
            Match::Undecided if bytes.len() < MAX_PEEK => Decision::Undecided,
            Match::Undecided | Match::No => Decision::Uncounted,
        }
    }
}

/// What makes a connection count as use of the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WakeOn {
    /// That it is accepted: the only choice for a protocol in which the server speaks first.
    #[default]
    Accept,
    /// A byte, whatever it is.
    FirstByte,
    /// A TLS ClientHello.
    Tls,
    /// A request of HTTP/1, or the preface of HTTP/2, in plaintext.
    Http,
    /// PostgreSQL: a StartupMessage, or an SSLRequest or a GSSENCRequest before one. A
    /// CancelRequest does not match.
    Postgres,
    /// Redis: a RESP array, as client libraries send commands. An inline command does not
    /// match.
    Redis,
}

/// Every value by its spelling in the setting.
const NAMES: [(&str, WakeOn); 6] = [
    ("accept", WakeOn::Accept),
    ("first-byte", WakeOn::FirstByte),
    ("tls", WakeOn::Tls),
    ("http", WakeOn::Http),
    ("postgres", WakeOn::Postgres),
    ("redis", WakeOn::Redis),
];

impl FromStr for WakeOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        names::parse(&NAMES, text)
    }
}

impl fmt::Display for WakeOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(names::name(&NAMES, self))
    }
}

/// The result of matching a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It takes more bytes to decide.
    Undecided,
    /// The bytes match.
    Yes,
    /// The bytes do not match, whatever follows.
    No,
}

impl From<bool> for Match {
    fn from(is_match: bool) -> Self {
        if is_match { Match::Yes } else { Match::No }
    }
}

impl WakeOn {
    /// Whether a connection that begins with these bytes counts.
    pub fn matches(self, bytes: &[u8]) -> Match {
        match self {
            WakeOn::Accept => Match::Yes,
            _ if bytes.is_empty() => Match::Undecided,
            WakeOn::FirstByte => Match::Yes,
            WakeOn::Tls => matches_tls(bytes),
            WakeOn::Http => matches_http(bytes),
            WakeOn::Postgres => matches_postgres(bytes),
            WakeOn::Redis => matches_redis(bytes),
        }
    }
}

/// The header of a record of type handshake (RFC 8446, 5.1) that begins with a
/// ClientHello. Its version is 3.0 to 3.4, and it has 2^14 bytes at most.
fn matches_tls(bytes: &[u8]) -> Match {
    let rules: [fn(u8) -> bool; 6] = [
        |content_type| content_type == 22,
        |major| major == 3,
        |minor| minor <= 4,
        |length| length <= 0x40,
        |_| true,
        |message| message == 1,
    ];
    matches_each(bytes, &rules)
}

/// Whether each of the first bytes satisfies its rule.
fn matches_each(bytes: &[u8], rules: &[fn(u8) -> bool]) -> Match {
    match bytes.iter().zip(rules).all(|(&byte, rule)| rule(byte)) {
        true if bytes.len() < rules.len() => Match::Undecided,
        is_match => is_match.into(),
    }
}

/// A method, a space, and the start of a request target: in origin-form, asterisk-form or
/// absolute-form, or for CONNECT in authority-form (RFC 9112, 3.2). The target tells a request
/// from a command of SMTP. The preface of HTTP/2 begins with `PRI *` (RFC 9113, 3.4).
fn matches_http(bytes: &[u8]) -> Match {
    const MAX_METHOD: usize = 20;
    let is_of_method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let method = bytes.iter().take_while(|byte| is_of_method(byte)).count();
    let (method, rest) = bytes.split_at(method);
    if !(1..=MAX_METHOD).contains(&method.len()) {
        return Match::No;
    }
    match rest {
        [] | [b' '] => Match::Undecided,
        [b' ', ..] if method == b"CONNECT" => Match::Yes,
        [b' ', b'/' | b'*', ..] => Match::Yes,
        [b' ', url @ ..] => matches_prefix(url, b"http"),
        _ => Match::No,
    }
}

/// Whether the bytes begin with `start`, whatever the case of letters.
fn matches_prefix(bytes: &[u8], start: &[u8]) -> Match {
    let len = bytes.len().min(start.len());
    match bytes[..len].eq_ignore_ascii_case(&start[..len]) {
        true if len < start.len() => Match::Undecided,
        is_match => is_match.into(),
    }
}

/// The length and the code of a packet of PostgreSQL's startup phase, which has no type byte
/// (`src/include/libpq/pqcomm.h`).
fn matches_postgres(bytes: &[u8]) -> Match {
    // A client that begins with TLS at once (`sslnegotiation=direct`, PostgreSQL 17).
    if bytes.first() == Some(&22) {
        return matches_tls(bytes);
    }
    // No packet is longer than 10,000 bytes (MAX_STARTUP_PACKET_LENGTH).
    let rules: [fn(u8) -> bool; 3] = [|byte| byte == 0, |byte| byte == 0, |byte| byte <= 0x27];
    if matches_each(bytes, &rules) == Match::No {
        return Match::No;
    }
    let Some(code) = bytes.get(4..8) else {
        return Match::Undecided;
    };
    let &[a, b, c, d] = code else {
        return Match::No;
    };
    matches!(
        u32::from_be_bytes([a, b, c, d]),
        SSL_REQUEST | GSSENC_REQUEST | 0x0003_0000..=0x0003_FFFF
    )
    .into()
}

/// The codes of SSLRequest (1234 << 16 | 5679) and GSSENCRequest (1234 << 16 | 5680).
pub(super) const SSL_REQUEST: u32 = 80_877_103;
pub(super) const GSSENC_REQUEST: u32 = 80_877_104;

/// The header of a RESP array, which ends with CRLF, and the `$` of a bulk string.
fn matches_redis(bytes: &[u8]) -> Match {
    const MAX_DIGITS: usize = 7;
    let Some(rest) = bytes.strip_prefix(b"*") else {
        return Match::No;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, end) = rest.split_at(digits);
    match (digits, end) {
        ([b'0', ..], _) => Match::No,
        _ if digits.len() > MAX_DIGITS => Match::No,
        (_, []) => Match::Undecided,
        ([], _) => Match::No,
        _ => matches_prefix(end, b"\r\n$"),
    }
}

/// How the `User-Agent` of a health checker begins: of the kubelet, Google Cloud, AWS, Envoy,
/// Consul and Azure.
const CHECKERS: [&str; 6] = [
    "kube-probe/",
    "GoogleHC/",
    "ELB-HealthChecker/",
    "Envoy/HC",
    "Consul Health Check",
    "Load Balancer Agent",
];

/// Which HTTP requests are health checks, and what answers them while the app sleeps. The
/// default knows none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// The answer; `None` closes the connection.
    pub answer: Option<ProbeAnswer>,
    /// The paths of health checks, in addition to the requests with a known `User-Agent`.
    pub paths: Vec<String>,
}

/// The answer to a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// 200: the app would wake for a client.
    Ok,
    /// 503: the app does not run.
    Unavailable,
}

impl FromStr for ProbeAnswer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "200" => Ok(ProbeAnswer::Ok),
            "503" => Ok(ProbeAnswer::Unavailable),
            _ => Err("is neither 200 nor 503".to_owned()),
        }
    }
}

impl fmt::Display for ProbeAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProbeAnswer::Ok => "200",
            ProbeAnswer::Unavailable => "503",
        })
    }
}

impl ProbeAnswer {
    /// The whole answer in HTTP, after which the connection is closed.
    pub fn to_bytes(self) -> &'static [u8] {
        match self {
            ProbeAnswer::Ok => {
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\
                  Connection: close\r\n\r\n"
            }
            ProbeAnswer::Unavailable => {
                b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
                  Content-Length: 0\r\nConnection: close\r\n\r\n"
            }
        }
    }
}

impl Probes {
    /// Whether there are no health checks.
    pub fn is_off(&self) -> bool {
        *self == Probes::default()
    }

    /// Whether the bytes are the head of a health check.
    pub fn matches(&self, bytes: &[u8]) -> Match {
        if self.is_off() {
            return Match::No;
        }
        if bytes.is_empty() {
            return Match::Undecided;
        }
        // Bytes that are surely no request are decided here at once. httparse would accept
        // more bytes of some.
        let is_request = matches_http(bytes);
        if is_request != Match::Yes {
            return is_request;
        }
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(Status::Complete(_)) => self.is_check(&request).into(),
            Ok(Status::Partial) if bytes.len() < MAX_PEEK => Match::Undecided,
            _ => Match::No,
        }
    }

    fn is_check(&self, request: &Request<'_, '_>) -> bool {
        if !matches!(request.method, Some("GET" | "HEAD")) {
            return false;
        }
        let path = request.path.unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let mut agents = request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("user-agent"));
        let is_checker = |value: &[u8]| {
            CHECKERS
                .iter()
                .any(|start| value.starts_with(start.as_bytes()))
        };
        self.paths.iter().any(|known| known == path) || agents.any(|field| is_checker(field.value))
    }
}

#[cfg(test)]
mod tests;
