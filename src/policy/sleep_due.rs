//! [`SleepDue`]: when this proxy may put the app to sleep, and which rule keeps it awake until
//! then.

use super::Policy;
use super::phase::Phase;
use crate::clock::Time;

/// When an app may be put to sleep, and why not sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepDue {
    /// When this proxy may put the app to sleep; `None`: not by the passing of time alone.
    pub at: Option<Time>,
    /// The rule that keeps it awake until then.
    pub rule: KeepAwakeRule,
}

/// The rule that keeps an app awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAwakeRule {
    /// Connections are open that count as use.
    Connections,
    /// The scale target was not read yet.
    Unread,
    /// This proxy could not wake the app again.
    CannotWake,
    /// Leases cannot be read, or cannot be written.
    NoLeases,
    /// The idle TTL since the last sign of use: a connection here, a renewal of any proxy, a
    /// wake, or the first reply that shows the scale target.
    IdleTtl,
    /// The lease of another proxy, whose TTL is longer.
    LongerLease,
    /// A replica of an ancestor, the program that zpa replaces.
    AncestorReplica,
    /// The least time awake after a wake.
    MinAwake,
    /// A window of the schedule, or an annotation on the scale target.
    Override,
    /// A rollout is in progress.
    Rollout,
    /// An annotation on the scale target forbids to write its scale.
    Paused,
    /// Nothing is written in a dry run, and that the app would sleep was logged.
    DryRun,
    /// The write of the scale was refused, and is not tried again before.
    ScaleRefused,
    /// Something scales the app up again after each sleep, so that the TTL is doubled.
    UndoneSleeps,
}

impl KeepAwakeRule {
    /// Its name in `/status`.
    pub fn name(self) -> &'static str {
        match self {
            KeepAwakeRule::Connections => "connections",
            KeepAwakeRule::Unread => "unread",
            KeepAwakeRule::CannotWake => "cannot_wake",
            KeepAwakeRule::NoLeases => "no_leases",
            KeepAwakeRule::IdleTtl => "idle_ttl",
            KeepAwakeRule::LongerLease => "longer_lease",
            KeepAwakeRule::AncestorReplica => "ancestor_replica",
            KeepAwakeRule::MinAwake => "min_awake",
            KeepAwakeRule::Override => "keep_awake",
            KeepAwakeRule::Rollout => "rollout",
            KeepAwakeRule::Paused => "paused",
            KeepAwakeRule::DryRun => "dry_run",
            KeepAwakeRule::ScaleRefused => "scale_refused",
            KeepAwakeRule::UndoneSleeps => "undone_sleeps",
        }
    }

    /// What it is, in plain words.
    pub fn explain(self) -> &'static str {
        match self {
            KeepAwakeRule::Connections => "connections are open that count as use",
            KeepAwakeRule::Unread => "the scale target was not read yet",
            KeepAwakeRule::CannotWake => "this proxy could not wake the app again",
            KeepAwakeRule::NoLeases => "the leases of the proxies cannot be read or written",
            KeepAwakeRule::IdleTtl => {
                "the idle TTL since the last connection, wake or lease of a proxy has not passed"
            }
            KeepAwakeRule::LongerLease => {
                "another proxy, whose idle TTL is longer, may be using it"
            }
            KeepAwakeRule::AncestorReplica => {
                "a replica of the program that zpa replaces is using it"
            }
            KeepAwakeRule::MinAwake => "--min-awake since the last wake has not passed",
            KeepAwakeRule::Override => {
                "it is kept awake until then, by --keep-awake or by the annotation \
                 zero-pod-autoscaler/keep-awake-until"
            }
            KeepAwakeRule::Rollout => {
                "a rollout is in progress; without progress it counts for ten minutes"
            }
            KeepAwakeRule::Paused => {
                "the annotation zero-pod-autoscaler/pause says that its scale is not to be written"
            }
            KeepAwakeRule::DryRun => "it would be asleep, but for --dry-run",
            KeepAwakeRule::ScaleRefused => "writing the scale was refused, and is tried again then",
            KeepAwakeRule::UndoneSleeps => {
                "something scales it up again after each sleep, so the idle TTL is doubled"
            }
        }
    }
}

impl Policy {
    /// What keeps the app awake; `None` while it sleeps, is being put to sleep, or is being
    /// woken.
    pub fn sleep_due(&self) -> Option<SleepDue> {
        let is_awake = matches!(
            self.phase,
            Phase::Awake | Phase::Starting { .. } | Phase::ConfirmingIdle
        );
        is_awake.then(|| self.kept_awake())
    }

    /// The rule that applies for the longest.
    pub(super) fn kept_awake(&self) -> SleepDue {
        let never = |rule| SleepDue { at: None, rule };
        let (idle_since, seen) = match (self.idle_since, &self.seen) {
            (None, _) => return never(KeepAwakeRule::Connections),
            (Some(_), None) => return never(KeepAwakeRule::Unread),
            (Some(_), Some(_)) if self.overrides.is_paused() => {
                return never(KeepAwakeRule::Paused);
            }
            (Some(_), Some(_)) if self.would_sleep => return never(KeepAwakeRule::DryRun),
            (Some(_), Some(_)) if !self.can_wake => return never(KeepAwakeRule::CannotWake),
            (Some(_), Some(_)) if !self.shares_leases() => return never(KeepAwakeRule::NoLeases),
            (Some(idle_since), Some(seen)) => (idle_since, seen),
        };
        let unused_since = idle_since.max(seen.since);
        let idle = if self.lengthened_idle_ttl() > self.config.idle_ttl {
            KeepAwakeRule::UndoneSleeps
        } else {
            KeepAwakeRule::IdleTtl
        };
        let rules = [
            (
                self.scale_writes.next_attempt(),
                KeepAwakeRule::ScaleRefused,
            ),
            (
                self.wake_limits.sleep_refused_until(),
                KeepAwakeRule::ScaleRefused,
            ),
            (self.wake_limits.awake_until(), KeepAwakeRule::MinAwake),
            (self.overrides.awake_until(), KeepAwakeRule::Override),
            (self.rollout.awake_until(), KeepAwakeRule::Rollout),
            (
                self.ancestor_until.unwrap_or_default(),
                KeepAwakeRule::AncestorReplica,
            ),
            (
                self.longer_leases.end(unused_since),
                KeepAwakeRule::LongerLease,
            ),
        ];
        let ours = SleepDue {
            at: Some(unused_since + self.lengthened_idle_ttl()),
            rule: idle,
        };
        rules.into_iter().fold(ours, |last, (at, rule)| match at {
            at if Some(at) > last.at => SleepDue { at: Some(at), rule },
            _ => last,
        })
    }
}
