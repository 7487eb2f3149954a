//! [`WaitingPage`]: a page of HTML for browsers while no pod is there. It loads itself again until
//! the app has an answer of its own; the request for it counts as use of the app, so that it wakes.
//!
//! A browser that is held shows nothing, and its user goes away. Other clients of HTTP are held:
//! a page is no answer to them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Request, Status};

use super::first_bytes::{MAX_FIELDS, MAX_PEEK, Match, WakeOn};

/// How long a browser shows the page before it loads it again.
const REFRESH: Duration = Duration::from_secs(2);

/// For how long a connection that has got the page counts: until the browser's next one, so that
/// the wake goes on while the page is shown.
pub const SHOWN_FOR: Duration = Duration::from_secs(3);

/// The longest page of an operator's own, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// The page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WaitingPage {
    /// There is none: browsers are held like other clients.
    #[default]
    Off,
    /// A page with the name of the app.
    BuiltIn,
    /// What is in that file.
    File(PathBuf),
    /// This is the whole answer.
    Response(Arc<[u8]>),
}

impl FromStr for WaitingPage {
    type Err = String;

    /// Parses a name, or the path of a file, which has a slash.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(WaitingPage::Off),
            "built-in" => Ok(WaitingPage::BuiltIn),
            path if path.contains('/') => Ok(WaitingPage::File(path.into())),
            _ => Err(
                "is neither off nor built-in, nor the path of a file, which has a slash".to_owned(),
            ),
        }
    }
}

impl fmt::Display for WaitingPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitingPage::Off => f.write_str("off"),
            WaitingPage::BuiltIn => f.write_str("built-in"),
            WaitingPage::File(path) => path.display().fmt(f),
            WaitingPage::Response(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl WaitingPage {
    /// Whether there is none.
    pub fn is_off(&self) -> bool {
        *self == WaitingPage::Off
    }

    /// The whole answer of that app, with the page's file read, if it is in one.
    ///
    /// # Errors
    /// Why the file cannot be read, or is no page.
    pub fn load(
        &self,
        app: &str,
        read: impl FnOnce(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<WaitingPage, String> {
        let (page, policy) = match self {
            WaitingPage::Off | WaitingPage::Response(_) => return Ok(self.clone()),
            WaitingPage::BuiltIn => (built_in(app).into_bytes(), POLICY),
            WaitingPage::File(path) => (read(path).map_err(|error| error.to_string())?, ""),
        };
        match page.len() {
            0 => Err("is empty".to_owned()),
            1..=MAX_LEN => Ok(WaitingPage::Response(response(&page, policy).into())),
            len => Err(format!("has {len} bytes, which is more than {MAX_LEN}")),
        }
    }

    /// Whether the bytes are the head of a request that is answered with the page: a browser's GET
    /// for a page to show.
    pub fn matches(&self, bytes: &[u8]) -> Match {
        const GET: &[u8] = b"GET ";
        let len = bytes.len().min(GET.len());
        if self.is_off() || bytes[..len] != GET[..len] {
            return Match::No;
        }
        // What is surely no request is decided here at once; httparse would accept more.
        let is_request = WakeOn::Http.matches(bytes);
        if is_request != Match::Yes {
            return is_request;
        }
        let mut fields = [EMPTY_HEADER; MAX_FIELDS];
        let mut request = Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(Status::Complete(_)) => wants_page(&request).into(),
            Ok(Status::Partial) if bytes.len() < MAX_PEEK => Match::Undecided,
            _ => Match::No,
        }
    }
}

/// Whether a request is for a page to show: it accepts HTML by name, and if it says what it is for
/// (Fetch Metadata), that is a navigation and not a script's.
fn wants_page(request: &Request<'_, '_>) -> bool {
    let values = |name: &'static str| {
        let fields = request.headers.iter();
        let named = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.filter_map(|field| str::from_utf8(field.value).ok())
    };
    let accepts_html = values("accept").any(|value| value.split(',').any(is_html));
    let mut modes = values("sec-fetch-mode");
    accepts_html && modes.all(|mode| mode.trim() == "navigate")
}

/// Whether a media range is HTML (RFC 9110, 12.5.1), and not excluded by a weight of zero.
fn is_html(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let is_named = parts
        .next()
        .is_some_and(|it| it.eq_ignore_ascii_case("text/html"));
    let weights = parts.filter_map(|it| it.strip_prefix("q=").or_else(|| it.strip_prefix("Q=")));
    let mut weights = weights.map(|weight| weight.parse::<f32>().unwrap_or(0.0));
    is_named && weights.all(|weight| weight > 0.0)
}

/// The built-in page loads nothing and runs nothing.
const POLICY: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n";

/// The answer. `Refresh` is what the HTML standard has for a page that loads itself again, whatever
/// is in it; the connection is closed, so that the next request is looked at too.
fn response(page: &[u8], policy: &str) -> Vec<u8> {
    let seconds = REFRESH.as_secs();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html; charset=utf-8\r\n\
         Content-Length: {}\r\nCache-Control: no-store\r\nRetry-After: {seconds}\r\n\
         Refresh: {seconds}\r\nX-Content-Type-Options: nosniff\r\n{policy}\
         Connection: close\r\n\r\n",
        page.len()
    );
    [head.as_bytes(), page].concat()
}

fn built_in(app: &str) -> String {
    let app = escaped(app);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <title>{app} is starting</title><style>\
         :root{{color-scheme:light dark}}\
         body{{background:light-dark(#fff,#161616);color:light-dark(#161616,#eee);font:1.1rem/1.5 system-ui,sans-serif;display:grid;place-content:center;\
         min-height:90vh;margin:0;padding:1rem;text-align:center}}\
         h1{{font-size:1.5rem;margin:0}}p{{margin:.5rem 0}}</style>\
         <main role=status><h1>{app} is starting</h1>\
         <p>This page loads itself again until it is there.</p></main></html>\n"
    )
}

/// Text as HTML.
fn escaped(text: &str) -> String {
    let mut html = String::new();
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    fn request(line: &str, fields: &[&str]) -> Vec<u8> {
        let fields: String = fields.iter().map(|it| format!("{it}\r\n")).collect();
        format!("{line}\r\nHost: app\r\n{fields}\r\n").into_bytes()
    }

    /// What is decided, and after how many bytes.
    fn decided(bytes: &[u8]) -> (Match, usize) {
        let decide = |end: usize| match WaitingPage::BuiltIn.matches(&bytes[..end]) {
            Match::Undecided => None,
            decided => Some((decided, end)),
        };
        let found = (0..=bytes.len()).find_map(decide);
        found.unwrap_or((Match::Undecided, bytes.len()))
    }

    #[test]
    fn a_browser_that_opens_a_page_gets_it_and_others_do_not() {
        let get = "GET /a?b HTTP/1.1";
        for (label, bytes, expected) in [
            ("a browser", request(get, &[BROWSER]), Match::Yes),
            (
                "which says what for",
                request(get, &["Sec-Fetch-Mode: navigate", BROWSER]),
                Match::Yes,
            ),
            (
                "in other letters",
                request(get, &["ACCEPT: Text/HTML;level=1"]),
                Match::Yes,
            ),
            (
                "HTTP/1.0",
                request("GET / HTTP/1.0", &[BROWSER]),
                Match::Yes,
            ),
            (
                "a script of the page",
                request(get, &["Sec-Fetch-Mode: cors", BROWSER]),
                Match::No,
            ),
            ("curl", request(get, &["Accept: */*"]), Match::No),
            ("no field", request(get, &[]), Match::No),
            (
                "anything but HTML",
                request(get, &["Accept: application/json, text/html;q=0"]),
                Match::No,
            ),
            (
                "another type",
                request(get, &["Accept: text/html-not"]),
                Match::No,
            ),
            ("a form", request("POST / HTTP/1.1", &[BROWSER]), Match::No),
            ("HEAD", request("HEAD / HTTP/1.1", &[BROWSER]), Match::No),
            (
                "no HTTP",
                request("GET away HTTP/1.1", &[BROWSER]),
                Match::No,
            ),
            ("TLS", vec![22, 3, 1, 2, 0, 1], Match::No),
            (
                "HTTP/2",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
                Match::No,
            ),
        ] {
            let (is_match, len) = decided(&bytes);
            assert_eq!(is_match, expected, "{label}");
            let is_get = bytes.starts_with(b"GET /");
            assert_eq!(len == bytes.len(), is_get, "{label}: {len}");
        }
        assert_eq!(decided(b"GE"), (Match::Undecided, 2));
        let long = request(get, &[&"x".repeat(MAX_PEEK), BROWSER]);
        assert_eq!(decided(&long).0, Match::No, "no browser sends that");
        let browser = request(get, &[BROWSER]);
        assert_eq!(WaitingPage::Off.matches(&browser), Match::No);
    }

    fn text(page: &WaitingPage, app: &str) -> String {
        let loaded = page.load(app, |_| Ok(b"<p>mine".to_vec())).unwrap();
        let WaitingPage::Response(bytes) = loaded else {
            panic!("it is loaded");
        };
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn the_answer_is_not_stored_and_says_when_to_come_again() {
        let file = WaitingPage::File("/page".into());
        for page in [WaitingPage::BuiltIn, file] {
            let text = text(&page, "my-app");
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
                "{head}"
            );
            for field in [
                "Cache-Control: no-store".to_owned(),
                "Retry-After: 2".to_owned(),
                "Refresh: 2".to_owned(),
                "Connection: close".to_owned(),
                format!("Content-Length: {}", body.len()),
            ] {
                assert!(
                    head.lines().any(|line| line == field),
                    "{head} lacks {field}"
                );
            }
            let is_own = head.contains("Content-Security-Policy");
            assert_eq!(
                is_own,
                page == WaitingPage::BuiltIn,
                "a file may load things"
            );
        }
        const { assert!(SHOWN_FOR.as_secs() > REFRESH.as_secs()) };
    }

    #[test]
    fn the_name_of_the_app_is_text() {
        let text = text(&WaitingPage::BuiltIn, "a<script>&\"'");
        assert!(text.contains("<title>a&lt;script&gt;&amp;&quot;&#39; is starting</title>"));
        assert!(!text.contains("<script"), "{text}");
    }

    #[test]
    fn a_page_is_named_or_a_file_that_is_read_once() {
        for text in ["off", "built-in", "/etc/zpa/page.html"] {
            assert_eq!(text.parse::<WaitingPage>().unwrap().to_string(), text);
        }
        assert!("page".parse::<WaitingPage>().is_err());
        let file = WaitingPage::File("/page".into());
        let missing = file.load("a", |_| Err(io::ErrorKind::NotFound.into()));
        assert_eq!(missing.unwrap_err(), "entity not found");
        assert_eq!(file.load("a", |_| Ok(Vec::new())).unwrap_err(), "is empty");
        let long = file.load("a", |_| Ok(vec![b'x'; MAX_LEN + 1])).unwrap_err();
        assert_eq!(long, "has 65537 bytes, which is more than 65536");
        let off = WaitingPage::Off.load("a", |_| panic!("it has no file"));
        assert_eq!(off, Ok(WaitingPage::Off));
    }
}
