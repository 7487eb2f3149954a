//! The faults of the network and the API server that affect requests.

use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::Outcome;

use crate::deployment::Permissions;
use crate::rng::Rng;

/// A kind of fault on the way to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Connections are refused.
    Refused,
    /// Packets vanish: no connection comes about.
    Swallowed,
    /// The server accepts and never answers, and may do what was asked late.
    Hangs,
    /// 429.
    Busy,
    /// 5xx, and what was asked may have been done.
    Errors,
    /// The connection breaks before the request has arrived.
    LostRequests,
    /// The connection breaks before the reply has arrived.
    LostReplies,
    /// Everything takes seconds, sometimes longer than anybody waits.
    Slow,
    /// 401: the token is being replaced.
    Unauthorized,
    /// 403 for everything: the server has just started.
    Forbidden,
}

impl Trouble {
    /// All kinds.
    pub const ALL: [Trouble; 10] = [
        Trouble::Refused,
        Trouble::Swallowed,
        Trouble::Hangs,
        Trouble::Busy,
        Trouble::Errors,
        Trouble::LostRequests,
        Trouble::LostReplies,
        Trouble::Slow,
        Trouble::Unauthorized,
        Trouble::Forbidden,
    ];
}

/// How long a connect may take, and how long a reply (`kube::client`).
const CONNECT: Duration = Duration::from_secs(3);
const RECEIVE: Duration = Duration::from_secs(10);

/// What becomes of one request.
#[derive(Debug)]
pub struct Fate {
    /// How long after it was sent it is executed, if ever.
    pub executed: Option<Duration>,
    /// The time from the sending to the outcome at the proxy.
    pub received: Duration,
    /// The outcome at the proxy, if it is not that of the execution.
    pub instead: Option<Outcome>,
}

impl Fate {
    /// The fate of a request that meets with `trouble`, or with none.
    pub fn draw(trouble: Option<Trouble>, rng: &mut Rng) -> Fate {
        let there = rng.around(ms(10), ms(200));
        let back = there + rng.around(ms(10), ms(200));
        let unknown = |retry_after| Some(Outcome::Unknown { retry_after });
        // An API server asks for some seconds, and its priorities and fairness for up to 32; a
        // proxy before it may ask for anything.
        let most = if rng.chance(0.8) { 5 } else { 300 };
        let retry_after = rng
            .chance(0.5)
            .then(|| rng.between(ms(1000), ms(most * 1000)));
        let applied = rng.chance(0.5);
        match trouble {
            None => Fate::received(Some(there), back, None),
            Some(Trouble::Refused) => Fate::received(None, there, Some(Outcome::Unreachable)),
            Some(Trouble::Swallowed) => Fate::received(None, CONNECT, Some(Outcome::Unreachable)),
            Some(Trouble::Hangs) => {
                let late = applied.then(|| rng.between(there, RECEIVE * 3));
                Fate::received(late, RECEIVE, unknown(None))
            }
            Some(Trouble::Busy) => Fate::received(None, back, Some(Outcome::Busy { retry_after })),
            Some(Trouble::Errors) => {
                Fate::received(applied.then_some(there), back, unknown(retry_after))
            }
            Some(Trouble::LostRequests) => Fate::received(None, back, unknown(None)),
            Some(Trouble::LostReplies) => Fate::received(Some(there), back, unknown(None)),
            Some(Trouble::Slow) => Fate::slow(rng),
            Some(Trouble::Unauthorized) => Fate::received(None, back, Some(Outcome::Unauthorized)),
            Some(Trouble::Forbidden) => Fate::received(None, back, Some(Outcome::Forbidden)),
        }
    }

    fn slow(rng: &mut Rng) -> Fate {
        let there = rng.between(ms(200), ms(7000));
        let back = there + rng.between(ms(200), ms(7000));
        let too_late = back > RECEIVE;
        let instead = too_late.then_some(Outcome::Unknown { retry_after: None });
        Fate::received(Some(there), back.min(RECEIVE), instead)
    }

    fn received(executed: Option<Duration>, received: Duration, instead: Option<Outcome>) -> Fate {
        Fate {
            executed,
            received,
            instead,
        }
    }
}

/// A stretch of time in which a kind of fault hits everybody, or one place.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When it begins.
    pub from: Time,
    /// When it is over.
    pub until: Time,
    /// The proxy that it affects; `None`: all.
    pub slot: Option<usize>,
    /// What it is.
    pub trouble: Trouble,
}

impl Window {
    /// Whether it hits that place at that time.
    pub fn hits(&self, slot: usize, now: Time) -> bool {
        self.from <= now && now < self.until && self.slot.is_none_or(|hit| hit == slot)
    }
}

/// A stretch of time in which the service account of one place, or of all, may do
/// only that.
#[derive(Clone, Copy, Debug)]
pub struct Restriction {
    /// When it begins.
    pub from: Time,
    /// When it is over.
    pub until: Time,
    /// The proxy that it affects; `None`: all.
    pub slot: Option<usize>,
    /// What is left.
    pub permissions: Permissions,
}

impl Restriction {
    /// Whether it hits that place at that time.
    pub fn hits(&self, slot: usize, now: Time) -> bool {
        self.from <= now && now < self.until && self.slot.is_none_or(|hit| hit == slot)
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
