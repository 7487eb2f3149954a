//! [`Shadow`]: the state of one process as the oracle derives it from its inputs and outputs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use zpa::clock::Time;
use zpa::cluster::{LeaseToken, ResourceVersion, Scale};

/// What is known of one process.
pub(super) struct Shadow {
    pub(super) slot: usize,
    pub(super) started: Time,
    pub(super) alive: bool,
    pub(super) stopped: bool,
    /// When the renewals that are out were sent first, by number.
    pub(super) renewing: BTreeMap<u64, Time>,
    /// Its lease: from when to when, by our clock.
    pub(super) lease: Option<(Time, Time)>,
    /// Whether a reply has ended it that is going to be read in its next turn.
    pub(super) lease_ends: bool,
    /// When a watch has shown it last that the app is at zero.
    pub(super) zero_shown: Option<Time>,
    pub(super) trouble: Time,
    /// Until when it is in trouble that is its own.
    pub(super) own_trouble: Time,
    pub(super) last_stop: Option<Time>,
    /// When it last sent a request, received an outcome, or continued.
    pub(super) stirred: Time,
    /// The versions that replies have shown since the last write that may have
    /// been done, or was refused because of the version.
    pub(super) read: Vec<ResourceVersion>,
    /// The newest version that it was shown.
    pub(super) newest: u64,
    /// Since when it watches the Deployment, as far as it knows.
    pub(super) watches_since: Option<Time>,
    /// The leases that replies have shown it.
    pub(super) shown: Shown,
    pub(super) open: usize,
    /// When a connection has ended last.
    pub(super) last_close: Option<Time>,
    /// When one has that ended under a lease.
    pub(super) last_leased: Option<Time>,
    pub(super) requests: VecDeque<(Time, String)>,
}

/// What a process was shown of leases.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) token: Option<LeaseToken>,
    /// When a renewal was first shown to it last, by the TTL of who has renewed.
    pub(super) renewals: BTreeMap<Duration, Time>,
}

impl Shown {
    /// A reply has shown this.
    pub(super) fn reply(&mut self, scale: &Scale, now: Time) {
        if scale.lease_token.is_some() && scale.lease_token != self.token {
            self.token.clone_from(&scale.lease_token);
            self.renewals.extend(scale.lease_ttl.map(|ttl| (ttl, now)));
        }
    }

    /// Whether it has seen a renewal since then by who has that TTL or a longer one.
    pub(super) fn has_seen(&self, ttl: Duration, since: Time) -> bool {
        self.renewals.range(ttl..).any(|(_, at)| *at >= since)
    }
}

/// The number that a version is.
pub(super) fn number(version: &ResourceVersion) -> u64 {
    version.0.parse().unwrap_or_default()
}
