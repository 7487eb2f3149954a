//! [`Lifecycle`]: turns the changes that the policy reports into the [`LifecycleEvent`]s that
//! others are notified of: webhooks and Kubernetes Events.
//!
//! It gets each change that the policy reports, and at the end of each turn whether the app is
//! waking. No decision of the policy depends on it.

use std::time::Duration;

use super::messages;
use crate::clock::Time;
use crate::cluster::{LifecycleEvent, LifecycleKind};
use crate::duration;
use crate::policy::{Change, WakeDelay};

/// The events of an app, and its wake in progress: from the first waiting connection, or the
/// override, to the first address that may be dialled.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    wake: Option<Wake>,
    /// How many clients were reset at the hold limit since the start.
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wake {
    /// Since when it has been wanted.
    since: Time,
    /// Whether others know of it. They do not while it is delayed.
    is_announced: bool,
    /// The rule that has delayed it last, if it has not begun since.
    delayed_by: Option<WakeDelay>,
    has_failed: bool,
}

impl Lifecycle {
    /// The event that a change of the policy is, if it is one. `replicas` are those that are
    /// known after it.
    pub fn record(
        &mut self,
        change: Change,
        replicas: Option<u32>,
        now: Time,
    ) -> Option<LifecycleEvent> {
        match change {
            Change::SleepWritten { idle } => {
                self.wake = None;
                let idle = duration::display(Duration::from_secs(idle.as_secs()));
                let reason = format!("no connection for {idle}");
                Some(event(LifecycleKind::Slept, Some(0), None, Some(reason)))
            }
            Change::Waking { waiting } => {
                let waiting = messages::connections(waiting as u64);
                self.begin_wake(format!("{waiting} waiting"), replicas, now)
            }
            Change::WakingByOverride { by } => {
                self.begin_wake(messages::order(by).to_owned(), replicas, now)
            }
            // Nothing is done in a dry run.
            Change::WakeDelayed { by, .. } if by != WakeDelay::DryRun => {
                let wake = self.wake.get_or_insert(Wake {
                    since: now,
                    is_announced: false,
                    delayed_by: None,
                    has_failed: false,
                });
                wake.delayed_by = Some(by);
                None
            }
            Change::AddressReady { .. } => {
                let wake = self.wake.take().filter(|wake| wake.is_announced)?;
                let waited = now.since(wake.since);
                Some(event(LifecycleKind::Awake, replicas, Some(waited), None))
            }
            _ => None,
        }
    }

    /// A wake begins, or goes on after somebody has undone it, or once nothing delays it any more.
    fn begin_wake(
        &mut self,
        reason: String,
        replicas: Option<u32>,
        now: Time,
    ) -> Option<LifecycleEvent> {
        let before = self.wake.filter(|wake| !wake.has_failed);
        self.wake = Some(Wake {
            since: before.map_or(now, |wake| wake.since),
            is_announced: true,
            delayed_by: None,
            has_failed: false,
        });
        let is_known = before.is_some_and(|wake| wake.is_announced);
        (!is_known).then(|| event(LifecycleKind::Waking, replicas, None, Some(reason)))
    }

    /// Sets whether the app is waking, or its wake is wanted, at the end of a turn.
    pub fn update(&mut self, is_wanted: bool) {
        if !is_wanted {
            self.wake = None;
        }
    }

    /// Notes how many clients were reset at the hold limit since the start; returns whether there
    /// are more than before.
    pub fn note_lost(&mut self, total: u64) -> bool {
        std::mem::replace(&mut self.lost, total) < total
    }

    /// When [`Lifecycle::overdue`] returns an event, if the wake does not end before.
    /// `hold_timeout` is the hold limit.
    pub fn poll_timeout(&self, hold_timeout: Duration) -> Option<Time> {
        let wake = self.wake.filter(|wake| !wake.has_failed)?;
        Some(wake.since + hold_timeout)
    }

    /// The event of a wake that has lasted as long as a connection waits at most, once for each
    /// wake. `explain` says why no pod can be dialled.
    pub fn overdue(
        &mut self,
        hold_timeout: Duration,
        replicas: Option<u32>,
        explain: impl FnOnce() -> String,
        now: Time,
    ) -> Option<LifecycleEvent> {
        self.poll_timeout(hold_timeout).filter(|at| *at <= now)?;
        self.fail(replicas, explain, now)
    }

    /// The event of a wake that has lasted too long, once for each wake; `None` if there is none.
    pub(super) fn fail(
        &mut self,
        replicas: Option<u32>,
        explain: impl FnOnce() -> String,
        now: Time,
    ) -> Option<LifecycleEvent> {
        let wake = self.wake.as_mut().filter(|wake| !wake.has_failed)?;
        wake.has_failed = true;
        let (kind, waited) = (LifecycleKind::WakeFailed, now.since(wake.since));
        let reason = match wake.delayed_by {
            Some(by) => messages::delay(by).to_owned(),
            None => explain(),
        };
        Some(event(kind, replicas, Some(waited), Some(reason)))
    }
}

fn event(
    kind: LifecycleKind,
    replicas: Option<u32>,
    waited: Option<Duration>,
    reason: Option<String>,
) -> LifecycleEvent {
    LifecycleEvent {
        kind,
        replicas,
        waited,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::WakeReason;

    const LIMIT: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn woke() -> Change {
        Change::AddressReady {
            took: Duration::from_secs(1),
            held: 1,
        }
    }

    fn kind(event: Option<LifecycleEvent>) -> Option<LifecycleKind> {
        event.map(|event| event.kind)
    }

    #[test]
    fn a_wake_and_a_sleep_are_events_with_their_reasons() {
        let mut life = Lifecycle::default();
        let waking = life.record(Change::Waking { waiting: 2 }, Some(0), at(10));
        assert_eq!(
            waking,
            Some(event(
                LifecycleKind::Waking,
                Some(0),
                None,
                Some("2 connections waiting".to_owned())
            ))
        );
        assert_eq!(
            life.record(woke(), Some(3), at(14)),
            Some(event(
                LifecycleKind::Awake,
                Some(3),
                Some(Duration::from_secs(4)),
                None
            ))
        );
        let idle = Duration::from_millis(60_400);
        let slept = life.record(Change::SleepWritten { idle }, Some(3), at(90));
        assert_eq!(
            slept,
            Some(event(
                LifecycleKind::Slept,
                Some(0),
                None,
                Some("no connection for 1m0s".to_owned())
            ))
        );
    }

    #[test]
    fn an_app_that_loses_its_pods_while_awake_is_not_reported_as_woken() {
        let mut life = Lifecycle::default();
        life.update(true);
        assert_eq!(life.record(woke(), Some(1), at(10)), None);
        assert_eq!(life.poll_timeout(LIMIT), None);
    }

    #[test]
    fn a_wake_has_failed_once_at_the_hold_limit_and_may_end_well_later() {
        let mut life = Lifecycle::default();
        let by = WakeReason::Wake;
        life.record(Change::WakingByOverride { by }, Some(0), at(10));
        life.update(true);
        let overdue = |life: &mut Lifecycle, second| {
            life.overdue(LIMIT, Some(1), || "no image".to_owned(), at(second))
        };
        assert_eq!(overdue(&mut life, 69), None);
        assert_eq!(life.poll_timeout(LIMIT), Some(at(70)));
        let failed = overdue(&mut life, 70).unwrap();
        assert_eq!(failed.kind, LifecycleKind::WakeFailed);
        assert_eq!(failed.reason.as_deref(), Some("no image"));
        assert_eq!(failed.waited, Some(LIMIT));
        assert_eq!(overdue(&mut life, 71), None, "once");
        assert_eq!(life.poll_timeout(LIMIT), None);
        let awake = life.record(woke(), Some(1), at(100));
        assert_eq!(kind(awake), Some(LifecycleKind::Awake));
    }

    /// Somebody scales it to zero again and again.
    #[test]
    fn a_wake_that_is_undone_goes_on_with_the_next_and_fails_at_the_hold_limit() {
        let mut life = Lifecycle::default();
        let waking = Change::Waking { waiting: 1 };
        assert_eq!(
            kind(life.record(waking, Some(0), at(10))),
            Some(LifecycleKind::Waking)
        );
        for second in [20, 40, 60] {
            life.update(true);
            assert_eq!(
                life.record(waking, Some(0), at(second)),
                None,
                "it is known"
            );
        }
        let failed = life.overdue(LIMIT, Some(1), String::new, at(70)).unwrap();
        assert_eq!(
            (failed.kind, failed.waited),
            (LifecycleKind::WakeFailed, Some(LIMIT))
        );
        let next = life.record(waking, Some(0), at(80));
        assert_eq!(kind(next), Some(LifecycleKind::Waking));
        assert_eq!(life.poll_timeout(LIMIT), Some(at(140)), "another wake");
    }

    #[test]
    fn a_wake_that_is_delayed_is_announced_when_it_begins_and_fails_if_it_never_does() {
        let delayed = |by| Change::WakeDelayed { by, wait: None };
        let mut life = Lifecycle::default();
        assert_eq!(
            life.record(delayed(WakeDelay::NoWake), Some(0), at(10)),
            None
        );
        life.update(true);
        let mut never = life.clone();
        let failed = never.overdue(LIMIT, Some(0), String::new, at(70)).unwrap();
        assert_eq!(failed.kind, LifecycleKind::WakeFailed);
        assert!(failed.reason.unwrap().contains("--no-wake"));
        let waking = life.record(Change::Waking { waiting: 1 }, Some(0), at(30));
        assert_eq!(kind(waking), Some(LifecycleKind::Waking));
        let awake = life.record(woke(), Some(1), at(31)).unwrap();
        assert_eq!(awake.waited, Some(Duration::from_secs(21)));
        assert_eq!(
            life.record(delayed(WakeDelay::DryRun), Some(0), at(40)),
            None
        );
        assert_eq!(life.poll_timeout(LIMIT), None, "a dry run wakes nothing");
        assert_eq!(
            life.record(delayed(WakeDelay::NoWake), Some(0), at(50)),
            None
        );
        assert_eq!(
            life.record(woke(), Some(1), at(51)),
            None,
            "somebody else's"
        );
    }

    #[test]
    fn a_wake_that_everybody_has_left_does_not_fail_later() {
        let mut life = Lifecycle::default();
        life.record(Change::Waking { waiting: 1 }, Some(0), at(10));
        life.update(false);
        assert_eq!(life.poll_timeout(LIMIT), None);
        assert_eq!(life.overdue(LIMIT, None, String::new, at(100)), None);
        assert_eq!(life.record(woke(), Some(1), at(101)), None);
    }
}
