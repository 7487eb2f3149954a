//! [`LifecycleEvent`]: what others are notified of about an app.

use std::time::Duration;

use crate::duration;

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

impl LifecycleEvent {
    /// A sentence without the full stop about the app `name`.
    pub fn describe(&self, name: &str) -> String {
        let waited = self.waited.unwrap_or_default();
        let after = duration::display(Duration::from_millis(
            u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        ));
        let what = match self.kind {
            LifecycleKind::Slept => "is scaled to 0".to_owned(),
            LifecycleKind::Waking => "is being woken".to_owned(),
            LifecycleKind::Awake => format!("is awake after {after}"),
            LifecycleKind::WakeFailed => format!("has no pod ready after {after}"),
        };
        match &self.reason {
            Some(reason) => format!("{name} {what}: {reason}"),
            None => format!("{name} {what}"),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_described_with_its_reason() {
        let waited = Some(Duration::from_micros(2_345_678));
        for (kind, waited, reason, text) in [
            (
                LifecycleKind::Slept,
                None,
                Some("no connection for 1h"),
                "a/b is scaled to 0: no connection for 1h",
            ),
            (
                LifecycleKind::Waking,
                None,
                Some("1 connection waiting"),
                "a/b is being woken: 1 connection waiting",
            ),
            (
                LifecycleKind::Awake,
                waited,
                None,
                "a/b is awake after 2.345s",
            ),
            (
                LifecycleKind::WakeFailed,
                waited,
                Some("no image"),
                "a/b has no pod ready after 2.345s: no image",
            ),
        ] {
            let event = LifecycleEvent {
                kind,
                replicas: None,
                waited,
                reason: reason.map(str::to_owned),
            };
            assert_eq!(event.describe("a/b"), text);
        }
    }
}
