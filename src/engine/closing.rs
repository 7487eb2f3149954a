//! A connection whose bytes were all passed on, and that is kept until they have
//! arrived.
//!
//! What is closed with bytes still to be sent belongs to nobody. The kernel gives
//! such a socket up if its reader pauses (`tcp_orphan_retries`, tcp(7)), and
//! forgets it with the network of our own pod; and an RST makes it forget at once
//! what it has not sent yet.

use super::balancer::BackendId;
use super::buffers::Buffers;
use super::dialing::BackendStream;
use super::end::{End, Phase};
use super::readiness::Readiness;
use super::relaying::{Client, Relay};
use super::remainder::Remainder;
use super::sockets::Socket;
use super::token::Side;
use crate::clock::Time;

/// A connection that only acknowledgements are still to come for.
pub struct Closing<S> {
    backend: BackendStream<S>,
    cause: Cause,
}

enum Cause {
    /// Both directions have ended in order.
    Finished {
        /// Whether the client was sent any byte,
        to_client: bool,
        /// and whether the backend was.
        to_backend: bool,
    },
    /// One side has broken off. The other one, the remaining side, is reset as soon
    /// as it has acknowledged everything.
    Broken {
        remaining: Side,
        /// How many bytes it was sent.
        sent: u64,
        remainder: Remainder,
    },
}

/// What is to be done with a connection that closes.
pub enum Next {
    /// Wait for an event.
    Wait,
    /// Wait for an event, or until then.
    WaitUntil(Time),
    /// Close both sockets.
    Close(End),
    /// Reset whoever is left.
    Reset(End),
}

impl<S: Socket> Closing<S> {
    /// Both directions have ended in order.
    pub fn finished(relay: Relay<S>, client: &Client<S>, buffers: &mut Buffers) -> Self {
        let cause = Cause::Finished {
            to_client: relay.sent_to(client, Side::Client) > 0,
            to_backend: relay.sent_to(client, Side::Backend) > 0,
        };
        let (backend, _) = relay.into_backend(buffers);
        Closing { backend, cause }
    }

    /// One side has broken off, and what it sent was passed on to the other. What
    /// the broken side has not taken, nobody will.
    pub fn broken(
        relay: Relay<S>,
        client: &mut Client<S>,
        remaining: Side,
        buffers: &mut Buffers,
    ) -> Self {
        let sent = relay.sent_to(client, remaining);
        client.up.release(buffers);
        let (backend, remainder) = relay.into_backend(buffers);
        let cause = Cause::Broken {
            remaining,
            sent,
            remainder,
        };
        Closing { backend, cause }
    }

    /// Which address the backend's socket leads to.
    pub fn backend_id(&self) -> BackendId {
        self.backend.id
    }

    /// The backend's socket.
    pub fn socket(&self) -> &S {
        &self.backend.socket
    }

    /// The first look. Sends the FINs that were left to close(2), if something is
    /// to be waited for. The last acknowledgement makes the kernel close the
    /// socket, which is an event.
    pub fn begin(&mut self, client: &mut Client<S>, now: Time) -> Next {
        let next = self.check(client, now);
        if let (Cause::Finished { .. }, Next::Wait) = (&self.cause, &next) {
            // One that fails has been shut before.
            let _ = self.backend.socket.shut_write();
            let _ = client.socket.shut_write();
        }
        next
    }

    /// An event of either socket.
    pub fn handle_event(
        &mut self,
        side: Side,
        event: Readiness,
        client: &Client<S>,
        now: Time,
    ) -> Next {
        match self.cause {
            // EPOLLHUP alone is no sign of that: both FINs make it, too, and then
            // there may be bytes on the way.
            Cause::Broken { remaining, .. } if remaining == side && event.error => {
                Next::Close(End::ClientGone(Phase::Relaying))
            }
            _ => self.check(client, now),
        }
    }

    /// Looks what is still to be acknowledged.
    pub fn check(&mut self, client: &Client<S>, now: Time) -> Next {
        let backend = &self.backend.socket;
        match &mut self.cause {
            Cause::Finished {
                to_client,
                to_backend,
            } => {
                let client_lacks = *to_client && lacks(&client.socket);
                if client_lacks || *to_backend && lacks(backend) {
                    Next::Wait
                } else {
                    Next::Close(End::Finished)
                }
            }
            Cause::Broken {
                remaining,
                sent,
                remainder,
            } => {
                let socket = match remaining {
                    Side::Client => &client.socket,
                    Side::Backend => backend,
                };
                let owed = socket.unacknowledged();
                let is_owed = owed > 0 && !socket.is_closed();
                let next = remainder.note(sent.saturating_sub(owed), now);
                match next.filter(|_| is_owed) {
                    Some(at) => Next::WaitUntil(at),
                    None => Next::Reset(End::other_than(*remaining)),
                }
            }
        }
    }
}

/// Whether a side may lack some of what it was sent, while the kernel still has
/// hope of it.
fn lacks<S: Socket>(socket: &S) -> bool {
    socket.unacknowledged() > 0 && !socket.is_closed()
}
