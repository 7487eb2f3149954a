//! [`MinReadyWait`]: delays the first dials after a wake until several pods are ready
//! (`--min-ready`) and have been so for a while (`--min-ready-time`). It is for
//! apps whose first ready pod cannot take all waiting connections, and for apps whose readiness
//! probe succeeds before they can serve clients.
//!
//! Once the condition is met, it stays met until the app sleeps: a rollout of an app that is awake
//! is the Deployment's own affair (`minReadySeconds`).

use std::time::Duration;

use crate::clock::Time;

/// The condition. By default it is one ready pod, and no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinReady {
    /// The number of ready pods, at least 1.
    pub min_ready: u32,
    /// How long so many have been ready.
    pub min_ready_time: Duration,
}

/// The wait of an app: see the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct MinReadyWait {
    condition: MinReady,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Met,
    Waiting {
        /// Since when so many pods are ready; `None` if they are not.
        ready_since: Option<Time>,
    },
}

impl Default for MinReady {
    fn default() -> Self {
        MinReady {
            min_ready: 1,
            min_ready_time: Duration::ZERO,
        }
    }
}

impl MinReadyWait {
    /// The wait of an app that is awake, as far as is known.
    pub fn new(condition: MinReady) -> Self {
        MinReadyWait {
            condition,
            state: State::Met,
        }
    }

    /// Replaces the condition.
    pub fn set_condition(&mut self, condition: MinReady) {
        self.condition = condition;
    }

    /// The app sleeps: the next wake waits for the condition.
    pub fn restart(&mut self) {
        if self.condition != MinReady::default() {
            self.state = State::Waiting { ready_since: None };
        }
    }

    /// Whether pods may be dialled, of which `ready` are ready. `replicas` is the number that
    /// the app has been scaled to, if that is known: more pods are never awaited.
    pub fn update(&mut self, ready: usize, replicas: Option<u32>, now: Time) -> bool {
        let State::Waiting { ready_since } = self.state else {
            return ready > 0;
        };
        let wanted = self.wanted(replicas);
        let is_ready = ready >= wanted as usize;
        let since = is_ready.then(|| ready_since.unwrap_or(now));
        let is_over = since.is_some_and(|since| since + self.condition.min_ready_time <= now);
        self.state = match is_over {
            true => State::Met,
            false => State::Waiting { ready_since: since },
        };
        is_over
    }

    /// When the condition is met though nothing happens.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Met => None,
            State::Waiting { ready_since } => Some(ready_since? + self.condition.min_ready_time),
        }
    }

    /// Why pods that are ready are not dialled, in words.
    pub fn explain(&self, ready: usize, replicas: Option<u32>) -> Option<String> {
        let State::Waiting { ready_since } = self.state else {
            return None;
        };
        let wanted = self.wanted(replicas);
        match ready_since {
            None if ready > 0 => Some(format!(
                "--min-ready waits for {wanted} ready pods, and {ready} are ready"
            )),
            None => None,
            Some(_) => Some("the pods have been ready for less than --min-ready-time".to_owned()),
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

    fn wait(min_ready: u32, seconds: u64) -> MinReadyWait {
        MinReadyWait::new(MinReady {
            min_ready,
            min_ready_time: Duration::from_secs(seconds),
        })
    }

    #[test]
    fn without_a_condition_one_ready_pod_is_enough() {
        let mut wait = MinReadyWait::new(MinReady::default());
        wait.restart();
        assert!(!wait.update(0, Some(3), at(1)));
        assert!(wait.update(1, Some(3), at(1)));
        assert_eq!(wait.poll_timeout(), None);
    }

    #[test]
    fn after_a_sleep_it_opens_when_enough_pods_have_been_ready_for_long_enough() {
        let mut wait = wait(2, 5);
        assert!(wait.update(1, Some(2), at(0)), "it was awake at the start");
        wait.restart();
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
                wait.update(ready, Some(2), at(seconds)),
                is_open,
                "{seconds}"
            );
            assert_eq!(wait.poll_timeout(), timeout, "{seconds}");
        }
        wait.restart();
        assert!(!wait.update(1, Some(2), at(20)), "the next wake");
    }

    #[test]
    fn no_more_pods_are_awaited_than_there_are_to_be() {
        let mut wait = wait(3, 0);
        wait.restart();
        assert!(!wait.update(1, None, at(1)), "it is not known");
        assert!(!wait.update(1, Some(2), at(1)));
        assert!(wait.update(2, Some(2), at(1)));
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let mut wait = wait(2, 5);
        assert_eq!(wait.explain(1, Some(2)), None);
        wait.restart();
        assert_eq!(wait.explain(0, Some(2)), None, "other reasons are better");
        let few = "--min-ready waits for 2 ready pods, and 1 are ready";
        assert_eq!(wait.explain(1, Some(2)).as_deref(), Some(few));
        wait.update(2, Some(2), at(1));
        assert!(
            wait.explain(2, Some(2))
                .unwrap()
                .contains("--min-ready-time")
        );
    }
}
