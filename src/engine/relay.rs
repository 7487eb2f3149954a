//! A relay moves the bytes of a connection in both directions. It has two parts, since the
//! client is there before a backend is: the [`ClientSide`] with the client's socket and the
//! half from the client, and the [`Relay`] with the backend's socket and the half from the
//! backend.
//!
//! A side is *broken* after a reset or another error of its socket; a FIN breaks nothing.

use super::ack_timeout::AckTimeout;
use super::buffers::Buffers;
use super::dialing::BackendStream;
use super::half::{Half, Moved};
use super::half_state::{ReadOutcome, ShortRead, Sink, Source};
use super::readiness::Readiness;
use super::sockets::Socket;
use super::token::Side;
use crate::clock::Time;

/// The client's socket, and the direction from the client to the backend. It outlives a
/// backend: bytes that were read for one that has taken none of them go to the next.
pub struct ClientSide<S> {
    /// The socket that was accepted.
    pub socket: S,
    /// The direction from the client to the backend.
    pub up: Half,
    /// Whether an event has reported the client's FIN; unread bytes may come before it.
    pub fin_seen: bool,
}

/// The backend's socket, and the direction from the backend to the client.
pub struct Relay<S> {
    backend: BackendStream<S>,
    /// The direction from the backend to the client.
    down: Half,
    /// The timeout of the remaining side for its acknowledgements, once the other is broken.
    ack_timeout: AckTimeout,
}

/// The number of bytes written in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// To the backend.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

/// The status of both directions, and what the connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayStatus {
    /// Both directions work: wait for the next event.
    Continue,
    /// One side is broken, and not all that it sent was written to the other: write on for as
    /// long as the other side acknowledges.
    Flush {
        /// The side that is not broken.
        remaining: Side,
    },
    /// Both directions have ended with a FIN.
    Finished,
    /// The backend is broken, and no byte has gone in either direction: dial another.
    Redial,
    /// The backend has sent a FIN before a byte went in either direction.
    EarlyClose,
    /// One side is broken, and all that it sent was written to the other: reset the other.
    Reset {
        /// The side that is not broken.
        remaining: Side,
    },
    /// Both sides are broken: close both.
    BothBroken,
}

impl<S: Socket> ClientSide<S> {
    /// Handles an event of the client's socket, as far as it is about the direction from the
    /// client; [`Relay::handle_client_event`] handles the rest of it.
    pub fn handle_event(&mut self, event: Readiness) {
        self.fin_seen |= event.read_closed;
        if event.readable {
            self.up.handle_readable(event.short_read);
        }
    }

    /// Whether the client has sent a FIN and no byte. Peeks at the socket.
    pub fn has_closed_without_data(&mut self) -> bool {
        let nothing_was_read = self.up.is_flushed() && self.up.delivered() == 0;
        self.fin_seen && nothing_was_read && matches!(self.socket.peek(&mut [0]), Ok(0))
    }
}

impl<S: Socket> Relay<S> {
    /// A relay to a backend that has just accepted the connection.
    pub fn new(backend: BackendStream<S>) -> Self {
        Relay {
            backend,
            down: Half::new(),
            ack_timeout: AckTimeout::default(),
        }
    }

    /// The backend's socket.
    pub fn socket(&self) -> &S {
        &self.backend.socket
    }

    /// The backend's socket, to change its interest.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.backend.socket
    }

    /// The state of the client's socket as the sink of the backend's bytes.
    pub fn client_sink(&self) -> Sink {
        self.down.sink()
    }

    /// Ends the relay: gives its buffers back to the pool, and the backend's socket and the
    /// timeout of the remaining side to the caller.
    pub fn into_backend(mut self, buffers: &mut Buffers) -> (BackendStream<S>, AckTimeout) {
        self.down.return_buffers(buffers);
        (self.backend, self.ack_timeout)
    }

    /// Handles an event of the client's socket, as far as it is about the direction to the
    /// client.
    pub fn handle_client_event(&mut self, event: Readiness) {
        if event.error {
            self.down.handle_sink_failure();
        } else if event.writable {
            self.down.handle_writable();
        }
    }

    /// Handles an event of the backend's socket.
    pub fn handle_backend_event(&mut self, client: &mut ClientSide<S>, event: Readiness) {
        if event.readable {
            self.down.handle_readable(event.short_read);
        }
        if event.error {
            client.up.handle_sink_failure();
        } else if event.writable {
            client.up.handle_writable();
        }
    }

    /// Whether either direction moves bulk.
    pub fn is_bulk(&self, client: &ClientSide<S>) -> bool {
        client.up.is_bulk() || self.down.is_bulk()
    }

    /// Moves the bytes that can be moved, in steps of at most `budget` in each direction: one
    /// step, one before the client's first byte is delivered, and one after a side has broken.
    /// After an early close of the backend it stops, and the caller decides what that means.
    pub fn pump(
        &mut self,
        client: &mut ClientSide<S>,
        buffers: &mut Buffers,
        budget: usize,
    ) -> Moved {
        // If the backend has closed already, that is found before the client's bytes are
        // written to it, so that they can go to another.
        let mut early = Moved::default();
        if client.up.delivered() == 0 && self.down.source().may_leave_more() {
            early = self.pump_down(client, buffers, budget);
            if self.has_closed_early(client) {
                return early;
            }
        }
        let moved = early + self.pump_once(client, buffers, budget);
        if !self.is_broken(client) {
            return moved;
        }
        // After a failed write there may still be bytes to read from that side.
        if client.up.sink().is_broken() {
            self.down.handle_readable(ShortRead::MayLeaveMore);
        }
        if self.down.sink().is_broken() {
            client.up.handle_readable(ShortRead::MayLeaveMore);
        }
        moved + self.pump_once(client, buffers, budget)
    }

    fn pump_once(
        &mut self,
        client: &mut ClientSide<S>,
        buffers: &mut Buffers,
        budget: usize,
    ) -> Moved {
        let ClientSide { socket, up, .. } = client;
        let moved = up.pump(socket, &mut self.backend.socket, buffers, budget);
        self.down.handle_error_of(up);
        let moved = moved + self.pump_down(client, buffers, budget);
        if !self.has_closed_early(client) {
            self.pass_on_fins(client);
        }
        moved
    }

    /// Moves the backend's bytes. A write that has consumed the error of the client's socket
    /// makes the next read of it return 0, which is no FIN.
    fn pump_down(
        &mut self,
        client: &mut ClientSide<S>,
        buffers: &mut Buffers,
        budget: usize,
    ) -> Moved {
        let ClientSide { socket, up, .. } = client;
        let moved = self
            .down
            .pump(&mut self.backend.socket, socket, buffers, budget);
        up.handle_error_of(&self.down);
        moved
    }

    /// Whether the backend has sent a FIN before a byte went in either direction. If the
    /// client has sent its FIN too, the backend's is an answer to it, and no early close.
    fn has_closed_early(&self, client: &ClientSide<S>) -> bool {
        self.down.awaits_fin()
            && self.is_untouched(client)
            && client.up.sink().is_open()
            && matches!(client.up.source(), Source::Open(_))
    }

    /// Sends the FINs of directions that have ended. If both have ended, that is left to
    /// close(2), which sends them too.
    pub fn pass_on_fins(&mut self, client: &mut ClientSide<S>) {
        let ClientSide { socket, up, .. } = client;
        let down = &mut self.down;
        if up.has_ended() && down.has_ended() {
            up.finish_by_close();
            down.finish_by_close();
            return;
        }
        if up.awaits_fin() {
            up.finish(&mut self.backend.socket);
        }
        if down.awaits_fin() {
            down.finish(socket);
        }
    }

    /// The status of both directions.
    pub fn status(&self, client: &ClientSide<S>) -> RelayStatus {
        let (up, down) = (&client.up, &self.down);
        let (up_over, down_over) = (up.is_over(), down.is_over());
        match (
            self.client_is_broken(client),
            self.backend_is_broken(client),
        ) {
            (true, true) => RelayStatus::BothBroken,
            (false, true) if self.is_untouched(client) => RelayStatus::Redial,
            (false, true) => after_break(Side::Client, down_over),
            (true, false) => after_break(Side::Backend, up_over),
            (false, false) if up_over && down_over => RelayStatus::Finished,
            (false, false) if self.has_closed_early(client) => RelayStatus::EarlyClose,
            (false, false) => RelayStatus::Continue,
        }
    }

    fn client_is_broken(&self, client: &ClientSide<S>) -> bool {
        client.up.source() == Source::Broken || self.down.sink().is_broken()
    }

    fn backend_is_broken(&self, client: &ClientSide<S>) -> bool {
        self.down.source() == Source::Broken || client.up.sink().is_broken()
    }

    fn is_broken(&self, client: &ClientSide<S>) -> bool {
        self.client_is_broken(client) || self.backend_is_broken(client)
    }

    /// Whether no byte has gone in either direction, and no FIN to the client.
    fn is_untouched(&self, client: &ClientSide<S>) -> bool {
        let nothing_from_backend = self.down.delivered() == 0 && self.down.is_flushed();
        nothing_from_backend && self.down.sink().is_open() && client.up.delivered() == 0
    }

    /// Whether the FIN of at least one side was passed on.
    pub fn is_half_closed(&self, client: &ClientSide<S>) -> bool {
        client.up.has_ended() || self.down.has_ended()
    }

    /// Whether all that was read has been written, either way.
    pub fn is_flushed(&self, client: &ClientSide<S>) -> bool {
        client.up.is_flushed() && self.down.is_flushed()
    }

    /// Whether the relay can end without a loss to either side, and the client's next bytes be
    /// another backend's: nothing is on the way, and no side has ended. `None` if it cannot;
    /// else whether bytes of the client wait. It makes two system calls on each socket.
    pub fn is_at_rest(&mut self, client: &mut ClientSide<S>) -> Option<bool> {
        let is_open = |half: &Half| {
            half.is_flushed() && half.sink().is_open() && matches!(half.source(), Source::Open(_))
        };
        let can_end = is_open(&client.up) && is_open(&self.down) && !client.fin_seen;
        let owes = |socket: &S| socket.unacknowledged() > 0;
        if !can_end || owes(&client.socket) || owes(&self.backend.socket) {
            return None;
        }
        let peek = |socket: &mut S| ReadOutcome::from(socket.peek(&mut [0]));
        match (peek(&mut client.socket), peek(&mut self.backend.socket)) {
            (ReadOutcome::Empty, ReadOutcome::Empty) => Some(false),
            (ReadOutcome::Bytes(_), ReadOutcome::Empty) => Some(true),
            _ => None,
        }
    }

    /// Whether there are bytes to be moved, either way. To be called rarely: it makes a system
    /// call on each socket.
    pub fn has_bytes(&mut self, client: &mut ClientSide<S>) -> bool {
        !self.is_flushed(client)
            || client.up.has_input(&mut client.socket)
            || self.down.has_input(&mut self.backend.socket)
    }

    /// The number of bytes written to each side.
    pub fn sent(&self, client: &ClientSide<S>) -> Sent {
        Sent {
            up: client.up.delivered(),
            down: self.down.delivered(),
        }
    }

    /// The number of bytes written to a side.
    pub fn sent_to(&self, client: &ClientSide<S>, side: Side) -> u64 {
        match side {
            Side::Client => self.down.delivered(),
            Side::Backend => client.up.delivered(),
        }
    }

    /// Checks what the remaining side has acknowledged. Returns when to check again; `None` if
    /// its timeout has expired.
    pub fn check_remaining(
        &mut self,
        client: &ClientSide<S>,
        remaining: Side,
        now: Time,
    ) -> Option<Time> {
        let socket = match remaining {
            Side::Client => &client.socket,
            Side::Backend => &self.backend.socket,
        };
        let sent = self.sent_to(client, remaining);
        let acknowledged = sent.saturating_sub(socket.unacknowledged());
        self.ack_timeout.note(acknowledged, now)
    }
}

/// The status after a side has broken. `is_over` says whether all that it sent was written.
fn after_break(remaining: Side, is_over: bool) -> RelayStatus {
    if is_over {
        RelayStatus::Reset { remaining }
    } else {
        RelayStatus::Flush { remaining }
    }
}
