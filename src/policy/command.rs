//! The outputs of the policy: [`Command`], and [`Change`] for the log and metrics.

use std::time::Duration;

use crate::cluster::{LeaseStore, OverrideKey, Permission, Request};

/// An output of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Send a request to the API server. It supersedes one without a reply.
    Send {
        /// The number of the request, which its reply carries.
        id: u64,
        /// The request.
        request: Request,
    },
    /// A request that needs that permission was given up, because connections have waited for it
    /// too long.
    GaveUp(Permission),
    /// The scale is zero: quarantine the pods that are listed now.
    QuarantinePods,
    /// The scale is above zero: the quarantine ends for pods that stay ready from now on.
    ScaleAboveZero,
    /// Log the change, and count it.
    Log(Change),
}

/// A change of the app, for the log and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The scale was seen for the first time.
    Found {
        /// The replicas seen.
        replicas: u32,
    },
    /// Something else has scaled the app: another proxy, or a person.
    ScaledByOthers {
        /// From zero, or else to zero.
        from_zero: bool,
        /// The replicas seen.
        replicas: u32,
        /// The number of open connections here.
        open: usize,
    },
    /// A connection has come while the scale is zero.
    Waking {
        /// The number of connections that wait.
        waiting: usize,
    },
    /// A connection has come while the scale is zero, and the app may not be woken yet.
    WakeDelayed {
        /// The rule that delays the wake.
        by: WakeDelay,
        /// The time until it may be woken; `None` if no passing of time leads there.
        wait: Option<Duration>,
    },
    /// The app is woken though no connection waits.
    WakingByOverride {
        /// What has ordered it.
        by: WakeReason,
    },
    /// This proxy would scale the app to zero now, but for the dry run.
    WouldSleep {
        /// The time without a connection before.
        idle: Duration,
    },
    /// The scale is not written any more, or again.
    Paused(bool),
    /// An annotation with an order cannot be read.
    InvalidAnnotation(OverrideKey),
    /// This proxy has written a wake.
    WakeWritten {
        /// The replicas written.
        replicas: u32,
    },
    /// A wake is to restore the replicas before the sleep, and the object does not keep their
    /// number.
    PreviousUnknown {
        /// The replicas written instead.
        replicas: u32,
    },
    /// There is an address for those who waited for it.
    AddressReady {
        /// The time since the first connection that had to wait.
        took: Duration,
        /// The number of connections that were held.
        held: usize,
    },
    /// This proxy has written zero.
    SleepWritten {
        /// The time without a connection before.
        idle: Duration,
    },
    /// No renewal succeeds: the gate opens without a lease.
    WithoutLease {
        /// The number of connections that waited for it.
        waiting: usize,
    },
    /// The place where leases are written has changed; `None`: it is allowed nowhere.
    LeaseLocation(Option<LeaseStore>),
    /// Whether the leases of other proxies can be seen has changed.
    LeasesVisible(bool),
    /// Something scales the app up again after each sleep, without a connection.
    SleepUndone {
        /// The number of times in a row.
        times: u32,
    },
    /// Something scales the app to zero again after each wake, before its idle TTL has passed.
    WakeUndone {
        /// The number of times in a row.
        times: u32,
    },
    /// A rollout of the app is in progress.
    RolloutBegun {
        /// The pods of the new template.
        updated: u32,
        /// All pods.
        pods: u32,
    },
    /// The rollout is over.
    RolloutOver,
    /// Another proxy has another TTL than this one.
    OtherTtl {
        /// The TTL of the other proxy.
        theirs: Duration,
    },
}

/// What has ordered a wake for which no connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WakeReason {
    /// A window of the schedule.
    Schedule,
    /// The annotation that keeps the app awake until a time.
    KeepAwakeUntil,
    /// The annotation that wakes the app.
    Wake,
}

/// The rule that delays a wake for which connections wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WakeDelay {
    /// The limit of wakes in a minute.
    WakesPerMinute,
    /// The least time asleep after a sleep.
    MinAsleep,
    /// Something else has undone the wakes before.
    Undone,
    /// A window of the schedule in which no connection wakes the app.
    NoWake,
    /// An annotation that forbids to write the scale.
    Paused,
    /// Nothing is written in a dry run.
    DryRun,
}

impl WakeDelay {
    /// Its name in `/status`.
    pub fn name(self) -> &'static str {
        match self {
            WakeDelay::WakesPerMinute => "wakes_per_minute",
            WakeDelay::MinAsleep => "min_asleep",
            WakeDelay::Undone => "undone_wakes",
            WakeDelay::NoWake => "no_wake",
            WakeDelay::Paused => "paused",
            WakeDelay::DryRun => "dry_run",
        }
    }
}
