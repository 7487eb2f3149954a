//! Webhooks: what is posted when an app sleeps and wakes.

use super::*;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::{Value, json};

use crate::apps_file::{List, address, app, expect_status, status_of, three};

/// A receiver of events: each request is answered with 204, and its body is one of the
/// channel.
fn receiver() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, events) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if let Some(body) = body(&stream) {
                let _ = (&stream).write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                if sender.send(body).is_err() {
                    return;
                }
            }
        }
    });
    (address, events)
}

/// The body of the request on a connection.
fn body(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some(("content-length", value)) = line.to_lowercase().split_once(": ") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

#[track_caller]
fn expect(events: &Receiver<Value>, kind: &str, app: &str) -> Value {
    let event = events.recv_timeout(TEST_TIMEOUT);
    let event = event.unwrap_or_else(|_| panic!("no event {kind} of {app}"));
    let found = (event["event"].as_str(), event["app"].as_str());
    assert_eq!(found, (Some(kind), Some(app)), "{event}");
    event
}

const CANARY: &str = "canary";

#[test]
fn a_wake_and_a_sleep_are_posted_and_the_url_is_never_shown() {
    let sandbox = asleep();
    let (address, events) = receiver();
    let url = format!("http://user:{CANARY}@{address}/{CANARY}?token={CANARY}");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ("ZPA_WEBHOOK", &url)]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    echo(&mut client, "good morning");
    drop(client);
    let waking = expect(&events, "waking", "default/myapp");
    assert_eq!(waking["replicas"], 0);
    assert_eq!(waking["reason"], "1 connection waiting");
    let awake = expect(&events, "awake", "default/myapp");
    assert_eq!(awake["replicas"], 1);
    assert_eq!(awake["target"], "deployments.apps/myapp");
    assert!(awake["waited_seconds"].as_f64().unwrap() > 0.0, "{awake}");
    let slept = expect(&events, "slept", "default/myapp");
    assert_eq!(slept["replicas"], 0);
    let reason = slept["reason"].as_str().unwrap();
    assert!(reason.starts_with("no connection for "), "{reason}");
    assert!(slept["time"].as_str().unwrap().ends_with('Z'), "{slept}");
    zpa.expect_metric("zpa_webhook_events_total{result=\"delivered\"}", 3.0);
    let status = zpa.status().to_string();
    assert!(status.contains("\"delivered\":3"), "{status}");
    for shown in [status, zpa.log(), zpa.get("/").1, zpa.get("/metrics").1] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn a_wake_without_a_pod_is_posted_at_the_hold_limit_with_the_reason() {
    let sandbox = asleep();
    sandbox.set_start_delay(TEST_TIMEOUT);
    let (address, events) = receiver();
    let url = format!("http://{address}");
    let settings = [
        LONG_TTL,
        ("ZPA_HOLD_TIMEOUT", "500ms"),
        ("ZPA_WEBHOOK", &url),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    expect_reset(&mut zpa.connect());
    expect(&events, "waking", "default/myapp");
    let failed = expect(&events, "wake-failed", "default/myapp");
    assert!(
        failed["waited_seconds"].as_f64().unwrap() >= 0.5,
        "{failed}"
    );
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("Service myapp"), "{reason}");
}

#[test]
fn clients_that_wait_in_vain_for_a_wake_that_is_delayed_are_posted_too() {
    let sandbox = asleep();
    let (address, events) = receiver();
    let url = format!("http://{address}");
    let settings = [
        LONG_TTL,
        ("ZPA_NO_WAKE", "00:00-24:00"),
        ("ZPA_HOLD_TIMEOUT", "500ms"),
        ("ZPA_WEBHOOK", &url),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    let failed = expect(&events, "wake-failed", "default/myapp");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("--no-wake"), "{failed}");
    let ended = client.read(&mut [0]);
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
}

#[test]
fn a_receiver_that_never_answers_is_in_nobody_s_way_and_is_logged_once() {
    let sandbox = asleep();
    // The kernel takes the connections, and nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/{CANARY}", silent.local_addr().unwrap());
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ("ZPA_WEBHOOK", &url)]);
    settle_asleep(&sandbox, &zpa);
    for times in 1..=2 {
        let mut client = zpa.connect();
        echo(&mut client, "good morning");
        drop(client);
        zpa.expect_log_times("scaled to 0 after", times);
    }
    zpa.expect_log("takes no event (timeout: ");
    let problem = |status: &Value| status["webhook"]["problem"].is_string();
    zpa.expect_status("its trouble is known", problem);
    assert_eq!(warnings(&zpa, "takes no event"), 1, "{}", zpa.log());
    assert!(!zpa.log().contains(CANARY), "{}", zpa.log());
}

#[test]
fn a_dry_run_posts_nothing() {
    let sandbox = awake();
    let (address, events) = receiver();
    let url = format!("http://{address}");
    let settings = [SHORT_TTL, ("ZPA_DRY_RUN", "true"), ("ZPA_WEBHOOK", &url)];
    let zpa = start_zpa(&sandbox, &settings);
    zpa.expect_log("would be scaled to 0 now");
    sandbox.set_replicas(0);
    zpa.expect_log("scaled to 0 by somebody else");
    let _waiting = zpa.connect();
    zpa.expect_log("it is not woken in a dry run");
    let posted = zpa.metric("zpa_webhook_events_total");
    assert_eq!((posted, events.try_iter().count()), (Some(0.0), 0));
}

#[test]
fn apps_of_a_list_share_the_default_and_may_have_their_own_which_may_change() {
    let sandbox = three(0);
    let ((common, of_all), (own, of_blog)) = (receiver(), receiver());
    let with = |mut app: Value, url: SocketAddr| {
        app["webhook"] = format!("http://{url}/").into();
        app
    };
    let mut list = List::new("webhook", &json!([app("myapp"), with(app("blog"), own)]));
    let default = format!("http://{common}/{CANARY}");
    let zpa = apps_file::start(&sandbox, &list, &[LONG_TTL, ("ZPA_WEBHOOK", &default)]);
    for name in ["myapp", "blog"] {
        let asleep = |status: &Value| status["app"]["phase"] == "asleep";
        expect_status(&zpa, "it sleeps", |_| {
            status_of(&zpa, name).is_some_and(|it| asleep(&it))
        });
        echo(&mut zpa.connect_to(address(&zpa, name)), "hello");
    }
    expect(&of_all, "waking", "default/myapp");
    expect(&of_blog, "waking", "default/blog");
    expect(&of_all, "awake", "default/myapp");
    expect(&of_blog, "awake", "default/blog");
    assert!(
        !zpa.status().to_string().contains(CANARY),
        "{}",
        zpa.status()
    );

    let wrong = json!([app("myapp"), { "deployment": "blog", "listen": "127.0.0.1:0",
        "webhook": format!("ftp://{CANARY}") }]);
    list.set(&wrong.to_string());
    zpa.expect_log("app 2 (\"blog\"): webhook: does not begin with https:// or http://");
    assert!(!zpa.log().contains(CANARY), "{}", zpa.log());
    let mut client = zpa.connect_to(address(&zpa, "blog"));
    echo(&mut client, "open");
    let moved = json!([app("myapp"), with(app("blog"), common)]);
    list.set(&moved.to_string());
    zpa.expect_log("default/blog: settings changed");
    echo(&mut client, "and still open");
}

#[test]
fn a_list_is_put_into_force_though_the_certificates_of_a_webhook_are_gone_meanwhile() {
    let sandbox = three(1);
    let file = std::env::temp_dir().join(format!("zpa-webhook-ca-{}", std::process::id()));
    let ca = sandbox
        .env()
        .into_iter()
        .find(|(name, _)| name == "ZPA_CREDENTIALS")
        .map(|(_, directory)| std::path::Path::new(&directory).join("ca.crt"));
    std::fs::copy(ca.unwrap(), &file).unwrap();
    let with_webhook = |name, ttl: &str| {
        let mut app = app(name);
        app["webhook"] = "https://127.0.0.1:1/".into();
        app["idle-ttl"] = ttl.into();
        app
    };
    let mut list = List::new("ca", &json!([with_webhook("myapp", "1h"), app("blog")]));
    let path = file.display().to_string();
    let zpa = apps_file::start(&sandbox, &list, &[LONG_TTL, ("ZPA_WEBHOOK_CA", &path)]);
    zpa.expect_log("for default/blog,");
    std::fs::remove_file(&file).unwrap();
    list.set(&json!([with_webhook("myapp", "2h"), with_webhook("news", "1h")]).to_string());
    zpa.expect_log("default/myapp: settings changed");
    echo(&mut zpa.connect_to(address(&zpa, "news")), "a new app");
    assert_eq!(zpa.logged("the list of apps is wrong"), 0, "{}", zpa.log());
}
