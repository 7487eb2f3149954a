//! [`Transition`]: what the engine does after a connection has handled an input.

use super::close_reason::CloseReason;

/// What the engine does after a connection has handled an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transition {
    /// Nothing.
    Stay,
    /// Note in the run queue that a small message was moved.
    MovedMessage,
    /// Add it to the held connections, which wait for
    /// [`super::connection::Connection::dial`] in the order in which they came.
    Hold,
    /// Add it to the connections that wait for
    /// [`super::connection::Connection::pass_gate`]: a backend serves it, and its next
    /// byte waits for the gate.
    AwaitGate,
    /// Add it to the run queue, where it waits for
    /// [`super::connection::Connection::serve`].
    Queue,
    /// Remove it; both sockets are closed with it.
    Close(CloseReason),
}
