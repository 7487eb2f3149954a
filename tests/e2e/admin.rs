//! The admin port: health, readiness, metrics, status.

use super::*;
use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use support::admin::reply;
use support::sandbox::{Misbehaviour, Times};

/// The permissions in whose place something else is done, as `/status` has them.
fn fallbacks(status: &Value) -> Vec<&str> {
    let all = status["fallbacks"].as_array().unwrap();
    assert!(all.iter().all(|it| it["fallback"].is_string()), "{status}");
    all.iter()
        .map(|it| it["permission"].as_str().unwrap())
        .collect()
}

fn gauge(permission: &str) -> String {
    format!("zpa_api_fallback{{permission=\"{permission}\"}}")
}

#[test]
fn it_is_alive_from_the_start_and_ready_once_it_has_read_the_deployment() {
    let sandbox = asleep();
    let read = on("get", "deployments");
    sandbox.fault(read, Times::Always, Misbehaviour::Refuse(503, None));
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    assert_eq!(zpa.get("/healthz"), (200, "ok\n".to_owned()));
    zpa.expect_page("/readyz", "why not", |status, body| {
        status == 503
            && body.contains("the scale target default/myapp was not read yet\n")
            && body.contains("reading the scale target: 503")
    });
    assert_eq!(zpa.metric("zpa_ready"), Some(0.0));
    sandbox.heal();
    zpa.expect_ready();
    assert_eq!(zpa.metric("zpa_ready"), Some(1.0));
    let error = &zpa.status()["api_server"]["last_error"];
    assert!(error["what"].as_str().unwrap().contains("503"), "{error}");
}

#[test]
fn a_sleeping_app_is_ready_and_no_probe_wakes_it() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    zpa.expect_ready();
    for path in ["/healthz", "/readyz", "/metrics", "/status"].repeat(5) {
        assert_eq!(zpa.get(path).0, 200, "{path}");
    }
    let status = zpa.status();
    assert_eq!(status["app"]["phase"], "asleep");
    assert_eq!(status["app"]["replicas"], 0);
    assert_eq!(status["connections"]["accepted"], 0);
    assert_eq!(sandbox.count(&on("patch", "*")), 0);
}

#[test]
fn a_wake_shows_in_the_metrics() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    echo(&mut client, "hello");
    expect_metrics(
        &zpa,
        &[
            ("zpa_wakes_total", 1.0),
            ("zpa_wake_seconds_count", 1.0),
            ("zpa_hold_seconds_count", 1.0),
            ("zpa_connections_total", 1.0),
            ("zpa_connections_open", 1.0),
            ("zpa_forwarded_total", 1.0),
            ("zpa_forwarded_without_lease_total", 0.0),
            ("zpa_replicas", 1.0),
            ("zpa_phase{phase=\"awake\"}", 1.0),
            ("zpa_phase{phase=\"asleep\"}", 0.0),
            ("zpa_idle_ttl_seconds", 3600.0),
            ("zpa_backends", 1.0),
            ("zpa_wakes_total{app=\"default/myapp\"}", 1.0),
            ("zpa_backends{app=\"default/myapp\",port=\"0\"}", 1.0),
        ],
    );
    let lease = zpa.metric("zpa_lease_seconds").unwrap();
    assert!(lease > 2000.0 && lease <= 2880.0, "{lease}");
    let patched = zpa.metric("zpa_api_requests_total{verb=\"patch\",outcome=\"ok\"}");
    assert_eq!(patched, Some(2.0), "the scale, and the renewal");
    drop(client);
    let closed = "zpa_connections_closed_total{reason=\"finished\",phase=\"relaying\"}";
    zpa.expect_metric(closed, 1.0);
}

#[test]
fn without_slices_the_state_shows_that_endpoints_are_watched_in_their_place() {
    let sandbox = asleep();
    sandbox.deny("*", "endpointslices");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    echo(&mut zpa.connect(), "through endpoints");
    let status = zpa.status();
    assert_eq!(status["addresses"]["source"], "Endpoints");
    assert_eq!(fallbacks(&status), ["list,watch endpointslices"]);
    let why = status["fallbacks"][0]["why"].as_str().unwrap();
    assert!(
        why.starts_with("403 endpointslices.discovery.k8s.io is forbidden"),
        "{why}"
    );
    assert_eq!(zpa.metric(&gauge("list,watch endpointslices")), Some(1.0));
    assert_eq!(zpa.metric(&gauge("patch deployments/status")), Some(0.0));
    zpa.expect_logged("EndpointSlices cannot be watched", 1);
}

#[test]
fn where_the_deployment_may_not_be_watched_the_state_shows_that_it_is_read_instead() {
    let sandbox = asleep();
    sandbox.deny("watch", "deployments");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    echo(&mut zpa.connect(), "all the same");
    zpa.expect_status("a fallback", |status| {
        fallbacks(status) == ["list,watch deployments"]
    });
    assert_eq!(zpa.metric(&gauge("list,watch deployments")), Some(1.0));
    sandbox.allow_all();
    zpa.expect_status("none any more", |status| fallbacks(status).is_empty());
}

#[test]
fn without_the_status_the_state_shows_that_an_annotation_is_written_in_its_place() {
    let sandbox = awake();
    sandbox.deny("patch", "deployments/status");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    echo(&mut client, "while the refusal is not confirmed yet");
    assert!(zpa.metric("zpa_forwarded_without_lease_total") >= Some(1.0));
    zpa.expect_status("a lease, once the refusal is confirmed", |status| {
        status["in_use"]["lease_left_seconds"].as_f64() > Some(0.0)
    });
    let status = zpa.status();
    assert_eq!(status["in_use"]["lease_location"], "an annotation");
    assert!(status["in_use"]["lease_left_seconds"].as_f64() > Some(0.0));
    assert_eq!(fallbacks(&status), ["patch deployments/status"]);
    assert_eq!(zpa.metric(&gauge("patch deployments/status")), Some(1.0));
    assert_eq!(zpa.metric(&gauge("patch deployments")), Some(0.0));
    zpa.expect_logged("renewing the lease in an annotation", 1);
    zpa.expect_ready();
}

#[test]
fn without_status_and_annotations_what_is_let_through_is_counted_and_the_metric_stays() {
    let sandbox = awake();
    sandbox.deny("patch", "deployments/status");
    sandbox.deny("patch", "deployments");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    echo(&mut zpa.connect(), "without renewal");
    assert_eq!(zpa.status()["in_use"]["lease_left_seconds"], 0.0);
    assert_eq!(zpa.metric("zpa_lease_seconds"), Some(0.0));
    assert_eq!(zpa.metric("zpa_forwarded_without_lease_total"), Some(1.0));
    zpa.expect_ready();
}

#[test]
fn without_a_look_at_the_deployment_the_state_shows_that_its_scale_is_read() {
    let sandbox = asleep();
    sandbox.deny("get", "deployments");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    echo(&mut zpa.connect(), "by the scale alone");
    assert_eq!(fallbacks(&zpa.status()), ["get deployments"]);
    assert_eq!(zpa.metric(&gauge("get deployments")), Some(1.0));
    assert_eq!(warnings(&zpa, "cannot get resource \"deployments\""), 1);
}

#[test]
fn a_permission_that_comes_back_is_no_fallback_any_more() {
    let sandbox = asleep();
    sandbox.deny("*", "endpointslices");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_status("a fallback", |status| fallbacks(status).len() == 1);
    sandbox.expect("it is watching", |state| {
        state.open_watches(sandbox::Resource::Endpoints) == 1
    });
    sandbox.allow_all();
    sandbox.order_watches(sandbox::WatchFault::Garbage);
    zpa.expect_status("none", |status| fallbacks(status).is_empty());
    assert_eq!(zpa.status()["addresses"]["source"], "EndpointSlices");
}

#[test]
fn where_a_permission_is_missing_that_nothing_can_replace_it_does_not_become_ready() {
    for (denied, permission) in [
        (["deployments", "deployments/scale"], "get deployments"),
        (["endpointslices", "endpoints"], "list,watch endpointslices"),
    ] {
        let sandbox = asleep();
        denied
            .iter()
            .for_each(|resource| sandbox.deny("*", resource));
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        let forbidden = format!("zpa_api_forbidden{{permission=\"{permission}\"}}");
        zpa.expect_metric(&forbidden, 1.0);
        zpa.expect_page("/readyz", permission, |status, body| {
            status == 503 && body.contains("is forbidden: User")
        });
        assert_eq!(zpa.status()["forbidden"][0]["permission"], permission);
        assert_eq!(zpa.get("/healthz").0, 200, "a restart would not help");
    }
}

#[test]
fn a_service_that_does_not_exist_keeps_it_from_becoming_ready_until_it_does() {
    let sandbox = asleep();
    sandbox.delete_service();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    const WHY: &str = "the Service default/myapp does not exist (404 services \"myapp\" not found)";
    zpa.expect_page("/readyz", "why not", |status, body| {
        status == 503 && body.contains(WHY) && body.contains("set --service (ZPA_SERVICE)")
    });
    assert!(zpa.expect_log(WHY).contains("ERROR"));
    let status = zpa.status();
    assert_eq!(status["ready"], false);
    let last_error = &status["api_server"]["last_error"]["what"];
    assert!(last_error.as_str().unwrap().contains(WHY), "{status}");
    assert_eq!(status["addresses"]["up_to_date"], false);
    assert!(
        status["addresses"]["problem"]
            .as_str()
            .unwrap()
            .contains(WHY),
        "{status}"
    );
    sandbox.create_service();
    zpa.expect_ready();
    echo(&mut zpa.connect(), "through the Service");
}

#[test]
fn a_service_that_is_deleted_later_ends_no_readiness() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    sandbox.delete_service();
    let _waiting = zpa.connect();
    let line = zpa.expect_log("the Service default/myapp does not exist any more");
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(zpa.get("/readyz").0, 200);
    zpa.expect_logged("default/myapp does not exist", 1);
    // The line comes from the thread that has found it, the status from its report.
    zpa.expect_status("it is out of date", |status| {
        status["addresses"]["up_to_date"] == false
    });
}

#[test]
fn without_the_permission_to_scale_an_app_that_is_up_is_served_and_a_sleeping_one_is_not() {
    const PERMISSION: &str = "patch deployments/scale";
    let forbidden = format!("zpa_api_forbidden{{permission=\"{PERMISSION}\"}}");
    let sandbox = awake();
    sandbox.deny("patch", "deployments/scale");
    sandbox.deny("patch", "deployments");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    zpa.expect_status("it tried", |status| fallbacks(status) == [PERMISSION]);
    assert_eq!(zpa.metric(&forbidden), Some(0.0));
    assert_eq!(zpa.get("/readyz").0, 200);
    sandbox.set_replicas(0);
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
    let _held = zpa.connect();
    zpa.expect_metric(&forbidden, 1.0);
    assert_eq!(zpa.status()["forbidden"][0]["permission"], PERMISSION);
}

#[test]
fn an_api_outage_leaves_it_ready_and_shows_who_goes_without_lease() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    zpa.expect_status("it knows the pod", |status| {
        status["addresses"]["usable"] == 1
    });
    sandbox.api_down();
    echo(&mut zpa.connect(), "without a lease");
    zpa.expect_metric("zpa_forwarded_without_lease_total", 1.0);
    zpa.expect_status("the error", |status| {
        let what = &status["api_server"]["last_error"]["what"];
        what.as_str().is_some_and(|what| what.contains("renewing"))
    });
    assert_eq!(zpa.get("/readyz").0, 200, "all proxies would go at once");
}

#[test]
fn sigterm_makes_it_unready_at_once_while_connections_drain() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "1h")]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    zpa.expect_ready();
    zpa.signal("TERM");
    zpa.expect_log("SIGTERM");
    let draining = (503, "draining after a signal\n".to_owned());
    assert_eq!(zpa.get("/readyz"), draining);
    assert_eq!(zpa.get("/healthz").0, 200, "it is not to be restarted");
    echo(&mut client, "during");
    drop(client);
    assert!(zpa.wait().success());
}

#[test]
fn seventeen_who_sit_and_say_nothing_keep_no_probe_out() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let silent: Vec<_> = (0..17).map(|_| zpa.visit()).collect();
    let start = Instant::now();
    assert_eq!(zpa.get("/healthz").0, 200);
    assert!(
        start.elapsed() < seconds(4),
        "sooner than they are shown out"
    );
    drop(silent);
}

/// The kubelet's probes come from an address of their own; its request may come some time
/// after its connect.
#[test]
fn a_probe_is_answered_amid_a_flood_of_connections_that_say_nothing() {
    const PROBES: usize = 10;
    // More than there is room for.
    const FLOOD: usize = 80;
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let line = zpa.expect_log("status on http://");
    let address: SocketAddr = line.rsplit_once("http://").unwrap().1.parse().unwrap();
    let (is_over, displaced) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut open = VecDeque::new();
            while !is_over.load(Ordering::Relaxed) {
                open.push_back(connect_from([127, 0, 0, 2], address));
                if open.len() > FLOOD {
                    let mut oldest = open.pop_front().unwrap();
                    let _ = oldest.read(&mut [0]); // Until it is closed.
                    displaced.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let _end = SetOnDrop(&is_over);
        for number in 0..PROBES {
            let mut probe = zpa.visit();
            // Between the connect and the request more come and go than there is room for.
            let enough = displaced.load(Ordering::Relaxed) + 2 * FLOOD;
            while displaced.load(Ordering::Relaxed) < enough {
                thread::sleep(Duration::from_millis(1));
            }
            let request = b"GET /healthz HTTP/1.1\r\nHost: zpa\r\n\r\n";
            probe.write_all(request).unwrap();
            assert_eq!(reply(&mut probe).0, 200, "probe {number}");
        }
    });
}

/// Also ends the flood when a probe fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn connect_from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.into()
}

#[test]
fn at_the_connection_limit_it_answers_all_the_same() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_MAX_CONNECTIONS", "1")]);
    let mut client = zpa.connect();
    echo(&mut client, "the only one");
    let _waiting = zpa.connect();
    zpa.expect_log("the connection limit of 1 is reached");
    assert_eq!(zpa.metric("zpa_connections_open"), Some(1.0));
    assert_eq!(zpa.metric("zpa_connections_limit"), Some(1.0));
    echo(&mut client, "undisturbed");
}

#[test]
fn a_connection_limit_that_is_reached_again_and_again_is_one_line_in_a_minute() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_MAX_CONNECTIONS", "1")]);
    for _ in 0..20 {
        echo(&mut zpa.connect(), "and another");
    }
    zpa.expect_logged("the connection limit of 1 ", 1);
}

#[test]
fn sixteen_at_once_are_all_answered_again_and_again() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..10).for_each(|_| assert_eq!(zpa.get("/healthz").0, 200)));
        }
    });
}

#[test]
fn what_is_no_request_is_refused_and_harms_nobody() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let long = format!(
        "GET /healthz HTTP/1.1\r\nCookie: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    for (request, status) in [
        (long.as_str(), 431),
        ("POST /healthz HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        ("GET /admin HTTP/1.1\r\n\r\n", 404),
        ("\u{16}\u{3}\u{1}\u{2}", 400),
    ] {
        assert_eq!(zpa.asked(request).0, status);
    }
    let mut cut = zpa.visit();
    cut.write_all(b"GET /healthz HT").unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_some(&cut, &mut [0; 8]).unwrap(), 0);
    assert_eq!(zpa.get("/healthz").0, 200);
}

#[test]
fn the_status_has_every_setting_and_no_token() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    let (status, metrics) = (zpa.get("/status").1, zpa.get("/metrics").1);
    let token = sandbox.token();
    for page in [&status, &metrics] {
        assert!(!page.contains(&token) && !page.contains(&token[token.len() - 12..]));
    }
    let settings = &zpa.status()["settings"];
    for setting in zpa::settings::TABLE.iter().filter(|row| row.is_own()) {
        assert!(settings.get(setting.flag).is_some(), "{}", setting.flag);
    }
    assert_eq!(settings["idle-ttl"], "1h0m0s");
    assert_eq!(zpa.status()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_admin_port_can_be_turned_off() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_ADMIN_LISTEN", "off")]);
    echo(&mut zpa.connect(), "all the same");
    assert_eq!(zpa.logged("status on http://"), 0);
}
