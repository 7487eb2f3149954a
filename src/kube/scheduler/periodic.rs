//! What a worker does beside the requests, at an interval (see [the scheduler](super)).

use std::time::Duration;

use super::{Assignment, Scheduler, Worker};
use crate::clock::Time;

/// What a worker does beside the requests, at an interval.
#[derive(Debug)]
pub(super) struct PeriodicTask {
    every: Duration,
    due: Time,
}

impl Scheduler {
    /// Sets the interval of what is done beside the requests ([`Assignment::PeriodicTask`]).
    pub(in crate::kube) fn set_periodic_task(&mut self, every: Duration, now: Time) {
        let due = now + every;
        self.periodic_task = Some(PeriodicTask { every, due });
    }

    /// The action of `worker`, which has no request to take, also not soon. The worker that is
    /// given the next request runs no periodic task, unless the other one is at work.
    pub(super) fn periodic_task(&mut self, worker: Worker, now: Time) -> Assignment {
        let is_next = self.active == worker && self.in_flight[1 - worker].is_none();
        if self.periodic_task.is_none() {
            return self.rest(worker, now);
        }
        let Some(task) = self.periodic_task.as_mut().filter(|_| !is_next) else {
            return Assignment::Wait(None);
        };
        if task.due <= now {
            task.due = now + task.every;
            return Assignment::PeriodicTask;
        }
        Assignment::Wait(Some(task.due.since(now)))
    }
}
