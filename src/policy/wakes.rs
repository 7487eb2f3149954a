//! The part of [`Policy`] that decides when a wake begins: if connections wait for it or an
//! operator has ordered it, and no rule delays it.

use super::Policy;
use super::command::{Change, WakeDelay};
use super::overrides::Delay;
use crate::clock::Time;
use crate::cluster::Scale;

impl Policy {
    /// Until when the app is to be kept awake by an annotation, in seconds since 1970.
    pub fn keep_awake_until(&self) -> Option<u64> {
        self.overrides.orders.as_ref()?.keep_awake_until
    }

    /// The rule that delays a wake which connections wait for, or which is ordered.
    pub fn delayed_by(&self) -> Option<WakeDelay> {
        self.delay.as_ref().map(|delay| delay.by)
    }

    /// Takes the orders in a reply or an event, if it shows them.
    pub(super) fn learn_orders(&mut self, scale: &Scale, now: Time) {
        let Some(orders) = &scale.orders else {
            return;
        };
        let before = self.overrides.orders.replace(orders.clone());
        let was_paused = before.as_ref().is_some_and(|before| before.is_paused);
        if was_paused != orders.is_paused {
            self.report(Change::Paused(orders.is_paused));
        }
        let unreadable = orders.unreadable;
        if let Some(key) =
            unreadable.filter(|_| before.as_ref().map(|it| it.unreadable) != Some(unreadable))
        {
            self.report(Change::OrderUnreadable(key));
        }
        // What is there at the start may be years old.
        if let Some(before) = before
            && orders.wake.is_some()
            && before.wake != orders.wake
        {
            self.order_wake(scale.replicas, now);
        }
    }

    /// The annotation that wakes the app has a new value: a sign of use if it is awake.
    fn order_wake(&mut self, replicas: u32, now: Time) {
        self.forget_undone_sleeps();
        self.overrides.wakes_once = replicas == 0;
        if let Some(seen) = self.seen.as_mut().filter(|_| replicas > 0) {
            seen.since = now;
        }
    }

    /// Whether the scale is written by nobody here, in neither direction.
    pub(super) fn writes_no_scale(&self) -> bool {
        self.config.dry_run || self.overrides.is_paused()
    }

    /// Logs, once for each idle time, that the app would sleep now.
    pub(super) fn report_dry_sleep(&mut self, now: Time) {
        self.would_sleep = true;
        let idle = self
            .idle_since
            .map_or(self.config.idle_ttl, |since| now.since(since));
        self.report(Change::WouldSleep { idle });
    }

    /// Begins a wake from zero if connections wait for it or it is ordered, and no rule delays
    /// it. The caller makes the transition.
    pub(super) fn begins_wake(&mut self, now: Time) -> bool {
        let waiting = self.connections.waiting;
        let order = self.overrides.wake_order(now);
        if waiting == 0 && order.is_none() {
            self.delay = None;
            return false;
        }
        if let Some(delay) = self.wake_delay(now) {
            self.report_delay(delay, now);
            return false;
        }
        self.delay = None;
        self.overrides.wakes_once = false;
        self.wake_limits.record_wake(now);
        self.due = now;
        self.report(match order {
            Some(by) if waiting == 0 => Change::WakingOrdered { by },
            _ => Change::Waking { waiting },
        });
        true
    }

    /// The rule that delays a wake for the longest; `None` if none does.
    fn wake_delay(&self, now: Time) -> Option<Delay> {
        let delay = |by, until| Delay {
            by,
            until,
            is_reported: false,
        };
        if self.config.dry_run {
            return Some(delay(WakeDelay::DryRun, None));
        }
        if self.overrides.is_paused() {
            return Some(delay(WakeDelay::Paused, None));
        }
        let no_wake = self.overrides.windows.no_wake;
        let no_wake = no_wake.filter(|_| !self.overrides.orders_wake(now));
        let rules = [
            (WakeDelay::WakesPerMinute, self.wake_limits.next_wake()),
            (WakeDelay::MinAsleep, self.wake_limits.asleep_until()),
            (WakeDelay::NoWake, no_wake.unwrap_or_default()),
        ];
        let (by, until) = rules.into_iter().max_by_key(|(_, until)| *until)?;
        (now < until).then(|| delay(by, Some(until)))
    }

    /// Logs a delay, once for each wake and rule, and if somebody waits.
    fn report_delay(&mut self, mut delay: Delay, now: Time) {
        let before = self.delay.as_ref().filter(|before| before.by == delay.by);
        let was_reported = before.is_some_and(|before| before.is_reported);
        delay.is_reported = self.connections.waiting > 0 || was_reported;
        if delay.is_reported && !was_reported {
            let wait = delay.until.map(|until| until.since(now));
            self.report(Change::WakeDelayed { by: delay.by, wait });
        }
        self.delay = Some(delay);
    }
}
