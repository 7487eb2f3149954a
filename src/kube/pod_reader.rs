//! [`PodReader`]: reads the pods of an app whose wake takes long, and reports what is wrong with
//! them.
//!
//! The permission is optional, and nothing waits for the answer: a thread of its own, `zpa-pods`,
//! reads them on a connection of its own, and lives only while there is something to read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, debug};

use super::client::Client;
use super::paths;
use super::pod_problem::{self, Diagnosis};
use super::scheduler::AppKey;
use super::text::LogOnce;
use crate::clock::{Clock, Time};
use crate::cluster::{PodProblem, PodsRead, Report};
use crate::supervisor;

/// The largest reply, in bytes: a few pods.
const CAP: u64 = 4 * 1024 * 1024;

/// The pause after a read: at most ten are made in a second, however many apps there are and
/// however often each asks.
const PAUSE: Duration = Duration::from_millis(100);

/// The time after a refusal in which no pod of the namespace is read.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// Reads pods. Its clones are the same.
#[derive(Clone)]
pub(super) struct PodReader {
    shared: Arc<Shared>,
    clock: Clock,
}

struct Shared {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Whether there is a thread that reads them.
    has_thread: bool,
    /// Until when a resource of a namespace is not read.
    refused: BTreeMap<(&'static str, String), Time>,
    /// By namespace, since each has permissions of its own.
    logs: BTreeMap<String, LogOnce>,
}

const PODS: &str = "pods";
const EVENTS: &str = "events";

/// The pods to read.
pub(super) struct Job {
    pub(super) app: AppKey,
    pub(super) namespace: String,
    /// The label selector of the scale target.
    pub(super) selector: String,
    /// Takes the report.
    pub(super) report: Box<dyn FnOnce(Report) + Send>,
}

impl PodReader {
    pub(super) fn new(client: Client, clock: Clock) -> PodReader {
        PodReader {
            shared: Arc::new(Shared {
                client,
                state: Mutex::default(),
            }),
            clock,
        }
    }

    /// Has pods read, unless those of the app wait for that already, or may not be read.
    ///
    /// Never blocks.
    pub(super) fn read(&self, job: Job) {
        let now = (self.clock)();
        let mut state = lock(&self.shared.state);
        let is_refused = state.is_refused(PODS, &job.namespace, now);
        if is_refused || state.waiting.iter().any(|it| it.app == job.app) {
            return;
        }
        state.waiting.push_back(job);
        if !std::mem::replace(&mut state.has_thread, true) {
            drop(state);
            self.start_thread();
        }
    }

    fn start_thread(&self) {
        let reader = self.clone();
        let thread = thread::Builder::new().name("zpa-pods".to_owned());
        let started = thread.spawn(move || {
            while let Some(job) = reader.shared.next() {
                // A panic is logged where it happens.
                let _ = supervisor::catch_panic(|| reader.execute(job));
                thread::sleep(PAUSE);
            }
        });
        if let Err(why) = started {
            debug!("no thread can be started to read pods: {why}");
            let mut state = lock(&self.shared.state);
            state.waiting.clear();
            state.has_thread = false;
        }
    }

    fn execute(&self, job: Job) {
        // One before it may have been refused meanwhile.
        if self.shared.is_refused(PODS, &job.namespace, (self.clock)()) {
            return;
        }
        let path = paths::pods(&job.namespace, &job.selector);
        let read = match self.shared.client.calls().list(&path, CAP) {
            Ok(reply) if reply.is_success() => {
                let mut state = lock(&self.shared.state);
                let log = state.logs.entry(job.namespace.clone()).or_default();
                log.clear(&format!("pods can be listed in {}", job.namespace));
                drop(state);
                let Some(listed) = pod_problem::diagnose(&reply.body) else {
                    return debug!("pods cannot be listed: the reply is no list");
                };
                PodsRead {
                    problem: self.explain(&job.namespace, listed.diagnosis),
                    uids: listed.uids,
                }
            }
            Ok(reply) if reply.status == 403 => {
                self.refused(&job.namespace, &reply.explanation());
                PodsRead::default()
            }
            // What is known stays.
            Ok(reply) => return debug!("pods cannot be listed: {}", reply.explanation()),
            Err(failure) => return debug!("pods cannot be listed: {}", failure.text),
        };
        (job.report)(Report::PodsRead(read));
    }

    fn refused(&self, namespace: &str, why: &str) {
        let mut state = lock(&self.shared.state);
        let until = (self.clock)() + REFUSED_FOR;
        state.refused.insert((PODS, namespace.to_owned()), until);
        let text = format!(
            "pods may not be listed ({why}): why a wake takes long is said as far as the scale \
             target and the endpoints show it"
        );
        let log = state.logs.entry(namespace.to_owned()).or_default();
        log.raise(Level::Info, "refused", &text);
    }

    fn explain(&self, namespace: &str, diagnosis: Diagnosis) -> Option<PodProblem> {
        let (pod, uid) = match diagnosis {
            Diagnosis::Nothing => return None,
            Diagnosis::Problem(problem) => return Some(problem),
            Diagnosis::Unexplained { pod, uid } => (pod, uid),
        };
        let path = paths::warnings(namespace, &uid);
        if self.shared.is_refused(EVENTS, namespace, (self.clock)()) {
            return None;
        }
        let reply = self.shared.client.calls().list(&path, CAP).ok()?;
        // This permission is optional too, and says less.
        if reply.status == 403 {
            self.shared
                .refuse(EVENTS, namespace, (self.clock)() + REFUSED_FOR);
        }
        let body = reply.is_success().then_some(&reply.body)?;
        pod_problem::warning(body, &pod, &uid)
    }
}

impl State {
    fn is_refused(&self, resource: &'static str, namespace: &str, now: Time) -> bool {
        let until = self.refused.get(&(resource, namespace.to_owned()));
        until.is_some_and(|&until| now < until)
    }
}

impl Shared {
    fn is_refused(&self, resource: &'static str, namespace: &str, now: Time) -> bool {
        lock(&self.state).is_refused(resource, namespace, now)
    }

    fn refuse(&self, resource: &'static str, namespace: &str, until: Time) {
        let mut state = lock(&self.state);
        state
            .refused
            .insert((resource, namespace.to_owned()), until);
    }

    /// The next one; if there is none, the thread that asks is one no more, and its connection is
    /// closed before another thread may begin.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        let next = state.waiting.pop_front();
        state.has_thread = next.is_some();
        if next.is_none() {
            self.client.cancel();
        }
        next
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::credentials::Credentials;
    use super::super::testing::{self, DEADLINE};
    use super::*;

    fn reader(
        answer: impl Fn(&str) -> (u16, &'static str) + Send + Sync + 'static,
    ) -> (PodReader, mpsc::Receiver<String>) {
        let (sender, asked) = mpsc::channel();
        let address = testing::serve(move |request, stream| {
            sender.send(request.target.clone()).unwrap();
            let (status, body) = answer(&request.target);
            testing::reply(stream, status, "", body)
        });
        let credentials = Credentials::new(testing::access(address), testing::clock).unwrap();
        let client = Client::new(Arc::new(credentials), Arc::default());
        (PodReader::new(client, testing::clock), asked)
    }

    fn read(reader: &PodReader, app: AppKey) -> mpsc::Receiver<Report> {
        let (sender, reports) = mpsc::channel();
        reader.read(Job {
            app,
            namespace: "default".to_owned(),
            selector: "app=myapp".to_owned(),
            report: Box::new(move |report| sender.send(report).unwrap()),
        });
        reports
    }

    #[test]
    fn pods_are_listed_by_the_selector_and_events_by_the_uid_of_the_pod_that_is_not_explained() {
        let (reader, asked) = reader(|target| {
            (
                200,
                match target.contains("/pods") {
                    true => r#"{"items":[{"metadata":{"name":"a","uid":"7"}}]}"#,
                    false => r#"{"items":[{"reason":"Unhealthy","message":"503"}]}"#,
                },
            )
        });
        let reports = read(&reader, 1);
        let Report::PodsRead(read) = reports.recv_timeout(DEADLINE).unwrap() else {
            panic!("what the pods show");
        };
        assert_eq!(read.problem.unwrap().text, "pod a: Unhealthy: 503");
        assert_eq!(read.uids, ["7".to_owned()].into());
        assert_eq!(
            asked.try_iter().collect::<Vec<_>>(),
            [
                "/api/v1/namespaces/default/pods?labelSelector=app%3Dmyapp&fieldSelector=status.phase%21%3DFailed%2C\
                 status.phase%21%3DSucceeded&limit=20",
                "/api/v1/namespaces/default/events?fieldSelector=involvedObject.uid%3D7%2C\
                 type%3DWarning&limit=100",
            ]
        );
    }

    #[test]
    fn the_pods_of_many_apps_are_read_at_most_ten_times_in_a_second() {
        let (reader, asked) = reader(|_| (200, r#"{"items":[]}"#));
        let began = testing::clock();
        let reports: Vec<_> = (0..5).map(|app| read(&reader, app)).collect();
        for report in reports {
            report.recv_timeout(DEADLINE).unwrap();
        }
        assert!(testing::clock().since(began) >= PAUSE * 4);
        assert_eq!(asked.try_iter().count(), 5);
    }

    #[test]
    fn what_may_not_be_read_is_not_asked_for_again_for_a_while_and_a_failure_is_no_report() {
        let (refused, asked) = reader(|_| (403, r#"{"message":"no"}"#));
        let reports = read(&refused, 1);
        let nothing = Report::PodsRead(PodsRead::default());
        assert_eq!(reports.recv_timeout(DEADLINE), Ok(nothing));
        let again = read(&refused, 2);
        assert!(again.recv().is_err(), "the job was dropped");
        assert_eq!(asked.try_iter().count(), 1);
        let (failing, _asked) = reader(|_| (500, ""));
        assert!(read(&failing, 1).recv().is_err(), "what is known stays");
        while lock(&failing.shared.state).has_thread {
            thread::yield_now();
        }
    }
}
