//! The thread of the reflector before a server that says what each test has it say:
//! calls that are made, cut off and cancelled. What it asks for and when is tested
//! with its core.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::super::credentials::Credentials;
use super::super::testing::{
    self, Asked, DEADLINE, begin_stream, chunk, end_stream, hang, recorded_body, recorded_lines,
    reply, serve,
};
use super::*;
use crate::cluster::{AddressSource, Pod, PortRef};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const SERVICE: &str = r#"{"spec":{"clusterIP":"10.96.3.4","ports":[{"name":"http","port":80}]}}"#;

struct Closing(Arc<RelistSignal>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A reflector of what `answer` says, and its reports.
fn reflector(
    port: Option<PortRef>,
    answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (Closing, Receiver<Report>) {
    reflector_with(None, port, answer)
}

fn reflector_with(
    silence: Option<Duration>,
    port: Option<PortRef>,
    answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (Closing, Receiver<Report>) {
    let config = WatchedApp {
        ports: vec![port],
        ..testing::config()
    };
    let credentials = Credentials::new(testing::access(serve(answer)), testing::clock).unwrap();
    let (sender, receiver) = mpsc::channel();
    let report = move |report| {
        let _ = sender.send(report);
    };
    let client = Client::new(Arc::new(credentials), Arc::default());
    let signal = Arc::new(RelistSignal::new(client));
    let core = NamedEndpoints::new(&config, 1, testing::clock());
    let mut reflector = Reflector::new(core, signal, testing::clock, report);
    reflector.caller.silence = silence.unwrap_or(reflector.caller.silence);
    let signal = reflector.spawn("zpa-endpoints", |_| {}).unwrap();
    (Closing(signal), receiver)
}

fn is_service(asked: &Asked) -> bool {
    asked
        .target
        .starts_with("/api/v1/namespaces/default/services/")
}

fn is_watch(asked: &Asked) -> bool {
    asked
        .target
        .contains("&watch=true&allowWatchBookmarks=true&timeoutSeconds=")
}

/// Answers all but watches: the Service, and an empty or a ready list.
fn answer_rest(asked: &Asked, stream: &mut TcpStream, list: &str) -> bool {
    if is_service(asked) {
        return reply(stream, 200, "", SERVICE);
    }
    let body = String::from_utf8(recorded_body(list)).unwrap();
    reply(stream, 200, "", &body)
}

fn next_pods(reports: &Receiver<Report>) -> Vec<Pod> {
    loop {
        if let Report::Pods { pods, .. } = reports.recv_timeout(DEADLINE).unwrap() {
            return pods;
        }
    }
}

fn line(number: usize) -> Vec<u8> {
    let mut line = recorded_lines("07-slices-watch-zero-one-zero")[number].clone();
    line.push(b'\n');
    line
}

#[test]
fn it_lists_and_then_reports_each_event_though_chunks_cut_its_lines() {
    let (_relist, reports) = reflector(None, |asked, stream| {
        if !is_watch(asked) {
            return answer_rest(asked, stream, "05-slices-list-empty");
        }
        begin_stream(stream);
        let (first, second) = (line(0), line(1));
        chunk(stream, &first[..100]);
        chunk(stream, &[&first[100..], &second[..7]].concat());
        chunk(stream, &second[7..]);
        hang(stream)
    });
    let next = || reports.recv_timeout(DEADLINE).unwrap();
    let fallback = "10.96.3.4:80".parse().unwrap();
    assert_eq!(
        next(),
        Report::FallbackAddress {
            port: 0,
            address: Some(fallback),
        }
    );
    assert_eq!(
        next(),
        Report::Pods {
            port: 0,
            pods: vec![],
        }
    );
    assert_eq!(next(), Report::Synced(Some(AddressSource::EndpointSlices)));
    // Events that come together are reported together.
    while !next_pods(&reports)[0].is_ready() {}
}

#[test]
fn a_watch_that_ends_well_goes_on_from_its_last_version() {
    let (sender, versions) = mpsc::channel();
    let (_relist, _reports) = reflector(None, move |asked, stream| {
        if !is_watch(asked) {
            let _ = sender.send("list".to_owned());
            return answer_rest(asked, stream, "05-slices-list-empty");
        }
        let (_, version) = asked.target.rsplit_once('=').unwrap();
        let _ = sender.send(version.to_owned());
        begin_stream(stream);
        chunk(stream, &line(3));
        end_stream(stream)
    });
    let seen: Vec<String> = (0..4)
        .map(|_| versions.recv_timeout(DEADLINE).unwrap())
        .collect();
    assert_eq!(
        seen,
        ["list", "list", "10298", "10334"],
        "the first is the Service"
    );
}

#[test]
fn a_watch_that_falls_silent_is_followed_by_a_list_on_a_new_connection() {
    let (sender, peers) = mpsc::channel();
    let silence = Some(Duration::from_millis(100));
    let (_relist, reports) = reflector_with(silence, None, move |asked, stream| {
        if !is_watch(asked) {
            return answer_rest(asked, stream, "15-slices-list-ready");
        }
        let _ = sender.send(stream.peer_addr().unwrap());
        begin_stream(stream);
        hang(stream)
    });
    next_pods(&reports);
    next_pods(&reports);
    let peer = || peers.recv_timeout(DEADLINE).unwrap();
    assert_ne!(peer(), peer());
}

#[test]
fn a_request_ends_a_watch_that_hangs_and_lists_at_once() {
    let (sender, watches) = mpsc::channel();
    let (relist, reports) = reflector(None, move |asked, stream| {
        if !is_watch(asked) {
            return answer_rest(asked, stream, "15-slices-list-ready");
        }
        begin_stream(stream);
        let _ = sender.send(());
        hang(stream)
    });
    next_pods(&reports);
    watches.recv_timeout(DEADLINE).unwrap();
    let start = testing::clock();
    relist.0.request(start);
    next_pods(&reports);
    let took = testing::clock().since(start);
    assert!(took < Duration::from_secs(5), "{took:?}");
    watches.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn whoever_begins_to_wait_ends_a_pause_that_the_server_has_asked_for() {
    let (sender, asked) = mpsc::channel();
    let (relist, _reports) = reflector(None, move |_, stream| {
        let _ = sender.send(());
        reply(stream, 429, "Retry-After: 3600\r\n", "{}")
    });
    asked.recv_timeout(DEADLINE).unwrap();
    relist.0.set_waiting(true);
    asked.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn where_slices_may_not_be_listed_endpoints_are_listed_and_watched() {
    let (_relist, reports) = reflector(Some(PortRef::Name("http".into())), |asked, stream| {
        if asked.target.starts_with(SLICES) {
            let body = String::from_utf8(recorded_body("24-forbidden-slices")).unwrap();
            return reply(stream, 403, "", &body);
        }
        if is_service(asked) {
            return reply(stream, 200, "", SERVICE);
        }
        if !is_watch(asked) {
            let nothing = r#"{"metadata":{"resourceVersion":"1"},"items":null}"#;
            return reply(stream, 200, "", nothing);
        }
        begin_stream(stream);
        let mut ready = recorded_lines("09-endpoints-watch-zero-one-zero")[1].clone();
        ready.push(b'\n');
        chunk(stream, &ready);
        hang(stream)
    });
    assert_eq!(next_pods(&reports), []);
    assert!(next_pods(&reports)[0].is_ready());
}

#[test]
fn an_event_is_reported_while_the_stream_stays_open_behind_it() {
    let (sender, sent) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let gone = Mutex::new(gone);
    let (_relist, reports) = reflector(None, move |asked, stream| {
        if !is_watch(asked) {
            return answer_rest(asked, stream, "05-slices-list-empty");
        }
        begin_stream(stream);
        for (turn, ()) in gone.lock().unwrap().iter().enumerate() {
            let _ = sender.send(testing::clock());
            chunk(stream, &line(turn % 2));
        }
        hang(stream)
    });
    next_pods(&reports);
    let waits: Vec<Duration> = (0..50)
        .map(|_| {
            go.send(()).unwrap();
            next_pods(&reports);
            testing::clock().since(sent.recv_timeout(DEADLINE).unwrap())
        })
        .collect();
    assert!(
        waits.iter().min() < Some(&Duration::from_millis(20)),
        "{waits:?}"
    );
}
