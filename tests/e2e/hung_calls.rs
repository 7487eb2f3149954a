//! A single call that hangs while a connection waits: it is given up after 5 s and repeated. The
//! client's own timeouts are longer, and each that expires is logged: none may be.

use super::*;

use std::thread;
use std::time::Instant;

use support::sandbox::{Misbehaviour, Times, anything};

/// A call, in the words of RBAC, and the replicas of the app at the start.
type Call = (&'static str, &'static str, &'static str, u32);

const FIRST_CALLS: [Call; 6] = [
    ("the list of slices, awake", "list", "endpointslices", 1),
    ("the list of slices, asleep", "list", "endpointslices", 0),
    ("the Service, awake", "get", "services", 1),
    ("the Service, asleep", "get", "services", 0),
    ("the renewal, asleep", "patch", "deployments/status", 0),
    ("the wake", "patch", "deployments/scale", 0),
];

/// A client is served though the first of these calls hangs, and nothing else has
/// made the second one come.
fn expect_second_attempt((label, verb, resource, replicas): Call) {
    let sandbox = Sandbox::start(Options {
        replicas,
        ..Options::default()
    });
    sandbox.fault(on(verb, resource), Times::First(1), Misbehaviour::Hang);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    sandbox.expect(label, |state| state.count(&on(verb, resource)) >= 2);
    assert_eq!(zpa.logged("timeout"), 0, "{label}: {}", zpa.log());
    echo(&mut client, label);
}

#[test]
fn a_first_call_that_hangs_is_made_again_before_its_time_out_while_somebody_waits() {
    thread::scope(|scope| {
        for call in FIRST_CALLS {
            scope.spawn(move || expect_second_attempt(call));
        }
    });
}

/// Without the permission to renew, only a read shows that the app sleeps. It is the attempt
/// at a renewal, which is urgent, that goes past the first one.
#[test]
fn a_first_read_that_hangs_is_made_again_before_its_time_out_while_somebody_waits() {
    let sandbox = asleep();
    sandbox.deny("patch", "deployments");
    sandbox.deny("patch", "deployments/status");
    let read = || on("get", "deployments");
    sandbox.fault(read(), Times::First(1), Misbehaviour::Hang);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    sandbox.expect("the first read", |state| state.count(&read()) >= 1);
    let mut client = zpa.connect();
    sandbox.expect("the second read", |state| state.count(&read()) >= 2);
    assert_eq!(zpa.logged("timeout"), 0, "{}", zpa.log());
    echo(&mut client, "woken by what it shows");
}

#[test]
fn an_app_that_was_never_read_keeps_nobody_waiting_for_a_list_that_hangs() {
    let sandbox = awake();
    let list = || on("list", "endpointslices");
    // The reply to a renewal shows the replicas as well.
    let object = anything().with(|exchange| exchange.resource.starts_with("deployments"));
    sandbox.fault(object, Times::Always, Misbehaviour::Hang);
    sandbox.fault(list(), Times::First(1), Misbehaviour::Hang);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    sandbox.expect("the second list", |state| state.count(&list()) >= 2);
    let log = zpa.log();
    assert!(!log.contains("cannot be listed"), "{log}");
    echo(&mut client, "though nothing is known of its replicas");
}

#[test]
fn a_retry_after_of_a_minute_on_the_wake_keeps_nobody_waiting_for_a_minute() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let wake = on("patch", "deployments/scale");
    sandbox.fault(wake, Times::First(1), Misbehaviour::Refuse(429, Some(60)));
    let start = Instant::now();
    echo(&mut zpa.connect(), "in 5 s");
    assert!(start.elapsed() < seconds(30), "{:?}", start.elapsed());
    assert!(sandbox.count(&on("patch", "deployments/scale")) >= 2);
}

/// Three pages of 64 slices, each within the 5 s that one reply may take, all of them
/// not: a list that was begun again and again would never end.
#[test]
fn a_long_list_goes_on_while_its_pages_come() {
    let sandbox = awake();
    for slice in 0..2 * 64 {
        sandbox.publish_slice(&format!("myapp-{slice:03}"), "IPv4", &[]);
    }
    let page = on("list", "endpointslices");
    sandbox.fault(page, Times::Always, Misbehaviour::Delay(seconds(3)));
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    echo(&mut zpa.connect(), "after the last page");
    let pages = sandbox.requests(&on("list", "endpointslices"));
    assert_eq!(pages.len(), 3, "{}", sandbox.summary());
}

/// The same of the Service and the list after it.
#[test]
fn a_list_goes_on_that_follows_a_slow_read_of_the_service() {
    let sandbox = awake();
    let (service, list) = (on("get", "services"), on("list", "endpointslices"));
    for slow in [service, list] {
        sandbox.fault(slow, Times::Always, Misbehaviour::Delay(seconds(3)));
    }
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    echo(&mut zpa.connect(), "after both");
    let lists = sandbox.requests(&on("list", "endpointslices"));
    assert_eq!(lists.len(), 1, "{}", sandbox.summary());
}

/// A webhook that does not answer, and whose failure is ignored, or a queue of requests: the
/// wake is applied after a time that is longer than a reply is waited for. No write is applied
/// whose client has gone.
#[test]
fn a_wake_that_takes_an_api_server_longer_than_a_reply_is_waited_for_is_applied() {
    thread::scope(|scope| {
        for delay in [7, 12] {
            scope.spawn(move || expect_slow_wake(seconds(delay)));
        }
    });
}

fn expect_slow_wake(delay: Duration) {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_HOLD_TIMEOUT", "2m")]);
    settle_asleep(&sandbox, &zpa);
    let wake = on("patch", "deployments/scale");
    let slow = Misbehaviour::AbortableDelay(delay);
    sandbox.fault(wake, Times::Always, slow);
    let mut client = zpa.connect();
    client.set_read_timeout(Some(seconds(60))).unwrap();
    echo(&mut client, "after the webhook");
}
