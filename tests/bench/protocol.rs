//! The protocol between the clients and the server of the bench.
//!
//! A request is a [`Header`] and, after it, the body whose length it tells;
//! the reply has no header. Body and reply are runs of one pattern that begin
//! at another place for each request, so that bytes which are lost, sent
//! twice or sent to somebody else are noticed.

use std::sync::LazyLock;

/// The length of a header.
pub const HEADER_BYTES: usize = 64;

/// A header as it is sent.
pub type Header = [u8; HEADER_BYTES];

/// The most that one call writes or reads.
pub const CHUNK_BYTES: usize = 128 << 10;

/// How much of a reply at least is sent only after the whole body has come: who
/// has the reply knows that the server has found the body to be right.
const RECEIPT_BYTES: u64 = 64;

/// The bytes after which the pattern repeats: a prime.
const PERIOD: usize = 65_521;

/// What is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// No two in a run have the same.
    pub serial: u64,
    pub body_bytes: u64,
    pub reply_bytes: u64,
    /// Whether the reply begins while the body is under way.
    pub both_ways: bool,
}

impl Request {
    pub fn header(&self) -> Header {
        let fields = [
            self.serial,
            self.body_bytes,
            self.reply_bytes,
            u64::from(self.both_ways),
        ];
        let mut words = [0; HEADER_BYTES / 8];
        words[..fields.len()].copy_from_slice(&fields);
        let mut check = 0;
        for (n, word) in words.iter_mut().enumerate() {
            if n >= fields.len() {
                *word = check;
            }
            check = scramble(check ^ *word);
        }
        let mut header = [0; HEADER_BYTES];
        for (place, word) in header.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }

    /// What a header says; `None` if it is not as it was sent.
    pub fn parse(header: &Header) -> Option<Request> {
        let word = |n: usize| {
            header[n * 8..]
                .first_chunk()
                .copied()
                .map(u64::from_le_bytes)
        };
        let request = Request {
            serial: word(0)?,
            body_bytes: word(1)?,
            reply_bytes: word(2)?,
            both_ways: word(3)? == 1,
        };
        (request.header() == *header).then_some(request)
    }

    pub fn body(&self) -> Run {
        Run::new(scramble(self.serial), self.body_bytes)
    }

    pub fn reply(&self) -> Run {
        Run::new(scramble(!self.serial), self.reply_bytes)
    }

    /// How much of the reply may be sent while the body is incomplete.
    pub fn early_bytes(&self) -> u64 {
        if self.both_ways {
            self.reply_bytes.saturating_sub(RECEIPT_BYTES)
        } else {
            0
        }
    }
}

/// A part of the pattern, on its way.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    start: u64,
    pub done: u64,
    pub total: u64,
}

impl Run {
    fn new(place: u64, total: u64) -> Run {
        Run {
            start: place % PERIOD as u64,
            done: 0,
            total,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.done == self.total
    }

    /// What comes next, up to `limit` bytes from the start of the run.
    pub fn next(&self, limit: u64) -> &'static [u8] {
        pattern(self.start + self.done, limit.saturating_sub(self.done))
    }

    /// Takes note of bytes that have come; whether they are the right ones.
    #[must_use]
    pub fn accept(&mut self, bytes: &[u8]) -> bool {
        let is_right = self.next(self.total).starts_with(bytes);
        self.done += bytes.len() as u64;
        is_right
    }
}

/// The `length` bytes of the pattern from `offset` on; at most [`CHUNK_BYTES`].
/// They tell their place, and have no end.
fn pattern(offset: u64, length: u64) -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let period = (0..PERIOD as u64).map(|n| scramble(n) as u8);
        period.cycle().take(PERIOD + CHUNK_BYTES).collect()
    });
    let start = (offset % PERIOD as u64) as usize;
    &PATTERN[start..start + length.min(CHUNK_BYTES as u64) as usize]
}

/// The finaliser of SplitMix64.
fn scramble(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}
