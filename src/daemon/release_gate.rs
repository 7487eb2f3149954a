//! A [`ReleaseGate`] delays the first dials after a wake: until several pods are ready, or until
//! they have been ready for a while. It is for apps whose first pod says that it is ready sooner
//! than it can bear all who wait, and for those that answer their probe sooner than their
//! clients.
//!
//! Once it has opened, it stays open until the app sleeps: a rollout of an app that is awake is
//! the Deployment's own affair (`minReadySeconds`).

use std::time::Duration;

use crate::clock::Time;

/// What the gate waits for. By default it waits for one pod, and no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseCondition {
    /// The number of ready pods, at least 1.
    pub min_ready: u32,
    /// How long so many have been ready.
    pub min_ready_time: Duration,
}

/// The gate of an app: see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct ReleaseGate {
    condition: ReleaseCondition,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Shut {
        /// Since when so many pods are ready; `None` if they are not.
        ready_since: Option<Time>,
    },
}

impl Default for ReleaseCondition {
    fn default() -> Self {
        ReleaseCondition {
            min_ready: 1,
            min_ready_time: Duration::ZERO,
        }
    }
}

impl ReleaseGate {
    /// The gate of an app that is awake, as far as is known.
    pub fn new(condition: ReleaseCondition) -> Self {
        ReleaseGate {
            condition,
            state: State::Open,
        }
    }

    /// Replaces the condition.
    pub fn set_condition(&mut self, condition: ReleaseCondition) {
        self.condition = condition;
    }

    /// The app sleeps: the next wake waits for the condition.
    pub fn shut(&mut self) {
        if self.condition != ReleaseCondition::default() {
            self.state = State::Shut { ready_since: None };
        }
    }

    /// Whether pods may be dialled, of which `ready` are ready. `replicas` is the number that
    /// the app has been scaled to, if that is known: more pods are never awaited.
    pub fn update(&mut self, ready: usize, replicas: Option<u32>, now: Time) -> bool {
        let State::Shut { ready_since } = self.state else {
            return ready > 0;
        };
        let wanted = self.wanted(replicas);
        let is_ready = ready >= wanted as usize;
        let since = is_ready.then(|| ready_since.unwrap_or(now));
        let is_over = since.is_some_and(|since| since + self.condition.min_ready_time <= now);
        self.state = match is_over {
            true => State::Open,
            false => State::Shut { ready_since: since },
        };
        is_over
    }

    /// When it opens though nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Open => None,
            State::Shut { ready_since } => Some(ready_since? + self.condition.min_ready_time),
        }
    }

    /// Why pods that are ready are not dialled, in words.
    pub fn explain(&self, ready: usize, replicas: Option<u32>) -> Option<String> {
        let State::Shut { ready_since } = self.state else {
            return None;
        };
        let wanted = self.wanted(replicas);
        match ready_since {
            None if ready > 0 => Some(format!(
                "{ready} of the {wanted} pods are ready that --min-ready waits for"
            )),
            None => None,
            Some(_) => Some("the pods are not ready for --min-ready-time yet".to_owned()),
        }
    }

    fn wanted(&self, replicas: Option<u32>) -> u32 {
        replicas.map_or(self.condition.min_ready, |most| {
            self.condition.min_ready.min(most)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::new(Duration::from_secs(seconds))
    }

    fn gate(min_ready: u32, seconds: u64) -> ReleaseGate {
        ReleaseGate::new(ReleaseCondition {
            min_ready,
            min_ready_time: Duration::from_secs(seconds),
        })
    }

    #[test]
    fn without_a_condition_one_ready_pod_is_enough() {
        let mut gate = ReleaseGate::new(ReleaseCondition::default());
        gate.shut();
        assert!(!gate.update(0, Some(3), at(1)));
        assert!(gate.update(1, Some(3), at(1)));
        assert_eq!(gate.poll_timeout(), None);
    }

    #[test]
    fn after_a_sleep_it_opens_when_enough_pods_have_been_ready_for_long_enough() {
        let mut gate = gate(2, 5);
        assert!(gate.update(1, Some(2), at(0)), "it was awake at the start");
        gate.shut();
        for (seconds, ready, is_open, timeout) in [
            (1, 0, false, None),
            (2, 1, false, None),
            (3, 2, false, Some(at(8))),
            (7, 3, false, Some(at(8))),
            (7, 1, false, None),
            (8, 2, false, Some(at(13))),
            (13, 2, true, None),
            (14, 1, true, None),
            (15, 0, false, None),
            (16, 1, true, None),
        ] {
            assert_eq!(
                gate.update(ready, Some(2), at(seconds)),
                is_open,
                "{seconds}"
            );
            assert_eq!(gate.poll_timeout(), timeout, "{seconds}");
        }
        gate.shut();
        assert!(!gate.update(1, Some(2), at(20)), "the next wake");
    }

    #[test]
    fn no_more_pods_are_awaited_than_there_are_to_be() {
        let mut gate = gate(3, 0);
        gate.shut();
        assert!(!gate.update(1, None, at(1)), "it is not known");
        assert!(!gate.update(1, Some(2), at(1)));
        assert!(gate.update(2, Some(2), at(1)));
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let mut gate = gate(2, 5);
        assert_eq!(gate.explain(1, Some(2)), None);
        gate.shut();
        assert_eq!(gate.explain(0, Some(2)), None, "other reasons are better");
        let few = "1 of the 2 pods are ready that --min-ready waits for";
        assert_eq!(gate.explain(1, Some(2)).as_deref(), Some(few));
        gate.update(2, Some(2), at(1));
        assert!(
            gate.explain(2, Some(2))
                .unwrap()
                .contains("--min-ready-time")
        );
    }
}
