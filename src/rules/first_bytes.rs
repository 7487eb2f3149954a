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
    /// More bytes decide.
    Undecided,
    /// Use of the app.
    Counts,
    /// None.
    Excluded,
    /// A health check.
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
            Match::Yes => Decision::Counts,
            Match::Undecided if bytes.len() < LOOKED_AT => Decision::Undecided,
            Match::Undecided | Match::No => Decision::Excluded,
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn startup(code: u32) -> Vec<u8> {
        let mut bytes = 40u32.to_be_bytes().to_vec();
        bytes.extend(code.to_be_bytes());
        bytes.extend(b"user\0postgres\0\0");
        bytes
    }

    /// The rule that decides on the bytes, and after how many.
    fn decided(wake_on: WakeOn, bytes: &[u8]) -> (Match, usize) {
        let decide = |end: usize| match wake_on.matches(&bytes[..end]) {
            Match::Undecided => None,
            decided => Some((decided, end)),
        };
        let found = (0..=bytes.len()).find_map(decide);
        found.unwrap_or((Match::Undecided, bytes.len()))
    }

    #[test]
    fn a_connection_counts_by_its_first_bytes_as_soon_as_they_tell() {
        use Match::{No, Undecided, Yes};
        use WakeOn::{Accept, FirstByte, Http, Postgres, Redis, Tls};
        let hello = [22, 3, 1, 2, 0, 1, 0];
        for (label, wake_on, bytes, expected) in [
            ("the server speaks first", Accept, vec![], (Yes, 0)),
            ("a bare connect", FirstByte, vec![], (Undecided, 0)),
            ("a byte", FirstByte, vec![0], (Yes, 1)),
            ("a ClientHello", Tls, hello.to_vec(), (Yes, 6)),
            ("no TLS", Tls, b"GET / ".to_vec(), (No, 1)),
            ("SSLv2", Tls, vec![0x80, 0x2E, 1], (No, 1)),
            (
                "a record too long",
                Tls,
                vec![22, 3, 1, 0x41, 0, 1],
                (No, 4),
            ),
            ("a ServerHello", Tls, vec![22, 3, 3, 0, 9, 2], (No, 6)),
            ("a request", Http, b"GET /x HTTP/1.1".to_vec(), (Yes, 5)),
            ("OPTIONS", Http, b"OPTIONS * HTTP/1.1".to_vec(), (Yes, 9)),
            ("a proxy's", Http, b"GET http://x/ ".to_vec(), (Yes, 8)),
            ("CONNECT", Http, b"CONNECT a:1 ".to_vec(), (Yes, 9)),
            ("HTTP/2", Http, b"PRI * HTTP/2.0\r\n".to_vec(), (Yes, 5)),
            ("WebDAV", Http, b"VERSION-CONTROL /x ".to_vec(), (Yes, 17)),
            ("SMTP", Http, b"EHLO example.org\r\n".to_vec(), (No, 6)),
            ("SSH", Http, b"SSH-2.0-OpenSSH".to_vec(), (No, 5)),
            ("TLS", Http, hello.to_vec(), (No, 1)),
            ("a long word", Http, vec![b'A'; 30], (No, 21)),
            ("a startup packet", Postgres, startup(0x0003_0000), (Yes, 8)),
            ("of version 3.2", Postgres, startup(0x0003_0002), (Yes, 8)),
            (
                "a request for TLS",
                Postgres,
                startup(SSL_REQUEST),
                (Yes, 8),
            ),
            ("for GSSAPI", Postgres, startup(GSS_REQUEST), (Yes, 8)),
            ("a CancelRequest", Postgres, startup(80_877_102), (No, 8)),
            ("version 2", Postgres, startup(0x0002_0000), (No, 8)),
            ("TLS at once", Postgres, hello.to_vec(), (Yes, 6)),
            ("a packet too long", Postgres, vec![0, 0, 0x28, 0], (No, 3)),
            ("HTTP", Postgres, b"GET / HTTP/1.1".to_vec(), (No, 1)),
            (
                "a command",
                Redis,
                b"*1\r\n$4\r\nPING\r\n".to_vec(),
                (Yes, 5),
            ),
            ("a long one", Redis, b"*1024\r\n$3\r\n".to_vec(), (Yes, 8)),
            ("no parts", Redis, b"*0\r\n".to_vec(), (No, 2)),
            ("no number", Redis, b"*\r\n".to_vec(), (No, 2)),
            ("too many parts", Redis, b"*99999999\r\n".to_vec(), (No, 9)),
            ("a command by hand", Redis, b"PING\r\n".to_vec(), (No, 1)),
            ("HTTP", Redis, b"GET / HTTP/1.1".to_vec(), (No, 1)),
        ] {
            assert_eq!(decided(wake_on, &bytes), expected, "{label}, {wake_on}");
        }
    }

    #[test]
    fn a_setting_is_read_as_it_is_shown() {
        for (name, wake_on) in NAMES {
            assert_eq!(name.parse(), Ok(wake_on));
            assert_eq!(wake_on.to_string(), name);
        }
        let error = "TLS".parse::<WakeOn>().unwrap_err();
        assert_eq!(
            error,
            "is none of accept, first-byte, tls, http, postgres, redis"
        );
        for text in ["200", "503"] {
            assert_eq!(text.parse::<ProbeAnswer>().unwrap().to_string(), text);
        }
        assert!("204".parse::<ProbeAnswer>().is_err());
    }

    fn probes() -> Probes {
        Probes {
            answer: Some(ProbeAnswer::Ok),
            paths: vec!["/healthz".to_owned()],
        }
    }

    #[test]
    fn a_check_is_told_by_its_agent_or_its_path_once_its_head_is_there() {
        let agent = |name: &str| format!("GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: {name}\r\n\r\n");
        for (label, head, expected) in [
            ("the kubelet", agent("kube-probe/1.34"), Match::Yes),
            ("Google", agent("GoogleHC/1.0"), Match::Yes),
            ("Amazon", agent("ELB-HealthChecker/2.0"), Match::Yes),
            ("a browser", agent("Mozilla/5.0 kube-probe/1.34"), Match::No),
            (
                "in other letters",
                "GET /x HTTP/1.0\r\nUSER-AGENT:kube-probe/1\r\n\r\n".to_owned(),
                Match::Yes,
            ),
            ("no agent", "GET / HTTP/1.0\r\n\r\n".to_owned(), Match::No),
            (
                "a path",
                "HEAD /healthz?verbose HTTP/1.1\r\n\r\n".to_owned(),
                Match::Yes,
            ),
            (
                "below that path",
                "GET /healthz/x HTTP/1.1\r\n\r\n".to_owned(),
                Match::No,
            ),
            (
                "a POST to it",
                "POST /healthz HTTP/1.1\r\n\r\n".to_owned(),
                Match::No,
            ),
            ("no HTTP", "EHLO x\r\n\r\n".to_owned(), Match::No),
            ("no version", "GET /healthz\r\n\r\n".to_owned(), Match::No),
        ] {
            assert_eq!(probes().matches(head.as_bytes()), expected, "{label}");
            let line = head.find("\r\n").unwrap();
            if expected == Match::Yes {
                for end in 0..head.len() {
                    let cut = probes().matches(&head.as_bytes()[..end]);
                    assert_eq!(cut, Match::Undecided, "{label}, {end} of {line}");
                }
            }
        }
    }

    #[test]
    fn a_check_never_counts_and_what_is_none_counts_by_the_rule() {
        use Decision::{Counts, Excluded, Probe, Undecided};
        let rules = |wake_on, probes| FirstBytes { wake_on, probes };
        let check = "GET /healthz HTTP/1.1\r\n\r\n";
        let kubelet = "GET / HTTP/1.1\r\nUser-Agent: kube-probe/1\r\n\r\n";
        let other = "GET / HTTP/1.1\r\n\r\n";
        for (label, rules, bytes, expected) in [
            ("no rule", FirstBytes::default(), "", Counts),
            ("no rule, a check", FirstBytes::default(), check, Counts),
            (
                "a check, known by its agent alone",
                rules(
                    WakeOn::Accept,
                    Probes {
                        answer: Some(ProbeAnswer::Ok),
                        paths: Vec::new(),
                    },
                ),
                kubelet,
                Probe,
            ),
            (
                "a path that is no check's",
                rules(
                    WakeOn::Accept,
                    Probes {
                        answer: Some(ProbeAnswer::Ok),
                        paths: Vec::new(),
                    },
                ),
                check,
                Counts,
            ),
            (
                "nothing yet",
                rules(WakeOn::Accept, probes()),
                "",
                Undecided,
            ),
            (
                "no head yet",
                rules(WakeOn::Http, probes()),
                "GET /",
                Undecided,
            ),
            ("a check", rules(WakeOn::Http, probes()), check, Probe),
            ("a request", rules(WakeOn::Http, probes()), other, Counts),
            (
                "no request",
                rules(WakeOn::Http, probes()),
                "\x16\x03",
                Excluded,
            ),
            (
                "no request, where any byte counts",
                rules(WakeOn::FirstByte, probes()),
                "\x16",
                Counts,
            ),
            (
                "nothing, where any byte counts",
                rules(WakeOn::FirstByte, Probes::default()),
                "",
                Undecided,
            ),
        ] {
            assert_eq!(rules.decide(bytes.as_bytes()), expected, "{label}");
        }
    }

    #[test]
    fn a_head_that_does_not_end_is_no_check() {
        let mut head = b"GET /healthz HTTP/1.1\r\nUser-Agent: kube-probe/1".to_vec();
        head.resize(LOOKED_AT - 1, b'1');
        assert_eq!(probes().matches(&head), Match::Undecided);
        head.push(b'1');
        assert_eq!(probes().matches(&head), Match::No);
        let fields = "X: y\r\n".repeat(MOST_FIELDS + 1);
        let many = format!("GET /healthz HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(probes().matches(many.as_bytes()), Match::No);
    }

    #[test]
    fn an_answer_is_a_whole_message_of_http() {
        for answer in [ProbeAnswer::Ok, ProbeAnswer::Unavailable] {
            let mut fields = [EMPTY_HEADER; 8];
            let mut response = httparse::Response::new(&mut fields);
            let bytes = answer.to_bytes();
            assert_eq!(response.parse(bytes), Ok(Status::Complete(bytes.len())));
            let code = response.code.map(|code| code.to_string());
            assert_eq!(code, Some(answer.to_string()));
        }
    }

    proptest! {
        /// What is decided stays decided, whatever follows.
        #[test]
        fn more_bytes_never_change_a_decision(
            seed in prop::sample::select(vec![
                &b"GET /healthz HTTP/1.1\r\nUser-Agent: kube-probe/1\r\n\r\n"[..],
                b"*1\r\n$4\r\nPING\r\n",
                &[22, 3, 1, 2, 0, 1, 0, 0, 9],
                &[0, 0, 0, 40, 0, 3, 0, 0, 117],
            ]),
            noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            more in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = seed.to_vec();
            for (at, byte) in noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend(more);
            for (_, wake_on) in NAMES {
                let (first, at) = decided(wake_on, &bytes);
                for end in at..=bytes.len() {
                    let later = wake_on.matches(&bytes[..end]);
                    prop_assert!(first == later || first == Match::Undecided);
                }
            }
            let _ = probes().matches(&bytes);
        }
    }
}
