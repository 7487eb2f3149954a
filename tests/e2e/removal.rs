//! Everything is deleted at once, as `kubectl delete -k` does it: the Role goes first,
//! and the proxy drains without its permissions.

use super::*;

use support::sandbox::{Pattern, Resource, State, WatchFault};

fn is_watching(state: &State) -> bool {
    state.open_watches(Resource::EndpointSlices) == 1
}

/// How many of these requests were refused.
fn refused(state: &State, verb: &str, resource: &str) -> usize {
    let is_refused: Pattern = on(verb, resource).with(|exchange| exchange.status == Some(403));
    state.count(&is_refused)
}

#[test]
fn permissions_that_go_while_a_proxy_drains_are_no_warnings() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[("ZPA_IDLE_TTL", "3s")]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    sandbox.expect("it is watching", is_watching);
    zpa.signal("TERM");
    zpa.expect_log("SIGTERM");
    sandbox.deny("*", "*");
    sandbox.order_watches(WatchFault::End);
    sandbox.expect("everything is refused, more than once", |state| {
        ["endpointslices", "endpoints"]
            .iter()
            .all(|resource| refused(state, "list", resource) >= 2)
            && refused(state, "get", "deployments") >= 2
            && refused(state, "patch", "deployments/status") >= 2
    });
    echo(&mut client, "during");
    drop(client);
    assert!(zpa.wait().success());
    expect_no_alarm(&zpa);
    let said = zpa.logged("cannot watch resource") + zpa.logged("cannot get resource");
    assert!(said >= 2, "it is said at debug: {}", zpa.log());
}

#[test]
fn objects_and_tokens_that_go_while_a_proxy_drains_are_no_warnings() {
    let sandbox = awake();
    let settings = [("ZPA_IDLE_TTL", "3s"), ("ZPA_DRAIN_DELAY", "1h")];
    let mut zpa = start_zpa(&sandbox, &settings);
    zpa.expect_ready();
    sandbox.expect("it is watching", is_watching);
    zpa.signal("TERM");
    zpa.expect_log("SIGTERM");
    let answered = |state: &State, status| {
        let pattern =
            on("get", "deployments").with(move |exchange| exchange.status == Some(status));
        state.count(&pattern) >= 1
    };
    sandbox.delete_deployment();
    sandbox.expect("it is not found", |state| answered(state, 404));
    zpa.expect_log("not found");
    sandbox.delete_service();
    sandbox.order_watches(WatchFault::CutInLine);
    zpa.expect_log("the Service default/myapp does not exist any more");
    sandbox.revoke_token();
    sandbox.expect("nor is the token known", |state| answered(state, 401));
    zpa.expect_log("401 Unauthorized");
    zpa.signal("TERM");
    assert!(zpa.wait().success());
    expect_no_alarm(&zpa);
}

/// No line at WARN or ERROR.
#[track_caller]
fn expect_no_alarm(zpa: &Zpa) {
    let log = zpa.log();
    let is_alarm = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    assert_eq!(log.lines().find(is_alarm), None, "{log}");
}
