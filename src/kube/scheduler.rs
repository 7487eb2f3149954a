//! The [`Scheduler`] assigns requests to the two workers. It is a pure state machine, so that
//! its rule is tested without threads.

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::Request;

/// How long an urgent request waits for a read in progress, before it supersedes the read. A
/// healthy server answers sooner, and then the connection is kept.
pub(super) const PREEMPT_READ_AFTER: Duration = Duration::from_millis(4);

/// How long any other request must be in progress before the next one supersedes it. The
/// policy makes one request at a time: a further request means that it has given up the
/// one in progress, which it does after five seconds at the earliest.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// One of two workers; usually one works and the other is a spare.
pub(super) type Worker = usize;
pub(super) const WORKERS: usize = 2;

/// A request with its number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) request: Request,
}

/// A request that a worker is executing.
#[derive(Debug)]
struct Out {
    urgent: bool,
    since: Time,
    /// Whether another request has superseded it: its outcome is not reported.
    superseded: bool,
}

/// The request that waits, and the requests in progress.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    pub(super) waiting: Option<Job>,
    out: [Option<Out>; WORKERS],
    /// The worker with the open connection.
    active: Worker,
    pub(super) closed: bool,
}

/// The next action of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Execute the request, and first cancel the call of the other worker if told so.
    Execute { job: Job, cancel_other: bool },
    /// Wait for a change, at most for this time.
    Wait(Option<Duration>),
    /// End: the queue is closed.
    End,
}

impl Scheduler {
    /// The next action of `worker`, which is idle.
    pub(super) fn next_action(&mut self, worker: Worker, now: Time) -> Action {
        if self.closed {
            return Action::End;
        }
        let Some(job) = &self.waiting else {
            return Action::Wait(None);
        };
        let mut cancel_other = false;
        match &mut self.out[1 - worker] {
            None if self.active != worker => return Action::Wait(None),
            None => {}
            Some(other) if other.superseded => {}
            Some(other) => {
                let patience = if is_urgent(&job.request) && !other.urgent {
                    PREEMPT_READ_AFTER
                } else {
                    GIVEN_UP_AFTER
                };
                let patience = patience.saturating_sub(now.since(other.since));
                if !patience.is_zero() {
                    return Action::Wait(Some(patience));
                }
                other.superseded = true;
                cancel_other = true;
            }
        }
        self.begin(worker, now, cancel_other)
    }

    fn begin(&mut self, worker: Worker, now: Time, cancel_other: bool) -> Action {
        let Some(job) = self.waiting.take() else {
            return Action::Wait(None);
        };
        self.active = worker;
        self.out[worker] = Some(Out {
            urgent: is_urgent(&job.request),
            since: now,
            superseded: false,
        });
        Action::Execute { job, cancel_other }
    }

    /// `worker` has finished; returns whether its reply is to be reported.
    pub(super) fn done(&mut self, worker: Worker) -> bool {
        let out = self.out[worker].take();
        out.is_some_and(|out| !out.superseded)
    }
}

/// Whether connections may wait for it: a write may be a wake, and without a renewal the
/// connections that have just come are held.
fn is_urgent(request: &Request) -> bool {
    !request.is_read()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{LeaseStore, Renewal, ResourceVersion};

    fn write() -> Request {
        Request::WriteScale {
            replicas: 1,
            guard: ResourceVersion("10295".into()),
        }
    }

    fn renewal() -> Request {
        Request::RenewLease(Renewal {
            nonce: 1,
            ttl: Duration::from_secs(300),
            in_use: true,
            keep_replicas: None,
            guard: None,
            store: LeaseStore::Status,
        })
    }

    fn put(scheduler: &mut Scheduler, id: u64, request: Request) {
        scheduler.waiting = Some(Job { id, request });
    }

    fn scheduler_with(request: Request) -> Scheduler {
        let mut scheduler = Scheduler::default();
        put(&mut scheduler, 1, request);
        scheduler
    }

    fn take(scheduler: &mut Scheduler, worker: Worker, ms: u64) -> Option<(u64, bool)> {
        match scheduler.next_action(worker, Time::from_millis(ms)) {
            Action::Execute { job, cancel_other } => Some((job.id, cancel_other)),
            _ => None,
        }
    }

    #[test]
    fn the_worker_with_the_warm_connection_works_and_the_other_stands_by() {
        let mut scheduler = scheduler_with(Request::Read);
        assert_eq!(
            scheduler.next_action(1, Time::from_millis(0)),
            Action::Wait(None)
        );
        assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
        assert!(scheduler.done(0));
    }

    #[test]
    fn what_is_urgent_waits_4_ms_for_a_read_and_then_supersedes_it() {
        for urgent in [write(), renewal()] {
            let mut scheduler = scheduler_with(Request::Read);
            assert_eq!(take(&mut scheduler, 0, 100), Some((1, false)));
            put(&mut scheduler, 2, urgent);
            let left = Some(Duration::from_millis(1));
            assert_eq!(
                scheduler.next_action(1, Time::from_millis(103)),
                Action::Wait(left)
            );
            assert_eq!(take(&mut scheduler, 1, 104), Some((2, true)));
            assert!(!scheduler.done(0), "the read is superseded");
            assert!(scheduler.done(1));
            put(&mut scheduler, 3, Request::Read);
            let moved = take(&mut scheduler, 0, 160);
            assert_eq!(moved, None, "the warm connection is the other's");
            assert_eq!(take(&mut scheduler, 1, 160), Some((3, false)));
        }
    }

    #[test]
    fn what_was_given_up_is_superseded_after_a_second_by_whatever_comes() {
        let all = [Request::Read, write(), renewal()];
        for out in all.clone() {
            for waiting in all.clone() {
                if out == Request::Read && waiting != Request::Read {
                    continue;
                }
                let label = format!("{waiting:?} behind {out:?}");
                let mut scheduler = scheduler_with(out.clone());
                assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)));
                put(&mut scheduler, 2, waiting.clone());
                let action = scheduler.next_action(1, Time::from_millis(999));
                let left = Some(Duration::from_millis(1));
                assert_eq!(action, Action::Wait(left), "{label}");
                assert_eq!(take(&mut scheduler, 1, 1000), Some((2, true)), "{label}");
                assert!(!scheduler.done(0), "{label}");
                assert!(scheduler.done(1), "{label}");
            }
        }
    }

    #[test]
    fn while_a_superseded_read_lingers_its_successor_goes_on() {
        let mut scheduler = scheduler_with(Request::Read);
        take(&mut scheduler, 0, 0);
        put(&mut scheduler, 2, write());
        assert_eq!(take(&mut scheduler, 1, 50), Some((2, true)));
        assert!(scheduler.done(1));
        put(&mut scheduler, 3, Request::Read);
        assert_eq!(take(&mut scheduler, 1, 60), Some((3, false)));
    }
}
