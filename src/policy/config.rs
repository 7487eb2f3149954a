//! What the policy keeps to: what an operator sets, and the pace of asking, which
//! is fixed or follows from that.

use std::time::Duration;

use crate::cluster::{LeaseStore, REFUSAL_BELIEVED_AFTER};

/// How often the scale target is read when nothing happens: it shows what others
/// have done, and keeps the API connection warm for the next write.
pub const POLL: Duration = Duration::from_secs(10);

/// How often it is read while somebody waits for a pod.
pub const POLL_STARTING: Duration = Duration::from_secs(5);

/// How many times in a TTL it is read at least where no watch shows it: another proxy's
/// last renewal is seen a fifth of a TTL late at most. It was made a tenth late at most,
/// and so the app sleeps between 1 and 1.3 TTL after the last connection anywhere, and
/// with a watch between 1 and 1.1.
const POLLS_PER_TTL: u32 = 5;

/// How often the scale target is read while a watch shows its changes at once: the
/// connection is kept for a minute without use, here as at the API server, and a read
/// shows what a watch on a dead connection does not.
pub const POLL_WATCHED: Duration = Duration::from_secs(30);

/// How many times in a TTL it is read all the same: twice as often as
/// [`LONGEST_GAP`](super::seen::LONGEST_GAP) requires, so that one slow reply does not
/// make a sleep later.
const POLLS_PER_TTL_WATCHED: u32 = 4;

/// The longest pause between two attempts at what is refused, while nobody waits.
/// Permissions come back when an API server has started, or with an operator; until
/// then a proxy may be unready.
pub const POLL_FORBIDDEN: Duration = POLL;

/// How long somebody may wait for a single reply, and the longest pause between two
/// attempts while somebody waits.
pub const LONGEST_PAUSE_WAITING: Duration = Duration::from_secs(5);

/// What the policy keeps to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// How long the app must have been without a connection before it sleeps.
    pub idle_ttl: Duration,
    /// How many replicas a wake asks for.
    pub wake_replicas: u32,
    /// Whether a wake asks for as many as there were before the sleep, as far as the
    /// object has kept that.
    pub wakes_to_previous: bool,
    /// Where leases are written at first. An annotation is the last resort as well.
    pub lease_store: LeaseStore,
    /// Whether an annotation raises `metadata.generation`, as it does on Deployments
    /// alone.
    pub annotation_moves_generation: bool,
    /// Whether the operator has said that there is no other proxy, so that no leases
    /// are needed.
    pub single: bool,
    /// For how long a permission must be refused until it counts as missing.
    pub refusal_believed_after: Duration,
    /// How many times the idle TTL is doubled at most, for an app that something else
    /// scales up again after each sleep.
    pub set_back_doublings: u32,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            idle_ttl: Duration::from_secs(3600),
            wake_replicas: 1,
            wakes_to_previous: false,
            lease_store: LeaseStore::Status,
            annotation_moves_generation: true,
            single: false,
            refusal_believed_after: REFUSAL_BELIEVED_AFTER,
            set_back_doublings: 5,
        }
    }
}

impl Config {
    /// How often the scale target is read when nothing happens and no watch shows it.
    pub(super) fn poll(&self) -> Duration {
        POLL.min(self.idle_ttl / POLLS_PER_TTL)
    }

    /// How often it is read when nothing happens and a watch shows it.
    pub(super) fn poll_watched(&self) -> Duration {
        POLL_WATCHED.min(self.idle_ttl / POLLS_PER_TTL_WATCHED)
    }
}
