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

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, debug};

use self::correlator::{Correlator, Write};
use super::client::Client;
use super::patch::{self, Patch};
use super::paths;
use super::reply::{Failure, Reply};
use super::text::LogOnce;
use crate::clock::{Clock, WallClock};
use crate::cluster::{Event, ObjectReference, cut};
use crate::supervisor;

/// The most Events that wait to be written. What comes then is not written.
const MAX_WAITING: usize = 64;

/// The pauses before an Event is tried again that had no answer.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The largest reply, in bytes.
const CAP: u64 = 64 * 1024;

/// The longest name of the reporting instance, in bytes (`ReportingInstanceLengthLimit` in
/// `pkg/apis/core/validation/events.go`).
const MAX_INSTANCE_LEN: usize = 128;

/// Creates Events. Its clones are the same.
#[derive(Clone)]
pub struct EventRecorder {
    sender: Arc<Sender>,
    state: Arc<Mutex<State>>,
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

struct State {
    correlator: Correlator,
    waiting: VecDeque<Write>,
    /// Whether there is a thread that writes them.
    has_thread: bool,
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
            sender: Arc::new(Sender {
                client,
                logs: Mutex::default(),
            }),
            state: Arc::new(Mutex::new(State {
                correlator: Correlator::new(instance),
                waiting: VecDeque::new(),
                has_thread: false,
            })),
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
        let mut state = lock(&self.state);
        // The caller of a shared Event records it again if it was not written: so it must not be
        // counted before there is room.
        if event.is_shared && state.waiting.len() >= MAX_WAITING {
            return false;
        }
        let Some(write) = state.correlator.record(regarding, event, now, unix) else {
            debug!("no Event is written, because there were so many");
            return false;
        };
        // The later one has the whole count.
        state.waiting.retain(|it| it.name != write.name);
        if state.waiting.len() >= MAX_WAITING {
            debug!("no Event is written, because so many wait");
            return false;
        }
        state.waiting.push_back(write);
        if !std::mem::replace(&mut state.has_thread, true) {
            drop(state);
            return self.start_thread();
        }
        true
    }

    /// Returns whether it was started.
    fn start_thread(&self) -> bool {
        let (sender, state) = (self.sender.clone(), self.state.clone());
        let thread = thread::Builder::new().name("zpa-events".to_owned());
        let started = thread.spawn(move || {
            while let Some(write) = next(&state, &sender.client) {
                // A panic is logged where it happens.
                let _ = supervisor::catch_panic(|| sender.send(&write));
            }
        });
        if let Err(why) = started {
            debug!("no thread can be started to create Events: {why}");
            let mut state = lock(&self.state);
            state.waiting.clear();
            state.has_thread = false;
            return false;
        }
        true
    }
}

/// The next one; if there is none, the thread that asks is one no more, and its connection is
/// closed before another thread may begin.
fn next(state: &Mutex<State>, client: &Client) -> Option<Write> {
    let mut state = lock(state);
    let next = state.waiting.pop_front();
    state.has_thread = next.is_some();
    if next.is_none() {
        client.cancel();
    }
    next
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
