//! Side by side with an old replica of an ancestor, which knows no leases and goes by
//! an annotation and a wall clock: nobody is cut, whoever of the two has connections.
//! And what else the object keeps from one sleep to the next.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use support::client::Client;
use support::sandbox::{Resource, Rule, Workload};

use super::*;

const SCALE_DOWN_AT: &str = "zero-pod-autoscaler/scale-down-at";
const LAST_CALL_AT: &str = "traffic-pod-autoscaler/last-call-at";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/myapp";
const CONFIG_MAP: &str = "/api/v1/namespaces/default/configmaps/traffic-pod-autoscaler-cm";

/// The permissions of both ancestors' pages: no status of a Deployment.
fn permissions() -> Vec<Rule> {
    let read = &["get", "list", "watch"];
    vec![
        Rule::new("apps", &["deployments", "replicasets"], read),
        Rule::new(
            "apps",
            &["deployments", "deployments/scale"],
            &["patch", "update"],
        ),
        Rule::new("", &["endpoints"], read),
        Rule::new("", &["configmaps"], &["get", "patch"]),
    ]
}

/// Starts a `zpa` with the flags of an ancestor.
fn start_with_flags(sandbox: &Sandbox, flags: &[&str]) -> Zpa {
    let is_target = |name: &str| matches!(name, "ZPA_DEPLOYMENT" | "ZPA_SERVICE");
    let mut command = Command::new(env!("CARGO_BIN_EXE_zpa"));
    command
        .env_clear()
        .envs(
            sandbox
                .env()
                .into_iter()
                .filter(|(name, _)| !is_target(name)),
        )
        .env("ZPA_LISTEN", "127.0.0.1:0")
        .env("ZPA_LOG", "debug")
        .env("ZPA_DRAIN_DELAY", "0")
        .args(flags);
    Zpa::spawn(command)
}

const GO: &[&str] = &[
    "--namespace=default",
    "--deployment=myapp",
    "--endpoints=myapp",
    "--ttl=3s",
];
const PYTHON: &[&str] = &[
    "--namespace=default",
    "--rs-label-selector=app=myapp",
    "--endpoint=myapp",
    "--expiration-time=3",
];

/// An app that is awake, under the ancestors' permissions.
fn awake_under_their_permissions() -> Sandbox {
    let sandbox = awake();
    sandbox.set_rules(permissions());
    sandbox
}

/// Writes an annotation as the Go ancestor does, by a JSON Patch.
fn annotate(sandbox: &Sandbox, path: &str, key: &str, text: &str) {
    let key = key.replace('/', "~1");
    let patch =
        json!([{ "op": "replace", "path": format!("/metadata/annotations/{key}"), "value": text }]);
    let request = support::client::request(
        "PATCH",
        path,
        "application/json-patch+json",
        &patch.to_string(),
    );
    let reply = Client::connect(sandbox).unwrap().send(&request).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// What an annotation says now, in seconds since 1970.
fn annotated(sandbox: &Sandbox, path: &str, key: &str) -> u64 {
    let reply = Client::connect(sandbox).unwrap().get(path).unwrap();
    let object: Value = serde_json::from_slice(&reply.body).unwrap();
    let text = object["metadata"]["annotations"][key]
        .as_str()
        .unwrap_or_default();
    seconds_of(text)
}

fn seconds_of(text: &str) -> u64 {
    let time: jiff::Timestamp = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    time.as_second().try_into().unwrap()
}

fn unix() -> u64 {
    jiff::Timestamp::now().as_second().try_into().unwrap()
}

fn rfc3339(unix: u64) -> String {
    let time = jiff::Timestamp::from_second(unix as i64).unwrap();
    time.to_string()
}

/// An old replica without connections: it scales to zero as soon as the annotation
/// has run out, looking ten times a second while the test goes on.
fn with_old_replica(sandbox: &Sandbox, path: &str, key: &str, ttl: u64, test: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let sleeps = thread::scope(|scope| {
        let old = scope.spawn(|| {
            let mut sleeps = 0;
            while !over.load(Relaxed) {
                let is_over = annotated(sandbox, path, key) + ttl <= unix();
                if is_over && sandbox.state().replicas() > 0 {
                    sandbox.set_replicas(0);
                    sleeps += 1;
                }
                thread::park_timeout(Duration::from_millis(100));
            }
            sleeps
        });
        let ended = catch_unwind(AssertUnwindSafe(test));
        over.store(true, Relaxed);
        old.thread().unpark();
        ended.map(|()| old.join().unwrap())
    });
    let sleeps = sleeps.unwrap_or_else(|panic| resume_unwind(panic));
    assert_eq!(sleeps, 0, "the old replica has put the app to sleep");
}

/// Holds a connection through three TTLs of 3 s, and uses it then.
fn hold_a_connection(sandbox: &Sandbox, zpa: &Zpa) {
    let mut client = zpa.connect();
    echo(&mut client, "good morning");
    let begun = Instant::now();
    let renewed = on("patch", "deployments").with(|e| e.status == Some(200));
    let enough =
        |state: &sandbox::State| state.count(&renewed) >= 12 || begun.elapsed() >= seconds(9);
    assert!(sandbox.wait_until(seconds(10), enough) || begun.elapsed() >= seconds(9));
    echo(&mut client, "still here");
    assert_eq!(sandbox.state().replicas(), 1);
}

#[test]
fn an_old_go_replica_is_kept_from_putting_the_app_to_sleep_under_a_connection() {
    let sandbox = awake_under_their_permissions();
    annotate(&sandbox, DEPLOYMENT, SCALE_DOWN_AT, &rfc3339(unix() + 3));
    let zpa = start_with_flags(&sandbox, GO);
    zpa.expect_log("found at 1 replica");
    with_old_replica(&sandbox, DEPLOYMENT, SCALE_DOWN_AT, 0, || {
        hold_a_connection(&sandbox, &zpa)
    });
    let statuses = sandbox.count(&on("patch", "deployments/status"));
    assert_eq!(statuses, 0, "nobody has that permission");
}

#[test]
fn an_old_python_replica_is_kept_up_on_its_configmap() {
    let sandbox = awake_under_their_permissions();
    sandbox.create(Resource::ConfigMaps, json!({
        "metadata": { "name": "traffic-pod-autoscaler-cm", "annotations": { LAST_CALL_AT: "2026-11-25T03:00:00.000000+00:00" } },
    }));
    let zpa = start_with_flags(&sandbox, PYTHON);
    zpa.expect_log("found at 1 replica");
    let mut client = zpa.connect();
    echo(&mut client, "a call");
    let renewed = on("patch", "configmaps").with(|e| e.status == Some(200));
    sandbox.expect("the call is written down", |state| {
        state.count(&renewed) >= 1
    });
    drop(client);
    with_old_replica(&sandbox, CONFIG_MAP, LAST_CALL_AT, 3, || {
        hold_a_connection(&sandbox, &zpa)
    });
    let written = sandbox.requests(&renewed);
    let text = written[0].json()["metadata"]["annotations"][LAST_CALL_AT].clone();
    assert!(text.as_str().unwrap().ends_with(".000000+00:00"), "{text}");
}

#[test]
fn an_app_that_an_old_replica_takes_to_be_in_use_is_not_put_to_sleep() {
    let sandbox = awake_under_their_permissions();
    let until = unix() + 6;
    annotate(&sandbox, DEPLOYMENT, SCALE_DOWN_AT, &rfc3339(until));
    let zpa = start_with_flags(&sandbox, GO);
    zpa.expect_log("scaled to 0 after");
    assert!(unix() >= until, "not before the old replica would");
    assert_eq!(
        annotated(&sandbox, DEPLOYMENT, SCALE_DOWN_AT),
        until,
        "nobody was there"
    );
}

#[test]
fn an_annotation_of_long_ago_or_of_no_sense_does_not_keep_the_app_awake() {
    for text in ["2020-01-01T00:00:00Z", "soon"] {
        let sandbox = awake_under_their_permissions();
        annotate(&sandbox, DEPLOYMENT, SCALE_DOWN_AT, text);
        let zpa = start_with_flags(&sandbox, GO);
        zpa.expect_log("scaled to 0 after");
    }
}

#[test]
fn the_app_wakes_to_as_many_replicas_as_it_had_before_the_sleep_also_from_a_new_proxy() {
    let previous = ("ZPA_WAKE_REPLICAS", "previous");
    for (workload, plural) in [
        (Workload::Deployment, "deployments/status"),
        (Workload::StatefulSet, "statefulsets"),
    ] {
        let sandbox = Sandbox::start(Options {
            workload,
            replicas: 3,
            ..Options::default()
        });
        let zpa = start_zpa(&sandbox, &[SHORT_TTL, previous]);
        zpa.expect_log("scaled to 0 after");
        drop(zpa);
        let kept = on("patch", plural).with(|e| e.body.to_lowercase().contains("previous"));
        assert_eq!(
            sandbox.count(&kept),
            1,
            "{plural}: once, with the last renewal"
        );
        let zpa = start_zpa(&sandbox, &[LONG_TTL, previous]);
        settle_asleep(&sandbox, &zpa);
        echo(&mut zpa.connect(), "good morning");
        zpa.expect_log("scaled from 0 to 3");
        assert_eq!(sandbox.state().replicas(), 3, "{plural}");
    }
}

#[test]
fn where_nothing_was_kept_a_wake_to_the_count_before_the_sleep_is_to_one_and_said() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_WAKE_REPLICAS", "previous")]);
    settle_asleep(&sandbox, &zpa);
    echo(&mut zpa.connect(), "good morning");
    let line = zpa.expect_log("is not kept on it; waking it with 1");
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(sandbox.state().replicas(), 1);
}
