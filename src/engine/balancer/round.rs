//! What one connection has met with in one round through the addresses.

use super::BackendId;
use crate::engine::local_error::LocalError;

/// A round ends after so many addresses, and the connection pauses: a Service may
/// have thousands.
const MAX_TRIES: usize = 16;

/// Why a dial has failed, or a backend was left before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody is there, who has refused the connection.
    Refused,
    /// There is no way there, which the kernel knows at once.
    Unreachable,
    /// There was no answer.
    Silent,
    /// The backend had taken the connection.
    BrokeOff,
    /// The address is one of this machine's own, where nobody listens.
    SelfConnect,
    /// This machine could not dial.
    Local(LocalError),
}

/// A round through the addresses.
#[derive(Debug, Default)]
pub struct Round {
    /// Addresses that failed.
    tried: Vec<BackendId>,
    /// Whether one of them is there.
    answered: bool,
    /// Whether one of them gave no answer.
    silent: bool,
    /// The backend that has failed last, if that took no time.
    alternatives_of: Option<u32>,
    /// Whether the fallback is among them.
    fell_back: bool,
    /// This machine can dial nothing.
    is_over: bool,
}

impl Cause {
    /// Whether the backend has to do with it.
    pub fn is_of_the_backend(self) -> bool {
        !matches!(self, Cause::Local(_))
    }
}

impl Round {
    /// Notes what has come of an address.
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

    /// The backend of which another address comes next, if it has one.
    pub(super) fn alternatives_of(&self) -> Option<u32> {
        self.alternatives_of
    }

    /// Whether it is the turn of the fallback, which it is once.
    pub(super) fn falls_back(&mut self) -> bool {
        let falls_back = self.silent && !self.answered && !self.fell_back;
        self.fell_back |= falls_back;
        falls_back
    }

    /// Whether no backend has taken the connection, for other than reasons of this machine.
    /// To be asked when the round has come to its end, or to the fallback.
    pub fn has_failed(&self) -> bool {
        self.answered || self.silent
    }

    /// Whether the fallback was picked.
    pub fn has_fallen_back(&self) -> bool {
        self.fell_back
    }
}
