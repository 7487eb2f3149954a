use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::super::credentials::Credentials;
use super::super::scheduler::SPARE_AFTER;
use super::super::testing::{
    self, Asked, DEADLINE, access, hang, recorded_body, recorded_reply, recorded_target, reply,
    serve,
};
use super::*;
use crate::cluster::{
    AnnotationOverrides, LeaseStore, LeaseToken, Outcome, Renewal, ResourceVersion, Scale,
};

fn write_to(replicas: u32) -> Request {
    Request::WriteScale {
        replicas,
        guard: ResourceVersion("10295".into()),
    }
}

fn renewal() -> Request {
    Request::RenewLease(Renewal {
        nonce: 0x3f2a,
        ttl: Duration::from_secs(300),
        in_use: true,
        previous_replicas: None,
        guard: None,
        store: LeaseStore::Status,
    })
}

/// The executor alone, and what it reports.
fn executor(server: SocketAddr) -> (Closing, Receiver<(u64, Outcome)>) {
    let target = TargetClient::new(&testing::config(), testing::writer());
    let credentials = Credentials::new(access(server), testing::clock).unwrap();
    let (sender, receiver) = mpsc::channel();
    let report = move |report| {
        if let Report::Reply { id, outcome } = report {
            let _ = sender.send((id, outcome));
        }
    };
    let credentials = Arc::new(credentials);
    let client = || Client::new(credentials.clone(), Arc::default());
    let queue = spawn([client(), client()], testing::clock).unwrap();
    let (app, _) = queue.add(target, report);
    (Closing { queue, app }, receiver)
}

struct Closing {
    queue: Arc<RequestQueue>,
    app: AppKey,
}

impl Closing {
    fn put(&self, id: u64, request: Request) {
        self.queue.put(self.app, id, request);
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn outcome_of(request: Request, server: SocketAddr) -> Outcome {
    let (queue, replies) = executor(server);
    queue.put(7, request);
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
        (401, "", Outcome::Unauthorized),
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
        for request in [write_to(0), renewal()] {
            let server = answering(status, headers, recorded_body("12-scale-patch-conflict"));
            let label = format!("{request:?} {status} {headers}");
            assert_eq!(outcome_of(request, server), outcome, "{label}");
        }
    }
}

#[test]
fn a_recorded_scale_comes_back_from_a_guarded_patch() {
    let server = serve(|asked, stream| {
        let good = asked.method == "PATCH"
            && asked.target == "/apis/apps/v1/namespaces/default/deployments/myapp/scale"
            && asked.body == r#"{"metadata":{"resourceVersion":"10295"},"spec":{"replicas":1}}"#;
        let name = if good {
            "10-scale-patch-to-one"
        } else {
            "27-bad-json"
        };
        let _ = stream.write_all(&recorded_reply(name));
        false
    });
    let scale = Scale::of(1, "10299");
    assert_eq!(outcome_of(write_to(1), server), Outcome::Scale(scale));
}

#[test]
fn a_renewal_shows_the_deployment() {
    let server = serve(|asked, stream| {
        let good =
            asked.method == "PATCH" && asked.target == recorded_target("16-status-patch-condition");
        let name = if good {
            "16-status-patch-condition"
        } else {
            "27-bad-json"
        };
        let _ = stream.write_all(&recorded_reply(name));
        false
    });
    let scale = Scale {
        lease_token: Some(LeaseToken(r#""zpa-5d9c7 3f2a" """#.into())),
        generation: Some(2),
        overrides: Some(AnnotationOverrides::default()),
        ..Scale::of(1, "10320")
    };
    assert_eq!(outcome_of(renewal(), server), Outcome::Scale(scale));
}

#[test]
fn a_refused_connection_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(outcome_of(write_to(1), server), Outcome::Unreachable);
}

#[test]
fn a_write_or_an_renewal_whose_reply_is_lost_is_unknown_and_not_sent_again() {
    for request in [write_to(1), renewal()] {
        let (sender, asked) = mpsc::channel();
        let server = serve(move |one, _| {
            let _ = sender.send(one.method.clone());
            false
        });
        let unknown = Outcome::Unknown { retry_after: None };
        assert_eq!(outcome_of(request.clone(), server), unknown, "{request:?}");
        assert_eq!(asked.try_iter().count(), 1, "{request:?}");
    }
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
    let server = serve(|_, stream| reply(stream, 200, "", &" ".repeat((4 << 20) + 1)));
    let unknown = Outcome::Unknown { retry_after: None };
    assert_eq!(outcome_of(Request::Read, server), unknown);
}

#[test]
fn on_a_connection_that_the_server_closed_a_read_is_tried_again_and_nothing_else() {
    // Each connection answers one request, and is closed on the second.
    let seen = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let server = serve(move |_, stream| {
        let first = seen.lock().unwrap().insert(stream.peer_addr().unwrap());
        let body = String::from_utf8(recorded_body("13-scale-get-one")).unwrap();
        first && reply(stream, 200, "", &body)
    });
    let (queue, replies) = executor(server);
    let ask = |request| {
        queue.put(1, request);
        replies.recv_timeout(DEADLINE).unwrap().1
    };
    assert!(matches!(ask(Request::Read), Outcome::Scale(_)));
    assert!(
        matches!(ask(Request::Read), Outcome::Scale(_)),
        "tried again"
    );
    assert_eq!(ask(write_to(0)), Outcome::Unknown { retry_after: None });
}

#[test]
fn what_is_urgent_supersedes_a_read_that_hangs_and_the_read_gets_no_reply() {
    let (sender, asked) = mpsc::channel();
    let server = serve(move |one: &Asked, stream| {
        let _ = sender.send(one.method.clone());
        if one.method == "GET" {
            return hang(stream);
        }
        let body = String::from_utf8(recorded_body("10-scale-patch-to-one")).unwrap();
        reply(stream, 200, "", &body)
    });
    let (queue, replies) = executor(server);
    for round in 0..20 {
        queue.put(round * 2, Request::Read);
        assert_eq!(asked.recv_timeout(DEADLINE).unwrap(), "GET");
        let early = asked.recv_timeout(SPARE_AFTER);
        assert!(
            early.is_err(),
            "the read is out for as long as a read may be"
        );
        let urgent = [write_to(1), renewal()][round as usize % 2].clone();
        queue.put(round * 2 + 1, urgent);
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
    let client = Arc::new(Client::new(Arc::new(credentials), Arc::default()));
    let ours = client.clone();
    let reader = std::thread::spawn(move || ours.calls().get("/", 10).is_err());
    asked.recv_timeout(DEADLINE).unwrap();
    client.cancel();
    assert!(
        reader.join().unwrap(),
        "the server would never have answered"
    );
}

/// A server on which the first requests hang, and what was sent to it.
fn hanging(requests: usize) -> (SocketAddr, Receiver<String>) {
    let (sender, asked) = mpsc::channel();
    let left = AtomicUsize::new(requests);
    let server = serve(move |one: &Asked, stream| {
        // Before the test hears of it, or its next request could be the one that hangs.
        let hangs = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        let _ = sender.send(one.body.clone());
        if hangs.is_ok() {
            return hang(stream);
        }
        let body = String::from_utf8(recorded_body("10-scale-patch-to-one")).unwrap();
        reply(stream, 200, "", &body)
    });
    (server, asked)
}

/// The renewal before a sleep.
fn last_renewal() -> Request {
    let Request::RenewLease(renewal) = renewal() else {
        panic!("a renewal");
    };
    Request::RenewLease(Renewal {
        guard: Some(ResourceVersion("10295".into())),
        ..renewal
    })
}

#[test]
fn a_write_that_hangs_on_one_connection_is_answered_on_the_other() {
    for (label, request, is_same) in [
        ("a wake", write_to(1), true),
        ("a sleep", write_to(0), true),
        ("the renewal before it", last_renewal(), true),
        (
            "a renewal, whose token must not come back",
            renewal(),
            false,
        ),
    ] {
        let (server, asked) = hanging(1);
        let (queue, replies) = executor(server);
        queue.put(1, request);
        let (id, outcome) = replies.recv_timeout(DEADLINE).unwrap();
        assert_eq!(id, 1, "{label}");
        assert!(matches!(outcome, Outcome::Scale(_)), "{label}: {outcome:?}");
        let sent: Vec<_> = asked.try_iter().collect();
        assert_eq!(sent.len(), 2, "{label}");
        assert_eq!(sent[0] == sent[1], is_same, "{label}: {sent:?}");
        queue.put(2, Request::Read);
        assert_eq!(replies.recv_timeout(DEADLINE).unwrap().0, 2, "{label}");
    }
}

#[test]
fn a_write_that_hangs_on_both_connections_is_in_the_way_of_nothing() {
    for request in [write_to(1), write_to(0), last_renewal(), renewal()] {
        let (server, asked) = hanging(2);
        let (queue, replies) = executor(server);
        queue.put(1, request);
        for _ in 0..2 {
            asked.recv_timeout(DEADLINE).unwrap();
        }
        queue.put(2, Request::Read);
        let (id, outcome) = replies.recv_timeout(DEADLINE).unwrap();
        assert_eq!(id, 2);
        assert!(matches!(outcome, Outcome::Scale(_)), "{outcome:?}");
    }
}

#[test]
fn a_periodic_task_is_done_at_its_interval_and_one_that_blocks_leaves_a_worker_for_requests() {
    let (server, _asked) = hanging(0);
    let (queue, replies) = executor(server);
    let (called, calls) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let periodic_task = move || {
        let _ = called.send(());
        // Until the test has ended.
        let _ = released.recv();
    };
    let every = Duration::from_millis(1);
    queue
        .queue
        .set_periodic_task(every, periodic_task, testing::clock())
        .unwrap();
    for id in 0..3 {
        calls.recv_timeout(DEADLINE).unwrap();
        for request in [write_to(1), Request::Read] {
            queue.put(id, request);
            let (replied, _) = replies.recv_timeout(DEADLINE).unwrap();
            assert_eq!(replied, id);
        }
        release.send(()).unwrap();
    }
}

#[test]
fn in_an_outage_an_app_has_the_answer_of_others_and_one_with_clients_is_sent() {
    let (sender, asked) = mpsc::channel();
    let server = serve(move |one: &Asked, _| {
        let _ = sender.send(one.method.clone());
        false
    });
    let (queue, replies) = executor(server);
    let target = || TargetClient::new(&testing::config(), testing::writer());
    let (reports, received) = mpsc::channel();
    let add = || {
        let reports = reports.clone();
        let (app, _) = queue.queue.add(target(), move |report| {
            let _ = reports.send(report);
        });
        app
    };
    let others = [add(), add()];
    let unknown = Outcome::Unknown { retry_after: None };
    let outcome = || loop {
        if let Report::Reply { outcome, .. } = received.recv_timeout(DEADLINE).unwrap() {
            return outcome;
        }
    };
    queue.put(1, write_to(0));
    assert_eq!(replies.recv_timeout(DEADLINE).unwrap().1, unknown);
    queue.queue.put(others[0], 2, write_to(0));
    assert_eq!(outcome(), unknown);
    assert_eq!(asked.try_iter().count(), 2);

    // More often than the longest pause would allow, should the test be slow.
    let untried = (0..5).filter(|_| {
        queue.queue.put(others[1], 3, write_to(0));
        outcome() == Outcome::Unreachable
    });
    assert!(untried.count() > 0, "it was not sent");
    queue.queue.set_waiting(others[1], true);
    while outcome_after(&queue, others[1], &outcome) == Outcome::Unreachable {}
}

fn outcome_after(queue: &Closing, app: AppKey, outcome: &dyn Fn() -> Outcome) -> Outcome {
    queue.queue.put(app, 4, write_to(0));
    outcome()
}

/// A wake that is given up is not cut off: it is answered after the read that comes next, and shows
/// then what it has written.
#[test]
fn a_wake_that_was_given_up_is_observed_when_it_is_applied_after_all() {
    let (reached, at_server) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let server = serve(move |asked, stream| {
        if asked.method != "PATCH" {
            let body = recorded_body("03-deployment-get-zero");
            return reply(stream, 200, "", &String::from_utf8(body).unwrap());
        }
        reached.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        let body = recorded_body("10-scale-patch-to-one");
        reply(stream, 200, "", &String::from_utf8(body).unwrap())
    });
    let target = TargetClient::new(&testing::config(), testing::writer());
    let credentials = Arc::new(Credentials::new(access(server), testing::clock).unwrap());
    let client = || Client::new(credentials.clone(), Arc::default());
    let queue = spawn([client(), client()], testing::clock).unwrap();
    let (sender, reports) = mpsc::channel();
    let (app, _) = queue.add(target, move |report| drop(sender.send(report)));
    let queue = Closing { queue, app };
    let replicas = |wanted: fn(&Report) -> Option<&Scale>| loop {
        let report = reports.recv_timeout(DEADLINE).unwrap();
        if let Some(scale) = wanted(&report) {
            return scale.replicas;
        }
    };
    queue.put(1, write_to(1));
    at_server.recv_timeout(DEADLINE).unwrap();
    queue.put(2, Request::Read);
    let read = replicas(|report| match report {
        Report::Reply {
            id: 2,
            outcome: Outcome::Scale(scale),
        } => Some(scale),
        _ => None,
    });
    assert_eq!(read, 0);
    release.send(()).unwrap();
    let observed = replicas(|report| match report {
        Report::Observed(Observation::Scale(scale)) => Some(scale),
        _ => None,
    });
    assert_eq!(observed, 1);
}
