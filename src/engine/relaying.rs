//! A connection that a backend has taken: two halves with their ends swapped.

use super::buffers::Buffers;
use super::dialing::BackendStream;
use super::readiness::Readiness;
use super::relay::{Half, Moved};
use super::relay_state::{ShortRead, Sink, Source};
use super::remainder::Remainder;
use super::sockets::Socket;
use super::token::Side;
use crate::clock::Time;

/// The client's socket, and the direction that begins there. What the client has
/// sent may be read for one backend and, if that takes nothing of it, go to another.
pub struct Client<S> {
    /// The socket that was accepted.
    pub socket: S,
    /// From the client to the backend.
    pub up: Half,
    /// An event has reported its FIN, which may be behind bytes that were not read.
    pub has_ended: bool,
}

/// The backend's socket, and the direction that begins there.
pub struct Relay<S> {
    backend: BackendStream<S>,
    /// From the backend to the client.
    down: Half,
    /// Once a side is gone: how far the other has come.
    remainder: Remainder,
}

/// What the state of both halves asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for the next event.
    Continue,
    /// One side broke off, and not all that it sent was passed on yet: see that the
    /// other side goes on taking it.
    PassOn {
        /// The side that is still there.
        remaining: Side,
    },
    /// Both directions have ended in order.
    Finished,
    /// The backend broke off before a byte went either way: another can serve.
    Redial,
    /// The backend has closed in order before a byte went either way.
    EarlyClose,
    /// One side broke off and what it sent was passed on: reset the other.
    Reset {
        /// The side that is still there.
        remaining: Side,
    },
    /// Both sides broke off.
    Gone,
}

impl<S: Socket> Client<S> {
    /// An event of the client's socket, as far as its own bytes go.
    pub fn handle_event(&mut self, event: Readiness) {
        self.has_ended |= event.read_closed;
        if event.readable {
            self.up.handle_readable(event.short_read);
        }
    }

    /// Whether it has ended its direction without a byte.
    pub fn has_sent_nothing(&mut self) -> bool {
        let is_unread = self.up.is_flushed() && self.up.delivered() == 0;
        self.has_ended && is_unread && matches!(self.socket.peek(&mut [0]), Ok(0))
    }
}

impl<S: Socket> Relay<S> {
    /// A backend that has just taken the connection.
    pub fn new(backend: BackendStream<S>) -> Self {
        Relay {
            backend,
            down: Half::new(),
            remainder: Remainder::default(),
        }
    }

    /// The backend's socket.
    pub fn socket(&self) -> &S {
        &self.backend.socket
    }

    /// The backend's socket, to change what it reports.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.backend.socket
    }

    /// What is known of the client's socket, which takes the backend's bytes.
    pub fn sink_of_backend(&self) -> Sink {
        self.down.sink()
    }

    /// Gives back what the direction from the backend was lent, and leaves the backend's
    /// socket to whoever goes on with it.
    pub fn into_backend(mut self, buffers: &mut Buffers) -> (BackendStream<S>, Remainder) {
        self.down.release(buffers);
        (self.backend, self.remainder)
    }

    /// An event of the client's socket, as far as the backend's bytes go.
    pub fn handle_client_event(&mut self, event: Readiness) {
        if event.error {
            self.down.handle_sink_failure();
        } else if event.writable {
            self.down.handle_writable();
        }
    }

    /// An event of the backend's socket.
    pub fn handle_backend_event(&mut self, client: &mut Client<S>, event: Readiness) {
        if event.readable {
            self.down.handle_readable(event.short_read);
        }
        if event.error {
            client.up.handle_sink_failure();
        } else if event.writable {
            client.up.handle_writable();
        }
    }

    /// Whether bulk flows, either way.
    pub fn is_bulk(&self, client: &Client<S>) -> bool {
        client.up.is_bulk() || self.down.is_bulk()
    }

    /// Moves what can be moved either way, `budget` bytes each at most. What an early
    /// close of the backend's means is to be decided by the caller.
    pub fn pump(&mut self, client: &mut Client<S>, buffers: &mut Buffers, budget: usize) -> Moved {
        // A backend that has closed already takes nothing: that is found out before the
        // client's bytes are given to it, so that another can have them.
        if client.up.delivered() == 0 && self.down.source().may_leave_more() {
            let moved = self.down.pump(
                &mut self.backend.socket,
                &mut client.socket,
                buffers,
                budget,
            );
            if self.has_closed_early(client) {
                return moved;
            }
        }
        let moved = self.pump_once(client, buffers, budget);
        if !self.is_broken(client) {
            return moved;
        }
        // A failed write says nothing of the bytes that came before it and are
        // still to be read.
        if client.up.sink().is_broken() {
            self.down.handle_readable(ShortRead::MayLeaveMore);
        }
        if self.down.sink().is_broken() {
            client.up.handle_readable(ShortRead::MayLeaveMore);
        }
        moved + self.pump_once(client, buffers, budget)
    }

    fn pump_once(&mut self, client: &mut Client<S>, buffers: &mut Buffers, budget: usize) -> Moved {
        let Client { socket, up, .. } = client;
        let backend = &mut self.backend.socket;
        let moved = up.pump(socket, backend, buffers, budget);
        self.down.handle_error_of(up);
        let moved = moved + self.down.pump(backend, socket, buffers, budget);
        up.handle_error_of(&self.down);
        if !self.has_closed_early(client) {
            self.pass_on_fins(client);
        }
        moved
    }

    /// Whether the backend has closed in order before a byte went either way, and the
    /// client has not, so that the backend's end is no answer to the client's.
    fn has_closed_early(&self, client: &Client<S>) -> bool {
        self.down.awaits_fin()
            && self.is_untouched(client)
            && client.up.sink().is_open()
            && matches!(client.up.source(), Source::Open(_))
    }

    /// Shuts the sinks of directions that have ended. Where both have, closing the
    /// sockets says the same.
    pub fn pass_on_fins(&mut self, client: &mut Client<S>) {
        let Client { socket, up, .. } = client;
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

    /// What the state of both halves asks for.
    pub fn verdict(&self, client: &Client<S>) -> Verdict {
        let (up, down) = (&client.up, &self.down);
        let (up_over, down_over) = (up.is_over(), down.is_over());
        match (
            self.client_is_broken(client),
            self.backend_is_broken(client),
        ) {
            (true, true) => Verdict::Gone,
            (false, true) if self.is_untouched(client) => Verdict::Redial,
            (false, true) => broken_off(Side::Client, down_over),
            (true, false) => broken_off(Side::Backend, up_over),
            (false, false) if up_over && down_over => Verdict::Finished,
            (false, false) if self.has_closed_early(client) => Verdict::EarlyClose,
            (false, false) => Verdict::Continue,
        }
    }

    fn client_is_broken(&self, client: &Client<S>) -> bool {
        client.up.source() == Source::Broken || self.down.sink().is_broken()
    }

    fn backend_is_broken(&self, client: &Client<S>) -> bool {
        self.down.source() == Source::Broken || client.up.sink().is_broken()
    }

    fn is_broken(&self, client: &Client<S>) -> bool {
        self.client_is_broken(client) || self.backend_is_broken(client)
    }

    /// Whether no byte has gone either way, and no FIN to the client.
    fn is_untouched(&self, client: &Client<S>) -> bool {
        let nothing_came = self.down.delivered() == 0 && self.down.is_flushed();
        nothing_came && self.down.sink().is_open() && client.up.delivered() == 0
    }

    /// How many bytes a side was sent.
    pub fn sent_to(&self, client: &Client<S>, side: Side) -> u64 {
        match side {
            Side::Client => self.down.delivered(),
            Side::Backend => client.up.delivered(),
        }
    }

    /// Looks how far the remaining side has come. Returns when to look again, or
    /// nothing if its time is up.
    pub fn check_remaining(
        &mut self,
        client: &Client<S>,
        remaining: Side,
        now: Time,
    ) -> Option<Time> {
        let socket = match remaining {
            Side::Client => &client.socket,
            Side::Backend => &self.backend.socket,
        };
        let sent = self.sent_to(client, remaining);
        let acknowledged = sent.saturating_sub(socket.unacknowledged());
        self.remainder.note(acknowledged, now)
    }
}

/// What a side's breaking off asks for, if all that it sent was passed on or not.
fn broken_off(remaining: Side, is_over: bool) -> Verdict {
    if is_over {
        Verdict::Reset { remaining }
    } else {
        Verdict::PassOn { remaining }
    }
}
