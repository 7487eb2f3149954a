//! The [`Scheduler`] assigns the requests of all apps to the two workers. It is a pure state
//! machine, so that its rules are tested without threads.
//!
//! An app has at most one request that waits; a newer one replaces it. Requests of apps
//! whose connections wait come first, then writes and renewals, then reads; among equals the
//! oldest.
//!
//! One worker executes them, on its open connection. The other one is a spare, which takes
//! over while the first is at work:
//! - a request of the same app. The policy makes one at a time, so that it has given up the
//!   one in progress, which is superseded: after 4 ms if that is a read and the new one is
//!   urgent, else after a second;
//! - after 4 ms, a request of another app for which somebody waits, and a write or a renewal.
//!   Other reads never occupy both workers, so that no number of them that hang is in the way
//!   of a wake.
//!
//! A write that has no reply after a second is sent on the other connection as well
//! ([`Request::repetition`]): the first connection may be dead, and connections may be held
//! until it is answered. They are for each kind of write: for a wake; for a write of zero or
//! the renewal before it, when they come as the app falls asleep; for a renewal, which they
//! would go without if it took two seconds. The first reply that shows the scale is reported.
//! A read is not hedged. One for which connections wait follows a reply, so that its
//! connection has just worked, and is given up after five seconds.
//!
//! Reads of apps whose last request was refused or found no object, and for which nobody waits,
//! share a pace: each of hundreds of apps without a Role is asked for less often than one is.
//!
//! A worker that has nothing to execute also does a *periodic task* at an interval, such as to look at
//! a file: the worker that would not be given the next request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Time;
use crate::cluster::{Outcome, Request};

/// How long an urgent request waits for a read in progress, before it supersedes the read; and
/// for a request of another app, before the spare worker takes it. A healthy server answers
/// sooner, and then one connection is enough.
pub(super) const PREEMPT_READ_AFTER: Duration = Duration::from_millis(4);

/// How long any other request must be in progress before the next one of its app supersedes
/// it. The policy makes one request at a time: a further request means that it has given up
/// the one in progress, which it does after five seconds at the earliest.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// How long a write is in progress before it is sent on the other connection as well.
const HEDGE_AFTER: Duration = Duration::from_secs(1);

/// The interval of reads of all apps that are refused, or whose object does not exist,
const REFUSED_INTERVAL: Duration = Duration::from_secs(1);
/// and how many more of them come without a pause: those of a few apps do not wait.
const REFUSED_BURST: u32 = 9;

/// One of two workers; usually one works and the other is a spare.
pub(super) type Worker = usize;
pub(super) const WORKERS: usize = 2;

/// The number of an app, which no other app ever has.
pub(super) type AppKey = u64;

/// A request of an app, with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) app: AppKey,
    pub(super) id: u64,
    pub(super) request: Request,
}

/// A request that a worker is executing.
#[derive(Debug)]
struct InFlight {
    app: AppKey,
    urgent: bool,
    since: Time,
    /// Whether another request has superseded it: its outcome is not reported.
    superseded: bool,
    /// What is sent on the other connection if this has no reply in time.
    hedge_request: Option<Job>,
    /// The request, if nobody waits for it: one that is urgent preempts it.
    preemptible: Option<Job>,
    hedge: Hedge,
}

/// Whether a request is sent on both connections, as a hedged request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hedge {
    /// It is not.
    No,
    /// It is, and the other one is in progress, unless that is superseded.
    Sent,
    /// It was, and the other one has failed. That one may have been applied (`true`).
    OtherFailed(bool),
}

/// The requests that wait, and the requests in progress.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// The request of each app that has one, with its position in the order in which they came.
    waiting: BTreeMap<AppKey, (u64, Job)>,
    sequence: u64,
    /// The apps whose connections wait.
    awaited: BTreeSet<AppKey>,
    in_flight: [Option<InFlight>; WORKERS],
    /// The worker with the open connection.
    active: Worker,
    periodic_task: Option<PeriodicTask>,
    /// The apps whose last request was refused, or has found no object.
    refused: BTreeSet<AppKey>,
    /// When reads of those would be due if each had come after the interval.
    refused_due: Time,
    pub(super) closed: bool,
}

/// What a worker does beside the requests, at an interval.
#[derive(Debug)]
struct PeriodicTask {
    every: Duration,
    due: Time,
}

/// The next action of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Assignment {
    /// Execute the request, and first cancel the call of the other worker if `cancel_other`.
    Execute { job: Job, cancel_other: bool },
    /// Do what is done beside the requests.
    PeriodicTask,
    /// Wait for a change, at most for this time.
    Wait(Option<Duration>),
    /// End: the queue is closed.
    End,
}

/// When a worker may take a request.
enum Eligibility {
    Now {
        supersedes_other: bool,
    },
    After(Duration),
    /// Only after a change.
    Later,
}

impl Scheduler {
    /// Adds a request, in place of one of its app that still waits. Returns the workers whose
    /// calls are to be cancelled.
    pub(super) fn put(&mut self, job: Job) -> [bool; WORKERS] {
        self.sequence += 1;
        let position = self.sequence;
        let waiting = self.waiting.entry(job.app);
        waiting
            .and_modify(|(_, waiting)| waiting.clone_from(&job))
            .or_insert((position, job));
        self.preempt()
    }

    /// Sets whether connections of an app wait; returns what [`Scheduler::put`] does.
    pub(super) fn set_awaited(&mut self, app: AppKey, is_awaited: bool) -> [bool; WORKERS] {
        match is_awaited {
            true => self.awaited.insert(app),
            false => self.awaited.remove(&app),
        };
        self.preempt()
    }

    /// Whether connections of an app wait.
    pub(super) fn is_awaited(&self, app: AppKey) -> bool {
        self.awaited.contains(&app)
    }

    /// Whether a request of an app waits.
    pub(super) fn has_unsent(&self, app: AppKey) -> bool {
        self.waiting.contains_key(&app)
    }

    /// Forgets an app. A request of it that is in progress comes to its end.
    pub(super) fn remove(&mut self, app: AppKey) {
        self.waiting.remove(&app);
        self.awaited.remove(&app);
        self.refused.remove(&app);
        for call in self
            .in_flight
            .iter_mut()
            .flatten()
            .filter(|call| call.app == app)
        {
            call.hedge_request = None;
            call.preemptible = None;
        }
    }

    /// The next action of `worker`, which is idle.
    pub(super) fn next_assignment(&mut self, worker: Worker, now: Time) -> Assignment {
        if self.closed {
            return Assignment::End;
        }
        let mut soonest: Option<Duration> = None;
        let mut supersedes_soon = false;
        for app in self.in_order() {
            match self.eligibility(app, worker, now) {
                Eligibility::Now { supersedes_other } => {
                    return self.begin(app, worker, supersedes_other, now);
                }
                Eligibility::After(delay) => {
                    soonest = Some(soonest.map_or(delay, |other| other.min(delay)));
                    supersedes_soon |= self.is_executed(app, 1 - worker);
                }
                Eligibility::Later => {}
            }
        }
        if supersedes_soon {
            return Assignment::Wait(soonest);
        }
        match self.hedge(worker, now) {
            Assignment::Wait(delay) => match soonest.into_iter().chain(delay).min() {
                None => self.periodic_task(worker, now),
                soon => Assignment::Wait(soon),
            },
            hedged => hedged,
        }
    }

    /// Sets the interval of what is done beside the requests ([`Assignment::PeriodicTask`]).
    pub(super) fn set_periodic_task(&mut self, every: Duration, now: Time) {
        let due = now + every;
        self.periodic_task = Some(PeriodicTask { every, due });
    }

    /// The action of `worker`, which has no request to take, also not soon. The worker that is
    /// given the next request runs no periodic task, unless the other one is at work.
    fn periodic_task(&mut self, worker: Worker, now: Time) -> Assignment {
        let is_next = self.active == worker && self.in_flight[1 - worker].is_none();
        let Some(task) = self.periodic_task.as_mut().filter(|_| !is_next) else {
            return Assignment::Wait(None);
        };
        if task.due <= now {
            task.due = now + task.every;
            return Assignment::PeriodicTask;
        }
        Assignment::Wait(Some(task.due.since(now)))
    }

    /// The apps whose requests wait, by their turn.
    fn in_order(&self) -> Vec<AppKey> {
        let rank = |job: &Job| match self.is_awaited(job.app) {
            true => 0,
            false => 1 + u8::from(!is_urgent(&job.request)),
        };
        let waiting = self.waiting.values();
        let mut ranked: Vec<_> = waiting
            .map(|(position, job)| (rank(job), *position, job.app))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, app)| app).collect()
    }

    /// When `worker`, which is idle, may take the request of `app`.
    fn eligibility(&self, app: AppKey, worker: Worker, now: Time) -> Eligibility {
        let now_without_superseding = Eligibility::Now {
            supersedes_other: false,
        };
        let Some((_, job)) = self.waiting.get(&app) else {
            return Eligibility::Later;
        };
        let other = match &self.in_flight[1 - worker] {
            None if self.active != worker => return Eligibility::Later,
            None if self.is_paced(job) => return self.paced_eligibility(now),
            None => return now_without_superseding,
            Some(other) if other.superseded => return now_without_superseding,
            Some(other) => other,
        };
        let is_own = other.app == app;
        if !is_own && self.is_low_priority(job) {
            return Eligibility::Later;
        }
        let delay = match is_own && (other.urgent || !is_urgent(&job.request)) {
            true => GIVEN_UP_AFTER,
            false => PREEMPT_READ_AFTER,
        };
        let delay = delay.saturating_sub(now.since(other.since));
        match delay.is_zero() {
            true => Eligibility::Now {
                supersedes_other: is_own,
            },
            false => Eligibility::After(delay),
        }
    }

    /// Whether a request is one for which nobody waits.
    fn is_low_priority(&self, job: &Job) -> bool {
        !is_urgent(&job.request) && !self.is_awaited(job.app)
    }

    /// Whether a request waits for the pace of those that are refused.
    fn is_paced(&self, job: &Job) -> bool {
        self.is_low_priority(job) && self.refused.contains(&job.app)
    }

    fn paced_eligibility(&self, now: Time) -> Eligibility {
        let at = self.refused_due - REFUSED_INTERVAL * REFUSED_BURST;
        match at <= now {
            true => Eligibility::Now {
                supersedes_other: false,
            },
            false => Eligibility::After(at.since(now)),
        }
    }

    fn is_executed(&self, app: AppKey, worker: Worker) -> bool {
        let call = self.in_flight[worker].as_ref();
        call.is_some_and(|call| call.app == app)
    }

    fn begin(
        &mut self,
        app: AppKey,
        worker: Worker,
        supersedes_other: bool,
        now: Time,
    ) -> Assignment {
        let Some((_, job)) = self.waiting.remove(&app) else {
            return Assignment::Wait(None);
        };
        if supersedes_other && let Some(other) = &mut self.in_flight[1 - worker] {
            other.superseded = true;
        }
        if self.is_paced(&job) {
            self.refused_due = self.refused_due.max(now) + REFUSED_INTERVAL;
        }
        self.active = worker;
        self.in_flight[worker] = Some(InFlight {
            app,
            urgent: is_urgent(&job.request),
            since: now,
            superseded: false,
            hedge_request: job.hedge_request(),
            preemptible: self.is_low_priority(&job).then(|| job.clone()),
            hedge: Hedge::No,
        });
        Assignment::Execute {
            job,
            cancel_other: supersedes_other,
        }
    }

    /// The action of `worker` while it may take no request: sends the write of the other worker
    /// too, once that has been in progress for long enough.
    fn hedge(&mut self, worker: Worker, now: Time) -> Assignment {
        let Some(other) = &mut self.in_flight[1 - worker] else {
            return Assignment::Wait(None);
        };
        if other.superseded || other.hedge_request.is_none() {
            return Assignment::Wait(None);
        }
        let delay = HEDGE_AFTER.saturating_sub(now.since(other.since));
        if !delay.is_zero() {
            return Assignment::Wait(Some(delay));
        }
        let Some(job) = other.hedge_request.take() else {
            return Assignment::Wait(None);
        };
        other.hedge = Hedge::Sent;
        self.active = worker;
        self.in_flight[worker] = Some(InFlight {
            app: job.app,
            urgent: true,
            since: now,
            superseded: false,
            hedge_request: None,
            preemptible: None,
            hedge: Hedge::Sent,
        });
        Assignment::Execute {
            job,
            cancel_other: false,
        }
    }

    /// Frees a worker for a request that would otherwise wait for both of them; returns whose
    /// calls are to be cancelled. Without an idle worker, nothing else would.
    fn preempt(&mut self) -> [bool; WORKERS] {
        let [Some(one), Some(two)] = &self.in_flight else {
            return [false; WORKERS];
        };
        if one.superseded || two.superseded {
            return [false; WORKERS];
        }
        let is_one_write = [one, two].map(|call| call.hedge) == [Hedge::Sent; WORKERS];
        let first = usize::from(two.since < one.since);
        let urgent = self.first_urgent();
        if is_one_write && self.waiting.contains_key(&one.app) {
            // The app has given up its write.
            return self.supersede([true; WORKERS]);
        }
        if urgent.is_none() {
            return [false; WORKERS];
        }
        if is_one_write {
            return self.supersede([first == 0, first == 1]);
        }
        let reads = [one, two].map(|call| call.preemptible.is_some() && urgent != Some(call.app));
        match reads {
            [true, _] => self.requeue(0),
            [false, true] => self.requeue(1),
            [false, false] => [false; WORKERS],
        }
    }

    /// Supersedes one of the calls of a write that is sent on both connections, or both calls.
    fn supersede(&mut self, superseded: [bool; WORKERS]) -> [bool; WORKERS] {
        for (call, superseded) in self.in_flight.iter_mut().flatten().zip(superseded) {
            call.superseded = superseded;
            // The call that is cancelled may have been applied.
            call.hedge = Hedge::OtherFailed(true);
        }
        superseded
    }

    /// The routine read that `worker` executes waits again.
    fn requeue(&mut self, worker: Worker) -> [bool; WORKERS] {
        if let Some(call) = &mut self.in_flight[worker] {
            call.superseded = true;
            if let Some(job) = call.preemptible.take() {
                self.sequence += 1;
                let position = self.sequence;
                self.waiting.entry(job.app).or_insert((position, job));
            }
        }
        [worker == 0, worker == 1]
    }

    /// The app of the first request that is no routine.
    fn first_urgent(&self) -> Option<AppKey> {
        let first = *self.in_order().first()?;
        let (_, job) = self.waiting.get(&first)?;
        (!self.is_low_priority(job)).then_some(first)
    }

    /// Whether the reply to the request of `worker` may have to be reported.
    pub(super) fn is_wanted(&self, worker: Worker) -> bool {
        let call = self.in_flight[worker].as_ref();
        call.is_some_and(|call| !call.superseded)
    }

    /// `worker` has finished with that outcome; returns the outcome to report, if any.
    pub(super) fn done(&mut self, worker: Worker, outcome: Outcome) -> Option<Outcome> {
        let call = self.in_flight[worker]
            .take()
            .filter(|call| !call.superseded)?;
        match outcome {
            Outcome::Forbidden | Outcome::NotFound => self.refused.insert(call.app),
            Outcome::Scale(_) => self.refused.remove(&call.app),
            _ => false,
        };
        let other = self.in_flight[1 - worker].as_mut();
        let is_shown = matches!(outcome, Outcome::Scale(_));
        match (call.hedge, other) {
            (Hedge::Sent, Some(other)) if is_shown => {
                other.superseded = true;
                Some(outcome)
            }
            // The other one may be what the object has changed by.
            (Hedge::Sent, Some(other)) if outcome == Outcome::Conflict => {
                other.superseded = true;
                Some(UNKNOWN)
            }
            (Hedge::Sent, Some(other)) => {
                let is_unknown = matches!(outcome, Outcome::Unknown { .. });
                other.hedge = Hedge::OtherFailed(is_unknown);
                None
            }
            (Hedge::OtherFailed(true), _) if !is_shown => Some(UNKNOWN),
            _ => Some(outcome),
        }
    }
}

const UNKNOWN: Outcome = Outcome::Unknown { retry_after: None };

impl Job {
    /// What is sent on the other connection if this has no reply.
    fn hedge_request(&self) -> Option<Job> {
        let (app, id) = (self.app, self.id);
        let hedged = self.request.hedged();
        hedged.map(|request| Job { app, id, request })
    }
}

/// Whether connections may wait for it: a write may be a wake, and without a renewal the
/// connections that have just come are held.
fn is_urgent(request: &Request) -> bool {
    !request.is_read()
}

#[cfg(test)]
mod tests;
