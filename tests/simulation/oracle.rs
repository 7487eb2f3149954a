//! [`Oracle`]: checks the rules of the design against a shadow of every proxy, which it derives
//! from the inputs and outputs of the proxy alone.
//!
//! The oracle knows nothing of the policy. It knows when each renewal was
//! sent and answered, when each connection opened and closed, and which faults
//! have affected which process; a proxy that none has hit for a while is *calm*, and more is
//! asked of it.

mod clients;
mod connections;
mod liveness;
mod processes;
mod requests;
mod scaling;
mod shadow;

use std::collections::BTreeMap;
use std::time::Duration;

use zpa::clock::Time;

pub use self::clients::ClientResult;
pub use self::connections::Dial;
pub use self::liveness::{SLEEPS, Waiting};
use self::shadow::Shadow;
use crate::deployment::Change;
use crate::plan::{AppPlan, Plan};

/// A rule that was broken, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// The name of the rule.
    pub rule: &'static str,
    /// What has happened.
    pub what: String,
}

/// How long after the last trouble a proxy that has connections may be without
/// lease: the longest pause between two renewals, and their time.
const RECOVERY: Duration = Duration::from_secs(11);

/// The watcher.
pub struct Oracle {
    /// The longest idle TTL,
    ttl: Duration,
    /// and that of each place.
    ttls: Vec<Duration>,
    drift: f64,
    shadows: Vec<Shadow>,
    /// Until when each place is in trouble.
    slots: BTreeMap<usize, Time>,
    /// Until when everybody is.
    world: Time,
    /// Until when the controllers are slow.
    slow: Time,
    /// Until when a pod fails that is listed, which makes proxies list again.
    pods_fail: Time,
    /// The last change of scale.
    last_change: Option<Change>,
    /// The last change from zero.
    last_wake: Time,
    /// What each proxy's open connections are excused with, by sleep.
    excuses: BTreeMap<(Time, usize), ClientResult>,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Every change of scale.
    pub history: Vec<Change>,
    /// The number of clients by result.
    pub results: BTreeMap<ClientResult, u64>,
    /// Effective wakes.
    pub wakes: u64,
    /// Sleeps.
    pub sleeps: u64,
    /// The most requests of a process in a minute.
    pub most_requests: usize,
}

impl Oracle {
    /// Knows nobody yet.
    pub fn new(plan: &Plan, app: &AppPlan) -> Self {
        Oracle {
            ttl: app.ttl,
            ttls: (0..plan.slots).map(|slot| app.ttl_of(slot)).collect(),
            drift: plan.drift,
            shadows: Vec::new(),
            slots: BTreeMap::new(),
            world: Time::default(),
            slow: Time::default(),
            pods_fail: Time::default(),
            last_change: None,
            last_wake: Time::default(),
            excuses: BTreeMap::new(),
            violation: None,
            history: Vec::new(),
            results: BTreeMap::new(),
            wakes: 0,
            sleeps: 0,
            most_requests: 0,
        }
    }

    fn violated(&mut self, rule: &'static str, what: String, at: Time) {
        self.violation.get_or_insert(Violation { at, rule, what });
    }

    /// Since when a process has met with no trouble.
    fn calm_since(&self, pid: usize) -> Time {
        let shadow = &self.shadows[pid];
        let slot = self.slots.get(&shadow.slot).copied().unwrap_or_default();
        let own = shadow.started.max(shadow.trouble);
        own.max(slot).max(self.world)
    }

    /// Whether it is in trouble, or has not had the time to get over it.
    fn is_in_trouble(&self, pid: usize, now: Time) -> bool {
        now < self.calm_since(pid) + RECOVERY && self.has_had_trouble(pid)
    }

    fn has_had_trouble(&self, pid: usize) -> bool {
        self.calm_since(pid) > self.shadows[pid].started
    }

    fn ttl_of(&self, pid: usize) -> Duration {
        self.ttls[self.shadows[pid].slot]
    }

    /// Clocks may differ a little in speed.
    fn whole_ttl(&self, pid: usize) -> Duration {
        self.ttl_of(pid).mul_f64(1.0 - 2.0 * self.drift)
    }
}
