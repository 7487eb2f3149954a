//! The reflector before a server that says what each test has it say: what it
//! asks for next, and what it reports.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

use super::super::credentials::Credentials;
use super::super::testing::{
    self, Asked, DEADLINE, begin_stream, chunk, end_stream, hang, recorded_body, recorded_lines,
    reply, serve,
};
use super::*;
use crate::cluster::{AddressSource, Pod, Refusal};

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
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
    reflector_with(SILENCE, port, answer)
}

fn reflector_with(
    silence: Duration,
    port: Option<PortRef>,
    answer: impl Fn(&Asked, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (Closing, Receiver<Report>) {
    let config = Config {
        port,
        ..testing::config(serve(answer))
    };
    let credentials = Credentials::new(config.access.clone(), testing::clock).unwrap();
    let (sender, receiver) = mpsc::channel();
    let report = move |report| {
        let _ = sender.send(report);
    };
    let client = Client::new(Arc::new(credentials), Arc::default());
    let relist = Arc::new(RelistSignal::new(client));
    let mut reflector = Reflector::new(config, relist, testing::clock, report, 1);
    reflector.silence = silence;
    (Closing(start(reflector, |_| {}).unwrap()), receiver)
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
        if let Report::Pods(pods) = reports.recv_timeout(DEADLINE).unwrap() {
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
    assert_eq!(next(), Report::Fallback(Some(fallback)));
    assert_eq!(next(), Report::Pods(vec![]));
    assert_eq!(
        next(),
        Report::Following(Some(AddressSource::EndpointSlices))
    );
    let ready: Vec<bool> = (0..2).map(|_| next_pods(&reports)[0].is_ready()).collect();
    assert_eq!(ready, [false, true]);
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
fn a_watch_that_breaks_is_followed_by_a_list() {
    let long = vec![b'x'; LONGEST_LINE + 1];
    let breakages: [(&str, Vec<u8>, bool); 6] = [
        (
            "cut in mid-line, but ended well",
            line(0)[..200].to_vec(),
            true,
        ),
        (
            "cut in mid-line and in mid-chunk",
            line(0)[..200].to_vec(),
            false,
        ),
        ("a line that is too long", long, false),
        ("not JSON", b"{\"type\":\n".to_vec(), true),
        ("not UTF-8", b"{\"type\":\"\xff\"}\n".to_vec(), true),
        ("expired", recorded_body("20-slices-watch-too-old"), true),
    ];
    for (label, bytes, end) in breakages {
        let (_relist, reports) = reflector(None, move |asked, stream| {
            if !is_watch(asked) {
                return answer_rest(asked, stream, "15-slices-list-ready");
            }
            begin_stream(stream);
            chunk(stream, &bytes);
            end && end_stream(stream)
        });
        assert_eq!(next_pods(&reports).len(), 1, "{label}");
        assert_eq!(next_pods(&reports).len(), 1, "{label}: listed again");
    }
}

#[test]
fn a_watch_that_falls_silent_is_followed_by_a_list_on_a_new_connection() {
    let (sender, peers) = mpsc::channel();
    let silence = Duration::from_millis(100);
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
fn a_watch_refused_with_410_is_followed_by_a_list() {
    let (_relist, reports) = reflector(None, |asked, stream| {
        if is_watch(asked) {
            return reply(stream, 410, "", "{}");
        }
        answer_rest(asked, stream, "15-slices-list-ready")
    });
    next_pods(&reports);
    next_pods(&reports);
}

#[test]
fn where_slices_may_not_be_read_endpoints_are() {
    let (_relist, reports) = reflector(Some(PortRef::Name("http".into())), |asked, stream| {
        if asked.target.starts_with(SLICES) || is_service(asked) {
            let body = String::from_utf8(recorded_body("24-forbidden-slices")).unwrap();
            return reply(stream, 403, "", &body);
        }
        assert!(asked.target.starts_with(ENDPOINTS), "{}", asked.target);
        if !is_watch(asked) {
            return reply(
                stream,
                200,
                "",
                r#"{"metadata":{"resourceVersion":"1"},"items":null}"#,
            );
        }
        begin_stream(stream);
        for mut line in recorded_lines("09-endpoints-watch-zero-one-zero") {
            line.push(b'\n');
            chunk(stream, &line);
        }
        hang(stream)
    });
    let next = || reports.recv_timeout(DEADLINE).unwrap();
    let fallback = |report| match report {
        Report::Right {
            permission,
            refusal: Some(Refusal { fallback, .. }),
        } => (permission, fallback),
        other => panic!("{other:?}"),
    };
    let service = Permission::GetService;
    assert_eq!(fallback(next()), (service, service.fallback()));
    assert_eq!(next(), Report::Fallback(None));
    let slices = Permission::FollowSlices;
    assert_eq!(fallback(next()), (slices, slices.fallback()));
    let ready: Vec<Vec<bool>> = (0..4)
        .map(|_| {
            next_pods(&reports)
                .iter()
                .map(|pod| pod.is_ready())
                .collect()
        })
        .collect();
    assert_eq!(ready, [vec![], vec![false], vec![true], vec![]]);
}

#[test]
fn where_nothing_may_be_read_it_says_so_and_leaves_the_server_alone() {
    let (sender, asked) = mpsc::channel();
    let (_relist, reports) = reflector(None, move |one, stream| {
        let _ = sender.send(one.target.clone());
        reply(stream, 403, "", "{}")
    });
    let mut refused = Vec::new();
    loop {
        match reports.recv_timeout(DEADLINE).unwrap() {
            Report::Right {
                permission,
                refusal: Some(Refusal { fallback, .. }),
            } => refused.push((permission, fallback.is_some())),
            Report::Following(None) => break,
            _ => {}
        }
    }
    let expected = [
        (Permission::GetService, true),
        (Permission::FollowSlices, true),
        (Permission::FollowEndpoints, false),
    ];
    assert_eq!(refused, expected, "the last one has no way round");
    assert_eq!(asked.try_iter().count(), 3, "Service, slices, Endpoints");
}

#[test]
fn a_token_that_is_refused_for_a_moment_is_no_right_that_is_missing() {
    let left = Mutex::new(6);
    let (sender, targets) = mpsc::channel();
    let (_relist, reports) = reflector(None, move |asked, stream| {
        let _ = sender.send(asked.target.clone());
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return reply(stream, 401, "", "{}");
        }
        drop(left);
        if is_watch(asked) {
            return hang(stream);
        }
        answer_rest(asked, stream, "15-slices-list-ready")
    });
    // After half a minute it would be too late.
    next_pods(&reports);
    let no_other_way = |target: String| !target.starts_with(ENDPOINTS);
    assert!(targets.try_iter().all(no_other_way));
}

#[test]
fn a_ring_ends_a_watch_that_hangs_and_lists_at_once() {
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
    relist.0.request(start + Duration::from_millis(999));
    watches.recv_timeout(DEADLINE).unwrap();
    assert!(
        !relist.0.is_requested(),
        "a request within the second does nothing"
    );
}

#[test]
fn a_slice_that_appears_has_the_service_read_again() {
    let (sender, services) = mpsc::channel();
    let (_relist, reports) = reflector(None, move |asked, stream| {
        if is_service(asked) {
            let _ = sender.send(());
        }
        if !is_watch(asked) {
            return answer_rest(asked, stream, "05-slices-list-empty");
        }
        begin_stream(stream);
        let added = String::from_utf8(line(1))
            .unwrap()
            .replace("MODIFIED", "ADDED");
        chunk(stream, added.as_bytes());
        hang(stream)
    });
    assert_eq!(next_pods(&reports).len(), 0);
    assert_eq!(next_pods(&reports).len(), 1, "the event is reported first");
    assert_eq!(next_pods(&reports).len(), 0, "then all is listed afresh");
    assert_eq!(services.try_iter().count(), 2);
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

/// What lists the endpoints of a Service that never was.
const NOTHING: &str = r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#;

/// A reflector of a Service that is not there.
fn without_service(list: &'static str) -> (Closing, Receiver<Report>) {
    reflector(None, move |asked, stream| match is_service(asked) {
        true => reply(
            stream,
            404,
            "",
            r#"{"message":"services \"myapp\" not found"}"#,
        ),
        false if is_watch(asked) => reply(stream, 500, "", "{}"),
        false => reply(stream, 200, "", list),
    })
}

/// What is reported of a Service until a list has come twice.
fn of_the_service(reports: &Receiver<Report>) -> Vec<Report> {
    let (mut told, mut lists) = (Vec::new(), 0);
    while lists < 2 {
        match reports.recv_timeout(DEADLINE).unwrap() {
            Report::Pods(_) => lists += 1,
            report @ (Report::NoService(_) | Report::Trouble(_)) => told.push(report),
            _ => {}
        }
    }
    told
}

#[test]
fn a_service_that_never_was_is_reported() {
    let why = "the Service default/myapp does not exist (404 services \"myapp\" not found): \
               no pod can be found through it; set --service (ZPA_SERVICE)";
    assert_eq!(
        of_the_service(&without_service(NOTHING).1),
        [
            Report::Trouble(why.into()),
            Report::NoService(Some(why.into()))
        ]
    );
}

#[test]
fn endpoints_made_by_hand_can_do_without_a_service() {
    const BY_HAND: &str = r#"{"metadata":{"resourceVersion":"1"},"items":[
        {"metadata":{"name":"by-hand"},"addressType":"IPv4","endpoints":null}]}"#;
    assert_eq!(of_the_service(&without_service(BY_HAND).1), []);
}

#[test]
fn a_service_that_appears_is_found_by_its_slice_and_one_that_goes_is_no_wrong_name() {
    let rounds = Mutex::new(0);
    let (relist, reports) = reflector(None, move |asked, stream| {
        if is_watch(asked) {
            begin_stream(stream);
            let added = String::from_utf8(line(1)).unwrap();
            chunk(stream, added.replace("MODIFIED", "ADDED").as_bytes());
            return hang(stream);
        }
        let mut rounds = rounds.lock().unwrap();
        *rounds += usize::from(is_service(asked));
        match (is_service(asked), *rounds) {
            (true, 2) => reply(stream, 200, "", SERVICE),
            (true, _) => reply(stream, 404, "", "{}"),
            (false, 2) => answer_rest(asked, stream, "15-slices-list-ready"),
            (false, _) => reply(stream, 200, "", NOTHING),
        }
    });
    let next = || reports.recv_timeout(DEADLINE).unwrap();
    while !matches!(next(), Report::NoService(Some(_))) {}
    while next() != Report::NoService(None) {}
    relist.0.request(testing::clock());
    loop {
        match next() {
            Report::Trouble(what) if what.contains("does not exist any more") => return,
            report => assert!(!matches!(report, Report::NoService(_)), "{report:?}"),
        }
    }
}

#[test]
fn a_fault_of_the_server_says_nothing_of_a_service_that_is_not_there() {
    let asks = Mutex::new(0);
    let (_relist, reports) = reflector(None, move |asked, stream| {
        if !is_service(asked) {
            return match is_watch(asked) {
                true => reply(stream, 500, "", "{}"),
                false => reply(stream, 200, "", NOTHING),
            };
        }
        let mut asks = asks.lock().unwrap();
        *asks += 1;
        reply(stream, if *asks == 1 { 404 } else { 500 }, "", "{}")
    });
    let mut told = 0;
    while told < 2 {
        match reports.recv_timeout(DEADLINE).unwrap() {
            Report::NoService(Some(_)) => told += 1,
            report => assert_ne!(report, Report::NoService(None)),
        }
    }
}
