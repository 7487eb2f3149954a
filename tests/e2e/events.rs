//! Events about the object that is scaled, as `kubectl describe` shows them.

use super::*;

use std::sync::Arc;

use serde_json::Value;
use support::sandbox::{Misbehaviour, Resource, State, Times};

/// The Events with that reason.
fn events(state: &State, reason: &str) -> Vec<Arc<Value>> {
    let all = state.store.list(Resource::Events);
    all.filter(|event| event["reason"] == reason)
        .cloned()
        .collect()
}

#[track_caller]
fn expect_event(sandbox: &Sandbox, reason: &str) -> Arc<Value> {
    let label = format!("an Event {reason}");
    sandbox.expect(&label, |state| !events(state, reason).is_empty());
    let found = events(&sandbox.state(), reason);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn each_wake_and_each_sleep_is_an_event_of_the_deployment_and_counted() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    for round in 1..=2 {
        echo(&mut zpa.connect(), "good morning");
        sandbox.expect("it sleeps again", |state| {
            state.replicas() == 0 && state.count(&setting(0)) == round
        });
    }
    for (reason, note) in [
        ("ScaledFromZero", "scaled from 0 to 1 for a connection"),
        (
            "ScaledToZero",
            "scaled to 0 after 1s or more without a connection",
        ),
    ] {
        sandbox.expect("the second is counted", |state| {
            events(state, reason)
                .iter()
                .any(|event| event["series"]["count"] == 2)
        });
        let event = expect_event(&sandbox, reason);
        assert_eq!(event["note"], note);
        assert_eq!(event["type"], "Normal");
        let deployment = sandbox.state().deployment().unwrap().clone();
        let regarding = &event["regarding"];
        assert_eq!(regarding["uid"], deployment["metadata"]["uid"]);
        assert_eq!(regarding["apiVersion"], "apps/v1");
        assert_eq!(regarding["kind"], "Deployment");
        assert_eq!(regarding["name"], "myapp");
    }
}

#[test]
fn a_hold_limit_that_was_reached_is_an_event_with_the_reason() {
    let sandbox = asleep();
    sandbox.never_ready();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_HOLD_TIMEOUT", "1s")]);
    settle_asleep(&sandbox, &zpa);
    expect_reset(&mut zpa.connect());
    let event = expect_event(&sandbox, "WakeTimedOut");
    assert_eq!(event["type"], "Warning");
    let note = event["note"].as_str().unwrap();
    assert!(
        note.starts_with("clients were reset after 1s (hold limit): 0 of 1 endpoints"),
        "{note}"
    );
}

#[test]
fn without_the_permission_it_is_said_once_and_all_else_is_as_ever() {
    let sandbox = asleep();
    sandbox.deny("create", "events");
    sandbox.deny("patch", "events");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    for round in 1..=2 {
        echo(&mut zpa.connect(), "good morning");
        sandbox.expect("it sleeps again", |state| {
            state.replicas() == 0 && state.count(&setting(0)) == round
        });
    }
    sandbox.expect("each was tried", |state| {
        state.count(&on("*", "events").with(|it| it.status == Some(403))) >= 4
    });
    assert_eq!(zpa.logged("INFO ] no Event can be created"), 1);
    assert_eq!(warnings(&zpa, "Event"), 0);
    zpa.expect_ready();
}

#[test]
fn an_event_that_hangs_holds_up_no_wake_and_no_sleep() {
    let sandbox = asleep();
    let never = Misbehaviour::Hang;
    sandbox.fault(on("create", "events"), Times::Always, never);
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    echo(&mut zpa.connect(), "good morning");
    sandbox.expect("it sleeps", |state| state.count(&setting(0)) == 1);
    echo(&mut zpa.connect(), "good evening");
    assert!(sandbox.count(&on("create", "events")) > 0);
    assert!(events(&sandbox.state(), "ScaledFromZero").is_empty());
}

#[test]
fn somebody_who_wakes_it_each_time_is_one_event_of_two_proxies() {
    let sandbox = awake();
    let zpas = [0, 1].map(|_| start_zpa(&sandbox, &[SHORT_TTL]));
    const UNDONE: &str = "something scales it up again after each sleep";
    // A proxy that is shown neither end of a short sleep does not count it: the rounds go on until
    // both have counted two in a row.
    for round in 1..=10 {
        sandbox.expect("it sleeps", |state| {
            state.replicas() == 0 && state.count(&setting(0)) >= round
        });
        sandbox.set_replicas(1);
        if zpas.iter().all(|zpa| zpa.logged(UNDONE) > 0) {
            break;
        }
    }
    for zpa in &zpas {
        zpa.expect_log(UNDONE);
    }
    let event = expect_event(&sandbox, "ScaleReverted");
    assert_eq!(event["type"], "Warning");
    let note = event["note"].as_str().unwrap();
    assert!(note.contains("ignoreDifferences"), "{note}");
}

#[test]
fn somebody_who_puts_it_to_sleep_after_each_wake_is_named_and_not_fought() {
    let sandbox = asleep();
    sandbox.never_ready();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    for round in 1..=2 {
        sandbox.expect("it is woken", |state| {
            state.replicas() == 1 && state.count(&setting(1)) == round
        });
        zpa.expect_log("default/myapp scaled from 0 to 1");
        sandbox.set_replicas(0);
    }
    zpa.expect_log("something scales it to 0 again right after each wake");
    zpa.expect_log("a connection waits, and something has scaled it to 0 again");
    let event = expect_event(&sandbox, "ScaleReverted");
    assert!(
        event["note"].as_str().unwrap().contains("replicas: 0"),
        "{event}"
    );
    sandbox.set_start_delay(Duration::ZERO);
    echo(&mut client, "woken once more, after the pause");
}
