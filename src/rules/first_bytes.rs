//! [`FirstBytes`] says by the first bytes of a connection whether it counts as use of the
//! app: what they must look like ([`WakeOn`]), and which HTTP requests are health checks
//! that never do ([`Probes`]).
//!
//! The bytes are looked at, not taken: a pod gets them all. Every decision is made on a
//! prefix, as soon as one can be, and is the same however the bytes are cut.

use std::fmt;
use std::str::FromStr;

use httparse::{EMPTY_HEADER, Request, Status};

/// How many of the first bytes are looked at: the head of an HTTP request with a
/// `User-Agent` fits. What is not decided by then is no match.
pub const LOOKED_AT: usize = 4096;

/// How many header fields of a request are read. One with more is no check.
const MOST_FIELDS: usize = 64;

/// The rules about the first bytes of a connection. The default looks at none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirstBytes {
    /// What makes a connection count.
    pub wake_on: WakeOn,
    /// What is a health check, and never counts.
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
    /// Whether no byte is looked at.
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
            Match::Undecided if bytes.len() < LOOKED_AT => Decision::Undecided,
            Match::Undecided | Match::No => Decision::Uncounted,
        }
    }
}

/// What makes a connection count as use of the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WakeOn {
    /// That it is there: right where the server speaks first.
    #[default]
    Accept,
    /// A byte, whatever it is.
    FirstByte,
    /// A TLS ClientHello.
    Tls,
    /// A request of HTTP/1 or the preface of HTTP/2, not in TLS.
    Http,
    /// A startup packet of PostgreSQL, or a request for TLS or GSSAPI before one; a
    /// CancelRequest is none.
    Postgres,
    /// A command of Redis as a client library sends it, an array (RESP).
    Redis,
}

/// Every value as a setting has it.
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
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|&(_, it)| it).ok_or_else(|| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            format!("is none of {names}")
        })
    }
}

impl fmt::Display for WakeOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = NAMES.iter().find(|(_, it)| it == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// Whether bytes look like something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// More bytes decide.
    Undecided,
    /// They do.
    Yes,
    /// They do not, whatever follows.
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

/// Whether each of the first bytes keeps to its rule.
fn matches_each(bytes: &[u8], rules: &[fn(u8) -> bool]) -> Match {
    match bytes.iter().zip(rules).all(|(&byte, rule)| rule(byte)) {
        true if bytes.len() < rules.len() => Match::Undecided,
        is_match => is_match.into(),
    }
}

/// A method, a space, and the start of a target: a path, an asterisk, a URL, or for
/// CONNECT an authority (RFC 9112, 3.2). That tells a request from a command of SMTP. The
/// preface of HTTP/2 begins with `PRI *`.
fn matches_http(bytes: &[u8]) -> Match {
    const LONGEST_METHOD: usize = 20;
    let is_of_method = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    let method = bytes.iter().take_while(|byte| is_of_method(byte)).count();
    let (method, rest) = bytes.split_at(method);
    if !(1..=LONGEST_METHOD).contains(&method.len()) {
        return Match::No;
    }
    match rest {
        [] | [b' '] => Match::Undecided,
        [b' ', ..] if method == b"CONNECT" => Match::Yes,
        [b' ', b'/' | b'*', ..] => Match::Yes,
        [b' ', url @ ..] => matches_start(url, b"http"),
        _ => Match::No,
    }
}

/// Whether the bytes begin like this, in capitals or not.
fn matches_start(bytes: &[u8], start: &[u8]) -> Match {
    let len = bytes.len().min(start.len());
    match bytes[..len].eq_ignore_ascii_case(&start[..len]) {
        true if len < start.len() => Match::Undecided,
        is_match => is_match.into(),
    }
}

/// The length and the code of a packet of PostgreSQL that has no type before them
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
        SSL_REQUEST | GSS_REQUEST | 0x0003_0000..=0x0003_FFFF
    )
    .into()
}

/// The codes of requests for TLS and for GSSAPI.
pub(super) const SSL_REQUEST: u32 = 80_877_103;
pub(super) const GSS_REQUEST: u32 = 80_877_104;

/// `*`, the number of a command's parts, a line's end, and `$` before the first part.
fn matches_redis(bytes: &[u8]) -> Match {
    const MOST_DIGITS: usize = 7;
    let Some(rest) = bytes.strip_prefix(b"*") else {
        return Match::No;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, end) = rest.split_at(digits);
    match (digits, end) {
        ([b'0', ..], _) => Match::No,
        _ if digits.len() > MOST_DIGITS => Match::No,
        (_, []) => Match::Undecided,
        ([], _) => Match::No,
        _ => matches_start(end, b"\r\n$"),
    }
}

/// The `User-Agent` of those who check over HTTP whether a server is well, by its start.
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
    /// The paths of checks, beside those that a known `User-Agent` tells.
    pub paths: Vec<String>,
}

/// What answers a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// All is well: the app would wake for a client.
    Ok,
    /// The app does not run.
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
    /// Whether no request is taken for a check.
    pub fn is_off(&self) -> bool {
        *self == Probes::default()
    }

    /// Whether the bytes are the head of a check's request.
    pub fn matches(&self, bytes: &[u8]) -> Match {
        if self.is_off() {
            return Match::No;
        }
        if bytes.is_empty() {
            return Match::Undecided;
        }
        // Also decides for what httparse does not take, as long as it may be a request.
        let is_request = matches_http(bytes);
        if is_request != Match::Yes {
            return is_request;
        }
        let mut fields = [EMPTY_HEADER; MOST_FIELDS];
        let mut request = Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(Status::Complete(_)) => self.is_check(&request).into(),
            Ok(Status::Partial) if bytes.len() < LOOKED_AT => Match::Undecided,
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
