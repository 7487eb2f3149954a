//! [`PodReader`]: reads the pods of an app whose wake takes long, and reports what is wrong with
//! them.
//!
//! The permission is optional, and nothing waits for the answer: a thread of its own, `zpa-pods`,
//! reads them on a connection of its own, and lives only while there is something to read.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::{Level, debug};

use super::client::Client;
use super::job_queue::{JobQueue, Worker};
use super::paths;
use super::pod_problem::{self, Diagnosis};
use super::scheduler::AppKey;
use super::text::LogOnce;
use crate::clock::{Clock, Time};
use crate::cluster::{PodProblem, PodsRead, Report};

/// The largest reply, in bytes: a few pods.
const CAP: u64 = 4 * 1024 * 1024;

/// The pause after a read: at most ten are made in a second, however many apps there are and
/// however often each asks.
const PAUSE: Duration = Duration::from_millis(100);

/// The time after a refusal in which no pod of the namespace is read.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// Reads pods. Its clones are the same.
#[derive(Clone)]
pub(super) struct PodReader(JobQueue<Reader>);

/// What the thread needs to read them.
struct Reader {
    client: Client,
    clock: Clock,
    memory: Mutex<Memory>,
}

/// What is known of the permissions.
#[derive(Default)]
struct Memory {
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
        PodReader(JobQueue::new(Reader {
            client,
            clock,
            memory: Mutex::default(),
        }))
    }

    /// Has pods read, unless those of the app wait for that already, or may not be read.
    ///
    /// Never blocks.
    pub(super) fn read(&self, job: Job) {
        if self.0.worker().is_refused(PODS, &job.namespace) {
            return;
        }
        let added = self.0.change(|waiting| {
            let is_new = waiting.iter().all(|it: &Job| it.app != job.app);
            if is_new {
                waiting.push_back(job);
            }
            is_new
        });
        if let Err(why) = added {
            debug!("no thread can be started to read pods: {why}");
        }
    }
}

impl Worker for Reader {
    type Job = Job;

    const THREAD: &'static str = "zpa-pods";

    fn execute(&self, job: Job) {
        self.read(job);
        thread::sleep(PAUSE);
    }

    fn rest(&self) {
        self.client.cancel();
    }
}

impl Reader {
    fn read(&self, job: Job) {
        // One before it may have been refused meanwhile.
        if self.is_refused(PODS, &job.namespace) {
            return;
        }
        let path = paths::pods(&job.namespace, &job.selector);
        let read = match self.client.calls().list(&path, CAP) {
            Ok(reply) if reply.is_success() => {
                let mut memory = lock(&self.memory);
                let log = memory.logs.entry(job.namespace.clone()).or_default();
                log.clear(&format!("pods can be listed in {}", job.namespace));
                drop(memory);
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
        let mut memory = lock(&self.memory);
        let until = (self.clock)() + REFUSED_FOR;
        memory.refused.insert((PODS, namespace.to_owned()), until);
        let text = format!(
            "pods may not be listed ({why}): why a wake takes long is said as far as the scale \
             target and the endpoints show it"
        );
        let log = memory.logs.entry(namespace.to_owned()).or_default();
        log.raise(Level::Info, "refused", &text);
    }

    fn explain(&self, namespace: &str, diagnosis: Diagnosis) -> Option<PodProblem> {
        let (pod, uid) = match diagnosis {
            Diagnosis::Nothing => return None,
            Diagnosis::Problem(problem) => return Some(problem),
            Diagnosis::Unexplained { pod, uid } => (pod, uid),
        };
        let path = paths::warnings(namespace, &uid);
        if self.is_refused(EVENTS, namespace) {
            return None;
        }
        let reply = self.client.calls().list(&path, CAP).ok()?;
        // This permission is optional too, and says less.
        if reply.status == 403 {
            let until = (self.clock)() + REFUSED_FOR;
            let refused = (EVENTS, namespace.to_owned());
            lock(&self.memory).refused.insert(refused, until);
        }
        let body = reply.is_success().then_some(&reply.body)?;
        pod_problem::warning(body, &pod, &uid)
    }

    fn is_refused(&self, resource: &'static str, namespace: &str) -> bool {
        let memory = lock(&self.memory);
        let until = memory.refused.get(&(resource, namespace.to_owned()));
        until.is_some_and(|&until| (self.clock)() < until)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::sync::{Arc, mpsc};

    use super::super::credentials::Credentials;
    use super::super::testing::{self, DEADLINE};
    use super::*;

    fn reader(
        answer: impl Fn(&str) -> (u16, &'static str) + Send + Sync + 'static,
    ) -> (PodReader, mpsc::Receiver<String>) {
        reader_at(testing::clock, answer)
    }

    fn reader_at(
        clock: Clock,
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
        (PodReader::new(client, clock), asked)
    }

    /// A reader whose server answers once the third is dropped.
    fn gated_reader(
        status: u16,
        body: &'static str,
    ) -> (PodReader, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (go, gate) = mpsc::channel();
        let gate = Mutex::new(gate);
        let (reader, asked) = reader(move |_| {
            let _: Result<(), _> = lock(&gate).recv_timeout(DEADLINE);
            (status, body)
        });
        (reader, asked, go)
    }

    fn read(reader: &PodReader, app: AppKey) -> mpsc::Receiver<Report> {
        read_in(reader, app, "default")
    }

    fn read_in(reader: &PodReader, app: AppKey, namespace: &str) -> mpsc::Receiver<Report> {
        let (sender, reports) = mpsc::channel();
        reader.read(Job {
            app,
            namespace: namespace.to_owned(),
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

    /// What is asked for when the pods are read, and who is refused.
    fn asked_for(asked: &mpsc::Receiver<String>) -> Vec<&'static str> {
        let is_events = |target: String| target.contains("/events");
        let name = |is_events| if is_events { EVENTS } else { PODS };
        asked.try_iter().map(is_events).map(name).collect()
    }

    #[test]
    fn events_that_may_not_be_read_are_not_asked_for_again_for_five_minutes_in_that_namespace() {
        static LATER: AtomicU64 = AtomicU64::new(0);
        let clock = || testing::clock() + Duration::from_secs(LATER.load(SeqCst));
        let (reader, asked) = reader_at(clock, |target| match target.contains("/pods") {
            true => (200, r#"{"items":[{"metadata":{"name":"a","uid":"7"}}]}"#),
            false => (403, r#"{"message":"no"}"#),
        });
        let next = |seconds, namespace| {
            LATER.store(seconds, SeqCst);
            let reports = read_in(&reader, 1, namespace);
            let Report::PodsRead(read) = reports.recv_timeout(DEADLINE).unwrap() else {
                panic!("what the pods show");
            };
            assert_eq!(read.problem, None);
            asked_for(&asked)
        };
        assert_eq!(next(0, "a"), [PODS, EVENTS]);
        assert_eq!(next(290, "a"), [PODS]);
        assert_eq!(next(290, "b"), [PODS, EVENTS], "a permission of its own");
        assert_eq!(next(400, "a"), [PODS, EVENTS]);
    }

    #[test]
    fn pods_that_may_not_be_read_are_asked_for_again_after_five_minutes() {
        static LATER: AtomicU64 = AtomicU64::new(0);
        let clock = || testing::clock() + Duration::from_secs(LATER.load(SeqCst));
        let (reader, asked) = reader_at(clock, |_| (403, r#"{"message":"no"}"#));
        let next = |seconds| {
            LATER.store(seconds, SeqCst);
            let _ = read(&reader, 1).recv_timeout(DEADLINE);
            asked_for(&asked).len()
        };
        assert_eq!([next(0), next(290), next(400)], [1, 0, 1]);
    }

    /// The second has waited behind the one that was refused.
    #[test]
    fn a_refusal_holds_for_those_who_wait_already() {
        let (reader, asked, go) = gated_reader(403, r#"{"message":"no"}"#);
        let (first, second) = (read(&reader, 1), read(&reader, 2));
        drop(go);
        assert!(first.recv_timeout(DEADLINE).is_ok());
        assert!(second.recv_timeout(DEADLINE).is_err(), "it was dropped");
        assert_eq!(asked.try_iter().count(), 1);
    }

    #[test]
    fn an_app_waits_for_its_pods_once() {
        let (reader, asked, go) = gated_reader(200, r#"{"items":[]}"#);
        let first = read(&reader, 1);
        asked.recv_timeout(DEADLINE).unwrap();
        let (second, third) = (read(&reader, 2), read(&reader, 2));
        drop(go);
        assert!(first.recv_timeout(DEADLINE).is_ok());
        assert!(third.recv_timeout(DEADLINE).is_err(), "it was dropped");
        assert!(second.recv_timeout(DEADLINE).is_ok());
        assert_eq!(asked.try_iter().count(), 1);
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
        while failing.0.has_thread() {
            thread::yield_now();
        }
    }
}
