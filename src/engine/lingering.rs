//! [`Lingering`] reads and drops what a client still sends after the last bytes for it, as
//! nginx does (`lingering_close`).
//!
//! Bytes of a client that nobody has read would make close(2) send an RST, upon which many
//! kernels discard an answer that was not read yet. So the client's bytes are read and dropped
//! until its FIN; the caller sets a deadline.

use super::half_state::ReadOutcome;
use super::stream::Stream;

/// The most bytes of a client that are read and dropped.
const MAX_DROPPED: usize = 256 * 1024;

/// What was read and dropped: see the [module](self).
#[derive(Debug, Default)]
pub struct Lingering {
    dropped: usize,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lingered {
    /// An event has to come first.
    Waits,
    /// The client has ended: the socket can be closed.
    Over,
    /// The client sends too much, and is to be reset.
    TooMuch,
}

impl Lingering {
    /// Reads and drops what the client has sent.
    pub fn drop_input<S: Stream>(&mut self, socket: &mut S, scratch: &mut [u8]) -> Lingered {
        loop {
            match socket.read(scratch).into() {
                ReadOutcome::End | ReadOutcome::Failed(_) => return Lingered::Over,
                ReadOutcome::Empty => return Lingered::Waits,
                ReadOutcome::Interrupted => {}
                ReadOutcome::Bytes(len) => self.dropped += len,
            }
            if self.dropped > MAX_DROPPED {
                return Lingered::TooMuch;
            }
        }
    }
}
