//! The executor: a [`RequestQueue`] for the requests of all apps, and the two threads that
//! execute them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;
use super::client::Client;
use super::scale_target::Target;
use super::scheduler::{AppKey, Assignment, Job, Scheduler, Turn, WORKERS, Worker};
use super::target_client::{CallResult, TargetClient};
use crate::clock::{Clock, Time};
use crate::cluster::{Observation, Outcome, Report, Request};
use crate::supervisor::{self, ThreadPanic};

/// The queue of requests for the two workers.
pub(super) struct RequestQueue {
    scheduler: Mutex<Scheduler>,
    changed: Condvar,
    clients: [Client; WORKERS],
    apps: Mutex<Apps>,
    breaker: Mutex<Breaker>,
    /// What an idle worker does at an interval.
    clock: Clock,
    periodic_task: OnceLock<Mutex<TaskFn>>,
}

type TaskFn = Box<dyn FnMut() + Send>;

/// The apps whose requests are executed.
#[derive(Default)]
struct Apps {
    last: AppKey,
    by_key: BTreeMap<AppKey, Arc<AppEntry>>,
}

/// An app, as the workers know it.
pub(super) struct AppEntry {
    target: TargetClient,
    report: Box<dyn Fn(Report) + Send + Sync>,
    /// Called when the API path of the object's collection changes: it was found, lost, or
    /// found at another API version.
    collection_changed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl AppEntry {
    /// The object that is scaled.
    pub(super) fn target(&self) -> &Arc<Target> {
        self.target.target()
    }

    /// Sets what is called, on the thread of a worker, when the API path of the object's
    /// collection changes.
    pub(super) fn on_collection_change(
        &self,
        collection_changed: impl Fn() + Send + Sync + 'static,
    ) {
        // It is set once, when the app is added.
        let _ = self.collection_changed.set(Box::new(collection_changed));
    }

    /// The proxy drains: see [`super::AppHandle::set_draining`].
    pub(super) fn set_draining(&self) {
        self.target.set_draining();
    }

    fn execute(&self, client: &Client, request: &Request) -> CallResult {
        let before = self.target().collection();
        let answer = self.target.execute(&client.calls(), request);
        if let Some(collection_changed) = self.collection_changed.get()
            && self.target().collection() != before
        {
            collection_changed();
        }
        answer
    }
}

impl RequestQueue {
    /// Adds an app, with what takes its reports.
    pub(super) fn add(
        &self,
        target: TargetClient,
        report: impl Fn(Report) + Send + Sync + 'static,
    ) -> (AppKey, Arc<AppEntry>) {
        let entry = Arc::new(AppEntry {
            target,
            report: Box::new(report),
            collection_changed: OnceLock::new(),
        });
        let mut apps = self.apps();
        apps.last += 1;
        let key = apps.last;
        apps.by_key.insert(key, entry.clone());
        (key, entry)
    }

    /// Removes an app. What is in progress for it comes to its end, without a report.
    pub(super) fn remove(&self, app: AppKey) {
        self.scheduler().remove(app);
        self.breaker().remove(app);
        self.apps().by_key.remove(&app);
    }

    /// Adds a request, which replaces one of its app that is still queued.
    pub(super) fn put(self: &Arc<Self>, app: AppKey, id: u64, request: Request) {
        let mut scheduler = self.scheduler();
        let cancelled = scheduler.put(Job { app, id, request });
        let vacated = scheduler.take_vacated();
        let spare = scheduler.start_spare_for(app, (self.clock)());
        drop(scheduler);
        for worker in vacated {
            self.clients[worker].detach();
            self.start_spare(Some(worker));
        }
        self.change(cancelled);
        self.start_spare(spare);
    }

    /// Sets whether connections of an app wait: then its requests come first. The workers are
    /// woken only if it has one that is queued: each connection of an app that is awake waits
    /// for a moment.
    pub(super) fn set_waiting(self: &Arc<Self>, app: AppKey, is_waiting: bool) {
        let mut scheduler = self.scheduler();
        if scheduler.has_waiting(app) == is_waiting {
            return;
        }
        let cancelled = scheduler.set_waiting(app, is_waiting);
        if scheduler.has_queued(app) || cancelled != [false; WORKERS] {
            let spare = scheduler.start_spare_for(app, (self.clock)());
            drop(scheduler);
            self.change(cancelled);
            self.start_spare(spare);
        }
    }

    /// Starts the spare worker, if it is needed. Without a thread for it the requests are made one
    /// after the other.
    fn start_spare(self: &Arc<Self>, spare: Option<Worker>) {
        if let Some(spare) = spare
            && let Err(why) = self.start(spare)
        {
            log::warn!("a thread for requests to the API server cannot be started: {why}");
        }
    }

    fn start(self: &Arc<Self>, worker: Worker) -> io::Result<()> {
        let (ours, panicked, clock) = (self.clone(), self.clone(), self.clock);
        let panicked = move |panic: ThreadPanic| panicked.report_to_all(&Report::Panicked(panic));
        let turn = self.scheduler().turn(worker);
        let work = move || work(&ours, turn, clock);
        let started = supervisor::spawn(NAMES[worker], clock, work, panicked);
        if started.is_err() {
            self.scheduler().not_started(worker);
        }
        started
    }

    fn change(&self, cancelled: [bool; WORKERS]) {
        self.changed.notify_all();
        let clients = self.clients.iter().zip(cancelled);
        for (client, _) in clients.filter(|(_, is_cancelled)| *is_cancelled) {
            client.cancel();
        }
    }

    /// Ends the workers.
    pub(super) fn close(&self) {
        self.scheduler().closed = true;
        self.changed.notify_all();
    }

    /// Has a worker that is idle call `periodic_task` at that interval: later if both are in a
    /// request. It may block, and takes a worker from the requests then. It must not panic.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(super) fn set_periodic_task(
        self: &Arc<Self>,
        every: Duration,
        periodic_task: impl FnMut() + Send + 'static,
        now: Time,
    ) -> io::Result<()> {
        // It is set once, when the program starts.
        let _ = self.periodic_task.set(Mutex::new(Box::new(periodic_task)));
        self.scheduler().set_periodic_task(every, now);
        self.changed.notify_all();
        self.start_worker()
    }

    fn start_worker(self: &Arc<Self>) -> io::Result<()> {
        let worker = self.scheduler().start_worker();
        worker.map_or(Ok(()), |worker| self.start(worker))
    }

    /// Calls the periodic_task, unless the other worker has not returned from it.
    fn run_periodic_task(&self) {
        if let Some(Ok(mut periodic_task)) = self.periodic_task.get().map(Mutex::try_lock) {
            periodic_task();
        }
    }

    fn next(self: &Arc<Self>, turn: Turn, clock: Clock) -> Option<(Job, bool)> {
        let mut scheduler = self.scheduler();
        loop {
            if scheduler.is_over(turn) {
                return None;
            }
            match scheduler.next_assignment(turn.worker, clock()) {
                Assignment::Execute { job, cancel_other } => {
                    let spare = scheduler.start_spare_for_queued((self.clock)());
                    drop(scheduler);
                    // The other worker may have to repeat it later.
                    self.changed.notify_all();
                    self.start_spare(spare);
                    return Some((job, cancel_other));
                }
                Assignment::End => return None,
                Assignment::PeriodicTask => {
                    drop(scheduler);
                    self.run_periodic_task();
                    scheduler = self.scheduler();
                }
                Assignment::Wait(None) => {
                    scheduler = self
                        .changed
                        .wait(scheduler)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Assignment::Wait(Some(delay)) => {
                    let woken = self.changed.wait_timeout(scheduler, delay);
                    scheduler = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn done(&self, turn: Turn, outcome: Outcome) -> Option<Outcome> {
        let reported = self.scheduler().done(turn, outcome);
        self.changed.notify_all();
        reported
    }

    /// A request was answered that is not waited for any more. If it is a write that was given up,
    /// its failure is the reason why the app is not woken, or it shows that it was applied.
    fn answered_late(&self, app: AppKey, turn: Turn, request: &Request, answer: &CallResult) {
        let is_detached = self.scheduler().is_over(turn);
        let Some(entry) = self.entry(app).filter(|_| is_detached) else {
            return;
        };
        entry.target.log_answer(request, answer);
        for report in entry.target.side_reports(request, answer) {
            (entry.report)(report);
        }
        if let Outcome::Scale(scale) = entry.target.outcome(answer, (self.clock)()) {
            (entry.report)(Report::Observed(Observation::Scale(scale)));
        }
    }

    /// Whether connections depend on a request: they wait, or are open under the lease that it
    /// renews.
    fn connections_depend_on(&self, app: AppKey, request: &Request) -> bool {
        let renews = matches!(request, Request::RenewLease(renewal) if renewal.in_use);
        renews || self.scheduler().has_waiting(app)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, app: AppKey) -> Option<Arc<AppEntry>> {
        self.apps().by_key.get(&app).cloned()
    }

    /// Reports something to an app, if it is still there.
    pub(super) fn report(&self, app: AppKey, report: Report) {
        if let Some(entry) = self.entry(app) {
            (entry.report)(report);
        }
    }

    /// Reports something to every app.
    pub(super) fn report_to_all(&self, report: &Report) {
        let apps: Vec<_> = self.apps().by_key.values().cloned().collect();
        for entry in apps {
            (entry.report)(report.clone());
        }
    }

    fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn apps(&self) -> MutexGuard<'_, Apps> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of the workers' threads.
const NAMES: [&str; WORKERS] = ["zpa-api", "zpa-api-spare"];

/// Starts the first worker.
pub(super) fn spawn(clients: [Client; WORKERS], clock: Clock) -> io::Result<Arc<RequestQueue>> {
    let queue = Arc::new(RequestQueue {
        scheduler: Mutex::default(),
        changed: Condvar::new(),
        clients,
        apps: Mutex::default(),
        breaker: Mutex::new(Breaker::new(
            clock().since(Time::default()).as_nanos() as u64
        )),
        clock,
        periodic_task: OnceLock::new(),
    });
    queue.start_worker()?;
    Ok(queue)
}

fn work(queue: &Arc<RequestQueue>, turn: Turn, clock: Clock) {
    let (client, other) = (&queue.clients[turn.worker], &queue.clients[1 - turn.worker]);
    while let Some((Job { app, id, request }, cancel_other)) = queue.next(turn, clock) {
        if cancel_other {
            other.cancel();
        }
        let Some(entry) = queue.entry(app) else {
            queue.done(turn, Outcome::Unreachable);
            continue;
        };
        let mut guard = ReplyOnDrop {
            queue,
            turn,
            id,
            report: &entry.report,
            is_due: true,
        };
        let is_depended_on = queue.connections_depend_on(app, &request);
        let admitted = queue.breaker().admit(is_depended_on, clock());
        let is_sent = admitted.is_ok();
        let answer = admitted.and_then(|()| entry.execute(client, &request));
        if !queue.scheduler().is_wanted(turn) {
            queue.answered_late(app, turn, &request, &answer);
            continue;
        }
        if is_sent {
            let mut breaker = queue.breaker();
            breaker.answered(app, is_depended_on, &answer, clock());
        }
        entry.target.log_answer(&request, &answer);
        for reports in entry.target.side_reports(&request, &answer) {
            (entry.report)(reports);
        }
        guard.reply(entry.target.outcome(&answer, clock()));
    }
}

/// Reports the outcome of a request that is being executed; if the worker panics, an unknown one
/// when it is dropped: without a reply the policy would wait for ever.
struct ReplyOnDrop<'a> {
    queue: &'a RequestQueue,
    turn: Turn,
    id: u64,
    report: &'a dyn Fn(Report),
    /// Whether the scheduler does not know the outcome yet.
    is_due: bool,
}

impl ReplyOnDrop<'_> {
    /// Reports the outcome, unless the request was superseded.
    fn reply(&mut self, outcome: Outcome) {
        self.is_due = false;
        if let Some(outcome) = self.queue.done(self.turn, outcome) {
            let id = self.id;
            (self.report)(Report::Reply { id, outcome });
        }
    }
}

impl Drop for ReplyOnDrop<'_> {
    fn drop(&mut self) {
        if self.is_due {
            self.reply(Outcome::Unknown { retry_after: None });
        }
    }
}

#[cfg(test)]
mod tests;
