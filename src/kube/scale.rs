//! The executor of the policy's requests.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::Level;

use super::client::{Client, Failure, Reply};
use super::credentials::Credentials;
use super::objects;
use super::text::{Notice, printable};
use super::{Config, Report};
use crate::clock::{Clock, Time};
use crate::cluster::{Outcome, Request};

/// How long a write waits for a read that is out, before it overtakes it. A
/// healthy server answers sooner, and its connection is worth keeping; but a
/// write is somebody's cold start.
const PATIENCE: Duration = Duration::from_millis(4);
/// The largest Scale, in bytes.
const SCALE_BODY: u64 = 64 * 1024;

/// Two workers, of which one works and the other stands by.
type Worker = usize;
const WORKERS: usize = 2;

/// A request on its way.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    id: u64,
    request: Request,
}

/// A request that a worker is at.
#[derive(Debug)]
struct Out {
    write: bool,
    since: Time,
    /// A write has gone past it: its end interests nobody.
    overtaken: bool,
}

/// Who does what: pure, so that the rule is tested without threads.
#[derive(Debug, Default)]
struct Duty {
    waiting: Option<Job>,
    out: [Option<Out>; WORKERS],
    /// Whose connection is warm.
    active: Worker,
    closed: bool,
}

/// What a worker is to do.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    /// Execute this; and first, if so said, cancel what the other one is at.
    Execute { job: Job, cancel_other: bool },
    /// Wait for a change, at most so long.
    Wait(Option<Duration>),
    /// There is nothing more to do, ever.
    End,
}

impl Duty {
    /// What `worker`, who is at nothing, is to do.
    fn order(&mut self, worker: Worker, now: Time) -> Order {
        if self.closed {
            return Order::End;
        }
        let Some(job) = &self.waiting else {
            return Order::Wait(None);
        };
        let mut cancel_other = false;
        match &mut self.out[1 - worker] {
            None if self.active != worker => return Order::Wait(None),
            None => {}
            Some(other) if other.overtaken => {}
            Some(other) if other.write || !is_write(&job.request) => return Order::Wait(None),
            Some(other) => {
                let patience = PATIENCE.saturating_sub(now.since(other.since));
                if !patience.is_zero() {
                    return Order::Wait(Some(patience));
                }
                other.overtaken = true;
                cancel_other = true;
            }
        }
        self.begin(worker, now, cancel_other)
    }

    fn begin(&mut self, worker: Worker, now: Time, cancel_other: bool) -> Order {
        let Some(job) = self.waiting.take() else {
            return Order::Wait(None);
        };
        self.active = worker;
        self.out[worker] = Some(Out {
            write: is_write(&job.request),
            since: now,
            overtaken: false,
        });
        Order::Execute { job, cancel_other }
    }

    /// `worker` is done; whether its reply is to be given.
    fn done(&mut self, worker: Worker) -> bool {
        let out = self.out[worker].take();
        out.is_some_and(|out| !out.overtaken)
    }
}

fn is_write(request: &Request) -> bool {
    matches!(request, Request::WriteScale { .. })
}

/// Where requests are put, and where the workers find them.
pub(super) struct Desk {
    duty: Mutex<Duty>,
    changed: Condvar,
    clients: [Client; WORKERS],
    /// For reads, and for writes.
    notices: Mutex<[Notice; 2]>,
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

    fn say(&self, request: &Request, result: &Result<Reply, Failure>) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        say(
            &mut notices[usize::from(is_write(request))],
            request,
            result,
        );
    }

    fn duty(&self) -> MutexGuard<'_, Duty> {
        self.duty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the workers.
pub(super) fn spawn(
    config: &Config,
    credentials: &Arc<Credentials>,
    clock: Clock,
    report: &(impl Fn(Report) + Send + Clone + 'static),
) -> io::Result<Arc<Desk>> {
    let desk = Arc::new(Desk {
        duty: Mutex::default(),
        changed: Condvar::new(),
        clients: [
            Client::new(credentials.clone()),
            Client::new(credentials.clone()),
        ],
        notices: Mutex::default(),
    });
    let path = super::paths::scale(&config.namespace, &config.deployment);
    for (worker, name) in ["zpa-api", "zpa-api-spare"].into_iter().enumerate() {
        let (ours, path, report) = (desk.clone(), path.clone(), report.clone());
        let started = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(&ours, worker, &path, clock, &report));
        if let Err(cause) = started {
            desk.close();
            return Err(cause);
        }
    }
    Ok(desk)
}

fn work(desk: &Desk, worker: Worker, path: &str, clock: Clock, report: &impl Fn(Report)) {
    while let Some((job, cancel_other)) = desk.next(worker, clock) {
        if cancel_other {
            desk.clients[1 - worker].cancel();
        }
        let result = execute(&desk.clients[worker], path, &job.request);
        if !desk.done(worker) {
            continue;
        }
        desk.say(&job.request, &result);
        report(Report::Reply {
            id: job.id,
            outcome: classify(&result),
        });
    }
}

fn execute(client: &Client, path: &str, request: &Request) -> Result<Reply, Failure> {
    let calls = client.calls();
    match request {
        Request::ReadScale => calls.get(path, SCALE_BODY),
        Request::WriteScale { replicas, guard } => {
            let patch = serde_json::json!({
                "metadata": { "resourceVersion": guard.0 },
                "spec": { "replicas": replicas },
            });
            calls.patch(path, &patch.to_string(), SCALE_BODY)
        }
    }
}

/// What a reply, or the lack of one, means.
fn classify(result: &Result<Reply, Failure>) -> Outcome {
    let reply = match result {
        Ok(reply) => reply,
        Err(Failure { sent: false, .. }) => return Outcome::Unreachable,
        Err(_) => return Outcome::Unknown { retry_after: None },
    };
    let retry_after = reply.retry_after;
    match reply.status {
        200..=299 => match objects::scale(&reply.body) {
            Some(scale) => Outcome::Scale(scale),
            None => Outcome::Unknown { retry_after },
        },
        401 | 403 => Outcome::Forbidden,
        404 => Outcome::NotFound,
        409 => Outcome::Conflict,
        429 => Outcome::Busy { retry_after },
        _ => Outcome::Unknown { retry_after },
    }
}

/// A line for each change of what comes back; a conflict is everyday.
fn say(notice: &mut Notice, request: &Request, result: &Result<Reply, Failure>) {
    let what = match request {
        Request::ReadScale => "reading the scale".to_owned(),
        Request::WriteScale { replicas, .. } => format!("setting the scale to {replicas}"),
    };
    let (level, kind) = match classify(result) {
        Outcome::Scale(_) => return notice.clear(&format!("{what}: works again")),
        Outcome::Conflict => return log::debug!("{what}: the Deployment has changed meanwhile"),
        Outcome::Forbidden => (Level::Error, "forbidden"),
        Outcome::NotFound => (Level::Error, "not found"),
        Outcome::Busy { .. } => (Level::Warn, "busy"),
        Outcome::Unreachable => (Level::Warn, "unreachable"),
        Outcome::Unknown { .. } => (Level::Warn, "unknown"),
    };
    notice.raise(level, kind, &format!("{what}: {}", explanation(result)));
}

fn explanation(result: &Result<Reply, Failure>) -> String {
    match result {
        Ok(reply) if reply.is_success() => {
            let body = printable(&String::from_utf8_lossy(&reply.body));
            format!("{}, but no Scale in the body: {body}", reply.status)
        }
        Ok(reply) => reply.explanation(),
        Err(failure) if failure.sent => {
            format!("no reply from the API server: {}", failure.text)
        }
        Err(failure) => format!("the API server cannot be reached: {}", failure.text),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};
    use std::sync::mpsc::{self, Receiver};

    use super::super::testing::{
        self, Asked, DEADLINE, access, hang, recorded_body, recorded_reply, reply, serve,
    };
    use super::*;
    use crate::cluster::{ResourceVersion, Scale};

    fn write_to(replicas: u32) -> Request {
        Request::WriteScale {
            replicas,
            guard: ResourceVersion("10295".into()),
        }
    }

    fn config(server: SocketAddr) -> Config {
        Config {
            access: access(server),
            namespace: "default".into(),
            deployment: "myapp".into(),
            service: "myapp".into(),
            port: None,
        }
    }

    /// The executor alone, and what it reports.
    fn executor(server: SocketAddr) -> (Closing, Receiver<(u64, Outcome)>) {
        let config = config(server);
        let credentials = Credentials::new(config.access.clone(), testing::clock).unwrap();
        let (sender, receiver) = mpsc::channel();
        let report = move |report| {
            if let Report::Reply { id, outcome } = report {
                let _ = sender.send((id, outcome));
            }
        };
        let desk = spawn(&config, &Arc::new(credentials), testing::clock, &report).unwrap();
        (Closing(desk), receiver)
    }

    struct Closing(Arc<Desk>);

    impl Drop for Closing {
        fn drop(&mut self) {
            self.0.close();
        }
    }

    fn outcome_of(request: Request, server: SocketAddr) -> Outcome {
        let (desk, replies) = executor(server);
        desk.0.put(7, request);
        let (id, outcome) = replies.recv_timeout(DEADLINE).unwrap();
        assert_eq!(id, 7);
        outcome
    }

    fn answering(status: u16, headers: &'static str, body: Vec<u8>) -> SocketAddr {
        let body = String::from_utf8(body).unwrap();
        serve(move |_, stream| reply(stream, status, headers, &body))
    }

    #[test]
    fn every_reply_is_classified_as_documented() {
        let unknown = |seconds: Option<u64>| Outcome::Unknown {
            retry_after: seconds.map(Duration::from_secs),
        };
        let busy = |seconds: Option<u64>| Outcome::Busy {
            retry_after: seconds.map(Duration::from_secs),
        };
        let after = "Retry-After: 7\r\n";
        for (status, headers, outcome) in [
            (400, "", unknown(None)),
            (401, "", Outcome::Forbidden),
            (403, "", Outcome::Forbidden),
            (404, "", Outcome::NotFound),
            (409, "", Outcome::Conflict),
            (410, "", unknown(None)),
            (415, "", unknown(None)),
            (422, "", unknown(None)),
            (429, after, busy(Some(7))),
            (
                429,
                "Retry-After: Sun, 22 Nov 2026 02:12:57 GMT\r\n",
                busy(None),
            ),
            (429, "Retry-After: 86400\r\n", busy(Some(300))),
            (500, "", unknown(None)),
            (503, after, unknown(Some(7))),
            (302, "Location: http://127.0.0.1:1/\r\n", unknown(None)),
            (200, "", unknown(None)),
        ] {
            let server = answering(status, headers, recorded_body("12-scale-patch-conflict"));
            assert_eq!(
                outcome_of(write_to(0), server),
                outcome,
                "{status} {headers}"
            );
        }
    }

    #[test]
    fn a_recorded_scale_comes_back_from_a_guarded_patch() {
        let server = serve(|asked, stream| {
            let good = asked.method == "PATCH"
                && asked.target == "/apis/apps/v1/namespaces/default/deployments/myapp/scale"
                && asked.body
                    == r#"{"metadata":{"resourceVersion":"10295"},"spec":{"replicas":1}}"#;
            let name = if good {
                "10-scale-patch-to-one"
            } else {
                "27-bad-json"
            };
            let _ = stream.write_all(&recorded_reply(name));
            false
        });
        let scale = Scale {
            replicas: 1,
            version: ResourceVersion("10299".into()),
        };
        assert_eq!(outcome_of(write_to(1), server), Outcome::Scale(scale));
    }

    #[test]
    fn a_refused_connection_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(outcome_of(write_to(1), server), Outcome::Unreachable);
    }

    #[test]
    fn a_write_whose_reply_is_lost_is_unknown_and_not_sent_again() {
        let (sender, asked) = mpsc::channel();
        let server = serve(move |one, _| {
            let _ = sender.send(one.method.clone());
            false
        });
        let unknown = Outcome::Unknown { retry_after: None };
        assert_eq!(outcome_of(write_to(1), server), unknown);
        assert_eq!(asked.try_iter().count(), 1);
    }

    #[test]
    fn a_reply_cut_in_its_body_is_unknown() {
        let server = serve(|_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{\"kind\":");
            false
        });
        let unknown = Outcome::Unknown { retry_after: None };
        assert_eq!(outcome_of(write_to(1), server), unknown);
    }

    #[test]
    fn a_body_beyond_the_cap_is_unknown() {
        let server = serve(|_, stream| reply(stream, 200, "", &" ".repeat(70_000)));
        let unknown = Outcome::Unknown { retry_after: None };
        assert_eq!(outcome_of(Request::ReadScale, server), unknown);
    }

    #[test]
    fn a_read_on_a_connection_that_the_server_closed_is_tried_again_a_write_is_not() {
        // Each connection answers one request, and is closed on the second.
        let seen = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let server = serve(move |_, stream| {
            let first = seen.lock().unwrap().insert(stream.peer_addr().unwrap());
            let body = String::from_utf8(recorded_body("13-scale-get-one")).unwrap();
            first && reply(stream, 200, "", &body)
        });
        let (desk, replies) = executor(server);
        let ask = |request| {
            desk.0.put(1, request);
            replies.recv_timeout(DEADLINE).unwrap().1
        };
        assert!(matches!(ask(Request::ReadScale), Outcome::Scale(_)));
        assert!(
            matches!(ask(Request::ReadScale), Outcome::Scale(_)),
            "tried again"
        );
        assert_eq!(ask(write_to(0)), Outcome::Unknown { retry_after: None });
    }

    #[test]
    fn a_write_overtakes_a_read_that_hangs_and_the_read_gets_no_reply() {
        let (sender, asked) = mpsc::channel();
        let server = serve(move |one: &Asked, stream| {
            let _ = sender.send(one.method.clone());
            if one.method == "GET" {
                return hang(stream);
            }
            let body = String::from_utf8(recorded_body("10-scale-patch-to-one")).unwrap();
            reply(stream, 200, "", &body)
        });
        let (desk, replies) = executor(server);
        for round in 0..20 {
            desk.0.put(round * 2, Request::ReadScale);
            assert_eq!(asked.recv_timeout(DEADLINE).unwrap(), "GET");
            let early = asked.recv_timeout(PATIENCE);
            assert!(
                early.is_err(),
                "the read is out for as long as a read may be"
            );
            desk.0.put(round * 2 + 1, write_to(1));
            assert_eq!(asked.recv_timeout(DEADLINE).unwrap(), "PATCH");
            let (id, outcome) = replies.recv_timeout(DEADLINE).unwrap();
            assert_eq!(id, round * 2 + 1);
            assert!(matches!(outcome, Outcome::Scale(_)));
        }
    }

    #[test]
    fn cancelling_frees_a_blocked_read_at_once() {
        let (sender, asked) = mpsc::channel();
        let server = serve(move |_, stream| {
            let _ = sender.send(());
            hang(stream)
        });
        let credentials = Credentials::new(access(server), testing::clock).unwrap();
        let client = Arc::new(Client::new(Arc::new(credentials)));
        let ours = client.clone();
        let reader = thread::spawn(move || ours.calls().get("/", 10).is_err());
        asked.recv_timeout(DEADLINE).unwrap();
        client.cancel();
        assert!(
            reader.join().unwrap(),
            "the server would never have answered"
        );
    }

    #[test]
    fn a_401_is_tried_once_more_with_the_token_as_it_is_now() {
        let directory = testing::Directory::new("token");
        let path = directory.write("token", "old");
        let rotated = path.clone();
        let server = serve(move |asked, stream| {
            if asked.token.as_deref() == Some("new") {
                let body = String::from_utf8(recorded_body("13-scale-get-one")).unwrap();
                return reply(stream, 200, "", &body);
            }
            std::fs::write(&rotated, "new\n").unwrap();
            let body = String::from_utf8(recorded_body("22-unauthorized-bad-token")).unwrap();
            reply(stream, 401, "", &body)
        });
        let mut access = access(server);
        access.token = super::super::access::TokenSource::File(path);
        let credentials = Credentials::new(access, testing::clock).unwrap();
        let client = Client::new(Arc::new(credentials));
        let result = execute(&client, "/scale", &Request::ReadScale);
        assert!(matches!(classify(&result), Outcome::Scale(_)));
    }

    fn duty_with(request: Request) -> Duty {
        Duty {
            waiting: Some(Job { id: 1, request }),
            ..Duty::default()
        }
    }

    fn take(duty: &mut Duty, worker: Worker, ms: u64) -> Option<(u64, bool)> {
        match duty.order(worker, Time::from_millis(ms)) {
            Order::Execute { job, cancel_other } => Some((job.id, cancel_other)),
            _ => None,
        }
    }

    #[test]
    fn the_worker_with_the_warm_connection_works_and_the_other_stands_by() {
        let mut duty = duty_with(Request::ReadScale);
        assert_eq!(duty.order(1, Time::from_millis(0)), Order::Wait(None));
        assert_eq!(take(&mut duty, 0, 0), Some((1, false)));
        assert!(duty.done(0));
    }

    #[test]
    fn a_write_waits_4_ms_for_a_read_and_then_overtakes_it() {
        let mut duty = duty_with(Request::ReadScale);
        assert_eq!(take(&mut duty, 0, 100), Some((1, false)));
        duty.waiting = Some(Job {
            id: 2,
            request: write_to(1),
        });
        let left = Some(Duration::from_millis(1));
        assert_eq!(duty.order(1, Time::from_millis(103)), Order::Wait(left));
        assert_eq!(take(&mut duty, 1, 104), Some((2, true)));
        assert!(!duty.done(0), "the read is overtaken");
        assert!(duty.done(1));
        duty.waiting = Some(Job {
            id: 3,
            request: Request::ReadScale,
        });
        assert_eq!(
            take(&mut duty, 0, 160),
            None,
            "the warm connection has moved"
        );
        assert_eq!(take(&mut duty, 1, 160), Some((3, false)));
    }

    #[test]
    fn nothing_overtakes_a_write_and_no_read_overtakes_a_read() {
        for (out, waiting) in [
            (write_to(1), write_to(0)),
            (write_to(1), Request::ReadScale),
            (Request::ReadScale, Request::ReadScale),
        ] {
            let mut duty = duty_with(out);
            assert_eq!(take(&mut duty, 0, 0), Some((1, false)));
            duty.waiting = Some(Job {
                id: 2,
                request: waiting,
            });
            assert_eq!(duty.order(1, Time::from_millis(60_000)), Order::Wait(None));
        }
    }

    #[test]
    fn while_an_overtaken_read_lingers_its_overtaker_goes_on() {
        let mut duty = duty_with(Request::ReadScale);
        take(&mut duty, 0, 0);
        duty.waiting = Some(Job {
            id: 2,
            request: write_to(1),
        });
        assert_eq!(take(&mut duty, 1, 50), Some((2, true)));
        assert!(duty.done(1));
        duty.waiting = Some(Job {
            id: 3,
            request: Request::ReadScale,
        });
        assert_eq!(take(&mut duty, 1, 60), Some((3, false)));
    }
}
