//! The part of HTTP/1.1 that clients of an API server need: requests with a length, replies with a
//! length or in chunks.

use std::io::{self, Read, Write};
use std::time::Instant;

use serde_json::{Value, json};

/// The longest head that is read; the longest body.
const HEAD_MAX: usize = 64 << 10;
const BODY_MAX: usize = 3 << 20;

/// Go's `net/http` gives a reply a Content-Length if it fits this buffer, and
/// sends it in chunks otherwise.
const UNCHUNKED_MAX: usize = 2_048;

/// A request, as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its last byte had been read.
    pub at: Instant,
    pub method: String,
    pub path: String,
    /// The raw query, without the question mark.
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.iter();
        fields
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self
            .query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .find(|(key, _)| decode(key) == name)
            .map(|(_, value)| decode(value))
    }

    /// Whether the client will send no other request on this connection.
    pub fn is_last(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Reads the next request, of which `first` has been read already.
    pub fn read(first: u8, stream: &mut impl Read) -> io::Result<Request> {
        let head = read_head(first, stream)?;
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
            .collect();
        let mut request = Request {
            at: Instant::now(),
            method,
            path,
            query,
            headers,
            body: Vec::new(),
        };
        request.body = read_body(&request, stream)?;
        request.at = Instant::now();
        Ok(request)
    }
}

/// Byte by byte: heads are short and the streams below are buffered enough.
fn read_head(first: u8, stream: &mut impl Read) -> io::Result<String> {
    let mut head = vec![first];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a request's head of 64 KiB",
            ));
        }
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_body(request: &Request, stream: &mut impl Read) -> io::Result<Vec<u8>> {
    if request.header("transfer-encoding").is_some() {
        return read_chunks(stream);
    }
    let length = request
        .header("content-length")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    read_exactly(length, stream)
}

fn read_exactly(length: usize, stream: &mut impl Read) -> io::Result<Vec<u8>> {
    if length > BODY_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a request's body over 3 MiB",
        ));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(read_exactly(1, stream)?);
        }
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim(), 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk without a size"))?;
        body.extend(read_exactly(size, stream)?);
        read_exactly(2, stream)?;
        if size == 0 || body.len() > BODY_MAX {
            return Ok(body);
        }
    }
}

/// Undoes percent-encoding and `+`.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'%')
            }
            plain => plain,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A reply that is not a watch.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Beyond those that every reply carries.
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Reply {
    /// A JSON object, with the newline that ends all of them.
    pub fn json(status: u16, body: &Value) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: format!("{body}\n"),
        }
    }

    /// A failure in the API server's words.
    pub fn failure(code: u16, reason: &str, message: &str, details: Option<Value>) -> Reply {
        let mut status = failure_status(code, reason, message);
        if let Some(details) = details {
            status["details"] = details;
        }
        Reply::json(code, &status)
    }

    /// The same, with one header more.
    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((header, value.into()));
        self
    }

    /// Sends it; `last` says that the connection will be closed.
    pub fn write(&self, stream: &mut impl Write, last: bool) -> io::Result<()> {
        let mut bytes = head(self.status, &self.headers, last);
        if self.body.len() <= UNCHUNKED_MAX {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).bytes());
            bytes.extend(self.body.bytes());
        } else {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in self.body.as_bytes().chunks(UNCHUNKED_MAX) {
                bytes.extend(chunk(piece));
            }
            bytes.extend(LAST_CHUNK);
        }
        stream.write_all(&bytes)?;
        stream.flush()
    }
}

/// A `Status` object that tells of a failure.
pub fn failure_status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

/// The chunk that ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `data` framed as one chunk.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", data.len()).into_bytes();
    framed.extend(data);
    framed.extend(b"\r\n");
    framed
}

/// Status line and headers, but for the framing and the empty line.
pub fn head(status: u16, extra: &[(&'static str, String)], last: bool) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", phrase(status));
    head.push_str("Cache-Control: no-cache, private\r\n");
    if extra.iter().all(|(name, _)| *name != "Content-Type") {
        head.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in extra {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if last {
        head.push_str("Connection: close\r\n");
    }
    head.into_bytes()
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
