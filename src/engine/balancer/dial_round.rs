//! [`DialRound`]: one round of a connection's dials, until it pauses: the addresses that it has
//! tried, and how each has failed. (HAProxy: `retries` with `option redispatch`; nginx:
//! `proxy_next_upstream_tries`.)

use super::AddressId;
use crate::engine::local_error::LocalError;

/// The most addresses that are tried before the connection pauses: a Service may have
/// thousands.
const MAX_TRIES: usize = 16;

/// Why a dial has failed, or why a connected backend was abandoned before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// The connection was refused (ECONNREFUSED, ECONNRESET).
    Refused,
    /// There is no route (ENETUNREACH, EHOSTUNREACH).
    Unreachable,
    /// The dial timed out, or failed with an error that is none of the others.
    Unanswered,
    /// The backend has accepted the connection, and reset or closed it before the first byte.
    BrokeOff,
    /// The backend, which is to send the first byte, has accepted the connection and has ended it
    /// without one, or has sent none in time.
    NoGreeting,
    /// The socket was connected to itself: a local address on which nothing listens.
    SelfConnect,
    /// An error of this machine, such as EMFILE or EADDRNOTAVAIL.
    Local(LocalError),
}

/// One round of dials: see the [module](self). Boxed, because most
/// connections are served by the first address.
#[derive(Debug, Default)]
pub struct DialRound(Option<Box<Failures>>);

/// The failures of a connection's dials.
#[derive(Debug, Default)]
struct Failures {
    /// The addresses that failed.
    tried: Vec<AddressId>,
    /// Whether a host has answered at one of them, be it with a refusal.
    answered: bool,
    /// Whether one of them could not be reached, or has not answered in time.
    unreached: bool,
    /// The backend of the last address, if that was refused or has no route.
    alternatives_of: Option<u32>,
    /// Whether the fallback, the Service's cluster IP, was picked.
    fell_back: bool,
    /// Whether this machine can dial no address at all.
    has_local_error: bool,
}

impl DialFailure {
    /// Whether it counts as a failure of the backend, and not of this machine.
    pub fn is_of_the_backend(self) -> bool {
        !matches!(self, DialFailure::Local(_))
    }
}

impl DialRound {
    /// Records the failure of an address.
    pub(super) fn record(&mut self, id: AddressId, cause: DialFailure) {
        self.0.get_or_insert_default().record(id, cause);
    }

    /// Whether this machine can dial no address at all.
    pub fn has_local_error(&self) -> bool {
        self.any(|failures| failures.has_local_error)
    }

    /// Whether another address may be tried.
    pub(super) fn has_tries_left(&self) -> bool {
        !self.any(|failures| failures.tried.len() >= MAX_TRIES)
    }

    pub(super) fn has_tried(&self, id: AddressId) -> bool {
        self.any(|failures| failures.tried.contains(&id))
    }

    /// The backend whose other addresses come next.
    pub(super) fn alternatives_of(&self) -> Option<u32> {
        self.0.as_ref()?.alternatives_of
    }

    /// Picks the fallback, at most once. It is of use only if no host has answered: it may
    /// then be reachable where the pods' own addresses are not.
    pub(super) fn take_fallback(&mut self) -> bool {
        self.0
            .as_mut()
            .is_some_and(|failures| failures.take_fallback())
    }

    /// Whether some address has failed for another reason than an error of this machine.
    pub fn has_failed(&self) -> bool {
        self.any(|failures| failures.answered || failures.unreached)
    }

    /// Whether the fallback was picked.
    pub fn has_fallen_back(&self) -> bool {
        self.any(|failures| failures.fell_back)
    }

    /// Whether there are failures, and that holds for them.
    fn any(&self, holds: impl FnOnce(&Failures) -> bool) -> bool {
        self.0.as_deref().is_some_and(holds)
    }
}

impl Failures {
    fn record(&mut self, id: AddressId, cause: DialFailure) {
        self.tried.push(id);
        let is_of_address = matches!(cause, DialFailure::Refused | DialFailure::Unreachable);
        self.alternatives_of = is_of_address.then_some(id.backend);
        match cause {
            DialFailure::Refused
            | DialFailure::BrokeOff
            | DialFailure::NoGreeting
            | DialFailure::SelfConnect => self.answered = true,
            DialFailure::Unreachable | DialFailure::Unanswered => self.unreached = true,
            DialFailure::Local(error) => self.has_local_error |= !error.is_of_one_address(),
        }
    }

    fn take_fallback(&mut self) -> bool {
        let is_picked = self.unreached && !self.answered && !self.fell_back;
        self.fell_back |= is_picked;
        is_picked
    }
}
