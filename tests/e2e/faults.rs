//! The promises about faults.

use super::*;
use std::net::Shutdown;
use std::thread;
use std::time::Instant;

use support::sandbox::{AcceptMode, Misbehaviour, Times, anything};

#[test]
fn while_the_api_server_is_down_flows_and_new_connections_live_on() {
    for hang in [false, true] {
        let sandbox = awake();
        let zpa = start_zpa(&sandbox, &[LONG_TTL]);
        let mut old = zpa.connect();
        echo(&mut old, "before");
        if hang {
            sandbox.receive(AcceptMode::Hang);
            sandbox.reset_connections();
        } else {
            sandbox.api_down();
        }
        echo(&mut old, "during");
        echo(&mut zpa.connect(), "a new one");
    }
}

#[test]
fn while_the_api_server_is_down_nothing_is_put_to_sleep_and_afterwards_it_is() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    echo(&mut zpa.connect(), "before");
    let outage = sandbox.fault(anything(), Times::Always, Misbehaviour::Refuse(503, None));
    let asked = sandbox.count(&anything());
    sandbox.expect("it is asked in vain, more than once", |state| {
        state.log.len() >= asked + 3
    });
    echo(&mut zpa.connect(), "still here");
    assert_eq!(sandbox.state().replicas(), 1);
    sandbox.heal_one(outage);
    zpa.expect_log("scaled to 0");
}

#[test]
fn connections_to_a_sleeping_app_are_held_through_an_api_outage_and_then_served() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.api_down();
    let mut clients: Vec<_> = (0..10).map(|_| zpa.connect()).collect();
    zpa.expect_log("waking");
    sandbox.api_up();
    clients
        .iter_mut()
        .for_each(|client| echo(client, "worth the wait"));
    expect_one_patch(&sandbox, 1);
}

#[test]
fn a_wake_does_not_wait_for_a_poll_that_hangs() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.fault(on("get", "deployments"), Times::Always, Misbehaviour::Hang);
    let polls = sandbox.count(&on("get", "deployments"));
    let scale = on("get", "deployments");
    assert!(
        sandbox.wait_until(TEST_TIMEOUT, |state| state.count(&scale) > polls),
        "a poll hangs"
    );
    let start = Instant::now();
    echo(&mut zpa.connect(), "at once");
    assert!(start.elapsed() < seconds(4), "sooner than any time-out");
}

#[test]
fn a_patch_that_was_applied_though_its_reply_was_lost_is_not_sent_again() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let patch = on("patch", "deployments/scale");
    sandbox.fault(patch, Times::First(1), Misbehaviour::LoseReply);
    echo(&mut zpa.connect(), "read first");
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 1);
}

#[test]
fn a_storm_of_conflicts_ends_in_a_wake() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let patch = on("patch", "deployments/scale");
    sandbox.fault(patch, Times::First(4), Misbehaviour::Refuse(409, None));
    echo(&mut zpa.connect(), "fifth time lucky");
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 5);
}

#[test]
fn a_retry_after_is_honoured() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let patch = on("patch", "deployments/scale");
    sandbox.fault(patch, Times::First(1), Misbehaviour::Refuse(429, Some(1)));
    echo(&mut zpa.connect(), "later");
    let patches = sandbox.requests(&on("patch", "deployments/scale"));
    assert!(patches[1].at.duration_since(patches[0].at) >= seconds(1));
}

#[test]
fn a_token_that_is_rotated_is_read_again_and_the_request_repeated() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.rotate_token();
    echo(&mut zpa.connect(), "with the new one");
}

#[test]
fn a_token_that_is_refused_for_a_moment_keeps_nobody_waiting_for_half_a_minute() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.revoke_token();
    let mut client = zpa.connect();
    zpa.expect_log("401 Unauthorized");
    sandbox.write_token();
    echo(&mut client, "soon after");
}

#[test]
fn a_ca_that_is_rotated_is_trusted_and_the_old_one_is_not() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.rotate_ca();
    sandbox.reset_connections();
    echo(&mut zpa.connect(), "verified");
}

#[test]
fn a_server_that_another_ca_vouches_for_gets_no_request() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.impersonate();
    sandbox.reset_connections();
    zpa.expect_log("certificate");
    let (asked, refused) = (sandbox.count(&anything()), zpa.logged("certificate"));
    let _client = zpa.connect();
    zpa.expect_log("waking");
    zpa.expect_log_times("certificate", refused + 2);
    assert_eq!(sandbox.count(&anything()), asked);
}

#[test]
fn where_slices_may_not_be_read_plain_endpoints_serve_and_one_line_says_so() {
    let sandbox = asleep();
    sandbox.deny("*", "endpointslices");
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    echo(&mut zpa.connect(), "through endpoints");
    sandbox.set_replicas(0);
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
    echo(&mut zpa.connect(), "and again");
    zpa.expect_log("cannot list resource");
    assert_eq!(
        zpa.logged("cannot list resource \\\"endpointslices\\\"")
            + zpa.logged("cannot list resource \"endpointslices\""),
        1,
        "{}",
        zpa.log()
    );
}

#[test]
fn a_scale_that_may_not_be_patched_is_logged_in_one_line_and_flows_live_on() {
    let sandbox = awake();
    sandbox.deny("patch", "deployments/scale");
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    zpa.expect_log("cannot patch resource");
    for _ in 0..3 {
        echo(&mut zpa.connect(), "still served");
    }
    zpa.expect_logged("cannot patch resource", 1);
    assert!(
        sandbox.count(&on("patch", "deployments/scale")) <= 2,
        "no storm"
    );
}

#[test]
fn a_watch_that_breaks_or_expires_costs_no_wake() {
    use support::sandbox::WatchFault;
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    for order in WatchFault::BREAKS {
        settle_asleep(&sandbox, &zpa);
        sandbox.expect("it is watching", |state| {
            state.open_watches(sandbox::Resource::EndpointSlices) == 1
        });
        sandbox.order_watches(order.clone());
        let mut client = zpa.connect();
        echo(
            &mut client,
            &format!("{order:?}").replace("10485760", "long"),
        );
        drop(client);
        sandbox.set_replicas(0);
        sandbox.expect("the pods are gone", |state| state.pods() == 0);
    }
    sandbox.expire_versions_and_watches();
    echo(&mut zpa.connect(), "410");
}

#[test]
fn a_deployment_that_is_deleted_and_made_again_is_served_again() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut flow = zpa.connect();
    echo(&mut flow, "before");
    sandbox.delete_deployment();
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
    let mut waiting = zpa.connect();
    zpa.expect_log("not found");
    sandbox.create_deployment(0);
    echo(&mut waiting, "after");
}

#[test]
fn no_token_is_ever_logged() {
    let sandbox = asleep();
    let zpa = start_zpa(
        &sandbox,
        &[LONG_TTL, ("RUST_LOG", "trace"), ("ZPA_LOG", "debug")],
    );
    let first = sandbox.token();
    echo(&mut zpa.connect(), "hello");
    sandbox.rotate_token();
    sandbox.reset_connections();
    sandbox.set_replicas(0);
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
    echo(&mut zpa.connect(), "again");
    sandbox.revoke_token();
    let log = zpa.log();
    for token in [first, sandbox.token()] {
        assert!(!log.contains(&token), "{log}");
        assert!(!log.contains(&token[token.len() - 12..]), "{log}");
    }
}

#[test]
fn neither_a_proxy_from_the_environment_nor_a_redirect_is_followed() {
    let sandbox = asleep();
    let trap = sandbox.lone_server("trap", sandbox::PodProgram::Http);
    let proxy = format!("http://{}", trap.address());
    let redirect = Misbehaviour::Redirect(format!("http://{}/", trap.address()));
    sandbox.fault(on("get", "deployments"), Times::Nth(1), redirect);
    let settings = [
        LONG_TTL,
        ("HTTPS_PROXY", &proxy),
        ("HTTP_PROXY", &proxy),
        ("ALL_PROXY", &proxy),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    echo(&mut zpa.connect(), "directly");
    assert_eq!(trap.accepted(), 0);
}

#[test]
fn sigterm_lets_connections_finish_and_then_ends_well() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    zpa.signal("TERM");
    zpa.expect_log("open now: 1 connection: default/myapp 1");
    zpa.expect_log("accepting no more; waiting up to 20s for 1 connection: default/myapp 1");
    zpa.expect_status("the status says how far it is", |status| {
        let draining = &status["draining"];
        draining["accepting"] == false && draining["left_seconds"].as_f64() > Some(0.0)
    });
    assert!(zpa.get("/").1.contains("it accepts no more"));
    echo(&mut client, "during");
    drop(client);
    assert!(zpa.wait().success());
    zpa.expect_log("drained: every connection has ended, ");
    let state = sandbox.state();
    let mut events = state.store.list(sandbox::Resource::Events);
    assert!(events.all(|event| event["reason"] != "DrainTimedOut"));
}

#[test]
fn during_the_drain_delay_new_connections_are_still_served() {
    let sandbox = asleep();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_DRAIN_DELAY", "1s")]);
    settle_asleep(&sandbox, &zpa);
    zpa.signal("TERM");
    zpa.expect_log("SIGTERM");
    let mut client = zpa.connect();
    echo(&mut client, "woken by a proxy that is about to go");
    drop(client);
    assert!(zpa.wait().success());
}

#[test]
fn at_the_drain_deadline_what_still_runs_is_reset() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "500ms")]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    zpa.signal("TERM");
    expect_reset(&mut client);
    assert_eq!(zpa.wait().code(), Some(1));
    zpa.expect_log("the drain deadline has passed: cutting 1 connection: default/myapp 1");
    let notes: Vec<String> = {
        let state = sandbox.state();
        let events = state.store.list(sandbox::Resource::Events);
        let events = events.filter(|event| event["reason"] == "DrainTimedOut");
        events.map(|event| event["note"].to_string()).collect()
    };
    assert!(
        notes.len() == 1 && notes[0].contains("1 connection cut, "),
        "{notes:?}"
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_DRAIN_TIMEOUT", "1h")]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    zpa.signal("INT");
    zpa.expect_log("SIGINT");
    assert!(zpa.is_running());
    zpa.signal("TERM");
    expect_reset(&mut client);
    assert_eq!(zpa.wait().code(), Some(1));
}

#[test]
fn a_second_signal_while_nothing_is_open_ends_at_once_and_well() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_DRAIN_DELAY", "1h")]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    client.shutdown(Shutdown::Write).unwrap();
    zpa.expect_log("#0 finished after ");
    zpa.expect_log(": both sides have ended");
    zpa.signal("TERM");
    zpa.expect_log("SIGTERM");
    zpa.signal("TERM");
    assert_eq!(zpa.wait().code(), Some(0));
    zpa.expect_log("SIGTERM again: ending at once: nothing is open");
}

#[test]
fn a_sigpipe_is_ignored() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    zpa.signal("PIPE");
    echo(&mut zpa.connect(), "still here");
}

#[test]
fn traffic_through_a_sigterm_is_not_disturbed() {
    let sandbox = awake();
    let mut zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = zpa.connect();
            echo(&mut client, "hello");
            thread::spawn(move || {
                for n in 0..200 {
                    echo(&mut client, &format!("message {n}"));
                }
            })
        })
        .collect();
    zpa.signal("TERM");
    for client in clients {
        client.join().expect("every message came back");
    }
    assert!(zpa.wait().success());
}
