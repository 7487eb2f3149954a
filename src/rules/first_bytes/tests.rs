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
        ("for GSSAPI", Postgres, startup(GSSENC_REQUEST), (Yes, 8)),
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
fn a_check_is_recognised_by_its_agent_or_its_path_once_its_head_is_there() {
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
    use Decision::{Counted, Probe, Uncounted, Undecided};
    let rules = |wake_on, probes| FirstBytes { wake_on, probes };
    let check = "GET /healthz HTTP/1.1\r\n\r\n";
    let kubelet = "GET / HTTP/1.1\r\nUser-Agent: kube-probe/1\r\n\r\n";
    let other = "GET / HTTP/1.1\r\n\r\n";
    for (label, rules, bytes, expected) in [
        ("no rule", FirstBytes::default(), "", Counted),
        ("no rule, a check", FirstBytes::default(), check, Counted),
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
            Counted,
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
        ("a request", rules(WakeOn::Http, probes()), other, Counted),
        (
            "no request",
            rules(WakeOn::Http, probes()),
            "\x16\x03",
            Uncounted,
        ),
        (
            "no request, where any byte counts",
            rules(WakeOn::FirstByte, probes()),
            "\x16",
            Counted,
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
    head.resize(MAX_PEEK - 1, b'1');
    assert_eq!(probes().matches(&head), Match::Undecided);
    head.push(b'1');
    assert_eq!(probes().matches(&head), Match::No);
    let fields = "X: y\r\n".repeat(MAX_FIELDS + 1);
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
