//! [`RolloutWatch`]: for how long a rollout of the app counts as use.
//!
//! A rollout is somebody's work on the app, whose end they wait for: an app that is scaled to zero
//! meanwhile shows them nothing. One that makes no progress (a pod that is never ready, an update
//! strategy that leaves old pods alone) must not keep the app awake for ever.

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::Rollout;

/// How long a rollout without progress keeps the app awake: the default of a Deployment's
/// `progressDeadlineSeconds`.
pub const ROLLOUT_DEADLINE: Duration = Duration::from_secs(600);

/// The rollout in progress, if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RolloutWatch(Option<Progress>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    updated: u32,
    pods: u32,
    /// Until when it keeps the app awake, unless it makes progress.
    until: Time,
}

/// What has become of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RolloutChange {
    /// One has begun.
    Begun {
        /// The pods of the new template.
        updated: u32,
        /// All pods.
        pods: u32,
    },
    /// It is over: no pod of an older template is left.
    Over,
}

impl RolloutWatch {
    /// Sets what the scale target shows; returns whether a rollout has begun or is over.
    pub fn update(&mut self, rollout: Option<Rollout>, now: Time) -> Option<RolloutChange> {
        let before = self.0;
        self.0 = rollout.map(|Rollout { updated, pods }| Progress {
            updated,
            pods,
            until: match before {
                Some(before) if (before.updated, before.pods) == (updated, pods) => before.until,
                _ => now + ROLLOUT_DEADLINE,
            },
        });
        match (before, rollout) {
            (None, Some(Rollout { updated, pods })) => Some(RolloutChange::Begun { updated, pods }),
            (Some(_), None) => Some(RolloutChange::Over),
            _ => None,
        }
    }

    /// Until when a rollout keeps the app awake.
    pub fn awake_until(&self) -> Time {
        self.0.map(|it| it.until).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn of(updated: u32, pods: u32) -> Option<Rollout> {
        Some(Rollout { updated, pods })
    }

    #[test]
    fn it_keeps_the_app_awake_while_it_makes_progress() {
        let mut watch = RolloutWatch::default();
        assert_eq!(watch.update(None, at(1)), None);
        assert_eq!(watch.awake_until(), Time::default());
        let begun = RolloutChange::Begun {
            updated: 0,
            pods: 3,
        };
        assert_eq!(watch.update(of(0, 3), at(10)), Some(begun));
        assert_eq!(watch.awake_until(), at(610));
        for (updated, pods, seconds, until) in [
            (0, 3, 20, 610),
            (1, 4, 30, 630),
            (1, 4, 50, 630),
            (1, 3, 60, 660),
        ] {
            assert_eq!(watch.update(of(updated, pods), at(seconds)), None);
            assert_eq!(watch.awake_until(), at(until), "{seconds}");
        }
        assert_eq!(watch.update(None, at(70)), Some(RolloutChange::Over));
        assert_eq!(watch.awake_until(), Time::default());
        assert!(watch.update(of(1, 2), at(80)).is_some(), "the next one");
    }
}
