//! Why a wake takes long, as the pods show it, and what follows for those who wait.

use super::*;

use serde_json::Value;
use support::sandbox::{PodTrouble, Resource};

const FAIL_FAST: (&str, &str) = ("ZPA_FAIL_FAST", "true");

/// The image of the app cannot be pulled.
const NO_IMAGE: PodTrouble = PodTrouble::Waiting(
    "ImagePullBackOff",
    "Back-off pulling image \"test/echo\": ErrImagePull: not found",
    0,
);

/// A sandbox whose app sleeps, and has this trouble once it is woken.
fn asleep_with(trouble: PodTrouble) -> Sandbox {
    let sandbox = asleep();
    sandbox.set_pod_trouble(Some(trouble));
    sandbox
}

/// The notes of the Events with that reason.
fn notes(sandbox: &Sandbox, reason: &str) -> Vec<String> {
    let state = sandbox.state();
    let events = state.store.list(Resource::Events);
    let events = events.filter(|event| event["reason"] == reason);
    events
        .map(|event| event["note"].as_str().unwrap().to_owned())
        .collect()
}

fn why(status: &Value) -> &str {
    status["app"]["waking"]["why"].as_str().unwrap_or_default()
}

#[test]
fn the_reason_is_in_the_log_an_event_the_status_and_the_page() {
    for (trouble, text) in [
        (
            NO_IMAGE,
            ", container web: ImagePullBackOff: Back-off pulling image",
        ),
        (
            PodTrouble::Unschedulable("0/3 nodes are available: 3 Insufficient memory."),
            ": Unschedulable: 0/3 nodes are available: 3 Insufficient memory.",
        ),
        (
            PodTrouble::Probe("Readiness probe failed: HTTP probe failed with statuscode: 503"),
            ": Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503",
        ),
    ] {
        let sandbox = asleep_with(trouble);
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        settle_asleep(&sandbox, &zpa);
        let mut client = zpa.connect();
        let line = zpa.expect_log(text);
        assert!(line.contains("default/myapp has been waking for"), "{line}");
        zpa.expect_status("the status says it", |status| why(status).contains(text));
        let page = zpa.get("/").1;
        let reason = text.split(": ").nth(1).unwrap();
        assert!(page.contains(reason), "{page}");
        sandbox.expect("an Event says it", |state| {
            let mut events = state.store.list(Resource::Events);
            events.any(|event| event["reason"] == "WakeSlow")
        });
        assert!(notes(&sandbox, "WakeSlow")[0].contains(text));
        // Who waits goes on waiting, and is served in the end.
        sandbox.set_pod_trouble(None);
        echo(&mut client, "at last");
        zpa.expect_status("and then nothing", |status| why(status).is_empty());
    }
}

#[test]
fn with_fail_fast_who_waits_in_vain_is_answered_at_once_and_so_is_who_comes() {
    let sandbox = asleep_with(NO_IMAGE);
    let settings = [LONG_TTL, FAIL_FAST, ("ZPA_HOLD_ANSWER", "http")];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let mut waiting = zpa.connect();
    waiting
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    zpa.expect_log("connections are let go, because the app cannot start (ImagePullBackOff)");
    assert_eq!(zpa.logged("myapp has been waking for"), 1, "and why");
    let mut next = zpa.connect();
    next.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
    drop((waiting, next));
    zpa.expect_page("/metrics", "both are counted", |_, metrics| {
        let mut lines = metrics.lines();
        lines.any(|line| {
            line.starts_with("zpa_connections_closed_total{")
                && line.contains(r#"reason="wake_failed""#)
                && line.contains(r#"phase="holding""#)
                && line.ends_with(" 2")
        })
    });

    // The reason is gone: who comes is held again, and served.
    sandbox.set_pod_trouble(None);
    zpa.expect_log("connections wait again");
    echo(&mut zpa.connect(), "served");
}

/// Nobody comes meanwhile, and the new pods are not ready yet.
#[test]
fn with_fail_fast_a_mended_deployment_is_seen_at_once_and_who_comes_waits() {
    let sandbox = asleep_with(NO_IMAGE);
    let zpa = start_zpa(&sandbox, &[LONG_TTL, FAIL_FAST]);
    settle_asleep(&sandbox, &zpa);
    expect_reset(&mut zpa.connect());
    zpa.expect_log("the app cannot start (ImagePullBackOff)");
    sandbox.set_pods_starting();
    sandbox.set_image("test/echo:2");
    zpa.expect_log("connections wait again");
    let mut client = zpa.connect();
    sandbox.set_start_delay(Duration::ZERO);
    echo(&mut client, "served");
}

/// The restarts of weeks ago are none.
#[test]
fn with_fail_fast_a_crash_loop_resets_who_waits_once_it_has_gone_on_for_some_restarts() {
    let crash = |restarts| PodTrouble::Waiting("CrashLoopBackOff", "back-off 40s", restarts);
    let sandbox = asleep_with(crash(7));
    let zpa = start_zpa(&sandbox, &[LONG_TTL, FAIL_FAST]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    zpa.expect_log(", container web: CrashLoopBackOff: 7 restarts, ended with exit code");
    zpa.expect_status("the status says it", |status| {
        why(status).contains("CrashLoopBackOff: 7 restarts")
    });
    sandbox.set_pod_trouble(Some(crash(10)));
    expect_reset(&mut client);
    zpa.expect_log("zpa/holding: the app cannot start: CrashLoopBackOff");
    sandbox.expect("an Event says that they are let go", |state| {
        let mut events = state.store.list(Resource::Events);
        events.any(|event| event["reason"] == "WakeFailed")
    });
    assert!(notes(&sandbox, "WakeFailed")[0].contains("(CrashLoopBackOff): "));
    sandbox.set_pod_trouble(None);
    zpa.expect_log("connections wait again");
    echo(&mut zpa.connect(), "served");
}

#[test]
fn a_quota_is_in_the_log_an_event_the_status_the_page_and_the_end_of_who_waits() {
    let sandbox = asleep();
    sandbox.set_quota_exceeded(true);
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_HOLD_TIMEOUT", "20s")]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    let line = zpa.expect_log("default/myapp has been waking for");
    assert!(line.contains("exceeded quota: none"), "{line}");
    zpa.expect_status("the status says it", |status| {
        why(status).contains("exceeded quota")
    });
    assert!(zpa.get("/").1.contains("exceeded quota"));
    sandbox.expect("an Event says it", |state| {
        let mut events = state.store.list(Resource::Events);
        events.any(|event| event["reason"] == "WakeSlow")
    });
    assert!(notes(&sandbox, "WakeSlow")[0].contains("exceeded quota"));
    expect_reset(&mut client);
    zpa.expect_log("no backend ready in 20s: the API server refuses its pods");
}

#[test]
fn with_fail_fast_a_quota_that_allows_no_pod_resets_who_waits_until_there_is_room() {
    let sandbox = asleep();
    sandbox.set_quota_exceeded(true);
    let zpa = start_zpa(&sandbox, &[LONG_TTL, FAIL_FAST]);
    settle_asleep(&sandbox, &zpa);
    expect_reset(&mut zpa.connect());
    zpa.expect_log("the app cannot start (the API server refuses its pods)");
    expect_reset(&mut zpa.connect());
    sandbox.set_quota_exceeded(false);
    zpa.expect_log("connections wait again");
    echo(&mut zpa.connect(), "served");
}

#[test]
fn with_fail_fast_who_may_still_be_served_waits() {
    let passing = PodTrouble::Waiting("ErrImagePull", "timeout", 0);
    let sandbox = asleep_with(passing);
    let zpa = start_zpa(&sandbox, &[LONG_TTL, FAIL_FAST]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    zpa.expect_log("ErrImagePull: timeout");
    sandbox.set_pod_trouble(None);
    echo(&mut client, "served");
    assert_eq!(zpa.logged("connections are let go"), 0);
}

#[test]
fn without_the_permission_to_list_pods_one_line_says_so_and_who_waits_waits() {
    let sandbox = asleep_with(NO_IMAGE);
    sandbox.deny("list", "pods");
    let zpa = start_zpa(&sandbox, &[LONG_TTL, FAIL_FAST]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    zpa.expect_log("INFO ] pods may not be listed (403");
    zpa.expect_ready();
    sandbox.set_pod_trouble(None);
    echo(&mut client, "served");
    assert_eq!(sandbox.count(&on("list", "pods")), 1);
    assert_eq!(warnings(&zpa, "pods"), 0);
}
