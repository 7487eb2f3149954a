//! What a connection asks of the engine.

use super::end::End;

/// What the engine is to do after a connection has handled something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Transition {
    /// Nothing.
    Stay,
    /// Nothing, but to note that a small message was moved.
    MovedMessage,
    /// Let it wait, in the order in which connections came, for
    /// [`super::connection::Connection::dial`].
    Hold,
    /// Let it wait for [`super::connection::Connection::pass_gate`]: a backend serves it, and
    /// its next byte waits for the gate.
    AwaitGate,
    /// Let it wait in the run queue for [`super::connection::Connection::serve`].
    Queue,
    /// Remove it; both sockets are closed with it.
    End(End),
}
