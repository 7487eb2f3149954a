//! What the bench's clients and its server say to each other.
//!
//! A request is one [`Message`] that begins with the length of the reply. A
//! reply of a message's length is the request itself, as from an echo server;
//! any other is that much of the [`Pattern`], from its start.

/// The length of a request, and of the smallest reply.
pub const MESSAGE_BYTES: usize = 64;

/// A request.
pub type Message = [u8; MESSAGE_BYTES];

/// The most that one call writes or reads.
pub const CHUNK_BYTES: usize = 256 << 10;

/// The bytes after which the pattern repeats: a prime, so that no buffer that
/// is sent twice or lost goes unnoticed.
const PERIOD: usize = 65_521;

/// A request for `reply_bytes`, unlike all others with another serial number.
pub fn request(reply_bytes: u64, serial: u64) -> Message {
    let mut message = [0; MESSAGE_BYTES];
    message[..8].copy_from_slice(&reply_bytes.to_le_bytes());
    for (n, word) in message[8..].chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&scramble(serial ^ (n as u64) << 56).to_le_bytes());
    }
    message
}

/// How long the reply to a request is to be.
pub fn reply_bytes(message: &Message) -> u64 {
    let length = message.first_chunk().copied().unwrap_or_default();
    u64::from_le_bytes(length)
}

/// Bytes that tell their place, without an end.
pub struct Pattern(Vec<u8>);

impl Pattern {
    pub fn new() -> Pattern {
        let period = (0..PERIOD as u64).map(|n| scramble(n) as u8);
        Pattern(period.cycle().take(PERIOD + CHUNK_BYTES).collect())
    }

    /// The `length` bytes from `offset` on; at most [`CHUNK_BYTES`].
    pub fn at(&self, offset: u64, length: usize) -> &[u8] {
        let start = (offset % PERIOD as u64) as usize;
        &self.0[start..start + length.min(CHUNK_BYTES)]
    }
}

/// The finaliser of SplitMix64.
fn scramble(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}
