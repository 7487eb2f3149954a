//! [`Hello`]: the first bytes of a connection, read as TLS: a ClientHello with its server name
//! (SNI, RFC 6066), or why there is none.
//!
//! The bytes are peeked at, and whoever serves the connection gets them all. rustls parses the
//! message; this module only finds out how many records it takes, so that rustls is called once,
//! however the message is cut into segments.

use std::fmt;

use rustls::server::Acceptor;

/// The longest ClientHello that is read, in bytes, with the headers of its records. Those of
/// browsers have about 2 KiB, with a key share that withstands quantum computers.
pub const MAX_LEN: usize = 16 * 1024;

/// The header of a record: type, version, length (RFC 8446, 5.1).
const RECORD_HEADER: usize = 5;
/// The header of a handshake message: type, length in three bytes (RFC 8446, 4).
const MESSAGE_HEADER: usize = 4;
/// The most bytes of a record in plaintext (RFC 8446, 5.1).
const MAX_RECORD_LEN: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// They may become a ClientHello once more have come.
    Incomplete,
    /// A ClientHello, with the name that it has, in lower case.
    Complete(Option<String>),
    /// No ClientHello that can be read.
    Refused(Refusal),
}

/// Why no app gets a connection at an address where the server name chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No app there has the name.
    UnknownName,
    /// The ClientHello has no name, and no app there takes those.
    NoName,
    /// It does not begin with a ClientHello.
    NotTls,
    /// rustls does not read the ClientHello, and would send this alert.
    Malformed(u8),
    /// The ClientHello has more than [`MAX_LEN`] bytes.
    TooLong,
    /// The ClientHello did not come in time.
    TooLate,
    /// There were too many that had sent no ClientHello yet, and it was the oldest.
    Evicted,
    /// The app has as many connections as it may have.
    NoRoom,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 8] = [
        Refusal::UnknownName,
        Refusal::NoName,
        Refusal::NotTls,
        Refusal::Malformed(DECODE_ERROR),
        Refusal::TooLong,
        Refusal::TooLate,
        Refusal::Evicted,
        Refusal::NoRoom,
    ];

    /// What metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::UnknownName => "unknown_name",
            Refusal::NoName => "no_name",
            Refusal::NotTls => "not_tls",
            Refusal::Malformed(_) => "malformed",
            Refusal::TooLong => "too_long",
            Refusal::TooLate => "too_late",
            Refusal::Evicted => "evicted",
            Refusal::NoRoom => "no_room",
        }
    }

    /// The record of type alert that the client gets; `None` for a reset, where it has sent no
    /// ClientHello, or can try again.
    ///
    /// An unknown name is `unrecognized_name` (RFC 6066, 3). A server that takes no client
    /// without a name says `missing_extension` (RFC 8446, 9.2). TLS 1.2 does not know that one,
    /// but every version ends at a fatal alert.
    pub fn alert(self) -> Option<[u8; 7]> {
        let description = match self {
            Refusal::UnknownName => UNRECOGNIZED_NAME,
            Refusal::NoName => MISSING_EXTENSION,
            Refusal::Malformed(description) => description,
            Refusal::TooLong => HANDSHAKE_FAILURE,
            Refusal::NotTls | Refusal::TooLate | Refusal::Evicted | Refusal::NoRoom => return None,
        };
        Some([ALERT, 3, 3, 0, 2, FATAL, description])
    }
}

impl fmt::Display for Refusal {
    /// The reason as a clause without its subject, the connection.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownName => "names a server that no app there has",
            Refusal::NoName => "names no server",
            Refusal::NotTls => "does not begin with TLS",
            Refusal::Malformed(_) => "begins with a ClientHello that cannot be read",
            Refusal::TooLong => "begins with a ClientHello of more than 16 KiB",
            Refusal::TooLate => "sends no ClientHello in time",
            Refusal::Evicted => "has sent no ClientHello yet when too many others came",
            Refusal::NoRoom => "is for an app that has as many connections as it may have",
        })
    }
}

/// The type of a record with an alert, and the level and the descriptions of alerts
/// (RFC 8446, 6).
const ALERT: u8 = 21;
const FATAL: u8 = 2;
const HANDSHAKE_FAILURE: u8 = 40;
const DECODE_ERROR: u8 = 50;
const MISSING_EXTENSION: u8 = 109;
const UNRECOGNIZED_NAME: u8 = 112;

/// Reads the ClientHello at the start of `bytes`. What follows it changes nothing.
pub fn read(bytes: &[u8]) -> Hello {
    match extent(bytes) {
        Ok(None) => Hello::Incomplete,
        Ok(Some(len)) => read_name(&bytes[..len]),
        Err(refusal) => Hello::Refused(refusal),
    }
}

/// How many bytes the records of the ClientHello take; `None` while some are missing.
fn extent(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut start = Vec::with_capacity(MESSAGE_HEADER);
    // Of the message, in the records before `at`.
    let (mut at, mut received) = (0, 0);
    loop {
        let Some(len) = record(&bytes[at..])? else {
            return Ok(None);
        };
        let content = &bytes[at + RECORD_HEADER..];
        start.extend(content.iter().take(len).take(MESSAGE_HEADER - start.len()));
        if start.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
            return Err(Refusal::NotTls);
        }
        at += RECORD_HEADER + len;
        received += len;
        let message = match start[..] {
            [_, high, middle, low] => {
                MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize
            }
            _ => MESSAGE_HEADER,
        };
        if at.max(message) > MAX_LEN {
            return Err(Refusal::TooLong);
        }
        if bytes.len() < at {
            return Ok(None);
        }
        if start.len() == MESSAGE_HEADER && received >= message {
            return Ok(Some(at));
        }
    }
}

/// The length of what is in the record at the start of `bytes`; `None` while its header is not
/// complete. The version is 3.0 to 3.4.
fn record(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let rules: [fn(u8) -> bool; 3] = [
        |content_type| content_type == HANDSHAKE,
        |major| major == 3,
        |minor| minor <= 4,
    ];
    if !bytes.iter().zip(rules).all(|(&byte, holds)| holds(byte)) {
        return Err(Refusal::NotTls);
    }
    let Some(&[high, low]) = bytes.get(3..RECORD_HEADER) else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        len @ 1..=MAX_RECORD_LEN => Ok(Some(len)),
        _ => Err(Refusal::NotTls),
    }
}

/// Has rustls read the message in these records.
fn read_name(mut records: &[u8]) -> Hello {
    let mut acceptor = Acceptor::default();
    while !records.is_empty() {
        match acceptor.read_tls(&mut records) {
            Ok(1..) => {}
            // Its buffer is full: it awaits less than there is.
            _ => break,
        }
    }
    match acceptor.accept() {
        Ok(Some(accepted)) => {
            let name = accepted.client_hello().server_name().map(str::to_owned);
            Hello::Complete(name)
        }
        Ok(None) => Hello::Refused(Refusal::Malformed(DECODE_ERROR)),
        Err((_, mut alert)) => {
            let mut record = Vec::new();
            // Nothing fails in a write to memory.
            let _ = alert.write_all(&mut record);
            let description = record.get(6).copied().unwrap_or(DECODE_ERROR);
            Hello::Refused(Refusal::Malformed(description))
        }
    }
}

#[cfg(test)]
mod tests;
