//! Orders by annotations on the Deployment, windows of a schedule, rollouts, and a dry run.

use super::*;

use serde_json::Value;

/// Puts an annotation on the Deployment, or removes it.
fn annotate(sandbox: &Sandbox, key: &str, value: Option<&str>) {
    sandbox.edit(|object| {
        let annotations = &mut object["metadata"]["annotations"];
        match value {
            Some(value) => annotations[key] = value.into(),
            None => {
                annotations.as_object_mut().unwrap().remove(key);
            }
        }
    });
}

fn kept_awake_by(rule: &str) -> impl Fn(&Value) -> bool {
    move |status| status["app"]["sleep"]["kept_awake_by"] == rule
}

#[test]
fn a_new_value_of_the_annotation_wakes_it_and_nobody_has_to_connect() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    annotate(&sandbox, "zero-pod-autoscaler/wake", Some("now"));
    sandbox.expect("it is awake", |state| state.replicas() == 1);
    zpa.expect_status("it keeps to its TTL then", kept_awake_by("idle_ttl"));
    zpa.expect_log("waking default/myapp: ordered by the annotation zero-pod-autoscaler/wake");
}

#[test]
fn a_pause_holds_who_comes_until_it_ends_and_says_so() {
    const PAUSE: &str = "zero-pod-autoscaler/pause";
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    annotate(&sandbox, PAUSE, Some("true"));
    zpa.expect_log("paused by the annotation");
    let mut client = zpa.connect();
    client.write_all(b"bytes").unwrap();
    zpa.expect_log("a connection waits, and it is paused");
    let delay = &zpa.status()["app"]["wake_delay"];
    assert_eq!(delay["by"], "paused");
    assert!(
        delay["ends_in_seconds"].is_null(),
        "no time ends it: {delay}"
    );
    let (_, page) = zpa.get("/");
    assert!(page.contains("<b>1 connection waits</b>, and it is not woken: it is paused by"));
    zpa.expect_status("how long it waits", |status| {
        status["app"]["longest_wait_seconds"].as_f64() > Some(0.0)
    });
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 0);

    annotate(&sandbox, PAUSE, None);
    expect_echo(&mut client, "bytes");
    annotate(&sandbox, PAUSE, Some("true"));
    drop(client);
    zpa.expect_status("it is not put to sleep", kept_awake_by("paused"));
    annotate(&sandbox, PAUSE, None);
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
}

#[test]
fn a_rollout_that_has_not_finished_counts_as_use() {
    let sandbox = awake();
    sandbox.set_outdated(1);
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    zpa.expect_log("default/myapp: a rollout is in progress (0 of 1 pods are updated)");
    zpa.expect_status("the rollout keeps it awake", kept_awake_by("rollout"));
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 0);

    sandbox.set_outdated(0);
    zpa.expect_log("default/myapp: the rollout is over");
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
}

#[test]
fn in_a_window_it_is_woken_and_kept_awake_whatever_its_ttl() {
    let sandbox = asleep();
    let window = ("ZPA_KEEP_AWAKE", "00:00-24:00 Mon-Sun Europe/Berlin");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, window]);
    sandbox.expect("it is awake", |state| state.replicas() == 1);
    zpa.expect_status("the window keeps it", kept_awake_by("keep_awake"));
    let left = zpa.status()["app"]["sleep"]["in_seconds"].as_f64().unwrap();
    assert!(left > 24.0 * 3600.0, "{left} s");
}

#[test]
fn until_the_time_of_the_annotation_it_is_kept_awake_and_a_wrong_one_is_logged() {
    const UNTIL: &str = "zero-pod-autoscaler/keep-awake-until";
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    annotate(&sandbox, UNTIL, Some("18:00"));
    zpa.expect_log("keep-awake-until is no time such as");
    annotate(&sandbox, UNTIL, Some("2099-01-01T00:00:00+01:00"));
    sandbox.expect("it is awake", |state| state.replicas() == 1);
    zpa.expect_status("the annotation keeps it", kept_awake_by("keep_awake"));
    annotate(&sandbox, UNTIL, Some("2020-01-01T00:00:00Z"));
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
}

#[test]
fn in_a_window_without_wakes_nobody_wakes_it() {
    let sandbox = asleep();
    let settings = [
        LONG_TTL,
        ("ZPA_NO_WAKE", "00:00-24:00"),
        ("ZPA_HOLD_TIMEOUT", "1s"),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let delay = zpa.status()["app"]["wake_delay"].clone();
    assert_eq!(delay["by"], "no_wake");
    assert!(delay["ends_in_seconds"].is_number(), "{delay}");
    let (_, page) = zpa.get("/");
    let why = "Who connects now has to wait: it may not be woken at this time (--no-wake), for \
               another ";
    assert!(page.contains(why), "{page}");

    let mut client = zpa.connect();
    let ended = client.read(&mut [0]);
    assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    zpa.expect_log("it may not be woken at this time (--no-wake)");
    zpa.expect_log("1 client reset after 1s (hold limit)");
    zpa.expect_status("how long it has waited in vain", |status| {
        status["app"]["longest_wait_seconds"].as_f64() >= Some(1.0)
    });
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 0);
}

#[test]
fn a_dry_run_serves_says_when_it_would_sleep_and_writes_nothing() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ("ZPA_DRY_RUN", "true")]);
    let mut client = zpa.connect();
    echo(&mut client, "hello");
    drop(client);
    zpa.expect_log("default/myapp would be scaled to 0 now, after 1");
    zpa.expect_status("what keeps it awake", kept_awake_by("dry_run"));
    sandbox.set_replicas(0);
    zpa.expect_log("scaled to 0 by somebody else");
    let _waiting = zpa.connect();
    zpa.expect_log("a connection waits, and it is not woken in a dry run (--dry-run)");
    let writes = sandbox.requests(&on("*", "*"));
    let is_read = |method: &str| method == "GET";
    assert!(writes.iter().all(|exchange| is_read(&exchange.method)));
}
