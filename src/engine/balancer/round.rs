//! A [`Round`] is one pass of a connection through the addresses: those that it has
//! tried, and their results.

use super::BackendId;
use crate::engine::local_error::LocalError;

/// The most addresses of a round, after which the connection pauses: a Service may have
/// thousands.
const MAX_TRIES: usize = 16;

/// Why a dial has failed, or a backend was left before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection was refused (ECONNREFUSED, ECONNRESET).
    Refused,
    /// There is no route (ENETUNREACH, EHOSTUNREACH).
    Unreachable,
    /// The dial timed out.
    Silent,
    /// The backend had accepted the connection, and broke off before the first byte.
    BrokeOff,
    /// The socket was connected to itself: a local address on which nothing listens.
    SelfConnect,
    /// An error of this machine.
    Local(LocalError),
}

/// A pass through the addresses: see the [module](self).
#[derive(Debug, Default)]
pub struct Round {
    /// The addresses that failed.
    tried: Vec<BackendId>,
    /// Whether one of them has answered.
    answered: bool,
    /// Whether one of them has not answered.
    silent: bool,
    /// The backend of the last address, if that was refused or has no route.
    alternatives_of: Option<u32>,
    /// Whether the fallback was picked.
    fell_back: bool,
    /// Whether this machine can dial nothing.
    is_over: bool,
}

impl Cause {
    /// Whether it counts as a failure of the backend.
    pub fn is_of_the_backend(self) -> bool {
        !matches!(self, Cause::Local(_))
    }
}

impl Round {
    /// Notes the failure of an address.
    pub(super) fn note(&mut self, id: BackendId, cause: Cause) {
        self.tried.push(id);
        let is_of_address = matches!(cause, Cause::Refused | Cause::Unreachable);
        self.alternatives_of = is_of_address.then_some(id.backend);
        match cause {
            Cause::Refused | Cause::BrokeOff | Cause::SelfConnect => self.answered = true,
            Cause::Unreachable | Cause::Silent => self.silent = true,
            Cause::Local(error) => self.is_over |= !error.is_of_one_address(),
        }
    }

    /// Whether nothing more may be dialled.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether another backend may be dialled.
    pub(super) fn may_go_on(&self) -> bool {
        self.tried.len() < MAX_TRIES
    }

    pub(super) fn has_tried(&self, id: BackendId) -> bool {
        self.tried.contains(&id)
    }

    /// The backend whose other addresses come next.
    pub(super) fn alternatives_of(&self) -> Option<u32> {
        self.alternatives_of
    }

    /// Whether the fallback comes next; true at most once.
    pub(super) fn falls_back(&mut self) -> bool {
        let falls_back = self.silent && !self.answered && !self.fell_back;
        self.fell_back |= falls_back;
        falls_back
    }

    /// Whether some address has failed for a reason that is not of this machine. To be
    /// called at the end of the round, or before the fallback.
    pub fn has_failed(&self) -> bool {
        self.answered || self.silent
    }

    /// Whether the fallback was picked.
    pub fn has_fallen_back(&self) -> bool {
        self.fell_back
    }
}
