//! The [`Scheduler`] assigns the requests of all apps to the two workers. It is a pure state
//! machine, so that its rules are tested without threads.
//!
//! An app has at most one queued request; a newer one replaces it. Requests of apps
//! whose connections wait come first, then writes and renewals, then reads; among equals the
//! oldest.
//!
//! One worker executes them, on its open connection. The other one is a spare, which takes
//! over while the first is at work:
//! - a request of the same app. The policy has one request in flight, so a second one means
//!   that it has given up the first. A read is superseded, after 4 ms by a write and after a second
//!   by a read. A write is cancelled at once, unless it is a wake, which goes on beside
//!   the workers ([`detached`]);
//! - after 4 ms, a request of another app for which somebody waits, and a write or a renewal.
//!   Other reads never occupy both workers: no number of them that hang delays a wake.
//!
//! A write that has no reply after a second is sent on the other API connection as well
//! ([`Request::hedged`]), because the first one may be dead while clients wait. Clients may
//! wait for each kind of write: for a wake, those that are held; for a write of zero or the
//! final renewal before it, those that arrive meanwhile; for a renewal, those that need a
//! lease, and after two seconds they are dialled without one. The first reply that shows the
//! scale is reported. A read is not hedged: where clients wait for one it follows a reply, so
//! its API connection has just worked.
//!
//! Low-priority reads of apps whose last request was refused or found no object share one
//! token bucket (one a second, burst of ten): hundreds of apps without a Role do not multiply
//! the requests.
//!
//! The spare worker runs only while it may be needed: from the first request that it might have to
//! take or to repeat, until there was none for 30 s. So it takes no thread while all apps sleep.
//!
//! A worker that has nothing to execute also does a *periodic task* at an interval, such as to look
//! at a file: the worker that would not be given the next request.

mod detached;
mod periodic;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use self::detached::Turn;
use self::detached::is_wake;
use self::periodic::PeriodicTask;
use crate::clock::Time;
use crate::cluster::{Outcome, Request};

/// How long one worker is at work before the spare takes an urgent request of another app, or a
/// write of the same app, which supersedes a read. A healthy server answers sooner, and then one
/// API connection is enough.
pub(super) const SPARE_AFTER: Duration = Duration::from_millis(4);

/// How long a read is in progress before a newer one of its app supersedes it. The policy makes a
/// second request only once it has given up the first, five seconds later or more.
const SUPERSEDE_AFTER: Duration = Duration::from_secs(1);

/// How long a write is in progress before it is sent on the other API connection as well.
const HEDGE_AFTER: Duration = Duration::from_secs(1);

/// The interval at which the bucket of reads that were refused gains a token.
const RATE_LIMITED_INTERVAL: Duration = Duration::from_secs(1);
/// The size of that bucket, less the one token that is being taken.
const RATE_LIMITED_BURST: u32 = 9;

/// How long the spare worker runs after it was needed last.
const SPARE_FOR: Duration = Duration::from_secs(30);

/// One of two workers; usually one works and the other is a spare.
pub(super) type Worker = usize;
pub(super) const WORKERS: usize = 2;

/// The executor's own id of an app, never reused. (`kube` does not know the engine's
/// `AppId`.)
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
    is_write: bool,
    is_wake: bool,
    since: Time,
    /// Whether its outcome is not reported: a newer request has superseded it, it was given up, the
    /// call on the other connection has answered, or it was queued again.
    discarded: bool,
    /// What is sent on the other API connection if this has no reply in time.
    hedge_request: Option<Job>,
    /// The request, if nobody waits for it: one that is urgent preempts it.
    preemptible: Option<Job>,
    hedge: Hedge,
}

/// Whether a request is sent on both API connections, as a hedged request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hedge {
    /// It is not.
    None,
    /// It is, and neither call has ended; or the outcome of the other was reported, and this one is
    /// discarded.
    Both,
    /// It was, and the other call has failed or was cancelled.
    OtherEnded {
        /// Whether that one may have been applied.
        may_be_applied: bool,
    },
}

/// The queued requests, and the requests in progress.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// The request of each app that has one, with its position in the order in which they came.
    queued: BTreeMap<AppKey, (u64, Job)>,
    sequence: u64,
    /// The apps whose connections wait.
    apps_waiting: BTreeSet<AppKey>,
    in_flight: [Option<InFlight>; WORKERS],
    /// The worker whose API connection was used last: it takes the next request.
    active: Worker,
    /// The workers that run.
    runs: [bool; WORKERS],
    /// The numbers of their turns.
    turns: [u64; WORKERS],
    /// The calls that are detached, with their apps.
    detached: Vec<(Turn, AppKey)>,
    /// The workers whose thread was left to a detached call, and is to be replaced.
    vacated: Vec<Worker>,
    /// Since when the spare worker is not needed.
    unneeded_since: Option<Time>,
    periodic_task: Option<PeriodicTask>,
    /// The apps whose last request was refused, or has found no object.
    rate_limited: BTreeSet<AppKey>,
    /// The theoretical arrival time of the next read of those (GCRA, the generic cell rate
    /// algorithm).
    rate_limited_tat: Time,
    pub(super) closed: bool,
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
    /// End: the queue is closed, or the worker is not needed any more.
    End,
}

/// When a worker may take a request.
enum Eligibility {
    Now {
        supersedes_other: bool,
    },
    After(Duration),
    /// Not before a change.
    NotBeforeChange,
}

impl Scheduler {
    /// Adds a request, in place of a queued one of its app. Returns the workers whose
    /// calls are to be cancelled; [`Scheduler::take_vacated`] returns others, to be started anew.
    pub(super) fn put(&mut self, job: Job) -> [bool; WORKERS] {
        let given_up = self.give_up_writes_of(job.app);
        self.sequence += 1;
        let position = self.sequence;
        if is_write(&job.request) {
            self.unneeded_since = None;
        }
        let waiting = self.queued.entry(job.app);
        waiting
            .and_modify(|(_, waiting)| waiting.clone_from(&job))
            .or_insert((position, job));
        let preempted = self.preempt();
        [0, 1].map(|worker| given_up[worker] || preempted[worker])
    }

    /// Sets whether connections of an app wait; returns what [`Scheduler::put`] does.
    pub(super) fn set_waiting(&mut self, app: AppKey, is_waiting: bool) -> [bool; WORKERS] {
        match is_waiting {
            true => self.apps_waiting.insert(app),
            false => self.apps_waiting.remove(&app),
        };
        self.preempt()
    }

    /// Whether connections of an app wait.
    pub(super) fn has_waiting(&self, app: AppKey) -> bool {
        self.apps_waiting.contains(&app)
    }

    /// Whether a request of an app is queued.
    pub(super) fn has_queued(&self, app: AppKey) -> bool {
        self.queued.contains_key(&app)
    }

    /// Forgets an app. A request of it that is in progress comes to its end.
    pub(super) fn remove(&mut self, app: AppKey) {
        self.queued.remove(&app);
        self.apps_waiting.remove(&app);
        self.rate_limited.remove(&app);
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

    /// A worker that is to be started, if one is: the first one at first, and the spare one for
    /// what a worker does beside the requests. It counts as running from now on.
    pub(super) fn start_worker(&mut self) -> Option<Worker> {
        let is_first = self.runs == [false; WORKERS];
        let is_needed = is_first || self.periodic_task.is_some();
        self.start_if(is_needed)
    }

    /// The spare worker, if it is to be started for the request of `app` that waits: a write, which
    /// may have to be repeated, or a request that need not wait for the one in progress.
    pub(super) fn start_spare_for(&mut self, app: AppKey, now: Time) -> Option<Worker> {
        let spare = self.stopped()?;
        let (_, job) = self.queued.get(&app)?;
        if !self.runs[1 - spare] {
            // Neither could be started.
            self.active = spare;
            return self.start_if(true);
        }
        let eligibility = self.eligibility(app, spare, now);
        let is_needed =
            is_write(&job.request) || !matches!(eligibility, Eligibility::NotBeforeChange);
        self.start_if(is_needed)
    }

    /// The spare worker, if it is to be started for what waits while a request is executed that
    /// has just begun.
    pub(super) fn start_spare_for_queued(&mut self, now: Time) -> Option<Worker> {
        self.stopped()?;
        let first = *self.in_order().first()?;
        self.start_spare_for(first, now)
    }

    fn start_if(&mut self, is_needed: bool) -> Option<Worker> {
        let worker = self.stopped().filter(|_| is_needed)?;
        self.runs[worker] = true;
        self.unneeded_since = None;
        Some(worker)
    }

    fn stopped(&self) -> Option<Worker> {
        self.runs.iter().position(|runs| !runs)
    }

    /// A worker could not be started.
    pub(super) fn not_started(&mut self, worker: Worker) {
        self.runs[worker] = false;
        if self.runs[1 - worker] {
            self.active = 1 - worker;
        }
    }

    /// The action of `worker`, which has nothing to do.
    fn rest(&mut self, worker: Worker, now: Time) -> Assignment {
        if self.active == worker || self.in_flight[1 - worker].is_some() {
            return Assignment::Wait(None);
        }
        let since = *self.unneeded_since.get_or_insert(now);
        let left = (since + SPARE_FOR).since(now);
        if left.is_zero() {
            self.runs[worker] = false;
            return Assignment::End;
        }
        Assignment::Wait(Some(left))
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
                Eligibility::NotBeforeChange => {}
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

    /// The apps with queued requests, in the order in which those are taken.
    fn in_order(&self) -> Vec<AppKey> {
        let rank = |job: &Job| match self.has_waiting(job.app) {
            true => 0,
            false => 1 + u8::from(!is_write(&job.request)),
        };
        let waiting = self.queued.values();
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
        let Some((_, job)) = self.queued.get(&app) else {
            return Eligibility::NotBeforeChange;
        };
        let other = match &self.in_flight[1 - worker] {
            None if self.active != worker => return Eligibility::NotBeforeChange,
            None if self.is_rate_limited(job) => return self.rate_limited_eligibility(now),
            None => return now_without_superseding,
            Some(other) if other.discarded => return now_without_superseding,
            Some(other) => other,
        };
        let is_own = other.app == app;
        if !is_own && self.is_low_priority(job) {
            return Eligibility::NotBeforeChange;
        }
        let delay = match is_own && !is_write(&job.request) {
            true => SUPERSEDE_AFTER,
            false => SPARE_AFTER,
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
        !is_write(&job.request) && !self.has_waiting(job.app)
    }

    /// Whether a request needs a token of the bucket of those that were refused.
    fn is_rate_limited(&self, job: &Job) -> bool {
        self.is_low_priority(job) && self.rate_limited.contains(&job.app)
    }

    fn rate_limited_eligibility(&self, now: Time) -> Eligibility {
        let at = self.rate_limited_tat - RATE_LIMITED_INTERVAL * RATE_LIMITED_BURST;
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
        let Some((_, job)) = self.queued.remove(&app) else {
            return Assignment::Wait(None);
        };
        if supersedes_other && let Some(other) = &mut self.in_flight[1 - worker] {
            other.discarded = true;
        }
        if self.is_rate_limited(&job) {
            self.rate_limited_tat = self.rate_limited_tat.max(now) + RATE_LIMITED_INTERVAL;
        }
        if self.active != worker {
            self.unneeded_since = None;
        }
        self.active = worker;
        self.in_flight[worker] = Some(InFlight {
            app,
            is_write: is_write(&job.request),
            is_wake: is_wake(&job.request),
            since: now,
            discarded: false,
            hedge_request: job.hedge_request(),
            preemptible: self.is_low_priority(&job).then(|| job.clone()),
            hedge: Hedge::None,
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
        if other.discarded || other.hedge_request.is_none() {
            return Assignment::Wait(None);
        }
        let delay = HEDGE_AFTER.saturating_sub(now.since(other.since));
        if !delay.is_zero() {
            return Assignment::Wait(Some(delay));
        }
        let Some(job) = other.hedge_request.take() else {
            return Assignment::Wait(None);
        };
        other.hedge = Hedge::Both;
        self.unneeded_since = None;
        self.active = worker;
        self.in_flight[worker] = Some(InFlight {
            app: job.app,
            is_write: true,
            is_wake: is_wake(&job.request),
            since: now,
            discarded: false,
            hedge_request: None,
            preemptible: None,
            hedge: Hedge::Both,
        });
        Assignment::Execute {
            job,
            cancel_other: false,
        }
    }

    /// If both workers are busy, frees one for a request that must not wait; returns whose
    /// calls are to be cancelled.
    fn preempt(&mut self) -> [bool; WORKERS] {
        let [Some(one), Some(two)] = &self.in_flight else {
            return [false; WORKERS];
        };
        if one.discarded || two.discarded {
            return [false; WORKERS];
        }
        let is_one_write = [one, two].map(|call| call.hedge) == [Hedge::Both; WORKERS];
        let first = usize::from(two.since < one.since);
        let urgent = self.first_not_low_priority();
        if urgent.is_none() {
            return [false; WORKERS];
        }
        if is_one_write {
            return self.discard_calls([first == 0, first == 1]);
        }
        let reads = [one, two].map(|call| call.preemptible.is_some() && urgent != Some(call.app));
        match reads {
            [true, _] => self.requeue(0),
            [false, true] => self.requeue(1),
            [false, false] => [false; WORKERS],
        }
    }

    /// Discards one of the calls of a write that is sent on both API connections.
    fn discard_calls(&mut self, superseded: [bool; WORKERS]) -> [bool; WORKERS] {
        for (call, superseded) in self.in_flight.iter_mut().flatten().zip(superseded) {
            call.discarded = superseded;
            // The call that is cancelled may have been applied.
            call.hedge = Hedge::OtherEnded {
                may_be_applied: true,
            };
        }
        superseded
    }

    /// The low-priority read that `worker` executes is queued again.
    fn requeue(&mut self, worker: Worker) -> [bool; WORKERS] {
        if let Some(call) = &mut self.in_flight[worker] {
            call.discarded = true;
            if let Some(job) = call.preemptible.take() {
                self.sequence += 1;
                let position = self.sequence;
                self.queued.entry(job.app).or_insert((position, job));
            }
        }
        [worker == 0, worker == 1]
    }

    /// The app of the first queued request, if that is not of low priority.
    fn first_not_low_priority(&self) -> Option<AppKey> {
        let first = *self.in_order().first()?;
        let (_, job) = self.queued.get(&first)?;
        (!self.is_low_priority(job)).then_some(first)
    }

    /// Whether the reply to the request of that turn may have to be reported.
    pub(super) fn is_wanted(&self, turn: Turn) -> bool {
        let call = self.in_flight[turn.worker].as_ref();
        !self.is_over(turn) && call.is_some_and(|call| !call.discarded)
    }

    /// The call of that turn has ended so; returns the outcome to report, if any.
    pub(super) fn done(&mut self, turn: Turn, outcome: Outcome) -> Option<Outcome> {
        if self.is_over(turn) {
            self.detached.retain(|(detached, _)| *detached != turn);
            return None;
        }
        let worker = turn.worker;
        let call = self.in_flight[worker]
            .take()
            .filter(|call| !call.discarded)?;
        match outcome {
            Outcome::Forbidden | Outcome::NotFound => self.rate_limited.insert(call.app),
            Outcome::Scale(_) => self.rate_limited.remove(&call.app),
            _ => false,
        };
        let other = self.in_flight[1 - worker].as_mut();
        let is_shown = matches!(outcome, Outcome::Scale(_));
        match (call.hedge, other) {
            (Hedge::Both, Some(other)) if is_shown => {
                other.discarded = true;
                Some(outcome)
            }
            // The other one may be what the object has changed by.
            (Hedge::Both, Some(other)) if outcome == Outcome::Conflict => {
                other.discarded = true;
                Some(UNKNOWN)
            }
            (Hedge::Both, Some(other)) => {
                let is_unknown = matches!(outcome, Outcome::Unknown { .. });
                other.hedge = Hedge::OtherEnded {
                    may_be_applied: is_unknown,
                };
                None
            }
            (
                Hedge::OtherEnded {
                    may_be_applied: true,
                },
                _,
            ) if !is_shown => Some(UNKNOWN),
            _ => Some(outcome),
        }
    }
}

const UNKNOWN: Outcome = Outcome::Unknown { retry_after: None };

impl Job {
    /// What is sent on the other API connection if this has no reply.
    fn hedge_request(&self) -> Option<Job> {
        let (app, id) = (self.app, self.id);
        let hedged = self.request.hedged();
        hedged.map(|request| Job { app, id, request })
    }
}

/// Whether it writes, so that connections may wait for it: a write may be a wake, and without
/// a renewal the connections that have just come are held.
fn is_write(request: &Request) -> bool {
    !request.is_read()
}

#[cfg(test)]
mod tests;
