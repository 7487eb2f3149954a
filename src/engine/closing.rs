//! [`Closing`] is the state of a connection that has written all its bytes, and keeps its
//! sockets until the bytes are acknowledged.
//!
//! A socket that is closed with unsent bytes becomes an orphan. The kernel gives an
//! orphan up if the reader pauses (`tcp_orphan_retries`, tcp(7)), and drops it with the
//! network namespace of the pod. An RST drops unsent bytes at once.

use std::mem;

use super::ack_timeout::AckTimeout;
use super::balancer::AddressId;
use super::buffers::Buffers;
use super::close_reason::{CloseReason, ConnectionPhase};
use super::dialing::BackendStream;
use super::readiness::Readiness;
use super::relay::{ClientSide, Relay};
use super::sockets::Socket;
use super::token::Side;
use crate::clock::Time;

/// A connection that waits for acknowledgements: see the [module](self).
pub struct Closing<S> {
    backend: BackendStream<S>,
    ending: Ending,
}

enum Ending {
    /// Both directions have ended with a FIN.
    Finished {
        /// Whether any byte was written to the client.
        to_client: bool,
        /// Whether any byte was written to the backend.
        to_backend: bool,
        /// The number of unacknowledged bytes, at the last [`Closing::has_progressed`].
        owed: u64,
    },
    /// One side is broken. The other one, the remaining side, is reset as soon as it has
    /// acknowledged everything.
    Broken {
        remaining: Side,
        /// The number of bytes written to the remaining side.
        sent: u64,
        ack_timeout: AckTimeout,
    },
}

/// What a closing connection does next.
pub enum Next {
    /// Wait for an event.
    Wait,
    /// Wait for an event, or until this time.
    WaitUntil(Time),
    /// Close both sockets.
    Close(CloseReason),
    /// Reset the remaining side.
    Reset(CloseReason),
}

impl<S: Socket> Closing<S> {
    /// After both directions have ended with a FIN.
    pub fn finished(relay: Relay<S>, client: &ClientSide<S>, buffers: &mut Buffers) -> Self {
        let ending = Ending::Finished {
            to_client: relay.sent_to(client, Side::Client) > 0,
            to_backend: relay.sent_to(client, Side::Backend) > 0,
            owed: u64::MAX,
        };
        let (backend, _) = relay.into_backend(buffers);
        Closing { backend, ending }
    }

    /// After one side has broken, and all that it sent was written to the other. Bytes
    /// for the broken side are dropped.
    pub fn broken(
        relay: Relay<S>,
        client: &mut ClientSide<S>,
        remaining: Side,
        buffers: &mut Buffers,
    ) -> Self {
        let sent = relay.sent_to(client, remaining);
        client.up.return_buffers(buffers);
        let (backend, ack_timeout) = relay.into_backend(buffers);
        let ending = Ending::Broken {
            remaining,
            sent,
            ack_timeout,
        };
        Closing { backend, ending }
    }

    /// The address that the backend's socket is connected to.
    pub fn address_id(&self) -> AddressId {
        self.backend.id
    }

    /// The backend's socket.
    pub fn socket(&self) -> &S {
        &self.backend.socket
    }

    /// The first check. If acknowledgements are missing, it sends the FINs that were left
    /// to close(2). The last acknowledgement makes the kernel close the socket, which is
    /// an event.
    pub fn begin(&mut self, client: &mut ClientSide<S>, now: Time) -> Next {
        let next = self.check(client, now);
        if let (Ending::Finished { .. }, Next::Wait) = (&self.ending, &next) {
            // An error means that the FIN was sent before.
            let _ = self.backend.socket.shut_write();
            let _ = client.socket.shut_write();
            // From now on progress is counted.
            self.has_progressed(client);
        }
        next
    }

    /// An event of either socket.
    pub fn handle_event(
        &mut self,
        side: Side,
        event: Readiness,
        client: &ClientSide<S>,
        now: Time,
    ) -> Next {
        match self.ending {
            // EPOLLHUP alone does not mean a reset: both FINs cause it too, and bytes
            // may still be on the way then.
            Ending::Broken { remaining, .. } if remaining == side && event.error => {
                Next::Close(CloseReason::ClientGone(ConnectionPhase::Relaying))
            }
            _ => self.check(client, now),
        }
    }

    /// Whether a side has acknowledged bytes since this was asked last.
    pub fn has_progressed(&mut self, client: &ClientSide<S>) -> bool {
        let Ending::Finished { owed, .. } = &mut self.ending else {
            return false;
        };
        let now = client.socket.unacknowledged() + self.backend.socket.unacknowledged();
        now < mem::replace(owed, now)
    }

    /// Checks which bytes are not acknowledged yet.
    pub fn check(&mut self, client: &ClientSide<S>, now: Time) -> Next {
        let backend = &self.backend.socket;
        match &mut self.ending {
            Ending::Finished {
                to_client,
                to_backend,
                ..
            } => {
                let client_lacks = *to_client && lacks(&client.socket);
                if client_lacks || *to_backend && lacks(backend) {
                    Next::Wait
                } else {
                    Next::Close(CloseReason::Finished)
                }
            }
            Ending::Broken {
                remaining,
                sent,
                ack_timeout,
            } => {
                let socket = match remaining {
                    Side::Client => &client.socket,
                    Side::Backend => backend,
                };
                let owed = socket.unacknowledged();
                let is_owed = owed > 0 && !socket.is_closed();
                let next = ack_timeout.note(sent.saturating_sub(owed), now);
                match next.filter(|_| is_owed) {
                    Some(at) => Next::WaitUntil(at),
                    None => Next::Reset(CloseReason::other_than(*remaining)),
                }
            }
        }
    }
}

/// Whether bytes are unacknowledged that the kernel still tries to deliver.
fn lacks<S: Socket>(socket: &S) -> bool {
    socket.unacknowledged() > 0 && !socket.is_closed()
}
