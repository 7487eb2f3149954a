//! What the policy keeps to: the two numbers that an operator sets, and the pace
//! of asking, which is fixed or follows from them.

use std::time::Duration;

/// How often the Deployment is read when nothing happens: it shows what others
/// have done, and keeps the API connection warm for the next write.
pub const POLL: Duration = Duration::from_secs(10);

/// How often it is read while somebody waits for a pod.
pub const POLL_STARTING: Duration = Duration::from_secs(5);

/// How many times in a TTL it is read at least: another proxy's last
/// renewal is seen a fifth of a TTL late at most. It was made a tenth late
/// at most, and so the app sleeps between 1 and 1.3 TTL after the last
/// connection anywhere.
const POLLS_PER_TTL: u32 = 5;

/// When to ask again what was forbidden: rights come with a human's hand.
pub const POLL_FORBIDDEN: Duration = Duration::from_secs(30);

/// The longest pause between two attempts while somebody waits for a pod, or
/// for the lease of a connection that is open.
pub(super) const LONGEST_PAUSE_WAITING: Duration = Duration::from_secs(5);

/// What the policy keeps to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// How long the app must have been without a connection before it sleeps.
    pub idle_ttl: Duration,
    /// How many replicas a wake asks for.
    pub wake_replicas: u32,
}

impl Config {
    /// How often the Deployment is read when nothing happens.
    pub(super) fn poll(&self) -> Duration {
        POLL.min(self.idle_ttl / POLLS_PER_TTL)
    }
}
