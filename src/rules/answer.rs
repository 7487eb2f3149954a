//! [`HoldAnswer`]: the bytes that a client gets at the hold limit in place of a reset: an error
//! message of its protocol.
//!
//! A driver that understands why it was turned away tries again; after a reset, many
//! report a network failure.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::first_bytes::{GSSENC_REQUEST, SSL_REQUEST};
use super::names;

/// The longest answer of an operator's own, in bytes.
pub const MAX_LEN: usize = 16 * 1024;

/// How often a client gets the answer "no encryption" before it gets the error: libpq asks
/// for GSSAPI, then for TLS.
const MAX_DECLINED: u8 = 2;

/// The answer to a client at the hold limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldAnswer {
    /// FATAL 57P03 (`cannot_connect_now`), on which libpq tries its next host, and pools
    /// try again.
    Postgres,
    /// Error 1040 in place of the greeting.
    Mysql,
    /// `-LOADING`, which clients know from a server that reads its data set.
    Redis,
    /// 503 with `Retry-After`.
    Http,
    /// 421 in place of the greeting.
    Smtp,
    /// 421 in place of the greeting, of FTP.
    Ftp,
    /// A fatal alert, `internal_error`.
    Tls,
    /// What is in that file.
    File(PathBuf),
    /// These bytes.
    Bytes(Arc<[u8]>),
}

/// Every answer that has a name.
const NAMES: [(&str, HoldAnswer); 7] = [
    ("postgres", HoldAnswer::Postgres),
    ("mysql", HoldAnswer::Mysql),
    ("redis", HoldAnswer::Redis),
    ("http", HoldAnswer::Http),
    ("smtp", HoldAnswer::Smtp),
    ("ftp", HoldAnswer::Ftp),
    ("tls", HoldAnswer::Tls),
];

impl FromStr for HoldAnswer {
    type Err = String;

    /// Parses a protocol's name, or the path of a file, which has a slash.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(HoldAnswer::File(text.into()));
        }
        let answer = names::parse(&NAMES, text);
        answer.map_err(|why| format!("{why}, nor the path of a file, which has a slash"))
    }
}

impl fmt::Display for HoldAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HoldAnswer::File(path) => path.display().fmt(f),
            HoldAnswer::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            named => f.write_str(names::name(&NAMES, named)),
        }
    }
}

/// The next thing to do for a client that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Wait for more bytes.
    Wait,
    /// Consume that many of its bytes, send this, and go on.
    Refuse(usize, &'static [u8]),
    /// Send this, and end.
    Last(Arc<[u8]>),
}

impl HoldAnswer {
    /// The reply to these bytes of the client, whose requests for encryption were refused
    /// `refusals` times before.
    ///
    /// A client that has begun with TLS gets a TLS alert, whatever the protocol within.
    pub fn reply(&self, received: &[u8], refusals: u8) -> Reply {
        let begins_with_tls = received.starts_with(&[22, 3]);
        match self {
            _ if begins_with_tls => Reply::Last(Arc::from(TLS_ALERT)),
            HoldAnswer::Postgres => reply_postgres(received, refusals),
            other => Reply::Last(other.to_bytes()),
        }
    }

    /// The answer with its file read, if it is in one.
    ///
    /// # Errors
    /// Why the file cannot be read, or is no answer.
    pub fn load(
        &self,
        read: impl FnOnce(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<HoldAnswer, String> {
        let HoldAnswer::File(path) = self else {
            return Ok(self.clone());
        };
        let bytes = read(path).map_err(|error| error.to_string())?;
        match bytes.len() {
            0 => Err("is empty".to_owned()),
            1..=MAX_LEN => Ok(HoldAnswer::Bytes(bytes.into())),
            len => Err(format!("has {len} bytes, which is more than {MAX_LEN}")),
        }
    }

    fn to_bytes(&self) -> Arc<[u8]> {
        match self {
            HoldAnswer::Postgres => postgres_error(),
            HoldAnswer::Mysql => mysql_error(),
            HoldAnswer::Redis => Arc::from(&b"-LOADING the server is waking up, try again\r\n"[..]),
            HoldAnswer::Http => Arc::from(HTTP_503),
            HoldAnswer::Smtp => Arc::from(&b"421 4.3.2 Waking up, try again later\r\n"[..]),
            HoldAnswer::Ftp => Arc::from(&b"421 Waking up, try again later\r\n"[..]),
            HoldAnswer::Tls => Arc::from(TLS_ALERT),
            HoldAnswer::Bytes(bytes) => Arc::clone(bytes),
            // The daemon has read it by now.
            HoldAnswer::File(_) => Arc::from(&b""[..]),
        }
    }
}

/// A record of type alert (RFC 8446, 5.1 and 6): fatal, `internal_error`.
const TLS_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

const HTTP_503: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
    Content-Type: text/plain\r\nContent-Length: 26\r\nConnection: close\r\n\r\n\
    Waking up, try again soon\n";

/// A request for encryption is refused with `N` first: the error would be taken for an
/// answer to it, and since PostgreSQL 17 not be shown (CVE-2024-10977).
fn reply_postgres(received: &[u8], refusals: u8) -> Reply {
    let code = received.get(4..8).and_then(|code| code.try_into().ok());
    match code.map(u32::from_be_bytes) {
        Some(SSL_REQUEST | GSSENC_REQUEST) if refusals < MAX_DECLINED => Reply::Refuse(8, b"N"),
        // What it asks for next is on its way.
        None if refusals > 0 => Reply::Wait,
        _ => Reply::Last(postgres_error()),
    }
}

/// ErrorResponse (protocol 3.0, "Message Formats").
fn postgres_error() -> Arc<[u8]> {
    let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database is waking up, try again\0\0";
    let len = fields.len() as u32 + 4;
    [&b"E"[..], &len.to_be_bytes(), fields].concat().into()
}

/// ERR_Packet in place of the greeting: the length in three bytes, the number of the
/// packet, 0xFF, the code. Before the greeting there is no SQL state in it.
fn mysql_error() -> Arc<[u8]> {
    const CON_COUNT_ERROR: u16 = 1040;
    let text = b"The database is waking up, try again";
    let [low, high, top, _] = (text.len() as u32 + 3).to_le_bytes();
    let head = [low, high, top, 0, 0xFF];
    let code = CON_COUNT_ERROR.to_le_bytes();
    [&head[..], &code, text].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(answer: &HoldAnswer, received: &[u8]) -> Vec<u8> {
        match answer.reply(received, 0) {
            Reply::Last(bytes) => bytes.to_vec(),
            other => panic!("{answer}: {other:?}"),
        }
    }

    #[test]
    fn each_protocol_has_its_own_words() {
        for (name, start, end) in [
            ("postgres", &b"E\0\0\0"[..], &b"again\0\0"[..]),
            ("mysql", &[39, 0, 0, 0, 0xFF, 0x10, 0x04], b"again"),
            ("redis", b"-LOADING ", b"\r\n"),
            ("http", b"HTTP/1.1 503 ", b"\n"),
            ("smtp", b"421 4.3.2 ", b"\r\n"),
            ("ftp", b"421 ", b"\r\n"),
            ("tls", &[21, 3, 3, 0, 2, 2], &[80]),
        ] {
            let answer: HoldAnswer = name.parse().unwrap();
            assert_eq!(answer.to_string(), name);
            let bytes = last(&answer, b"");
            assert!(bytes.starts_with(start), "{name}: {bytes:?}");
            assert!(bytes.ends_with(end), "{name}: {bytes:?}");
        }
    }

    #[test]
    fn lengths_that_are_said_are_right() {
        let bytes = last(&HoldAnswer::Postgres, b"");
        let said = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        assert_eq!(said as usize, bytes.len() - 1);
        let bytes = last(&HoldAnswer::Mysql, b"");
        assert_eq!(usize::from(bytes[0]), bytes.len() - 4);
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut fields);
        let head = response.parse(HTTP_503).unwrap().unwrap();
        let length = response
            .headers
            .iter()
            .find(|it| it.name == "Content-Length");
        let length = str::from_utf8(length.unwrap().value).unwrap();
        assert_eq!(length, (HTTP_503.len() - head).to_string());
    }

    #[test]
    fn postgres_is_refused_encryption_before_it_gets_the_error() {
        let packet = |code: u32| [&8u32.to_be_bytes()[..], &code.to_be_bytes()].concat();
        let startup = [&40u32.to_be_bytes()[..], &0x0003_0000u32.to_be_bytes()].concat();
        let refused = Reply::Refuse(8, b"N");
        let error = Reply::Last(postgres_error());
        for (label, received, refusals, expected) in [
            ("nothing was sent", vec![], 0, error.clone()),
            ("half a packet", vec![0, 0, 0], 0, error.clone()),
            ("GSSAPI", packet(GSSENC_REQUEST), 0, refused.clone()),
            ("and then TLS", packet(SSL_REQUEST), 1, refused.clone()),
            ("and then nothing yet", vec![], 1, Reply::Wait),
            (
                "and then half a packet",
                vec![0, 0, 0, 8, 4],
                2,
                Reply::Wait,
            ),
            ("and then the startup", startup.clone(), 2, error.clone()),
            ("TLS a third time", packet(SSL_REQUEST), 2, error.clone()),
            ("a startup at once", startup, 0, error),
        ] {
            let reply = HoldAnswer::Postgres.reply(&received, refusals);
            assert_eq!(reply, expected, "{label}");
        }
    }

    #[test]
    fn a_client_that_has_begun_with_tls_is_answered_in_tls() {
        for (_, answer) in NAMES {
            assert_eq!(last(&answer, &[22, 3, 1, 2, 0, 1]), TLS_ALERT, "{answer}");
        }
    }

    #[test]
    fn an_answer_in_a_file_is_read_once() {
        let file: HoldAnswer = "/etc/zpa/answer".parse().unwrap();
        let with = |bytes: Vec<u8>| {
            file.load(|path| {
                assert_eq!(path, Path::new("/etc/zpa/answer"));
                Ok(bytes)
            })
        };
        assert_eq!(last(&with(b"later".to_vec()).unwrap(), b""), b"later");
        assert!(with(vec![b'x'; MAX_LEN]).is_ok());
        let long = with(vec![b'x'; MAX_LEN + 1]).unwrap_err();
        assert_eq!(long, "has 16385 bytes, which is more than 16384");
        assert_eq!(with(Vec::new()).unwrap_err(), "is empty");
        let missing = file.load(|_| Err(io::ErrorKind::NotFound.into()));
        assert_eq!(missing.unwrap_err(), "entity not found");
        let named = HoldAnswer::Http.load(|_| panic!("it has no file"));
        assert_eq!(named, Ok(HoldAnswer::Http));
    }

    #[test]
    fn an_answer_is_named_or_a_file() {
        let file: HoldAnswer = "/etc/zpa/answer".parse().unwrap();
        assert_eq!(file, HoldAnswer::File("/etc/zpa/answer".into()));
        assert_eq!(file.to_string(), "/etc/zpa/answer");
        let error = "pg".parse::<HoldAnswer>().unwrap_err();
        assert!(error.starts_with("is none of postgres, mysql"), "{error}");
        let own = HoldAnswer::Bytes(Arc::from(&b"later"[..]));
        assert_eq!(last(&own, b"x"), b"later");
    }
}
