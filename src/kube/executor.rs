//! The executor: a [`RequestQueue`], and the two threads that execute its requests.

use super::client::Client;
use super::relist::RelistSignal;
use super::scale_target::Target;
use super::scheduler::{Action, Job, Scheduler, WORKERS, Worker};
use super::target_client::TargetClient;
use crate::clock::Clock;
use crate::cluster::{Outcome, Report, Request};
use crate::supervisor::{self, ThreadPanic};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// The queue of requests for the two workers.
pub(super) struct RequestQueue {
    scheduler: Mutex<Scheduler>,
    changed: Condvar,
    clients: [Client; WORKERS],
    target: TargetClient,
    /// Of whoever watches the scale target.
    watch: OnceLock<Arc<RelistSignal>>,
}

impl RequestQueue {
    /// Adds a request, which replaces one that is still unsent.
    pub(super) fn put(&self, id: u64, request: Request) {
        let mut scheduler = self.scheduler();
        scheduler.waiting = Some(Job { id, request });
        let gives_up = scheduler.give_up_both();
        drop(scheduler);
        self.changed.notify_all();
        if gives_up {
            self.clients.iter().for_each(Client::cancel);
        }
    }

    /// The object that is scaled.
    pub(super) fn target(&self) -> &Arc<Target> {
        self.target.target()
    }

    /// Sets the signal that is sent when the object is found elsewhere.
    pub(super) fn set_watch(&self, watch: Arc<RelistSignal>) {
        // There is one for the life of the queue.
        let _ = self.watch.set(watch);
    }

    /// The proxy drains: see [`super::Handle::set_draining`].
    pub(super) fn set_draining(&self) {
        self.target.set_draining();
    }

    /// Ends the workers.
    pub(super) fn close(&self) {
        self.scheduler().closed = true;
        self.changed.notify_all();
    }

    fn next(&self, worker: Worker, clock: Clock) -> Option<(Job, bool)> {
        let mut scheduler = self.scheduler();
        loop {
            match scheduler.next_action(worker, clock()) {
                Action::Execute { job, cancel_other } => {
                    // The other worker may have to repeat it later.
                    self.changed.notify_all();
                    return Some((job, cancel_other));
                }
                Action::End => return None,
                Action::Wait(None) => {
                    scheduler = self
                        .changed
                        .wait(scheduler)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Action::Wait(Some(patience)) => {
                    let woken = self.changed.wait_timeout(scheduler, patience);
                    scheduler = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn done(&self, worker: Worker, outcome: Outcome) -> Option<Outcome> {
        let reported = self.scheduler().done(worker, outcome);
        self.changed.notify_all();
        reported
    }

    fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the workers.
pub(super) fn spawn(
    target: TargetClient,
    clients: [Client; WORKERS],
    clock: Clock,
    report: &(impl Fn(Report) + Send + Clone + 'static),
) -> io::Result<Arc<RequestQueue>> {
    let queue = Arc::new(RequestQueue {
        scheduler: Mutex::default(),
        changed: Condvar::new(),
        clients,
        target,
        watch: OnceLock::new(),
    });
    for (worker, name) in ["zpa-api", "zpa-api-spare"].into_iter().enumerate() {
        let (ours, report) = (queue.clone(), report.clone());
        let panicked = report.clone();
        let panicked = move |panic: ThreadPanic| panicked(Report::Panicked(panic));
        let work = move || work(&ours, worker, clock, &report);
        let started = supervisor::spawn(name, clock, work, panicked);
        if let Err(cause) = started {
            queue.close();
            return Err(cause);
        }
    }
    Ok(queue)
}

fn work(queue: &RequestQueue, worker: Worker, clock: Clock, report: &impl Fn(Report)) {
    let (client, other) = (&queue.clients[worker], &queue.clients[1 - worker]);
    while let Some((Job { id, request }, cancel_other)) = queue.next(worker, clock) {
        if cancel_other {
            other.cancel();
        }
        let mut owed = OwedReply {
            queue,
            worker,
            id,
            report,
            is_due: true,
        };
        let before = queue.target.target().collection();
        let answer = queue.target.execute(&client.calls(), &request);
        if let Some(watch) = queue.watch.get()
            && queue.target.target().collection() != before
        {
            watch.relocate();
        }
        if !queue.scheduler().is_wanted(worker) {
            continue;
        }
        queue.target.log_answer(&request, &answer);
        for news in queue.target.news(&request, &answer) {
            report(news);
        }
        owed.reply(queue.target.outcome(&answer, clock()));
    }
}

/// The guard of a request that is being executed. If the worker panics, it reports an unknown
/// outcome: without a reply the policy would wait for ever.
struct OwedReply<'a, R: Fn(Report)> {
    queue: &'a RequestQueue,
    worker: Worker,
    id: u64,
    report: &'a R,
    /// Whether the scheduler does not know the outcome yet.
    is_due: bool,
}

impl<R: Fn(Report)> OwedReply<'_, R> {
    /// Reports the outcome, unless the request was superseded.
    fn reply(&mut self, outcome: Outcome) {
        self.is_due = false;
        if let Some(outcome) = self.queue.done(self.worker, outcome) {
            let id = self.id;
            (self.report)(Report::Reply { id, outcome });
        }
    }
}

impl<R: Fn(Report)> Drop for OwedReply<'_, R> {
    fn drop(&mut self) {
        if self.is_due {
            self.reply(Outcome::Unknown { retry_after: None });
        }
    }
}

#[cfg(test)]
mod tests;
