//! The executor of the policy's requests.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::client::Client;
use super::deployment::{Deployment, classify};
use super::scheduler::{Action, Job, Scheduler, WORKERS, Worker};
use super::{Config, Report};
use crate::clock::Clock;
use crate::cluster::Request;

/// Where requests are put, and where the workers find them.
pub(super) struct RequestQueue {
    scheduler: Mutex<Scheduler>,
    changed: Condvar,
    clients: [Client; WORKERS],
    deployment: Deployment,
}

impl RequestQueue {
    /// Leaves a request, in place of one that is still unsent.
    pub(super) fn put(&self, id: u64, request: Request) {
        self.scheduler().waiting = Some(Job { id, request });
        self.changed.notify_all();
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
                Action::Execute { job, cancel_other } => return Some((job, cancel_other)),
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

    fn done(&self, worker: Worker) -> bool {
        let wanted = self.scheduler().done(worker);
        self.changed.notify_all();
        wanted
    }

    fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the workers.
pub(super) fn spawn(
    config: &Config,
    clients: [Client; WORKERS],
    clock: Clock,
    report: &(impl Fn(Report) + Send + Clone + 'static),
) -> io::Result<Arc<RequestQueue>> {
    let queue = Arc::new(RequestQueue {
        scheduler: Mutex::default(),
        changed: Condvar::new(),
        clients,
        deployment: Deployment::new(config),
    });
    for (worker, name) in ["zpa-api", "zpa-api-spare"].into_iter().enumerate() {
        let (ours, report) = (queue.clone(), report.clone());
        let started = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&ours, worker, clock, &report));
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
        let answer = queue.deployment.execute(&client.calls(), &request, clock());
        if !queue.done(worker) {
            continue;
        }
        queue.deployment.say(&request, &answer);
        for news in queue.deployment.news(&request, &answer) {
            report(news);
        }
        let outcome = classify(&answer);
        report(Report::Reply { id, outcome });
    }
}

#[cfg(test)]
mod tests;
