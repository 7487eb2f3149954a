//! [`EventRecorder`]: creates Events about Services, which `kubectl describe service` shows.
//!
//! An Event is a courtesy: the log and `/status` say the same, and the permission to create
//! them is optional. A thread of its own creates them, which lives only while there are any, so
//! that nothing waits for them.
//!
//! The name of an Event follows from its Service and its text. So proxies side by side, and one
//! that starts again, create one Event and not several: the API server answers 409 to the
//! second. It keeps an Event for an hour (`--event-ttl`).

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, debug};
use serde_json::{Value, json};

use super::client::Client;
use super::patch;
use super::paths;
use super::reply::{Failure, Reply};
use super::rfc3339;
use super::text::LogOnce;
use super::throttle::Throttle;
use crate::clock::{Clock, WallClock};
use crate::supervisor;

/// The most Events that wait to be created. What comes then is not created.
const MOST_WAITING: usize = 64;

/// The most Services whose Events are limited in their rate, before that begins anew.
const MOST_THROTTLED: usize = 4096;

/// The pauses before an Event is tried again that had no answer.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// The largest reply, in bytes.
const CAP: u64 = 64 * 1024;

/// The longest text of an Event, in bytes (`NoteLengthLimit` in
/// `pkg/apis/core/validation/events.go`).
pub const LONGEST_NOTE: usize = 1024;

/// A warning about a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceWarning {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Its UID.
    pub uid: String,
    /// The text, of at most [`LONGEST_NOTE`] bytes.
    pub note: String,
}

/// Creates Events about Services.
pub struct EventRecorder {
    sender: Arc<Sender>,
    waiting: Arc<Mutex<Waiting>>,
    throttles: BTreeMap<String, Throttle>,
    clock: Clock,
}

/// What the thread needs to create an Event.
struct Sender {
    client: Client,
    /// The name of the pod.
    instance: String,
    wall_clock: WallClock,
    log: Mutex<LogOnce>,
}

#[derive(Default)]
struct Waiting {
    warnings: VecDeque<ServiceWarning>,
    /// Whether there is a thread that creates them.
    has_thread: bool,
}

impl EventRecorder {
    pub(super) fn new(
        client: Client,
        instance: &str,
        clock: Clock,
        wall_clock: WallClock,
    ) -> EventRecorder {
        EventRecorder {
            sender: Arc::new(Sender {
                client,
                instance: patch::writer(instance),
                wall_clock,
                log: Mutex::default(),
            }),
            waiting: Arc::default(),
            throttles: BTreeMap::new(),
            clock,
        }
    }

    /// Has an Event created, unless too many wait, or another one about the Service was created
    /// just now.
    ///
    /// Never blocks.
    pub fn warn(&mut self, warning: ServiceWarning) {
        if self.throttles.len() >= MOST_THROTTLED {
            self.throttles.clear();
        }
        let throttle = self.throttles.entry(warning.uid.clone()).or_default();
        let mut waiting = lock(&self.waiting);
        if waiting.warnings.len() >= MOST_WAITING || !throttle.allow((self.clock)()) {
            debug!("no Event is created, because there were so many");
            return;
        }
        waiting.warnings.push_back(warning);
        if !std::mem::replace(&mut waiting.has_thread, true) {
            drop(waiting);
            self.start_thread();
        }
    }

    fn start_thread(&self) {
        let (sender, waiting) = (self.sender.clone(), self.waiting.clone());
        let thread = thread::Builder::new().name("zpa-events".to_owned());
        let started = thread.spawn(move || {
            while let Some(warning) = next(&waiting) {
                // A panic is logged where it happens.
                let _ = supervisor::catch_panic(|| sender.create(&warning));
            }
            sender.client.cancel();
        });
        if let Err(why) = started {
            debug!("no thread can be started to create Events: {why}");
            *lock(&self.waiting) = Waiting::default();
        }
    }
}

/// The next warning; if there is none, the thread that asks is one no more.
fn next(waiting: &Mutex<Waiting>) -> Option<ServiceWarning> {
    let mut waiting = lock(waiting);
    let next = waiting.warnings.pop_front();
    waiting.has_thread = next.is_some();
    next
}

impl Sender {
    fn create(&self, warning: &ServiceWarning) {
        let path = paths::events(&warning.namespace);
        let event = event(warning, &self.instance, (self.wall_clock)());
        let mut pauses = RETRIES.into_iter();
        loop {
            let created = self.client.calls().create(&path, &event, CAP);
            match pauses.next().filter(|_| is_worth_another_try(&created)) {
                Some(pause) => thread::sleep(pause),
                None => return self.created(created),
            }
        }
    }

    fn created(&self, created: Result<Reply, Failure>) {
        let why = match created {
            // 409: there is one already.
            Ok(reply) if reply.is_success() || reply.status == 409 => {
                return lock(&self.log).clear("Events can be created");
            }
            Ok(reply) => reply.explanation(),
            Err(failure) => failure.text,
        };
        let text = format!(
            "no Event can be created ({why}): what is wrong with a Service is in the log, in \
             /status and in the metrics"
        );
        lock(&self.log).raise(Level::Info, "refused", &text);
    }
}

fn is_worth_another_try(created: &Result<Reply, Failure>) -> bool {
    match created {
        Ok(reply) => reply.status == 429 || reply.status >= 500,
        Err(_) => true,
    }
}

/// The Event, as recording 31 has one.
fn event(warning: &ServiceWarning, instance: &str, unix: u64) -> Value {
    let ServiceWarning {
        namespace,
        service,
        uid,
        note,
    } = warning;
    let mut hasher = DefaultHasher::new();
    warning.hash(&mut hasher);
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{service}.{:016x}", hasher.finish()),
            "namespace": namespace,
        },
        "eventTime": rfc3339::utc_with_microseconds(unix),
        "reportingController": "zero-pod-autoscaler",
        "reportingInstance": instance,
        "action": "Discover",
        "reason": "NotInForce",
        "type": "Warning",
        "note": note,
        "regarding": {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": namespace,
            "name": service,
            "uid": uid,
        },
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::credentials::Credentials;
    use super::super::testing::{self, DEADLINE, recorded_patch, recorded_target};
    use super::*;

    fn warning(uid: &str, note: &str) -> ServiceWarning {
        ServiceWarning {
            namespace: "default".to_owned(),
            service: "shop".to_owned(),
            uid: uid.to_owned(),
            note: note.to_owned(),
        }
    }

    /// A recorder whose server answers with these statuses, one after the other, and then 201;
    /// and what it is asked.
    fn recorder(statuses: &'static [u16]) -> (EventRecorder, mpsc::Receiver<(String, Value)>) {
        let (sender, asked) = mpsc::channel();
        let sent = std::sync::atomic::AtomicUsize::new(0);
        let address = testing::serve(move |request, stream| {
            let body = serde_json::from_str(&request.body).unwrap();
            sender.send((request.target.clone(), body)).unwrap();
            let place = sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let status = statuses.get(place).copied().unwrap_or(201);
            testing::reply(stream, status, "", "{}")
        });
        let credentials = Credentials::new(testing::access(address), testing::clock).unwrap();
        let client = Client::new(Arc::new(credentials), Arc::default());
        let recorder = EventRecorder::new(client, "zpa-5d9c7", testing::clock, || 1_795_313_591);
        (recorder, asked)
    }

    #[test]
    fn an_event_is_created_as_recorded_with_a_name_that_follows_from_its_text() {
        let (mut recorder, asked) = recorder(&[]);
        recorder.warn(warning("1", "wrong"));
        let (path, event) = asked.recv_timeout(DEADLINE).unwrap();
        assert_eq!(path, recorded_target("31-event-create"));
        let recorded: Value = serde_json::from_str(&recorded_patch("31-event-create")).unwrap();
        let keys = |value: &Value| -> Vec<String> {
            let keys = value.as_object().unwrap().keys();
            keys.cloned().collect()
        };
        assert_eq!(keys(&event), keys(&recorded));
        assert_eq!(keys(&event["regarding"]), keys(&recorded["regarding"]));
        assert_eq!(event["eventTime"], recorded["eventTime"]);
        assert_eq!(event["note"], "wrong");
        let name = |warning: &ServiceWarning| {
            super::event(warning, "another", 0)["metadata"]["name"].clone()
        };
        assert_eq!(event["metadata"]["name"], name(&warning("1", "wrong")));
        assert_ne!(event["metadata"]["name"], name(&warning("2", "wrong")));
        assert_ne!(event["metadata"]["name"], name(&warning("1", "other")));
    }

    #[test]
    fn what_has_no_answer_is_tried_again_and_what_is_refused_is_not() {
        let (mut recorder, asked) = recorder(&[503, 403, 409]);
        recorder.warn(warning("1", "first"));
        recorder.warn(warning("2", "second"));
        recorder.warn(warning("3", "third"));
        let notes: Vec<Value> = (0..4)
            .map(|_| asked.recv_timeout(DEADLINE).unwrap().1["note"].clone())
            .collect();
        assert_eq!(notes, ["first", "first", "second", "third"]);
    }

    #[test]
    fn a_service_that_changes_all_the_time_has_few_events_and_keeps_no_thread() {
        let (mut recorder, asked) = recorder(&[]);
        for note in 0..1000 {
            recorder.warn(warning("1", &note.to_string()));
        }
        recorder.warn(warning("2", "last"));
        let mut notes = Vec::new();
        while notes.last() != Some(&Value::from("last")) {
            notes.push(asked.recv_timeout(DEADLINE).unwrap().1["note"].clone());
        }
        assert!(notes.len() < 10, "{notes:?}");
        while lock(&recorder.waiting).has_thread {
            thread::yield_now();
        }
    }
}
