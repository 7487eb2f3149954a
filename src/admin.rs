//! The HTTP of the admin port: [`answer`] parses the bytes of a request and returns the
//! bytes of the response.
//!
//! The pages are read-only (`GET` and `HEAD`), and each connection gets one response.
//! Header fields are ignored. All input is hostile until it has been parsed. The module
//! uses no socket and no clock; the content of the pages comes from [`Pages`].

pub mod page;

use httparse::Status;

use self::page::Page;

/// The longest head of a request that is read, in bytes.
pub const MAX_HEAD_LEN: usize = 8 * 1024;

/// The paths, each with what it serves.
pub const PATHS: [(&str, &str); 5] = [
    ("/", "the page: what the apps do, and what they have saved"),
    ("/healthz", "200 while the event loop turns"),
    (
        "/readyz",
        "200 if the proxy takes new connections, else 503 and the reasons",
    ),
    ("/metrics", "for Prometheus"),
    ("/status", "the state of the proxy, in JSON"),
];

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// The body with which traffic-pod-autoscaler answers on its ping path.
const PONG: &str = "{\"response\": \"pong\"}";

/// The content of the pages.
pub trait Pages {
    /// The reasons why the proxy is not ready, a line each; none if it is.
    fn unready(&self) -> Vec<String>;
    /// The metrics, and their content type.
    fn metrics(&self) -> (String, &'static str);
    /// The state, in JSON.
    fn status(&self) -> String;
    /// The state, for people.
    fn page(&self) -> Page;
    /// The path that answers `{"response": "pong"}`, if one is set.
    fn ping_path(&self) -> Option<&str>;
    /// A path for the metrics beside `/metrics`, if one is set.
    fn metrics_path(&self) -> Option<&str>;
}

/// A page that has a part for each app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LongPage {
    /// The page for people.
    Overview,
    /// The metrics.
    Metrics,
    /// The state, in JSON.
    Status,
}

/// The page that `received` asks for, if it is a complete `GET` of a long one.
pub fn long_page(received: &[u8], pages: &impl Pages) -> Option<LongPage> {
    let request = parse(received)?.ok()?;
    let page = long(&request, pages);
    page.filter(|_| request.method == "GET")
}

/// Whether a long page is written for that request, if only for its length.
pub fn is_long(received: &[u8], pages: &impl Pages) -> bool {
    let request = parse(received).and_then(Result::ok);
    request.is_some_and(|request| long(&request, pages).is_some())
}

fn long(request: &Request<'_>, pages: &impl Pages) -> Option<LongPage> {
    match look_up_path(request.path, pages) {
        Path::Long(page) => Some(page),
        _ => None,
    }
}

/// The response to a connection that has sent `received` so far; `None` while that is
/// not a complete request.
pub fn answer(received: &[u8], pages: &impl Pages) -> Option<Vec<u8>> {
    let reply = match parse(received)? {
        Ok(request) => look_up(&request, pages),
        Err(refused) => refused.into(),
    };
    Some(reply.bytes())
}

/// The parts of a request that are used.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    method: &'a str,
    path: &'a str,
}

/// Why a request cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// It is not HTTP.
    Malformed,
    /// Its head is longer than [`MAX_HEAD_LEN`], or has more than [`MAX_FIELDS`].
    TooLong,
    /// Its version is neither 1.0 nor 1.1.
    OtherVersion,
}

/// The most header fields of a request.
const MAX_FIELDS: usize = 64;

/// The request at the start of `received`; `None` while its head is not complete.
fn parse(received: &[u8]) -> Option<Result<Request<'_>, Refused>> {
    // Another protocol, such as TLS, is refused at its first byte.
    let first = received.iter().find(|byte| !b"\r\n".contains(byte));
    if first.is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Some(Err(Refused::Malformed));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let request = match head.parse(received) {
        Ok(Status::Complete(length)) if length > MAX_HEAD_LEN => Err(Refused::TooLong),
        Ok(Status::Partial) if received.len() >= MAX_HEAD_LEN => Err(Refused::TooLong),
        Ok(Status::Partial) => return None,
        Ok(Status::Complete(_)) => request_of(head.method, head.path),
        Err(httparse::Error::TooManyHeaders) => Err(Refused::TooLong),
        Err(httparse::Error::Version) => Err(Refused::OtherVersion),
        Err(_) => Err(Refused::Malformed),
    };
    Some(request)
}

fn request_of<'a>(
    method: Option<&'a str>,
    target: Option<&'a str>,
) -> Result<Request<'a>, Refused> {
    let path = target.and_then(path_of).filter(|path| path.is_ascii());
    match (method, path) {
        (Some(method), Some(path)) => Ok(Request { method, path }),
        _ => Err(Refused::Malformed),
    }
}

/// The path of a request target in origin form, or in the absolute form that is sent to
/// proxies (RFC 9112, 3.2).
fn path_of(target: &str) -> Option<&str> {
    let (path, _query) = target.split_once('?').unwrap_or((target, ""));
    let path = match path.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    };
    path.starts_with('/').then_some(path)
}

/// A response.
struct Reply {
    status: &'static str,
    content_type: &'static str,
    /// Further header fields, each with CR LF; may be empty.
    fields: &'static str,
    body: String,
    /// Whether the body is only measured and not sent, as for `HEAD`.
    head_only: bool,
}

/// What a path leads to.
enum Path {
    Ping,
    Health,
    Readiness,
    Long(LongPage),
    Unknown,
}

fn look_up_path(path: &str, pages: &impl Pages) -> Path {
    match path {
        path if pages.ping_path() == Some(path) => Path::Ping,
        path if pages.metrics_path() == Some(path) => Path::Long(LongPage::Metrics),
        "/" => Path::Long(LongPage::Overview),
        "/healthz" => Path::Health,
        "/readyz" => Path::Readiness,
        "/metrics" => Path::Long(LongPage::Metrics),
        "/status" => Path::Long(LongPage::Status),
        _ => Path::Unknown,
    }
}

fn look_up(request: &Request<'_>, pages: &impl Pages) -> Reply {
    let page = || match look_up_path(request.path, pages) {
        Path::Ping => Reply::of(JSON, PONG.to_owned()),
        Path::Health => Reply::text("200 OK", "ok\n"),
        Path::Readiness => match pages.unready() {
            reasons if reasons.is_empty() => Reply::text("200 OK", "ready\n"),
            reasons => Reply::text("503 Service Unavailable", &(reasons.join("\n") + "\n")),
        },
        Path::Long(page) => write_page(page, pages),
        Path::Unknown => Reply::text("404 Not Found", &list_of_paths()),
    };
    match request.method {
        "GET" => page(),
        "HEAD" => Reply {
            head_only: true,
            ..page()
        },
        _ => Reply {
            fields: "Allow: GET, HEAD\r\n",
            ..Reply::text("405 Method Not Allowed", "GET and HEAD only\n")
        },
    }
}

fn write_page(page: LongPage, pages: &impl Pages) -> Reply {
    match page {
        LongPage::Overview => Reply {
            fields: page::HEADERS,
            ..Reply::of(HTML, page::render(&pages.page()))
        },
        LongPage::Metrics => {
            let (body, content_type) = pages.metrics();
            Reply::of(content_type, body)
        }
        LongPage::Status => Reply::of(JSON, pages.status()),
    }
}

fn list_of_paths() -> String {
    PATHS
        .iter()
        .fold("There is\n".to_owned(), |text, (path, what)| {
            text + &format!("{path:10} {what}\n")
        })
}

impl From<Refused> for Reply {
    fn from(refused: Refused) -> Reply {
        let (status, body) = match refused {
            Refused::Malformed => ("400 Bad Request", "not a request of HTTP/1.1\n"),
            Refused::TooLong => (
                "431 Request Header Fields Too Large",
                "the head of the request is longer than 8 KiB, or has more than 64 fields\n",
            ),
            Refused::OtherVersion => (
                "505 HTTP Version Not Supported",
                "HTTP/1.0 and HTTP/1.1 only\n",
            ),
        };
        Reply::text(status, body)
    }
}

impl Reply {
    fn of(content_type: &'static str, body: String) -> Reply {
        Reply {
            status: "200 OK",
            content_type,
            fields: "",
            body,
            head_only: false,
        }
    }

    fn text(status: &'static str, body: &str) -> Reply {
        Reply {
            status,
            ..Reply::of(TEXT, body.to_owned())
        }
    }

    fn bytes(self) -> Vec<u8> {
        let Reply {
            status,
            content_type,
            fields,
            mut body,
            head_only,
        } = self;
        // A body may quote texts of others: `nosniff` keeps browsers from taking it for HTML.
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             {fields}Connection: close\r\n\r\n",
            body.len()
        );
        if head_only {
            return head.into_bytes();
        }
        // A long body is not copied, and leaves nothing unused of its memory.
        body.insert_str(0, &head);
        body.shrink_to_fit();
        body.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        unready: Vec<String>,
        ping_path: Option<&'static str>,
        metrics_path: Option<&'static str>,
    }

    impl Pages for Fake {
        fn unready(&self) -> Vec<String> {
            self.unready.clone()
        }

        fn metrics(&self) -> (String, &'static str) {
            ("zpa_ready 1\n".to_owned(), "text/plain; version=0.0.4")
        }

        fn status(&self) -> String {
            "{}".to_owned()
        }

        fn page(&self) -> Page {
            Page::default()
        }

        fn ping_path(&self) -> Option<&str> {
            self.ping_path
        }

        fn metrics_path(&self) -> Option<&str> {
            self.metrics_path
        }
    }

    fn ready() -> Fake {
        unready(Vec::new())
    }

    fn unready(unready: Vec<String>) -> Fake {
        Fake {
            unready,
            ping_path: None,
            metrics_path: None,
        }
    }

    /// The status, the head and the body of an answer.
    fn taken_apart(answer: Vec<u8>) -> (u16, String, String) {
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").unwrap();
        let status = status.split(' ').next().unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    fn asked(request: &str, pages: &Fake) -> (u16, String, String) {
        taken_apart(answer(request.as_bytes(), pages).unwrap_or_else(|| panic!("{request:?}")))
    }

    fn get(path: &str, pages: &Fake) -> (u16, String, String) {
        asked(&format!("GET {path} HTTP/1.1\r\nHost: zpa\r\n\r\n"), pages)
    }

    #[test]
    fn every_path_leads_to_its_page() {
        for (path, body) in [
            ("/healthz", "ok\n"),
            ("/readyz", "ready\n"),
            ("/metrics", "zpa_ready 1\n"),
            ("/status", "{}"),
            ("/healthz?verbose=1", "ok\n"),
            ("http://10.0.0.1:8081/healthz", "ok\n"),
        ] {
            let (status, head, found) = get(path, &ready());
            assert_eq!((status, found.as_str()), (200, body), "{path}");
            let length = format!("\r\nContent-Length: {}\r\n", body.len());
            assert!(head.contains(&length), "{head}");
            assert!(head.ends_with("\r\nConnection: close"), "{head}");
        }
        assert!(get("/metrics", &ready()).1.contains("version=0.0.4\r\n"));
        assert!(get("/status", &ready()).1.contains("application/json\r\n"));
    }

    #[test]
    fn paths_of_an_ancestor_are_answered_beside_those_of_our_own() {
        let pages = Fake {
            ping_path: Some("/ping"),
            metrics_path: Some("/numbers"),
            ..unready(vec!["draining".into()])
        };
        for (label, path, status, body) in [
            (
                "a ping, ready or not",
                "/ping",
                200,
                "{\"response\": \"pong\"}",
            ),
            ("with a query", "/ping?x", 200, "{\"response\": \"pong\"}"),
            ("the metrics there", "/numbers", 200, "zpa_ready 1\n"),
            ("and here", "/metrics", 200, "zpa_ready 1\n"),
            ("our own as ever", "/readyz", 503, "draining\n"),
        ] {
            let (found, _, text) = get(path, &pages);
            assert_eq!((found, text.as_str()), (status, body), "{label}");
        }
        assert!(get("/ping", &pages).1.contains("application/json\r\n"));
        assert!(get("/numbers", &pages).1.contains("version=0.0.4\r\n"));
        assert_eq!(get("/ping", &ready()).0, 404, "nobody has asked for it");
    }

    #[test]
    fn the_page_is_html_that_may_load_nothing_from_elsewhere() {
        for path in ["/", "/?from=here", "http://zpa", "http://zpa/"] {
            let (status, head, body) = get(path, &ready());
            assert_eq!(status, 200, "{path}");
            assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"));
            assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; "));
            assert!(body.starts_with("<!doctype html>\n"), "{body}");
        }
    }

    #[test]
    fn only_complete_gets_of_pages_that_list_the_apps_ask_for_a_long_page() {
        let pages = Fake {
            metrics_path: Some("/numbers"),
            ..ready()
        };
        for (request, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(LongPage::Overview)),
            ("GET /metrics?a HTTP/1.1\r\n\r\n", Some(LongPage::Metrics)),
            ("GET /numbers HTTP/1.1\r\n\r\n", Some(LongPage::Metrics)),
            ("GET /status HTTP/1.1\r\n\r\n", Some(LongPage::Status)),
            ("HEAD /status HTTP/1.1\r\n\r\n", None),
            ("POST /status HTTP/1.1\r\n\r\n", None),
            ("GET /healthz HTTP/1.1\r\n\r\n", None),
            ("GET /status HTTP/1.1\r\n", None),
            ("get /status HTTP/1.1\r\n\r\n", None),
        ] {
            assert_eq!(long_page(request.as_bytes(), &pages), expected, "{request}");
        }
    }

    #[test]
    fn who_is_not_ready_says_why_a_line_for_each_reason() {
        let pages = unready(vec!["draining".into(), "no scale".into()]);
        let (status, _, body) = get("/readyz", &pages);
        assert_eq!((status, body.as_str()), (503, "draining\nno scale\n"));
        assert_eq!(get("/healthz", &pages).0, 200, "it lives all the same");
    }

    #[test]
    fn a_path_that_leads_nowhere_lists_those_that_do() {
        for path in [
            "/healthz/",
            "/HEALTHZ",
            "//healthz",
            "/index.html",
            "/../etc",
        ] {
            let (status, _, body) = get(path, &ready());
            assert_eq!(status, 404, "{path}");
            assert!(PATHS.iter().all(|(path, _)| body.contains(path)), "{body}");
        }
    }

    #[test]
    fn a_head_is_answered_like_a_get_without_the_body() {
        let (status, head, body) = asked("HEAD /healthz HTTP/1.1\r\n\r\n", &ready());
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(head, get("/healthz", &ready()).1);
    }

    #[test]
    fn every_other_method_gets_those_that_there_are() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "G", "GETS"] {
            let request = format!("{method} /healthz HTTP/1.1\r\n\r\n");
            let (status, head, _) = asked(&request, &ready());
            assert_eq!(status, 405, "{method}");
            assert!(head.contains("\r\nAllow: GET, HEAD\r\n"), "{head}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (label, request, expected) in [
            (
                "an empty line before it",
                "\r\nGET /healthz HTTP/1.1\r\n\r\n",
                200,
            ),
            ("line feeds alone", "GET /healthz HTTP/1.0\n\n", 200),
            (
                "more than a request",
                "GET /healthz HTTP/1.1\r\n\r\nGET /",
                200,
            ),
            (
                "a body",
                "GET /healthz HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
                200,
            ),
            (
                "a header field without a name",
                "GET /healthz HTTP/1.1\r\n: a\r\n\r\n",
                400,
            ),
            ("no version", "GET /healthz\r\n\r\n", 400),
            ("two spaces", "GET  /healthz HTTP/1.1\r\n\r\n", 400),
            ("a space too many", "GET /healthz HTTP/1.1 \r\n\r\n", 400),
            (
                "a path without a slash",
                "GET healthz HTTP/1.1\r\n\r\n",
                400,
            ),
            ("a star", "OPTIONS * HTTP/1.1\r\n\r\n", 400),
            ("a control character", "GET /\u{7} HTTP/1.1\r\n\r\n", 400),
            ("a tab", "GET\t/healthz\tHTTP/1.1\r\n\r\n", 400),
            ("a path beyond ASCII", "GET /é HTTP/1.1\r\n\r\n", 400),
            ("another protocol", "GET / SIP/2.0\r\n\r\n", 505),
            ("HTTP/2", "PRI * HTTP/2.0\r\n\r\n", 505),
            ("an old HTTP", "GET / HTTP/0.9\r\n\r\n", 505),
            ("one to come", "GET / HTTP/1.2\r\n\r\n", 505),
            ("small letters, refused before the end", "get", 400),
            (
                "the hello of TLS, refused before the end",
                "\u{16}\u{3}\u{1}",
                400,
            ),
        ] {
            assert_eq!(asked(request, &ready()).0, expected, "{label}");
        }
        let fields = "A: b\r\n".repeat(MAX_FIELDS + 1);
        let many = format!("GET /healthz HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(asked(&many, &ready()).0, 431, "too many header fields");
        let latin1 = answer(b"GET /\xe9 HTTP/1.1\r\n\r\n", &ready()).unwrap();
        assert_eq!(taken_apart(latin1).0, 400);
    }

    #[test]
    fn nothing_is_said_before_the_last_byte_of_the_head_has_come() {
        let whole = b"\r\nGET /readyz HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end], &ready()), None, "{end} bytes");
        }
        assert_eq!(taken_apart(answer(whole, &ready()).unwrap()).0, 200);
    }

    #[test]
    fn a_head_may_have_8_kib_and_not_a_byte_more() {
        let request = |length: usize| {
            let rest = "GET /healthz HTTP/1.1\r\nX: \r\n\r\n".len();
            format!(
                "GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n",
                "x".repeat(length - rest)
            )
        };
        let longest = request(MAX_HEAD_LEN);
        assert_eq!(longest.len(), MAX_HEAD_LEN);
        assert_eq!(asked(&longest, &ready()).0, 200);
        let longer = request(MAX_HEAD_LEN + 1);
        assert_eq!(asked(&longer, &ready()).0, 431);
        assert_eq!(asked(&longer[..MAX_HEAD_LEN], &ready()).0, 431, "cut there");
        assert_eq!(
            answer(&longer.as_bytes()[..MAX_HEAD_LEN - 1], &ready()),
            None
        );
        assert_eq!(asked(&"A".repeat(MAX_HEAD_LEN), &ready()).0, 431);
        let empty = answer(&[b'\n'; MAX_HEAD_LEN], &ready()).unwrap();
        assert_eq!(taken_apart(empty).0, 431, "empty lines without end");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_answered_in_http_or_not_yet(bytes in ".{0,300}") {
            if let Some(answer) = answer(bytes.as_bytes(), &ready()) {
                taken_apart(answer);
            }
        }

        #[test]
        fn an_answer_once_given_does_not_change_with_what_comes_after(
            line in "(GET|HEAD|POST|get) /[a-z?]{0,9} HTTP/[0-9.]{1,3}(\r)?\n(\r)?\n?",
            more in ".{0,50}",
        ) {
            if let Some(first) = answer(line.as_bytes(), &ready()) {
                let longer = line + &more;
                proptest::prop_assert_eq!(answer(longer.as_bytes(), &ready()), Some(first));
            }
        }
    }
}
