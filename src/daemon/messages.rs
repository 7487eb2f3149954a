//! [`describe`]: the log line of a change of an app.

use std::net::IpAddr;
use std::time::Duration;

use crate::cluster::{LeaseStore, OverrideKey};
use crate::duration;
use crate::policy::{Change, WakeDelay, WakeReason};

/// What has undone the sleeps of an app, and the remedy.
pub const SLEEP_UNDONE: &str = "something scales it up again after each sleep, and nobody uses it: \
    probably KEDA with a minReplicaCount above 0, or a GitOps tool that applies spec.replicas (for \
    example Argo CD's selfHeal; ignoreDifferences helps). The time until the next sleep doubles \
    each time";

/// What has undone the wakes of an app, and the remedy.
pub const WAKE_UNDONE: &str = "something scales it to 0 again right after each wake: probably a GitOps \
    tool that applies replicas: 0 (for example Argo CD's selfHeal; ignoreDifferences helps), KEDA, an HPA \
    with a minReplicas of 0, or a job. The pause before the next wake doubles each time, up to 1m";

/// The log line of a change of the app `name`. `woken_by` is the client that has waited for
/// the longest.
pub fn describe(name: &str, change: Change, woken_by: Option<IpAddr>) -> String {
    match change {
        Change::Found { replicas } => {
            format!("{name} found at {}", counted(replicas.into(), "replica"))
        }
        Change::ScaledByOthers {
            from_zero: true,
            replicas,
            ..
        } => {
            format!("{name} scaled from 0 to {replicas} by somebody else (another proxy, kubectl)")
        }
        Change::ScaledByOthers { open: 0, .. } => {
            format!("{name} scaled to 0 by somebody else (another proxy, kubectl)")
        }
        Change::ScaledByOthers { open, .. } => format!(
            "{name} scaled to 0 by somebody else while {} open here",
            are_open(open as u64)
        ),
        Change::Waking { waiting } => {
            let first = woken_by.map_or_else(String::new, |client| format!(", first {client}"));
            format!(
                "waking {name}: {} waiting{first}",
                connections(waiting as u64)
            )
        }
        Change::WakeDelayed { by, wait } => {
            let then = wait.map_or_else(String::new, |wait| {
                format!("; waking it in {}", in_ms(wait))
            });
            format!("{name}: a connection waits, and {}{then}", delay(by))
        }
        Change::WakingByOverride { by } => format!("waking {name}: {}", order(by)),
        Change::WouldSleep { idle } => format!(
            "{name} would be scaled to 0 now, after {} without a connection (--dry-run)",
            in_ms(idle)
        ),
        Change::Paused(true) => format!(
            "{name}: paused by the annotation zero-pod-autoscaler/pause: its scale is not written"
        ),
        Change::Paused(false) => format!("{name}: not paused any more"),
        Change::InvalidAnnotation(OverrideKey::Pause) => format!(
            "{name}: the annotation zero-pod-autoscaler/pause is neither true nor false, and is \
             ignored"
        ),
        Change::InvalidAnnotation(OverrideKey::KeepAwakeUntil) => format!(
            "{name}: the annotation zero-pod-autoscaler/keep-awake-until is no time such as \
             2026-12-24T18:00:00Z, and is ignored"
        ),
        Change::WakeWritten { replicas } => format!("{name} scaled from 0 to {replicas}"),
        Change::PreviousUnknown { replicas } => format!(
            "{name}: how many replicas there were before the sleep is not kept on it; waking it \
             with {replicas}"
        ),
        Change::AddressReady { took, held } => {
            let took = in_ms(took);
            let held = connections(held as u64);
            format!("{name} has a pod ready after {took}: {held} held until now")
        }
        Change::SleepWritten { idle } => {
            format!(
                "{name} scaled to 0 after {} without a connection",
                in_ms(idle)
            )
        }
        Change::WithoutLease { waiting } => format!(
            "{name}: cannot tell the other proxies that the app is in use (no lease renewed for \
             2s); serving {} all the same: another proxy that can reach the API server may put \
             the app to sleep",
            connections(waiting as u64)
        ),
        Change::LeaseLocation(Some(LeaseStore::Status)) => {
            format!("{name}: renewing the lease in its status")
        }
        Change::LeaseLocation(Some(LeaseStore::Annotation)) => {
            format!("{name}: its status may not be patched; renewing the lease in an annotation")
        }
        Change::LeaseLocation(None) => format!(
            "{name}: renewing the lease is forbidden; letting connections through without, and \
             never scaling to 0 from here: another proxy that may renew can put the app to sleep \
             under them"
        ),
        Change::LeasesVisible(true) => format!("{name}: the leases of other proxies can be seen"),
        Change::LeasesVisible(false) => format!(
            "{name}: the leases of other proxies cannot be seen; never scaling to 0 from here"
        ),
        Change::SleepUndone { times } => {
            format!("{name}: {SLEEP_UNDONE} ({times} sleeps so far)")
        }
        Change::WakeUndone { times } => format!("{name}: {WAKE_UNDONE} ({times} wakes so far)"),
        Change::RolloutBegun { updated, pods } => format!(
            "{name}: a rollout is in progress ({updated} of {pods} pods are updated); it counts as use"
        ),
        Change::RolloutOver => format!("{name}: the rollout is over"),
        Change::OtherTtl { theirs } => format!(
            "{name}: another proxy has an idle TTL of {}: all proxies respect the longest",
            duration::display(theirs)
        ),
    }
}

/// Why the app is not woken yet.
pub fn delay(by: WakeDelay) -> &'static str {
    match by {
        WakeDelay::WakesPerMinute => "the wakes of this minute are used up (--wakes-per-minute)",
        WakeDelay::Undone => {
            "something has scaled it to 0 again right after each of the last wakes"
        }
        WakeDelay::MinAsleep => "it has fallen asleep a moment ago (--min-asleep)",
        WakeDelay::NoWake => "it may not be woken at this time (--no-wake)",
        WakeDelay::DryRun => "it is not woken in a dry run (--dry-run)",
        WakeDelay::Paused => {
            "it is paused by the annotation zero-pod-autoscaler/pause, so that it is not woken"
        }
    }
}

/// Why the app is woken.
pub fn order(by: WakeReason) -> &'static str {
    match by {
        WakeReason::Schedule => "it is kept awake at this time (--keep-awake)",
        WakeReason::KeepAwakeUntil => {
            "it is kept awake by the annotation zero-pod-autoscaler/keep-awake-until"
        }
        WakeReason::Wake => "ordered by the annotation zero-pod-autoscaler/wake",
    }
}

/// `1 client`, `2 clients`.
pub fn clients(count: u64) -> String {
    counted(count, "client")
}

/// `1 connection`, `2 connections`.
pub fn connections(count: u64) -> String {
    counted(count, "connection")
}

fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

fn are_open(count: u64) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb}", connections(count))
}

/// Formats a time in whole milliseconds.
fn in_ms(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    duration::display(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(change: Change) -> String {
        describe("app", change, None)
    }

    #[test]
    fn one_is_singular_and_every_other_number_is_plural() {
        for (waiting, text) in [
            (0, "waking app: 0 connections waiting"),
            (1, "waking app: 1 connection waiting"),
            (2, "waking app: 2 connections waiting"),
        ] {
            assert_eq!(line(Change::Waking { waiting }), text);
        }
        for (replicas, text) in [
            (0, "app found at 0 replicas"),
            (1, "app found at 1 replica"),
            (3, "app found at 3 replicas"),
        ] {
            assert_eq!(line(Change::Found { replicas }), text);
        }
    }

    #[test]
    fn the_line_of_a_wake_names_the_first_client() {
        let client = Some("10.0.0.7".parse().unwrap());
        let change = Change::Waking { waiting: 2 };
        assert_eq!(
            describe("app", change, client),
            "waking app: 2 connections waiting, first 10.0.0.7"
        );
    }

    #[test]
    fn connections_without_a_lease_are_said_to_be_served_all_the_same() {
        assert_eq!(
            line(Change::WithoutLease { waiting: 1 }),
            "app: cannot tell the other proxies that the app is in use (no lease renewed for 2s); \
             serving 1 connection all the same: another proxy that can reach the API server may \
             put the app to sleep"
        );
    }

    #[test]
    fn what_somebody_else_has_done_is_said_to_be_that() {
        for (from_zero, replicas, open, text) in [
            (
                true,
                2,
                1,
                "app scaled from 0 to 2 by somebody else (another proxy, kubectl)",
            ),
            (
                false,
                0,
                0,
                "app scaled to 0 by somebody else (another proxy, kubectl)",
            ),
            (
                false,
                0,
                1,
                "app scaled to 0 by somebody else while 1 connection is open here",
            ),
        ] {
            let change = Change::ScaledByOthers {
                from_zero,
                replicas,
                open,
            };
            assert_eq!(line(change), text);
        }
    }
}
