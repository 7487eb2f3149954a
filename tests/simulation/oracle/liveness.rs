//! The rules about liveness: waiting clients are served, and idle apps fall asleep.

use std::time::Duration;

use zpa::clock::Time;

use super::Oracle;
use crate::deployment::{Change, Who};

/// A proxy with a client that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Its process.
    pub pid: usize,
    /// Since when the client waits.
    pub since: Time,
    /// Whether the client may be dialled, so that it waits for a pod alone.
    pub gate_open: bool,
}

/// The longest that a proxy with a client that waits may do nothing about it: a
/// reply that is late, a request that hangs, or a pause. The half second is for the
/// messages themselves.
const MAX_SILENCE: Duration = Duration::from_millis(5_500);
/// How long after it other things may be late: the longest pause there is.
const AFTERMATH: Duration = Duration::from_secs(45);
/// How long somebody may wait in a calm world.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The rule about how soon an app falls asleep.
pub const SLEEPS: &str =
    "the app sleeps within 1.1 TTL, or 1.3 where it is not watched or TTLs differ";
/// After how many TTLs without a connection it does if every proxy watches it, and all have
/// one TTL: a renewal at the last close is a tenth late at most.
const WATCHED_SLEEP: f64 = 1.1;
/// Otherwise such a renewal is seen a fifth late at most, or made once more within half of a
/// shorter TTL, if it was hidden.
const UNWATCHED_SLEEP: f64 = 1.3;
/// How late beyond that an app may fall asleep: replies, and a conflict.
const SLEEP_SLACK: Duration = Duration::from_secs(5);

impl Oracle {
    /// Looks whether everything that had to happen has happened.
    pub fn check(&mut self, replicas: u32, waiting: &[Waiting], now: Time) {
        for &waiting in waiting {
            self.check_that_somebody_sees_to(waiting, now);
            self.check_that_it_is_served(waiting, replicas, now);
        }
        let quiet = self.quiet_since(now);
        let are_equal = self.ttls.iter().all(|ttl| *ttl == self.ttl);
        let longest = if are_equal && self.have_all_watched_since(quiet) {
            WATCHED_SLEEP
        } else {
            UNWATCHED_SLEEP
        };
        let late = quiet + self.ttl.mul_f64(longest) * self.undone_sleeps_factor() + SLEEP_SLACK;
        if replicas > 0 && now > late && self.shadows.iter().any(|s| s.alive) {
            let what = format!("{replicas} replicas, and all is quiet since {quiet:?}");
            self.violated(SLEEPS, what, now);
        }
    }

    fn check_that_somebody_sees_to(&mut self, waiting: Waiting, now: Time) {
        let Waiting {
            pid,
            since,
            gate_open,
        } = waiting;
        let shadow = &self.shadows[pid];
        let silent_since = since.max(shadow.stirred);
        if !gate_open && !shadow.stopped && now > silent_since + MAX_SILENCE {
            let what = format!("p{pid} holds somebody, and does nothing since {silent_since:?}");
            self.violated("no reply holds a client for longer than 5 s", what, now);
        }
    }

    fn check_that_it_is_served(&mut self, waiting: Waiting, replicas: u32, now: Time) {
        let Waiting { pid, since, .. } = waiting;
        let changed = self.last_change.map_or(Time::default(), |change| change.at);
        let calm = since.max(self.calm_since(pid) + AFTERMATH);
        let by_others = self.last_change.filter(|c| !matches!(c.by, Who::Proxy(_)));
        let calm = by_others.map_or(calm, |_| calm.max(changed));
        if now > calm + MAX_WAIT && !self.shadows[pid].stopped {
            let what = format!("p{pid} holds somebody since {since:?}, {replicas} replicas");
            self.violated("who is held is served", what, now);
        }
    }

    /// By how much an app may sleep later that others have scaled up from zero again and
    /// again: the pauses grow.
    fn undone_sleeps_factor(&self) -> u32 {
        let by_others = |change: &&Change| change.from == 0 && !matches!(change.by, Who::Proxy(_));
        let raised = self.history.iter().filter(by_others).count();
        1 << raised.saturating_sub(2).min(5)
    }

    /// Since when nothing has happened that keeps the app awake.
    fn quiet_since(&self, now: Time) -> Time {
        let alive = self.shadows.iter().enumerate().filter(|(_, s)| s.alive);
        let busy = alive.map(|(pid, shadow)| {
            let calm = if self.has_had_trouble(pid) {
                self.calm_since(pid) + AFTERMATH
            } else {
                shadow.started
            };
            let is_in_use = shadow.open > 0 || shadow.stopped;
            let used = if is_in_use {
                Some(now)
            } else {
                shadow.last_close
            };
            calm.max(used.unwrap_or_default())
        });
        // What the dead have sent may have arrived after them.
        let dead = self.shadows.iter().filter(|s| !s.alive);
        let dead = dead.map(|s| s.trouble.max(s.last_close.unwrap_or_default()));
        busy.chain(dead).fold(self.last_wake, Time::max)
    }

    /// Somebody waits for a pod that fails, and another one would take the connection.
    pub fn waits_in_vain(&mut self, what: String, now: Time) {
        let rule = "nobody waits for a pod that has failed beside another";
        self.violated(rule, what, now);
    }

    /// Whether everybody who lives has watched the Deployment since then.
    fn have_all_watched_since(&self, since: Time) -> bool {
        let mut alive = self.shadows.iter().filter(|shadow| shadow.alive);
        alive.all(|shadow| shadow.watches_since.is_some_and(|began| began <= since))
    }
}
