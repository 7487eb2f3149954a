//! The [`Config`] of the policy, and the intervals between its requests.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::cluster::LeaseStore;
use crate::refusal;

/// The interval at which the scale target is read when nothing happens. A read shows the
/// writes of others, and keeps the connection open for the next write.
pub const POLL: Duration = Duration::from_secs(10);

/// The interval at which it is read while connections wait for a pod.
pub const POLL_STARTING: Duration = Duration::from_secs(5);

/// The least number of reads in a TTL without a watch. The last renewal of another proxy is
/// seen a fifth of a TTL late at most, and was made a tenth late at most. So the app sleeps
/// between 1 and 1.3 TTL after the last connection at any proxy, and with a watch between 1
/// and 1.1.
pub(super) const POLLS_PER_TTL: u32 = 5;

/// The interval at which the scale target is read while a watch shows its changes. A read
/// keeps the connection open, which both sides close after a minute without use, and shows
/// changes that a watch on a dead connection does not.
pub const POLL_WATCHED: Duration = Duration::from_secs(30);

/// The least number of reads in a TTL with a watch: twice as many as
/// [`MAX_GAP`](super::seen::MAX_GAP) requires, so that one slow reply does not
/// make a sleep later.
pub(super) const POLLS_PER_TTL_WATCHED: u32 = 4;

/// The longest interval between reads of one app among several, as a multiple of their number:
/// so the reads of all of them are 50 a minute at most, while nothing happens.
pub const POLL_AMONG_APPS: Duration = Duration::from_millis(2400);

/// The longest pause between two attempts at a refused request, while no connection waits. A
/// permission comes back when an API server has started, or an operator grants it; until then
/// the proxy may be unready.
pub const POLL_FORBIDDEN: Duration = refusal::MAX_PAUSE;

/// The timeout of a reply, and the longest pause between two attempts, while connections wait.
pub const MAX_PAUSE_WAITING: Duration = Duration::from_secs(5);

/// The configuration of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The time without a connection after which the app is put to sleep.
    pub idle_ttl: Duration,
    /// The least time that the app stays awake after a wake.
    pub min_awake: Duration,
    /// The least time that the app stays asleep after a sleep.
    pub min_asleep: Duration,
    /// The most wakes in a minute; `None`: no limit.
    pub wakes_per_minute: Option<NonZeroU32>,
    /// The number of replicas after a wake.
    pub wake_replicas: u32,
    /// Whether a wake restores the number before the sleep, if the object keeps it.
    pub wakes_to_previous: bool,
    /// Where leases are written first. An annotation is the fallback too.
    pub lease_store: LeaseStore,
    /// Whether an annotation raises `metadata.generation`, which is so for Deployments only.
    pub annotation_moves_generation: bool,
    /// Whether there is certainly no other proxy, so that no leases are needed.
    pub single: bool,
    /// Whether nothing is written: neither the scale nor a lease.
    pub dry_run: bool,
    /// How long a permission must be refused until it counts as missing.
    pub refusal_confirmed_after: Duration,
    /// The most times that the idle TTL is doubled because of undone sleeps.
    pub undone_sleep_doublings: u32,
    /// Whether zero, once it was refused twice in a row, is written again only after two TTLs.
    pub delays_refused_sleeps: bool,
    /// The longest pause before a wake while something else undoes each; zero: none.
    pub longest_undone_wake_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            idle_ttl: Duration::from_secs(3600),
            min_awake: Duration::ZERO,
            min_asleep: Duration::ZERO,
            wakes_per_minute: None,
            wake_replicas: 1,
            wakes_to_previous: false,
            lease_store: LeaseStore::Status,
            annotation_moves_generation: true,
            single: false,
            dry_run: false,
            refusal_confirmed_after: refusal::CONFIRMED_AFTER,
            undone_sleep_doublings: 5,
            delays_refused_sleeps: true,
            longest_undone_wake_pause: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Whether a connection is dialled under a lease only.
    pub(super) fn needs_leases(&self) -> bool {
        !self.single && !self.dry_run
    }

    /// The interval between reads when nothing happens and no watch shows the object.
    pub(super) fn poll(&self) -> Duration {
        POLL.min(self.idle_ttl / POLLS_PER_TTL)
    }

    /// The interval between reads when nothing happens and a watch shows the object.
    pub(super) fn poll_watched(&self) -> Duration {
        POLL_WATCHED.min(self.idle_ttl / POLLS_PER_TTL_WATCHED)
    }
}
