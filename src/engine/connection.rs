//! One client's connection, from accept to close.

use std::mem;
use std::net::{Shutdown, SocketAddr};

use mio::Token;
use mio::net::TcpStream;

use super::backends::BackendId;
use super::buffers::Buffers;
use super::end::Phase;
use super::relay::{Half, Moved};
use super::relay_state::{ShortRead, Sink, Source};
use super::stream::Stream;
use crate::clock::Time;
use crate::sys;

/// So many bytes any peer has room for, whether it reads or not.
const ANY_WINDOW: u64 = 16 * 1024;

/// Which of a connection's two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was accepted.
    Client,
    /// The one that was dialled.
    Backend,
}

/// A client's connection and all that belongs to it.
pub struct Connection {
    /// Counts connections from the start of the process; names this one in
    /// logs, and tells it from earlier ones in the same slot.
    pub serial: u64,
    /// The socket that was accepted.
    pub client: TcpStream,
    /// When it was accepted: the start of the hold limit.
    pub opened: Time,
    /// What [`super::timers::Timers`] holds for it.
    pub deadline: Option<Time>,
    /// From the client to the pod.
    pub up: Half,
    /// From the pod to the client.
    pub down: Half,
    /// How often it has found no address that takes it.
    pub backoffs: u8,
    /// How many sockets were dialled for it.
    dials: u8,
    /// Once a side is gone: how far the other has come. On the heap, since most
    /// connections end otherwise.
    progress: Option<Box<Progress>>,
    /// Whether it is to have another turn without any event.
    pub queued: bool,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a connection has come.
pub enum Stage {
    /// Waits until there is an address to dial and leave to dial it. Nothing
    /// is read: the client's bytes stay in the kernel.
    Held,
    /// A connect is under way.
    Connecting(Attempt),
    /// No address took it: waits for its deadline to try again.
    Backoff,
    /// Bytes flow.
    Relaying {
        /// The pod's socket.
        upstream: TcpStream,
        /// Which address it leads to.
        backend: BackendId,
    },
    /// One side has broken and all that it sent is on its way to the other,
    /// the remaining side, which is reset as soon as it has acknowledged everything:
    /// an RST makes the kernel forget what it has not sent yet.
    Resetting {
        /// The side that is still there.
        remaining: Side,
        /// The pod's socket.
        upstream: TcpStream,
        /// Which address it leads to.
        backend: BackendId,
    },
}

/// How far the remaining side has come with what it is still to get.
struct Progress {
    /// How many bytes it has acknowledged,
    acknowledged: u64,
    /// and since when it has not acknowledged more.
    since: Time,
}

/// One round through the addresses.
pub struct Attempt {
    /// The socket that is connecting.
    pub upstream: TcpStream,
    /// Which address it leads to.
    pub backend: BackendId,
    /// What this round has tried before.
    pub round: Round,
}

/// What a round through the addresses has met with.
#[derive(Default)]
pub struct Round {
    /// Addresses that failed.
    pub tried: Vec<BackendId>,
    /// Whether one of them answered, if only to refuse.
    pub answered: bool,
    /// Whether the way through the Service is among them.
    pub fell_back: bool,
}

/// What is to be done with a connection after its halves were pumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for the next event.
    Continue,
    /// Both directions have ended in order.
    Finished,
    /// The pod broke off before a byte went either way: another can serve.
    Redial,
    /// One side broke off and what it sent was passed on: reset the other.
    Reset {
        /// The side that is still there.
        remaining: Side,
    },
    /// Both sides broke off.
    Gone,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(serial: u64, client: TcpStream, now: Time) -> Self {
        Connection {
            serial,
            client,
            opened: now,
            deadline: None,
            up: Half::new(),
            down: Half::new(),
            backoffs: 0,
            dials: 0,
            progress: None,
            queued: false,
            stage: Stage::Held,
        }
    }

    /// What identifies the pod's socket to the loop. The next socket for the
    /// same connection has another token, since events of the last one may
    /// still be in the batch.
    pub fn backend_token(&self, key: usize) -> Token {
        let parity = usize::from(self.dials & 1) << 63;
        Token(token(key, self.serial, Side::Backend).0 | parity)
    }

    /// The token for another socket to a pod.
    pub fn next_backend_token(&mut self, key: usize) -> Token {
        self.dials = self.dials.wrapping_add(1);
        self.backend_token(key)
    }

    /// The phase that a log line or a counter speaks of.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Held => Phase::Holding,
            Stage::Connecting(_) | Stage::Backoff => Phase::Dialing,
            Stage::Relaying { .. } | Stage::Resetting { .. } => Phase::Relaying,
        }
    }

    /// Whether it waits for a pod.
    pub fn is_waiting(&self) -> bool {
        self.phase() != Phase::Relaying
    }

    /// Whether the client's side has failed.
    pub fn client_broken(&self) -> bool {
        self.up.source() == Source::Broken || self.down.sink().is_broken()
    }

    /// Whether the pod's side has failed.
    pub fn backend_broken(&self) -> bool {
        self.down.source() == Source::Broken || self.up.sink().is_broken()
    }

    /// Whether either side has failed.
    pub fn is_broken(&self) -> bool {
        self.client_broken() || self.backend_broken()
    }

    /// Takes the connect that is under way out, if one is.
    pub fn take_attempt(&mut self) -> Option<Attempt> {
        match mem::replace(&mut self.stage, Stage::Backoff) {
            Stage::Connecting(attempt) => Some(attempt),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Takes the pod's socket out, if bytes flow through it.
    pub fn take_upstream(&mut self) -> Option<(TcpStream, BackendId)> {
        match mem::replace(&mut self.stage, Stage::Backoff) {
            Stage::Relaying { upstream, backend } => Some((upstream, backend)),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// The side that is still there, if the other is gone.
    pub fn remaining_side(&self) -> Option<Side> {
        if let Stage::Resetting { remaining, .. } = self.stage {
            return Some(remaining);
        }
        match (self.client_broken(), self.backend_broken()) {
            (true, false) => Some(Side::Backend),
            (false, true) => Some(Side::Client),
            _ => None,
        }
    }

    /// How many bytes a side was sent.
    fn sent_to(&self, side: Side) -> u64 {
        match side {
            Side::Client => self.down.delivered(),
            Side::Backend => self.up.delivered(),
        }
    }

    /// Whether a side may lack some of what it was sent, while the kernel still
    /// has hope of it.
    pub fn is_wanting(&self) -> bool {
        let Stage::Relaying { upstream, .. } = &self.stage else {
            return false;
        };
        let wants = |side, socket: &TcpStream| {
            self.sent_to(side) > ANY_WINDOW
                && self.owed_by(side) > 0
                && !sys::is_closed(socket).unwrap_or(true)
        };
        wants(Side::Client, &self.client) || wants(Side::Backend, upstream)
    }

    /// Sends the FINs that were left to close(2).
    pub fn shut(&self) {
        if let Stage::Relaying { upstream, .. } = &self.stage {
            // One that fails has been shut before.
            let _ = upstream.shutdown(Shutdown::Write);
            let _ = self.client.shutdown(Shutdown::Write);
        }
    }

    /// How many bytes a side was sent and has not acknowledged; 0 if the kernel
    /// does not know.
    pub fn owed_by(&self, side: Side) -> u64 {
        let owed = match (side, &self.stage) {
            (Side::Client, _) => sys::unacknowledged(&self.client),
            (
                Side::Backend,
                Stage::Relaying { upstream, .. } | Stage::Resetting { upstream, .. },
            ) => sys::unacknowledged(upstream),
            _ => Ok(0),
        };
        owed.map_or(0, |bytes| bytes as u64)
    }

    /// Takes note of what the remaining side owes; since when it has acknowledged
    /// nothing more.
    pub fn note_owed(&mut self, remaining: Side, owed: u64, now: Time) -> Time {
        let acknowledged = self.sent_to(remaining).saturating_sub(owed);
        match &self.progress {
            Some(seen) if seen.acknowledged >= acknowledged => seen.since,
            _ => {
                self.progress = Some(Box::new(Progress {
                    acknowledged,
                    since: now,
                }));
                now
            }
        }
    }

    /// Moves what can be moved either way, `budget` bytes each at most. Does
    /// nothing while no pod has taken it.
    pub fn pump(&mut self, buffers: &mut Buffers, budget: usize) -> Moved {
        let Stage::Relaying { upstream, .. } = &mut self.stage else {
            return Moved::default();
        };
        let up = self.up.pump(&mut self.client, upstream, buffers, budget);
        self.down.handle_error_of(&self.up);
        let down = self.down.pump(upstream, &mut self.client, buffers, budget);
        self.up.handle_error_of(&self.down);
        pass_on_fins(&mut self.up, upstream, &mut self.down, &mut self.client);
        up + down
    }

    /// The token with which it is queued for another turn; none if it is.
    pub fn enqueue(&mut self, key: usize) -> Option<Token> {
        let queued = mem::replace(&mut self.queued, true);
        (!queued).then(|| token(key, self.serial, Side::Client))
    }

    /// Whether bulk flows, either way.
    pub fn is_bulk(&self) -> bool {
        self.up.is_bulk() || self.down.is_bulk()
    }

    /// A failed write says nothing of the bytes that came before it and are
    /// still to be read: makes sure that they are.
    pub fn read_to_the_end(&mut self) {
        if self.up.sink().is_broken() {
            self.down.handle_readable(ShortRead::MayLeaveMore);
        }
        if self.down.sink().is_broken() {
            self.up.handle_readable(ShortRead::MayLeaveMore);
        }
    }

    /// What the state of both halves asks for.
    pub fn verdict(&self) -> Verdict {
        match (self.client_broken(), self.backend_broken()) {
            (true, true) => Verdict::Gone,
            (false, true) if self.is_untouched() => Verdict::Redial,
            (false, true) if self.down.is_over() => Verdict::Reset {
                remaining: Side::Client,
            },
            (true, false) if self.up.is_over() => Verdict::Reset {
                remaining: Side::Backend,
            },
            (false, false) if self.up.is_over() && self.down.is_over() => Verdict::Finished,
            _ => Verdict::Continue,
        }
    }

    /// Whether no byte has gone either way.
    fn is_untouched(&self) -> bool {
        let nothing_came = self.down.delivered() == 0 && self.down.is_flushed();
        nothing_came && self.down.sink().is_open() && self.up.delivered() == 0
    }
}

/// Shuts the sinks of directions that have ended. Where both have, closing the
/// sockets says the same.
fn pass_on_fins<U: Stream, C: Stream>(
    up: &mut Half,
    upstream: &mut U,
    down: &mut Half,
    client: &mut C,
) {
    let ended = |half: &Half| half.awaits_fin() || half.sink() == Sink::Shut;
    if ended(up) && ended(down) {
        up.finish_by_close();
        down.finish_by_close();
        return;
    }
    if up.awaits_fin() {
        up.finish(upstream);
    }
    if down.awaits_fin() {
        down.finish(client);
    }
}

/// What identifies one side of one connection to the loop: the slot, and
/// enough of the serial number to tell it from the slot's earlier tenants,
/// whose events may still be in the batch.
pub fn token(key: usize, serial: u64, side: Side) -> Token {
    Token((generation(serial) << 33) | (key << 1) | (side == Side::Backend) as usize)
}

/// The slot, the generation and the side that a token names.
pub fn parse_token(token: Token) -> (usize, usize, Side) {
    let side = if token.0 & 1 == 1 {
        Side::Backend
    } else {
        Side::Client
    };
    (
        (token.0 >> 1) & 0xFFFF_FFFF,
        (token.0 >> 33) & 0x3FFF_FFFF,
        side,
    )
}

/// The part of the serial number that fits into a token, and leaves one bit.
pub fn generation(serial: u64) -> usize {
    (serial & 0x3FFF_FFFF) as usize
}

const _: () = assert!(usize::BITS == 64, "tokens need 64 bits");

/// A place to dial: which address, and where.
pub type Target = (BackendId, SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_slot_generation_and_side() {
        for (key, serial, side) in [
            (0, 0, Side::Client),
            (99_999, 7, Side::Backend),
            (5, u64::MAX, Side::Client),
        ] {
            assert_eq!(
                parse_token(token(key, serial, side)),
                (key, generation(serial), side)
            );
        }
    }
}
