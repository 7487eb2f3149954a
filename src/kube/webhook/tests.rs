//! Events at real receivers, over HTTP and TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::mpsc::{self, Receiver as Channel};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::super::testing::{self, Asked, DEADLINE, Directory, authority, server_config};
use super::*;
use crate::cluster::LifecycleKind;

/// Nothing is waited for.
const NO_PAUSES: &[Duration] = &[Duration::ZERO; 3];

fn webhooks(roots: Roots) -> Webhooks {
    let outbox = Outbox::new(NO_PAUSES, Duration::ZERO);
    Webhooks::with_outbox(outbox, roots, "zpa-5d9c7", testing::clock, || 1_795_313_591)
}

fn webhook(url: &str) -> Webhook {
    of(&webhooks(Roots::Cluster(None)), url)
}

fn of(webhooks: &Webhooks, url: &str) -> Webhook {
    let url = url.parse().unwrap();
    webhooks.of_app(&url, "default/myapp", "deployments.apps/myapp")
}

fn event(kind: LifecycleKind) -> LifecycleEvent {
    LifecycleEvent {
        kind,
        replicas: None,
        waited: None,
        reason: None,
    }
}

/// A receiver that answers with these statuses, one after the other, and then 204; and what it
/// is sent.
fn receiver(statuses: &'static [u16]) -> (SocketAddr, Channel<Asked>) {
    let (sender, sent) = mpsc::channel();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let address = testing::serve(move |request, stream| {
        sender.send(request.clone()).unwrap();
        let place = count.fetch_add(1, Ordering::Relaxed);
        let status = statuses.get(place).copied().unwrap_or(204);
        testing::reply(stream, status, "Location: /elsewhere\r\n", "")
    });
    (address, sent)
}

fn kinds(sent: &Channel<Asked>, count: usize) -> Vec<String> {
    let bodies = (0..count).map(|_| sent.recv_timeout(DEADLINE).unwrap().body);
    let kind = |body: String| serde_json::from_str::<Value>(&body).unwrap()["event"].clone();
    bodies
        .map(|body| kind(body).as_str().unwrap().to_owned())
        .collect()
}

/// Waits for the thread to end, when all was done.
fn settle(webhook: &Webhook) -> [u64; 3] {
    while lock(&webhook.shared.state).has_thread {
        thread::yield_now();
    }
    let counts = webhook.counts();
    assert_eq!(
        counts.iter().map(|it| it.0[0]).collect::<Vec<_>>(),
        ["delivered", "failed", "dropped"]
    );
    [counts[0].1, counts[1].1, counts[2].1]
}

#[test]
fn an_event_is_a_small_json_object_with_what_is_known() {
    let (address, sent) = receiver(&[]);
    let webhook = webhook(&format!("http://user:pass%20word@{address}/hook?token=x"));
    webhook.post(&LifecycleEvent {
        kind: LifecycleKind::WakeFailed,
        replicas: Some(1),
        waited: Some(Duration::from_millis(300_120)),
        reason: Some("no \"image\"".to_owned()),
    });
    webhook.post(&event(LifecycleKind::Slept));
    let asked = sent.recv_timeout(DEADLINE).unwrap();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/hook?token=x")
    );
    assert_eq!(asked.content_type, "application/json");
    assert_eq!(asked.token.as_deref(), Some("Basic dXNlcjpwYXNzIHdvcmQ="));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(
        body,
        json!({
            "event": "wake-failed",
            "app": "default/myapp",
            "target": "deployments.apps/myapp",
            "proxy": "zpa-5d9c7",
            "time": "2026-11-22T02:13:11Z",
            "replicas": 1,
            "waited_seconds": 300.12,
            "reason": "no \"image\"",
            "text": "default/myapp has no pod ready after 5m0.12s: no \"image\"",
        })
    );
    let second: Value = serde_json::from_str(&sent.recv_timeout(DEADLINE).unwrap().body).unwrap();
    let keys: Vec<&String> = second.as_object().unwrap().keys().collect();
    let expected = ["app", "event", "proxy", "target", "text", "time"];
    assert_eq!(keys, expected, "what is not known is not there");
    assert_eq!(settle(&webhook), [2, 0, 0]);
}

#[test]
fn what_may_pass_is_tried_again_in_order_and_what_is_refused_is_not() {
    let (address, sent) = receiver(&[503, 429, 200, 404, 302]);
    let webhook = webhook(&format!("http://{address}"));
    let events = [
        LifecycleKind::Waking,
        LifecycleKind::Awake,
        LifecycleKind::WakeFailed,
        LifecycleKind::Slept,
    ];
    events.iter().for_each(|kind| webhook.post(&event(*kind)));
    let expected = [
        "waking",
        "waking",
        "waking",
        "awake",
        "wake-failed",
        "slept",
    ];
    assert_eq!(kinds(&sent, 6), expected);
    assert_eq!(settle(&webhook), [2, 2, 0]);
    assert_eq!(webhook.trouble(), None, "the last was taken");
    assert!(sent.try_recv().is_err(), "a redirect is not followed");
}

#[test]
fn an_event_is_given_up_after_some_attempts_and_the_trouble_is_known() {
    let (address, sent) = receiver(&[500; 4]);
    let webhook = webhook(&format!("http://{address}/canary"));
    webhook.post(&event(LifecycleKind::Slept));
    assert_eq!(kinds(&sent, 4), ["slept"; 4]);
    assert_eq!(settle(&webhook), [0, 1, 0]);
    let trouble = webhook.trouble().unwrap();
    assert!(trouble.starts_with("it answers 500"), "{trouble}");
    // A thread begins anew.
    webhook.post(&event(LifecycleKind::Waking));
    assert_eq!(kinds(&sent, 1), ["waking"]);
    assert_eq!(settle(&webhook), [1, 1, 0]);
    assert_eq!(webhook.trouble(), None);
}

#[test]
fn a_receiver_that_is_not_there_is_named_without_what_is_secret() {
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = refusing.local_addr().unwrap();
    drop(refusing);
    let webhook = webhook(&format!("http://u:canary@{address}/canary"));
    webhook.post(&event(LifecycleKind::Slept));
    assert_eq!(settle(&webhook), [0, 1, 0]);
    let trouble = webhook.trouble().unwrap();
    assert!(trouble.contains("refused"), "{trouble}");
    assert!(!trouble.contains("canary"), "{trouble}");
}

#[test]
fn apps_with_the_same_url_share_a_receiver_and_have_counts_of_their_own() {
    let (address, sent) = receiver(&[]);
    let webhooks = webhooks(Roots::Cluster(None));
    let url = format!("http://{address}");
    let (one, other) = (of(&webhooks, &url), of(&webhooks, &url));
    let elsewhere = of(&webhooks, &format!("http://{address}/other"));
    assert_eq!(one.receiver.id, other.receiver.id);
    assert_ne!(one.receiver.id, elsewhere.receiver.id);
    one.post(&event(LifecycleKind::Slept));
    kinds(&sent, 1);
    assert_eq!((settle(&one), settle(&other)), ([1, 0, 0], [0, 0, 0]));
    drop((one, other, elsewhere));
    of(&webhooks, "http://a.example");
    assert_eq!(
        lock(&webhooks.shared.state).receivers.len(),
        1,
        "the others are gone"
    );
}

/// A TLS server that answers each request with 200, and how many it has got.
fn serve_tls(config: Arc<ServerConfig>) -> (SocketAddr, Channel<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(session, stream);
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                request.extend_from_slice(&buffer[..count]);
                if request.ends_with(b"}") {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    let _ = sender.send(());
                    break;
                }
            }
        }
    });
    (address, asked)
}

#[test]
fn the_certificate_of_a_receiver_is_verified_with_a_file_that_may_be_replaced() {
    let (right, wrong) = (authority(), authority());
    let directory = Directory::new("webhook-ca");
    let file = directory.write("ca.crt", wrong.pem());
    let (address, asked) = serve_tls(server_config(&right, "127.0.0.1"));
    let webhook = of(&webhooks(Roots::File(file)), &format!("https://{address}/"));
    webhook.post(&event(LifecycleKind::Slept));
    assert_eq!(settle(&webhook), [0, 1, 0]);
    let trouble = webhook.trouble().unwrap();
    assert!(trouble.contains("certificate"), "{trouble}");
    directory.write("ca.crt", right.pem());
    webhook.post(&event(LifecycleKind::Slept));
    asked.recv_timeout(DEADLINE).unwrap();
    assert_eq!(settle(&webhook), [1, 1, 0]);
}

#[test]
fn the_cluster_s_certificates_are_the_default_and_without_any_https_is_an_error() {
    let pem = authority().pem();
    let cluster = Roots::Cluster(Some(Pem::Fixed("certificate-authority-data", pem.into())));
    let made = |roots| webhooks(roots).check();
    assert_eq!(made(cluster), Ok(()));
    for (roots, expected) in [
        (Roots::Cluster(None), "give --webhook-ca (ZPA_WEBHOOK_CA)"),
        (
            Roots::File("/nonexistent".into()),
            "/nonexistent: No such file",
        ),
        (
            Roots::File(Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE")),
            "there is no root certificate in it",
        ),
    ] {
        let why = made(roots).unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
}

/// The certificates are the trouble of the webhook, and of nobody else.
#[test]
fn certificates_that_are_missing_while_it_runs_fail_the_event_alone() {
    let missing = webhooks(Roots::File("/nonexistent".into()));
    let webhook = of(&missing, "https://127.0.0.1:1/canary");
    webhook.post(&event(LifecycleKind::Slept));
    assert_eq!(settle(&webhook), [0, 1, 0]);
    let trouble = webhook.trouble().unwrap();
    assert!(trouble.contains("/nonexistent: No such file"), "{trouble}");
}
