//! Wakes that were given up, and go on beside the workers (see [the scheduler](super)).
//!
//! A wake that is given up is *detached*: it goes on, beside the two workers. A cancelled one would
//! begin anew each time: an API server applies no write whose client has gone, and may need longer
//! for it than the policy waits, for a webhook that does not answer (10 s, if nothing else is set)
//! or a queue (API priority and fairness: 15 s). Its thread and its connection are replaced, so
//! that it keeps no other request waiting, and what its reply shows is reported as what a watch
//! shows. Each app has one such call at most, and all apps [`MAX_DETACHED`]; a further one is
//! cancelled, and so is the second call of a hedged write.

use super::{AppKey, Scheduler, WORKERS, Worker};
use crate::cluster::Request;

/// The most wakes of all apps that were given up and go on: each has a thread and a connection, for
/// as long as the client waits for a reply.
pub(super) const MAX_DETACHED: usize = 8;

/// A worker and its number: a call that is detached leaves its worker to another thread, which has
/// the next number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kube) struct Turn {
    pub(in crate::kube) worker: Worker,
    number: u64,
}

impl Scheduler {
    /// The app has given up its write, if one is in progress: one call of a wake is detached, if it
    /// may be, and others are discarded. Returns the workers whose calls are to be cancelled.
    pub(super) fn give_up_writes_of(&mut self, app: AppKey) -> [bool; WORKERS] {
        let mut cancelled = [false; WORKERS];
        let calls = self.in_flight.iter().enumerate();
        let its = calls.filter_map(|(worker, call)| Some((worker, call.as_ref()?)));
        let its = its.filter(|(_, call)| call.app == app && call.is_write && !call.discarded);
        let mut its: Vec<_> = its.map(|(n, call)| (call.since, n, call.is_wake)).collect();
        its.sort_unstable();
        // The later one is on the other connection, because the first one may be dead.
        for (_, worker, is_wake) in its.into_iter().rev() {
            if is_wake && self.may_detach(app) {
                self.detach(worker);
            } else if let Some(call) = &mut self.in_flight[worker] {
                call.discarded = true;
                cancelled[worker] = true;
            }
        }
        cancelled
    }

    fn may_detach(&self, app: AppKey) -> bool {
        let has_one = self.detached.iter().any(|(_, its)| *its == app);
        !has_one && self.detached.len() < MAX_DETACHED
    }

    fn detach(&mut self, worker: Worker) {
        if let Some(call) = self.in_flight[worker].take() {
            self.detached.push((self.turn(worker), call.app));
            self.turns[worker] += 1;
            self.vacated.push(worker);
        }
    }

    /// The workers that have no thread any more since the last call.
    pub(in crate::kube) fn take_vacated(&mut self) -> Vec<Worker> {
        std::mem::take(&mut self.vacated)
    }

    /// The present turn of a worker.
    pub(in crate::kube) fn turn(&self, worker: Worker) -> Turn {
        Turn {
            worker,
            number: self.turns[worker],
        }
    }

    /// Whether it is not the worker's turn any more: its call was detached.
    pub(in crate::kube) fn is_over(&self, turn: Turn) -> bool {
        self.turn(turn.worker) != turn
    }
}

/// Whether it scales up.
pub(super) fn is_wake(request: &Request) -> bool {
    matches!(request, Request::WriteScale { replicas, .. } if *replicas > 0)
}
