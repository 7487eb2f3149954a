//! The states of endpoints, and which of them are dialled.

use super::*;

use support::sandbox::{Endpoint, Resource, State, WatchFault};

#[test]
fn a_service_that_leads_back_to_the_proxy_is_refused_and_named_with_the_cure() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_HOLD_TIMEOUT", "2s")]);
    zpa.expect_status("it knows the pod", |status| {
        status["addresses"]["usable"] == 1
    });
    let listed = [Endpoint::ready("zpa", zpa.address())];
    sandbox.publish_slice("proxies", "IPv4", &listed);
    let line = zpa.expect_log("Service myapp leads back to this proxy");
    assert!(
        line.contains("WARN") && line.contains("--service (ZPA_SERVICE)"),
        "{line}"
    );
    let mut client = zpa.connect();
    expect_reset(&mut client);
    zpa.expect_log("(hold limit): Service myapp leads back to this proxy");
    let status = zpa.status();
    assert_eq!(
        status["connections"]["accepted"], 1,
        "it has not called itself"
    );
    assert_eq!(status["addresses"]["usable"], 0, "nor another proxy");
    let problem = status["addresses"]["problem"].as_str().unwrap();
    assert!(problem.contains("is its own address"), "{problem}");
    assert_eq!(
        zpa.logged("leads back to this proxy"),
        2,
        "once, and at the hold limit"
    );
    sandbox.delete_slice("proxies");
    zpa.expect_log("nothing leads back");
    echo(&mut zpa.connect(), "to the pod");
}

#[test]
fn pods_that_are_published_though_not_ready_are_not_dialled() {
    let sandbox = asleep();
    sandbox.never_ready();
    sandbox.publish_not_ready(true);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    sandbox.expect("a pod that only says that it is ready", |state| {
        ready(state)
            .iter()
            .any(|endpoint| endpoint["conditions"]["serving"] == false)
    });
    sandbox.set_start_delay(Duration::ZERO);
    echo(&mut client, "once it serves");
    assert_eq!(zpa.metric("zpa_dials_failed_total"), Some(0.0));
}

#[test]
fn endpoints_without_a_port_are_said_with_the_cure_and_dialled_once_they_have_one() {
    let sandbox = asleep();
    sandbox.set_has_port(false);
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_HOLD_TIMEOUT", "2s")]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    let line = zpa.expect_log("the endpoints of the Service myapp have no port");
    assert!(
        line.contains("WARN") && line.contains("its targetPort must be"),
        "{line}"
    );
    expect_reset(&mut client);
    zpa.expect_log("(hold limit): the endpoints of the Service myapp have no port");
    let status = zpa.status();
    let problem = status["addresses"]["problem"].as_str().unwrap();
    assert!(problem.contains("have no port"), "{problem}");
    assert_eq!(status["addresses"]["usable"], 0);
    sandbox.set_has_port(true);
    zpa.expect_log("have the port again");
    echo(&mut zpa.connect(), "to the port");
    assert_eq!(
        zpa.status()["addresses"]["problem"],
        serde_json::Value::Null
    );
}

/// What the endpoints need is refused to everybody.
fn take_permissions(sandbox: &Sandbox) {
    for resource in ["services", "endpointslices", "endpoints"] {
        sandbox.deny("*", resource);
    }
}

/// How many lists of slices were refused.
fn refused_lists(state: &State) -> usize {
    state.count(&on("list", "endpointslices").with(|exchange| exchange.status == Some(403)))
}

#[test]
fn a_proxy_that_starts_into_a_refusal_is_ready_as_soon_as_that_is_over() {
    let sandbox = asleep();
    take_permissions(&sandbox);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    sandbox.expect("it is refused, and tries again", |state| {
        refused_lists(state) >= 3
    });
    sandbox.allow_all();
    zpa.expect_ready();
    echo(&mut zpa.connect(), "sooner than in half a minute");
    assert_eq!(zpa.logged("ERROR"), 0, "a refusal of a moment is no error");
}

#[test]
fn permissions_that_are_gone_for_a_while_are_found_again_within_seconds() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.expect_ready();
    let is_watching = |state: &State| state.open_watches(Resource::EndpointSlices) == 1;
    sandbox.expect("it is watching", is_watching);
    take_permissions(&sandbox);
    sandbox.order_watches(WatchFault::End);
    sandbox.expect("it is refused, and tries again", |state| {
        refused_lists(state) >= 3
    });
    sandbox.allow_all();
    sandbox.expect("it is watching again", is_watching);
    echo(&mut zpa.connect(), "through slices");
    assert_eq!(zpa.get("/readyz").0, 200);
    let log = zpa.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("cannot be listed: 403"));
    let warnings = warnings.filter(|line| line.contains("WARN")).count();
    assert_eq!(warnings, 1, "a line for the change, none for each retry");
    assert_eq!(zpa.logged("the endpoints can be listed again"), 1);
}
