//! The parts of `/status` that come from the journal of an app.

use serde::Serialize;

use super::{AppView, Waits, seconds};
use crate::cluster::LeaseToken;
use crate::daemon::journal::Wake;
use crate::daemon::messages;
use crate::engine::PortId;

/// The most addresses of a port that are listed: a Service may have tens of thousands.
const ADDRESSES_LISTED: usize = 64;

/// What keeps an app awake.
#[derive(Serialize)]
pub(super) struct Sleep {
    /// In how long it may be put to sleep; `None` if no passing of time leads there.
    in_seconds: Option<f64>,
    /// The rule that keeps it awake until then.
    kept_awake_by: &'static str,
    why: &'static str,
}

/// Why the app would not be woken at once, or is not though connections wait.
#[derive(Serialize)]
pub(super) struct WakeDelay {
    /// The rule.
    by: &'static str,
    why: &'static str,
    /// In how long it ends; `None` if no passing of time leads there.
    ends_in_seconds: Option<f64>,
}

/// Who has scaled the app last.
#[derive(Serialize)]
pub(super) struct LastScaled {
    by: &'static str,
    replicas: u32,
    seconds_ago: f64,
}

/// The pods, as the controller of the scale target has counted them.
#[derive(Serialize)]
pub(super) struct Replicas {
    ready: u32,
    wanted: u32,
}

/// The last lease that was seen.
#[derive(Serialize)]
pub(super) struct LastLease {
    by: Vec<String>,
    seen_seconds_ago: f64,
}

/// A wake that has ended.
#[derive(Serialize)]
pub(super) struct LastWake {
    seconds_ago: f64,
    took_seconds: f64,
    api_seconds: Option<f64>,
    pod_seconds: Option<f64>,
    dial_seconds: Option<f64>,
    result: &'static str,
}

impl AppView<'_> {
    pub(super) fn sleep(&self) -> Option<Sleep> {
        let due = self.app.policy().sleep_due()?;
        Some(Sleep {
            in_seconds: due.at.map(|at| seconds(at.since(self.now))),
            kept_awake_by: due.rule.name(),
            why: due.rule.explain(),
        })
    }

    pub(super) fn wake_delay(&self) -> Option<WakeDelay> {
        let (by, until) = self.app.policy().wake_delay(self.now)?;
        Some(WakeDelay {
            by: by.name(),
            why: messages::delay(by),
            ends_in_seconds: until.map(|at| seconds(at.since(self.now))),
        })
    }

    /// When the app may be put to sleep, in seconds since 1970.
    pub(super) fn sleep_due(&self) -> Option<u64> {
        let at = self.app.policy().sleep_due()?.at?;
        let left = at.since(self.now);
        let is_second_begun = left.subsec_nanos() > 0;
        Some(self.unix + left.as_secs() + u64::from(is_second_begun))
    }

    pub(super) fn last_scaled(&self) -> Option<LastScaled> {
        let scaled = self.app.journal().scaled()?;
        Some(LastScaled {
            by: scaled.by.name(),
            replicas: scaled.replicas,
            seconds_ago: seconds(self.now.since(scaled.at)),
        })
    }

    pub(super) fn pods(&self) -> Option<Replicas> {
        let status = self.app.target_status()?;
        Some(Replicas {
            ready: status.ready,
            wanted: status.wanted,
        })
    }

    pub(super) fn last_lease(&self) -> Option<LastLease> {
        let seen = self.app.journal().lease()?;
        let token = LeaseToken(seen.token.clone());
        Some(LastLease {
            by: token.writers().map(str::to_owned).collect(),
            seen_seconds_ago: seconds(self.now.since(seen.at)),
        })
    }

    pub(super) fn last_wake(&self) -> Option<LastWake> {
        let wake: &Wake = self.app.journal().wakes().next_back()?;
        Some(LastWake {
            seconds_ago: seconds(self.now.since(wake.since)),
            took_seconds: seconds(wake.took),
            api_seconds: wake.api.map(seconds),
            pod_seconds: wake.pod.map(seconds),
            dial_seconds: wake.dial.map(seconds),
            result: wake.result.name(),
        })
    }

    /// The longest that a connection has waited for a pod, at any port: one that was served, one
    /// that was not, or one that waits now.
    pub(super) fn longest_wait(&self, waits: &Waits) -> f64 {
        let counters = self
            .app
            .port_ids()
            .map(|id| self.proxy.sockets.counters(id));
        let ended = counters.flatten().map(|counters| counters.longest_wait);
        let waits = ended.chain(waits.get(&self.id).copied());
        seconds(waits.max().unwrap_or_default())
    }

    /// The addresses that may be dialled for a port; not all, if there are very many.
    pub(super) fn addresses(&self, id: PortId) -> Vec<String> {
        let addresses = self.proxy.sockets.addresses(id);
        let listed = addresses.take(ADDRESSES_LISTED);
        listed.map(|address| address.to_string()).collect()
    }
}
