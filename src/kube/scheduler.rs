//! [`Scheduler`]: which of the two workers executes which request, and when. A pure
//! state machine, so that the rule is tested without threads.

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::Request;

/// How long an urgent request waits for a read that is out, before it
/// supersedes it. A healthy server answers sooner, and its connection is worth
/// keeping; but somebody waits for what is urgent.
pub(super) const PREEMPT_READ_AFTER: Duration = Duration::from_millis(4);

/// How long anything else must be out before what waits supersedes it. The policy asks
/// for one thing at a time: if it asks for another, it has given up what is out, which
/// it does after five seconds at the soonest.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// Two workers, of which one works and the other stands by.
pub(super) type Worker = usize;
pub(super) const WORKERS: usize = 2;

/// A request on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) request: Request,
}

/// A request that a worker is at.
#[derive(Debug)]
struct Out {
    urgent: bool,
    since: Time,
    /// Another request has gone past it: its end interests nobody.
    superseded: bool,
}

/// What is to be done, and who is at what.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    pub(super) waiting: Option<Job>,
    out: [Option<Out>; WORKERS],
    /// Whose connection is warm.
    active: Worker,
    pub(super) closed: bool,
}

/// What a worker is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Execute this; and first, if so said, cancel what the other one is at.
    Execute { job: Job, cancel_other: bool },
    /// Wait for a change, at most so long.
    Wait(Option<Duration>),
    /// There is nothing more to do, ever.
    End,
}

impl Scheduler {
    /// What `worker`, who is at nothing, is to do.
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

    /// `worker` is done; whether its reply is to be given.
    pub(super) fn done(&mut self, worker: Worker) -> bool {
        let out = self.out[worker].take();
        out.is_some_and(|out| !out.superseded)
    }
}

/// Whether somebody may wait for it: a write is a cold start, and without a
/// renewal nobody who has just come is let through.
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
