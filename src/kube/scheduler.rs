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
//! A read is not repeated. One for which connections wait follows a reply, so that its
//! connection has just worked, and is given up after five seconds.
//!
//! Reads of apps whose last request was refused or found no object, and for which nobody waits,
//! share a pace: each of hundreds of apps without a Role is asked for less often than one is.
//!
//! A worker that has nothing to execute also does a *chore* at an interval, such as to look at
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
const REPEATED_AFTER: Duration = Duration::from_secs(1);

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
struct Out {
    app: AppKey,
    urgent: bool,
    since: Time,
    /// Whether another request has superseded it: its outcome is not reported.
    superseded: bool,
    /// The request, if it may be sent once more.
    repeatable: Option<Job>,
    /// The request, if nobody waits for it.
    routine: Option<Job>,
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

/// The requests that wait, and the requests in progress.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// The request of each app that has one, with its place in the order in which they came.
    waiting: BTreeMap<AppKey, (u64, Job)>,
    places: u64,
    /// The apps whose connections wait.
    awaited: BTreeSet<AppKey>,
    out: [Option<Out>; WORKERS],
    /// The worker with the open connection.
    active: Worker,
    chore: Option<ChoreTime>,
    /// The apps whose last request was refused, or has found no object.
    refused: BTreeSet<AppKey>,
    /// When reads of those would be due if each had come after the interval.
    refused_due: Time,
    pub(super) closed: bool,
}

/// When what is done beside the requests is due.
#[derive(Debug)]
struct ChoreTime {
    every: Duration,
    due: Time,
}

/// The next action of a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Execute the request, and first cancel the call of the other worker if `cancel_other`.
    Execute { job: Job, cancel_other: bool },
    /// Do what is done beside the requests.
    Chore,
    /// Wait for a change, at most for this time.
    Wait(Option<Duration>),
    /// End: the queue is closed.
    End,
}

/// When a worker may take a request.
enum Turn {
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
        self.places += 1;
        let place = self.places;
        let waiting = self.waiting.entry(job.app);
        waiting
            .and_modify(|(_, waiting)| waiting.clone_from(&job))
            .or_insert((place, job));
        self.make_room()
    }

    /// Sets whether connections of an app wait; returns what [`Scheduler::put`] does.
    pub(super) fn set_awaited(&mut self, app: AppKey, is_awaited: bool) -> [bool; WORKERS] {
        match is_awaited {
            true => self.awaited.insert(app),
            false => self.awaited.remove(&app),
        };
        self.make_room()
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
        for out in self.out.iter_mut().flatten().filter(|out| out.app == app) {
            out.repeatable = None;
            out.routine = None;
        }
    }

    /// The next action of `worker`, which is idle.
    pub(super) fn next_action(&mut self, worker: Worker, now: Time) -> Action {
        if self.closed {
            return Action::End;
        }
        let mut soonest: Option<Duration> = None;
        let mut supersedes_soon = false;
        for app in self.in_order() {
            match self.turn(app, worker, now) {
                Turn::Now { supersedes_other } => {
                    return self.begin(app, worker, supersedes_other, now);
                }
                Turn::After(patience) => {
                    soonest = Some(soonest.map_or(patience, |other| other.min(patience)));
                    supersedes_soon |= self.is_executed(app, 1 - worker);
                }
                Turn::Later => {}
            }
        }
        if supersedes_soon {
            return Action::Wait(soonest);
        }
        match self.repeat(worker, now) {
            Action::Wait(patience) => match soonest.into_iter().chain(patience).min() {
                None => self.chore(worker, now),
                soon => Action::Wait(soon),
            },
            repeated => repeated,
        }
    }

    /// Sets the interval of what is done beside the requests ([`Action::Chore`]).
    pub(super) fn set_chore(&mut self, every: Duration, now: Time) {
        let due = now + every;
        self.chore = Some(ChoreTime { every, due });
    }

    /// The action of `worker`, which has no request to take, also not soon. The worker that is
    /// given the next request does no chore, unless the other one is at work.
    fn chore(&mut self, worker: Worker, now: Time) -> Action {
        let is_next = self.active == worker && self.out[1 - worker].is_none();
        let Some(chore) = self.chore.as_mut().filter(|_| !is_next) else {
            return Action::Wait(None);
        };
        if chore.due <= now {
            chore.due = now + chore.every;
            return Action::Chore;
        }
        Action::Wait(Some(chore.due.since(now)))
    }

    /// The apps whose requests wait, by their turn.
    fn in_order(&self) -> Vec<AppKey> {
        let rank = |job: &Job| match self.is_awaited(job.app) {
            true => 0,
            false => 1 + u8::from(!is_urgent(&job.request)),
        };
        let waiting = self.waiting.values();
        let mut ranked: Vec<_> = waiting
            .map(|(place, job)| (rank(job), *place, job.app))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, _, app)| app).collect()
    }

    /// When `worker`, which is idle, may take the request of `app`.
    fn turn(&self, app: AppKey, worker: Worker, now: Time) -> Turn {
        let now_without_superseding = Turn::Now {
            supersedes_other: false,
        };
        let Some((_, job)) = self.waiting.get(&app) else {
            return Turn::Later;
        };
        let other = match &self.out[1 - worker] {
            None if self.active != worker => return Turn::Later,
            None if self.is_paced(job) => return self.paced_turn(now),
            None => return now_without_superseding,
            Some(other) if other.superseded => return now_without_superseding,
            Some(other) => other,
        };
        let is_own = other.app == app;
        if !is_own && self.is_routine(job) {
            return Turn::Later;
        }
        let patience = match is_own && (other.urgent || !is_urgent(&job.request)) {
            true => GIVEN_UP_AFTER,
            false => PREEMPT_READ_AFTER,
        };
        let patience = patience.saturating_sub(now.since(other.since));
        match patience.is_zero() {
            true => Turn::Now {
                supersedes_other: is_own,
            },
            false => Turn::After(patience),
        }
    }

    /// Whether a request is one for which nobody waits.
    fn is_routine(&self, job: &Job) -> bool {
        !is_urgent(&job.request) && !self.is_awaited(job.app)
    }

    /// Whether a request waits for the pace of those that are refused.
    fn is_paced(&self, job: &Job) -> bool {
        self.is_routine(job) && self.refused.contains(&job.app)
    }

    fn paced_turn(&self, now: Time) -> Turn {
        let at = self.refused_due - REFUSED_INTERVAL * REFUSED_BURST;
        match at <= now {
            true => Turn::Now {
                supersedes_other: false,
            },
            false => Turn::After(at.since(now)),
        }
    }

    fn is_executed(&self, app: AppKey, worker: Worker) -> bool {
        let out = self.out[worker].as_ref();
        out.is_some_and(|out| out.app == app)
    }

    fn begin(&mut self, app: AppKey, worker: Worker, supersedes_other: bool, now: Time) -> Action {
        let Some((_, job)) = self.waiting.remove(&app) else {
            return Action::Wait(None);
        };
        if supersedes_other && let Some(other) = &mut self.out[1 - worker] {
            other.superseded = true;
        }
        if self.is_paced(&job) {
            self.refused_due = self.refused_due.max(now) + REFUSED_INTERVAL;
        }
        self.active = worker;
        self.out[worker] = Some(Out {
            app,
            urgent: is_urgent(&job.request),
            since: now,
            superseded: false,
            repeatable: job.repeatable(),
            routine: self.is_routine(&job).then(|| job.clone()),
            repetition: Repetition::No,
        });
        Action::Execute {
            job,
            cancel_other: supersedes_other,
        }
    }

    /// The action of `worker` while it may take no request: sends the write of the other worker
    /// too, once that has been in progress for long enough.
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
            app: job.app,
            urgent: true,
            since: now,
            superseded: false,
            repeatable: None,
            routine: None,
            repetition: Repetition::Both,
        });
        Action::Execute {
            job,
            cancel_other: false,
        }
    }

    /// Frees a worker for a request that would otherwise wait for both of them; returns whose
    /// calls are to be cancelled. Without an idle worker, nothing else would.
    fn make_room(&mut self) -> [bool; WORKERS] {
        let [Some(one), Some(two)] = &self.out else {
            return [false; WORKERS];
        };
        if one.superseded || two.superseded {
            return [false; WORKERS];
        }
        let is_one_write = [one, two].map(|out| out.repetition) == [Repetition::Both; WORKERS];
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
        let reads = [one, two].map(|out| out.routine.is_some() && urgent != Some(out.app));
        match reads {
            [true, _] => self.postpone(0),
            [false, true] => self.postpone(1),
            [false, false] => [false; WORKERS],
        }
    }

    /// Supersedes one of the calls of a write that is sent on both connections, or both calls.
    fn supersede(&mut self, superseded: [bool; WORKERS]) -> [bool; WORKERS] {
        for (out, superseded) in self.out.iter_mut().flatten().zip(superseded) {
            out.superseded = superseded;
            // The call that is cancelled may have been applied.
            out.repetition = Repetition::OtherFailed(true);
        }
        superseded
    }

    /// The routine read that `worker` executes waits again.
    fn postpone(&mut self, worker: Worker) -> [bool; WORKERS] {
        if let Some(out) = &mut self.out[worker] {
            out.superseded = true;
            if let Some(job) = out.routine.take() {
                self.places += 1;
                let place = self.places;
                self.waiting.entry(job.app).or_insert((place, job));
            }
        }
        [worker == 0, worker == 1]
    }

    /// The app of the first request that is no routine.
    fn first_urgent(&self) -> Option<AppKey> {
        let first = *self.in_order().first()?;
        let (_, job) = self.waiting.get(&first)?;
        (!self.is_routine(job)).then_some(first)
    }

    /// Whether the reply to the request of `worker` may have to be reported.
    pub(super) fn is_wanted(&self, worker: Worker) -> bool {
        let out = self.out[worker].as_ref();
        out.is_some_and(|out| !out.superseded)
    }

    /// `worker` has finished with that outcome; returns the outcome to report, if any.
    pub(super) fn done(&mut self, worker: Worker, outcome: Outcome) -> Option<Outcome> {
        let out = self.out[worker].take().filter(|out| !out.superseded)?;
        match outcome {
            Outcome::Forbidden | Outcome::NotFound => self.refused.insert(out.app),
            Outcome::Scale(_) => self.refused.remove(&out.app),
            _ => false,
        };
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
        let (app, id) = (self.app, self.id);
        let repetition = self.request.repetition();
        repetition.map(|request| Job { app, id, request })
    }
}

/// Whether connections may wait for it: a write may be a wake, and without a renewal the
/// connections that have just come are held.
fn is_urgent(request: &Request) -> bool {
    !request.is_read()
}

#[cfg(test)]
mod tests;
