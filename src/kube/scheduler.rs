//! The [`Scheduler`] assigns requests to the two workers. It is a pure state machine, so that
//! its rule is tested without threads.
//!
//! A write that has no reply after a second is sent on the other connection as well
//! ([`Request::repetition`]): the first connection may be dead, and connections may be held
//! until it is answered. They are for each kind of write: for a wake; for a write of zero or
//! the renewal before it, when they come as the app falls asleep; for a renewal, which they
//! would go without if it took two seconds. The first reply that shows the scale is reported.
//! A read is not repeated. One for which connections wait follows a reply, so that its
//! connection has just worked, and is given up after five seconds.

use std::time::Duration;

use crate::clock::Time;
use crate::cluster::{Outcome, Request};

/// How long an urgent request waits for a read in progress, before it supersedes the read. A
/// healthy server answers sooner, and then the connection is kept.
pub(super) const PREEMPT_READ_AFTER: Duration = Duration::from_millis(4);

/// How long any other request must be in progress before the next one supersedes it. The
/// policy makes one request at a time: a further request means that it has given up the
/// one in progress, which it does after five seconds at the earliest.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// How long a write is in progress before it is sent on the other connection as well.
const REPEATED_AFTER: Duration = Duration::from_secs(1);

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
    /// The request, if it may be sent once more.
    repeatable: Option<Job>,
    repetition: Repetition,
}

/// Whether a request is sent on both connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repetition {
    /// It is not.
    No,
    /// It is, and the other one is in progress, unless that is superseded.
    Both,
    /// It was, and the other one has failed. That one may have been applied (`true`).
    OtherFailed(bool),
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
    /// Execute the request, and first cancel the call of the other worker if `cancel_other`.
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
            return self.repeat(worker, now);
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
            repeatable: job.repeatable(),
            repetition: Repetition::No,
        });
        Action::Execute { job, cancel_other }
    }

    /// The action of `worker` while no request waits: sends the write of the other worker too,
    /// once that has been in progress for long enough.
    fn repeat(&mut self, worker: Worker, now: Time) -> Action {
        let Some(other) = &mut self.out[1 - worker] else {
            return Action::Wait(None);
        };
        if other.superseded || other.repeatable.is_none() {
            return Action::Wait(None);
        }
        let patience = REPEATED_AFTER.saturating_sub(now.since(other.since));
        if !patience.is_zero() {
            return Action::Wait(Some(patience));
        }
        let Some(job) = other.repeatable.take() else {
            return Action::Wait(None);
        };
        other.repetition = Repetition::Both;
        self.active = worker;
        self.out[worker] = Some(Out {
            urgent: true,
            since: now,
            superseded: false,
            repeatable: None,
            repetition: Repetition::Both,
        });
        Action::Execute {
            job,
            cancel_other: false,
        }
    }

    /// Supersedes a request that is in progress on both connections; returns whether there was
    /// one. Without an idle worker, nothing else would do so for the next request.
    pub(super) fn give_up_both(&mut self) -> bool {
        let is_both = |out: &Option<Out>| {
            let repetition = out.as_ref().map(|out| out.repetition);
            repetition == Some(Repetition::Both)
        };
        let gives_up = self.out.iter().all(is_both);
        if gives_up {
            self.out
                .iter_mut()
                .flatten()
                .for_each(|out| out.superseded = true);
        }
        gives_up
    }

    /// Whether the reply to the request of `worker` may have to be reported.
    pub(super) fn is_wanted(&self, worker: Worker) -> bool {
        let out = self.out[worker].as_ref();
        out.is_some_and(|out| !out.superseded)
    }

    /// `worker` has finished with that outcome; returns the outcome to report, if any.
    pub(super) fn done(&mut self, worker: Worker, outcome: Outcome) -> Option<Outcome> {
        let out = self.out[worker].take().filter(|out| !out.superseded)?;
        let other = self.out[1 - worker].as_mut();
        let is_shown = matches!(outcome, Outcome::Scale(_));
        match (out.repetition, other) {
            (Repetition::Both, Some(other)) if is_shown => {
                other.superseded = true;
                Some(outcome)
            }
            // The other one may be what the object has changed by.
            (Repetition::Both, Some(other)) if outcome == Outcome::Conflict => {
                other.superseded = true;
                Some(UNKNOWN)
            }
            (Repetition::Both, Some(other)) => {
                let is_unknown = matches!(outcome, Outcome::Unknown { .. });
                other.repetition = Repetition::OtherFailed(is_unknown);
                None
            }
            (Repetition::OtherFailed(true), _) if !is_shown => Some(UNKNOWN),
            _ => Some(outcome),
        }
    }
}

const UNKNOWN: Outcome = Outcome::Unknown { retry_after: None };

impl Job {
    /// What is sent on the other connection if this has no reply.
    fn repeatable(&self) -> Option<Job> {
        let id = self.id;
        let repetition = self.request.repetition();
        repetition.map(|request| Job { id, request })
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
    use crate::cluster::{LeaseStore, Renewal, ResourceVersion, Scale};

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

    /// Whether the reply of `worker` is reported.
    fn done(scheduler: &mut Scheduler, worker: Worker) -> bool {
        scheduler.done(worker, shown()).is_some()
    }

    fn shown() -> Outcome {
        Outcome::Scale(Scale::of(1, "10296"))
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
        assert!(done(&mut scheduler, 0));
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
            assert!(!done(&mut scheduler, 0), "the read is superseded");
            assert!(done(&mut scheduler, 1));
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
                assert!(!done(&mut scheduler, 0), "{label}");
                assert!(done(&mut scheduler, 1), "{label}");
            }
        }
    }

    #[test]
    fn while_a_superseded_read_lingers_its_successor_goes_on() {
        let mut scheduler = scheduler_with(Request::Read);
        take(&mut scheduler, 0, 0);
        put(&mut scheduler, 2, write());
        assert_eq!(take(&mut scheduler, 1, 50), Some((2, true)));
        assert!(done(&mut scheduler, 1));
        put(&mut scheduler, 3, Request::Read);
        assert_eq!(take(&mut scheduler, 1, 60), Some((3, false)));
    }

    #[test]
    fn a_write_without_a_reply_for_a_second_is_sent_on_the_other_connection_too() {
        let to_zero = Request::WriteScale {
            replicas: 0,
            guard: ResourceVersion("10295".into()),
        };
        for (label, request, is_repeated) in [
            ("a wake", write(), true),
            ("a sleep", to_zero, true),
            ("a renewal", renewal(), true),
            ("a read", Request::Read, false),
        ] {
            let mut scheduler = scheduler_with(request);
            assert_eq!(take(&mut scheduler, 0, 0), Some((1, false)), "{label}");
            let action = scheduler.next_action(1, Time::from_millis(999));
            let left = is_repeated.then_some(Duration::from_millis(1));
            assert_eq!(action, Action::Wait(left), "{label}");
            let repeated = is_repeated.then_some((1, false));
            assert_eq!(take(&mut scheduler, 1, 1000), repeated, "{label}");
            assert!(
                done(&mut scheduler, 0),
                "{label}: the first may reply as well"
            );
            assert_eq!(
                take(&mut scheduler, 0, 3000),
                None,
                "{label}: not once more"
            );
        }
    }

    #[test]
    fn of_two_replies_to_a_write_the_one_that_shows_the_scale_is_reported() {
        let (conflict, busy) = (Outcome::Conflict, Outcome::Busy { retry_after: None });
        for (label, first, reported, second, last) in [
            ("applied", shown(), Some(shown()), conflict.clone(), None),
            (
                "by the other one, perhaps",
                conflict.clone(),
                Some(UNKNOWN),
                shown(),
                None,
            ),
            (
                "refused, then applied",
                busy.clone(),
                None,
                shown(),
                Some(shown()),
            ),
            (
                "refused twice",
                busy.clone(),
                None,
                busy.clone(),
                Some(busy.clone()),
            ),
            (
                "perhaps applied, then not",
                UNKNOWN,
                None,
                conflict.clone(),
                Some(UNKNOWN),
            ),
            (
                "refused, then too late",
                busy,
                None,
                conflict.clone(),
                Some(conflict),
            ),
        ] {
            for workers in [[0, 1], [1, 0]] {
                let mut scheduler = scheduler_with(write());
                take(&mut scheduler, 0, 0);
                take(&mut scheduler, 1, 1000);
                let [one, other] = workers;
                assert_eq!(scheduler.done(one, first.clone()), reported, "{label}");
                assert_eq!(scheduler.is_wanted(other), reported.is_none(), "{label}");
                assert_eq!(scheduler.done(other, second.clone()), last, "{label}");
            }
        }
    }

    #[test]
    fn a_write_that_hangs_on_both_connections_is_given_up_for_the_next_request() {
        let mut scheduler = scheduler_with(write());
        take(&mut scheduler, 0, 0);
        assert!(!scheduler.give_up_both(), "a worker is idle");
        take(&mut scheduler, 1, 1000);
        put(&mut scheduler, 2, Request::Read);
        assert!(scheduler.give_up_both());
        assert!(!done(&mut scheduler, 0));
        assert_eq!(take(&mut scheduler, 0, 5000), Some((2, false)));
    }
}
