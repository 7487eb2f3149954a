//! [`EventRecorder`]: creates Events about Services and scale targets, which `kubectl describe`
//! shows.
//!
//! An Event is a courtesy: the log and `/status` say the same, and the permissions for them are
//! optional. A thread of its own writes them, on a connection of its own, and lives only while
//! there are any, so that nothing waits for them.
//!
//! Equal Events are one, which counts ([`correlator`]). Of those that all proxies share, the name
//! follows from the object and the text. So proxies side by side, and one that starts again,
//! create one Event and not several: the API server answers 409 to the second. It keeps an Event
//! for an hour (`--event-ttl`).

mod correlator;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, debug};

use self::correlator::{Correlator, Write};
use super::client::Client;
use super::job_queue::{JobQueue, Worker};
use super::patch::{self, Patch};
use super::paths;
use super::reply::{Failure, Reply};
use super::text::LogOnce;
use crate::clock::{Clock, WallClock};
use crate::cluster::{Event, ObjectReference, cut};

/// The most Events that wait to be written. What comes then is not written.
const MAX_WAITING: usize = 64;

/// The pauses before an Event is tried again that had no answer.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// How often is looked whether all is written before the process ends.
const FLUSH_STEP: Duration = Duration::from_millis(2);

/// The largest reply, in bytes.
const CAP: u64 = 64 * 1024;

/// The longest name of the reporting instance, in bytes (`ReportingInstanceLengthLimit` in
/// `pkg/apis/core/validation/events.go`).
const MAX_INSTANCE_LEN: usize = 128;

/// Creates Events. Its clones are the same.
#[derive(Clone)]
pub struct EventRecorder {
    queue: JobQueue<Sender>,
    correlator: Arc<Mutex<Correlator>>,
    clock: Clock,
    wall_clock: WallClock,
}

/// What the thread needs to write an Event.
struct Sender {
    client: Client,
    logs: Mutex<BTreeMap<(Verb, String), LogOnce>>,
}

/// What is done with an Event: each is a permission of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Create,
    Patch,
}

impl EventRecorder {
    pub(super) fn new(
        client: Client,
        instance: &str,
        clock: Clock,
        wall_clock: WallClock,
    ) -> EventRecorder {
        let instance = patch::writer(instance);
        let instance = cut(&instance, MAX_INSTANCE_LEN);
        EventRecorder {
            queue: JobQueue::new(Sender {
                client,
                logs: Mutex::default(),
            }),
            correlator: Arc::new(Mutex::new(Correlator::new(instance))),
            clock,
            wall_clock,
        }
    }

    /// Has an Event created, or one like it counted, unless too many wait, or too many about
    /// the object were written. Returns whether it is written.
    ///
    /// Never blocks.
    pub fn record(&self, regarding: ObjectReference, event: Event) -> bool {
        let (now, unix) = ((self.clock)(), (self.wall_clock)());
        let mut correlator = lock(&self.correlator);
        // The caller of a shared Event records it again if it was not written: so it must not be
        // counted before there is room.
        if event.is_shared && self.queue.waiting() >= MAX_WAITING {
            return false;
        }
        let Some(write) = correlator.record(regarding, event, now, unix) else {
            debug!("no Event is written, because there were so many");
            return false;
        };
        let added = self.queue.change(|waiting| {
            // The later one has the whole count.
            waiting.retain(|it| it.name != write.name);
            let has_room = waiting.len() < MAX_WAITING;
            if has_room {
                waiting.push_back(write);
            }
            has_room
        });
        match added {
            Ok(true) => return true,
            Ok(false) => debug!("no Event is written, because so many wait"),
            Err(why) => debug!("no thread can be started to create Events: {why}"),
        }
        false
    }
}

impl EventRecorder {
    /// Waits until what was recorded is written, for so long at most: the process is about to end.
    pub fn flush(&self, limit: Duration) {
        let until = (self.clock)() + limit;
        while self.queue.has_thread() && (self.clock)() < until {
            thread::sleep(FLUSH_STEP);
        }
    }
}

impl Worker for Sender {
    type Job = Write;

    const THREAD: &'static str = "zpa-events";

    fn execute(&self, write: Write) {
        self.send(&write);
    }

    fn rest(&self) {
        self.client.cancel();
    }
}

impl Sender {
    fn send(&self, write: &Write) {
        let mut pauses = RETRIES.into_iter();
        loop {
            let (verb, sent) = self.send_once(write);
            match pauses.next().filter(|_| is_worth_another_try(&sent)) {
                Some(pause) => thread::sleep(pause),
                None => return self.sent(verb, &write.namespace, sent),
            }
        }
    }

    /// Patches the Event if it has a series, and creates it if it is not there.
    fn send_once(&self, write: &Write) -> (Verb, Result<Reply, Failure>) {
        let all = paths::events(&write.namespace);
        let calls = self.client.calls();
        if let Some(series) = write.series() {
            let patch = Patch::merge(&series);
            let patched = calls.patch(&paths::event(&all, &write.name), &patch, CAP);
            if !matches!(&patched, Ok(reply) if reply.status == 404) {
                return (Verb::Patch, patched);
            }
        }
        (Verb::Create, calls.create(&all, &write.object, CAP))
    }

    /// Logs a refusal once for each verb and namespace: each is a permission of its own.
    fn sent(&self, verb: Verb, namespace: &str, sent: Result<Reply, Failure>) {
        let (what, instead) = match verb {
            Verb::Create => (
                "no Event can be created",
                "what it would say is in the log, in /status and in the metrics",
            ),
            Verb::Patch => (
                "an Event that happens again cannot be counted",
                "the first one is there",
            ),
        };
        let mut logs = lock(&self.logs);
        let log = logs.entry((verb, namespace.to_owned())).or_default();
        let why = match sent {
            // 409: there is one already.
            Ok(reply) if reply.is_success() || reply.status == 409 => {
                return log.clear(&format!("Events can be written again in {namespace}"));
            }
            Ok(reply) => reply.explanation(),
            Err(failure) => failure.text,
        };
        log.raise(
            Level::Info,
            "refused",
            &format!("{what} ({why}): {instead}"),
        );
    }
}

fn is_worth_another_try(sent: &Result<Reply, Failure>) -> bool {
    match sent {
        Ok(reply) => reply.status == 429 || reply.status >= 500,
        Err(_) => true,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
