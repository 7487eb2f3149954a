//! The part of [`Policy`] that decides when a wake begins: if connections wait for it or an
//! override wants it, and no limit delays it.

use super::Policy;
use super::command::{Change, WakeDelay};
use super::overrides::Delay;
use super::phase::Phase;
use crate::clock::Time;
use crate::cluster::Scale;

impl Policy {
    /// The time until which an annotation keeps the app awake, in seconds since 1970.
    pub fn annotated_awake_until(&self) -> Option<u64> {
        self.overrides.annotations.as_ref()?.keep_awake_until
    }

    /// The reason of the delay of a wake that connections wait for, or an override wants.
    pub fn delayed_by(&self) -> Option<WakeDelay> {
        self.delay.as_ref().map(|delay| delay.by)
    }

    /// What would delay the wake of the app now that it is asleep, and until when; `None` for the
    /// time: until somebody changes something.
    pub fn wake_delay(&self, now: Time) -> Option<(WakeDelay, Option<Time>)> {
        let Phase::Asleep { .. } = self.phase else {
            return None;
        };
        self.next_delay(now).map(|delay| (delay.by, delay.until))
    }

    /// Applies the annotations in a reply or an event, if it shows them.
    pub(super) fn on_annotations(&mut self, scale: &Scale, now: Time) {
        let Some(overrides) = &scale.overrides else {
            return;
        };
        let before = self.overrides.annotations.replace(overrides.clone());
        let was_paused = before.as_ref().is_some_and(|before| before.is_paused);
        if was_paused != overrides.is_paused {
            self.report(Change::Paused(overrides.is_paused));
        }
        let invalid = overrides.invalid;
        if let Some(key) = invalid.filter(|_| before.as_ref().map(|it| it.invalid) != Some(invalid))
        {
            self.report(Change::InvalidAnnotation(key));
        }
        // The value at the start may be years old.
        if let Some(before) = before
            && overrides.wake.is_some()
            && before.wake != overrides.wake
        {
            self.on_wake_annotation(scale.replicas, now);
        }
    }

    /// Handles a new value of the annotation that wakes the app. While the app is awake it
    /// restarts the idle time.
    fn on_wake_annotation(&mut self, replicas: u32, now: Time) {
        self.forget_undone_sleeps();
        self.overrides.is_wake_pending = replicas == 0 && !self.config.dry_run;
        if let Some(seen) = self.seen.as_mut().filter(|_| replicas > 0) {
            seen.since = now;
        }
    }

    /// Whether this proxy must not write the scale, in neither direction.
    pub(super) fn writes_no_scale(&self) -> bool {
        self.config.dry_run || self.overrides.is_paused()
    }

    /// Reports, once for each idle time, that the app would sleep now.
    pub(super) fn report_dry_sleep(&mut self, now: Time) {
        self.would_sleep = true;
        let idle = self
            .idle_since
            .map_or(self.config.idle_ttl, |since| now.since(since));
        self.report(Change::WouldSleep { idle });
    }

    /// Begins a wake from zero if connections wait for it or an override wants it, and no limit
    /// delays it. Returns whether it has begun; the caller then makes the phase transition.
    pub(super) fn try_begin_wake(&mut self, now: Time) -> bool {
        let waiting = self.connections.waiting;
        let reason = self.overrides.wake_reason(now);
        if waiting == 0 && reason.is_none() {
            self.delay = None;
            return false;
        }
        if let Some(delay) = self.next_delay(now) {
            self.report_delay(delay, now);
            return false;
        }
        self.delay = None;
        self.overrides.is_wake_pending = false;
        self.wake_limits.count_wake(now);
        self.due = now;
        self.report(match reason {
            Some(by) if waiting == 0 => Change::WakingByOverride { by },
            _ => Change::Waking { waiting },
        });
        true
    }

    /// The limit that delays a wake for the longest; `None` if none does.
    fn next_delay(&self, now: Time) -> Option<Delay> {
        let delay = |by, until| Delay {
            by,
            until,
            is_logged: false,
        };
        if self.config.dry_run {
            return Some(delay(WakeDelay::DryRun, None));
        }
        if self.overrides.is_paused() {
            return Some(delay(WakeDelay::Paused, None));
        }
        let no_wake = self.overrides.windows.no_wake_end;
        let no_wake = no_wake.filter(|_| !self.overrides.wants_wake(now));
        let rules = [
            (WakeDelay::WakesPerMinute, self.wake_limits.next_wake()),
            (WakeDelay::MinAsleep, self.wake_limits.asleep_until()),
            (WakeDelay::Undone, self.wake_limits.delayed_until()),
            (WakeDelay::NoWake, no_wake.unwrap_or_default()),
        ];
        let (by, until) = rules.into_iter().max_by_key(|(_, until)| *until)?;
        (now < until).then(|| delay(by, Some(until)))
    }

    /// Reports a delay once for each wake and reason, and only while connections wait.
    fn report_delay(&mut self, mut delay: Delay, now: Time) {
        let before = self.delay.as_ref().filter(|before| before.by == delay.by);
        let was_reported = before.is_some_and(|before| before.is_logged);
        delay.is_logged = self.connections.waiting > 0 || was_reported;
        if delay.is_logged && !was_reported {
            let wait = delay.until.map(|until| until.since(now));
            self.report(Change::WakeDelayed { by: delay.by, wait });
        }
        self.delay = Some(delay);
    }
}
