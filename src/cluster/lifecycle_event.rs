//! [`LifecycleEvent`]: what others are notified of about an app.

use std::time::Duration;

/// An event in the life of an app, of which others are notified.
///
/// A proxy reports what it has done itself: with several proxies, one reports a sleep, and each
/// that wakes the app reports that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// What has happened.
    pub kind: LifecycleKind,
    /// The replicas of the scale target since then; `None` if they are not known.
    pub replicas: Option<u32>,
    /// How long connections have waited for the wake, up to now.
    pub waited: Option<Duration>,
    /// The reason, in words, where there is one.
    pub reason: Option<String>,
}

/// What has happened to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LifecycleKind {
    /// This proxy has scaled it to zero.
    Slept,
    /// This proxy wakes it.
    Waking,
    /// A wake has ended: a pod can be dialled.
    Awake,
    /// No pod could be dialled for as long as a connection waits at most. The wake goes on.
    WakeFailed,
}

impl LifecycleKind {
    /// Every kind.
    pub const ALL: [LifecycleKind; 4] = [
        LifecycleKind::Slept,
        LifecycleKind::Waking,
        LifecycleKind::Awake,
        LifecycleKind::WakeFailed,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            LifecycleKind::Slept => "slept",
            LifecycleKind::Waking => "waking",
            LifecycleKind::Awake => "awake",
            LifecycleKind::WakeFailed => "wake-failed",
        }
    }
}
