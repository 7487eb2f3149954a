//! The executor of the policy's requests.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::client::Client;
use super::deployment::{Deployment, classify};
use super::duty::{Duty, Job, Order, WORKERS, Worker};
use super::{Config, Report};
use crate::clock::Clock;
use crate::cluster::Request;

/// Where requests are put, and where the workers find them.
pub(super) struct Desk {
    duty: Mutex<Duty>,
    changed: Condvar,
    clients: [Client; WORKERS],
    deployment: Deployment,
}

impl Desk {
    /// Leaves a request, in place of one that is still unsent.
    pub(super) fn put(&self, id: u64, request: Request) {
        self.duty().waiting = Some(Job { id, request });
        self.changed.notify_all();
    }

    /// Ends the workers.
    pub(super) fn close(&self) {
        self.duty().closed = true;
        self.changed.notify_all();
    }

    fn next(&self, worker: Worker, clock: Clock) -> Option<(Job, bool)> {
        let mut duty = self.duty();
        loop {
            match duty.order(worker, clock()) {
                Order::Execute { job, cancel_other } => return Some((job, cancel_other)),
                Order::End => return None,
                Order::Wait(None) => {
                    duty = self
                        .changed
                        .wait(duty)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Order::Wait(Some(patience)) => {
                    let woken = self.changed.wait_timeout(duty, patience);
                    duty = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn done(&self, worker: Worker) -> bool {
        let wanted = self.duty().done(worker);
        self.changed.notify_all();
        wanted
    }

    fn duty(&self) -> MutexGuard<'_, Duty> {
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the workers.
pub(super) fn spawn(
    config: &Config,
    clients: [Client; WORKERS],
    clock: Clock,
    report: &(impl Fn(Report) + Send + Clone + 'static),
) -> io::Result<Arc<Desk>> {
    let desk = Arc::new(Desk {
        duty: Mutex::default(),
        changed: Condvar::new(),
        clients,
        deployment: Deployment::new(config),
    });
    for (worker, name) in ["zpa-api", "zpa-api-spare"].into_iter().enumerate() {
        let (ours, report) = (desk.clone(), report.clone());
        let started = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&ours, worker, clock, &report));
        if let Err(cause) = started {
            desk.close();
            return Err(cause);
        }
    }
    Ok(desk)
}

fn work(desk: &Desk, worker: Worker, clock: Clock, report: &impl Fn(Report)) {
    let (client, other) = (&desk.clients[worker], &desk.clients[1 - worker]);
    while let Some((Job { id, request }, cancel_other)) = desk.next(worker, clock) {
        if cancel_other {
            other.cancel();
        }
        let answer = desk.deployment.execute(&client.calls(), &request, clock());
        if !desk.done(worker) {
            continue;
        }
        desk.deployment.say(&request, &answer);
        for news in desk.deployment.news(&request, &answer) {
            report(news);
        }
        let outcome = classify(&answer);
        report(Report::Reply { id, outcome });
    }
}

#[cfg(test)]
mod tests;
