//! The walkthroughs of `src/lib.rs`, and events that interfere with them.

use super::*;

use std::net::Shutdown;
use std::thread;

use support::sandbox::PodProgram;

#[test]
fn a_connection_while_asleep_wakes_the_app_and_is_served() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    echo(&mut client, "good morning");
    assert_eq!(sandbox.state().replicas(), 1);
    expect_one_patch(&sandbox, 1);
    zpa.expect_log("scaled from 0 to 1");
    let line = zpa.expect_log("has a pod ready after");
    assert!(line.contains("1 connection held"), "{line}");
}

#[test]
fn five_hundred_connections_at_once_while_asleep_are_one_patch_and_all_served() {
    let sandbox = asleep();
    sandbox.set_start_delay(Duration::from_millis(300));
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let count = descriptors::room_for(500);
    let mut clients: Vec<_> = (0..count).map(|_| zpa.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client
            .write_all(format!("client {n:03}").as_bytes())
            .unwrap();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        expect_echo(client, &format!("client {n:03}"));
    }
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 1);
}

#[test]
fn while_awake_connections_are_proxied_both_ways_with_half_closes() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    let mut reader = client.try_clone().unwrap();
    let echoed = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    let sent: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(
        echoed.join().unwrap().unwrap() == sent,
        "every byte comes back"
    );
    assert_eq!(
        sandbox.count(&on("patch", "deployments/scale")),
        0,
        "an app that is awake is left alone"
    );
}

#[test]
fn after_the_ttl_without_a_connection_the_app_sleeps_and_can_be_woken_again_and_again() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    for cycle in 1..=3 {
        let mut client = zpa.connect();
        echo(&mut client, &format!("cycle {cycle}"));
        drop(client);
        zpa.expect_log_times("scaled to 0 after", cycle);
        sandbox.expect("zero replicas", |state| state.replicas() == 0);
    }
    let zero = |e: &sandbox::LoggedRequest| e.json()["metadata"]["resourceVersion"].is_string();
    let guarded = sandbox.count(&on("patch", "deployments/scale").with(zero));
    assert_eq!(
        guarded,
        sandbox.count(&on("patch", "deployments/scale")),
        "each write is guarded"
    );
}

#[test]
fn a_client_that_half_closes_while_held_gets_its_reply() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    client.write_all(b"one shot").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "one shot");
}

#[test]
fn the_first_bytes_of_a_server_arrive_after_the_wake() {
    let sandbox = Sandbox::start(Options {
        app: PodProgram::Source(5),
        ..Options::default()
    });
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut greeting = Vec::new();
    zpa.connect().read_to_end(&mut greeting).unwrap();
    assert_eq!(greeting, [0; 5]);
}

#[test]
fn connections_that_arrive_while_it_falls_asleep_are_held_and_served_by_a_new_pod() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    let old = sandbox.pod_addresses();
    let zero = on("patch", "deployments/scale").with(|e| e.replicas() == Some(0));
    sandbox.fault(
        zero,
        sandbox::Times::First(1),
        sandbox::Misbehaviour::Delay(seconds(1)),
    );
    sandbox.expect("zero is written", |state| state.replicas() == 0);
    let mut client = zpa.connect();
    echo(&mut client, "just in time");
    zpa.expect_log("scaled to 0 after");
    zpa.expect_log("scaled from 0 to 1");
    assert_ne!(sandbox.pod_addresses(), old);
}

#[test]
fn a_pod_of_before_the_sleep_that_is_still_listed_as_ready_is_not_dialled() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    zpa.expect_log("found at 1 replica");
    // The slices tell of the end of the old pod only after it is long gone.
    sandbox.set_endpoint_lag(seconds(1));
    sandbox.expect("zero is written", |state| state.replicas() == 0);
    let mut client = zpa.connect();
    echo(&mut client, "to the new one");
    assert_eq!(
        zpa.logged("dialling"),
        0,
        "no dial has failed:\n{}",
        zpa.log()
    );
}

#[test]
fn when_all_clients_leave_before_the_pod_is_ready_the_app_wakes_and_then_sleeps() {
    let sandbox = asleep();
    sandbox.set_start_delay(Duration::from_millis(300));
    let zpa = start_zpa(&sandbox, &[SHORT_TTL]);
    settle_asleep(&sandbox, &zpa);
    let client = zpa.connect();
    zpa.expect_log("waking");
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    zpa.expect_log("client/holding: reset or gone");
    sandbox.expect("a pod starts", |state| state.ready_pods() == 1);
    sandbox.expect("and sleeps", |state| state.replicas() == 0);
}

#[test]
fn an_app_that_is_never_ready_costs_its_clients_a_reset_at_the_hold_limit() {
    let sandbox = asleep();
    sandbox.never_ready();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_HOLD_TIMEOUT", "1s")]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    expect_reset(&mut client);
    zpa.expect_log("zpa/holding: no backend ready in 1s");
    let why = "0 of 1 endpoints of Service myapp are ready";
    zpa.expect_log(&format!("1 client reset after 1s (hold limit): {why}"));
    let waking = &zpa.status()["app"]["waking"];
    assert!(waking["for_seconds"].as_f64() > Some(0.0), "{waking}");
    assert!(waking["why"].as_str().unwrap().starts_with(why), "{waking}");
    assert_eq!(sandbox.state().replicas(), 1, "the app goes on waking");
}

#[test]
fn a_wake_asks_for_the_wake_count_and_a_sleep_takes_back_whatever_the_hpa_has_made_of_it() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ("ZPA_WAKE_REPLICAS", "3")]);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    echo(&mut client, "three of you");
    assert_eq!(sandbox.state().replicas(), 3);
    sandbox.set_replicas(5);
    drop(client);
    sandbox.expect("it sleeps", |state| state.replicas() == 0);
    expect_one_patch(&sandbox, 3);
    expect_one_patch(&sandbox, 0);
}

/// The kubelet looks at it a minute after its start, and it listens after a third of a second.
#[test]
fn with_the_gate_of_accepting_pods_nobody_waits_for_the_kubelet() {
    let sandbox = Sandbox::start(Options {
        start_delay: Some(Duration::from_millis(300)),
        probe_period: seconds(60),
        ..Options::default()
    });
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ("ZPA_READY_GATE", "accept")]);
    settle_asleep(&sandbox, &zpa);
    for wake in 1..=2 {
        let mut client = zpa.connect();
        echo(&mut client, "already there");
        assert_eq!(sandbox.state().ready_pods(), 0);
        drop(client);
        zpa.expect_log_times("scaled to 0 after", wake);
    }
    assert_eq!(zpa.logged("Connection refused"), 0, "{}", zpa.log());
}

/// The same of a server that speaks first.
#[test]
fn with_the_gate_of_greetings_nobody_waits_for_the_kubelet() {
    let sandbox = Sandbox::start(Options {
        app: sandbox::PodProgram::Source(5),
        start_delay: Some(Duration::from_millis(300)),
        probe_period: seconds(60),
        ..Options::default()
    });
    let zpa = start_zpa(&sandbox, &[SHORT_TTL, ("ZPA_READY_GATE", "greeting")]);
    settle_asleep(&sandbox, &zpa);
    for wake in 1..=2 {
        let mut greeting = Vec::new();
        zpa.connect().read_to_end(&mut greeting).unwrap();
        assert_eq!((greeting.len(), sandbox.state().ready_pods()), (5, 0));
        zpa.expect_log_times("scaled to 0 after", wake);
    }
}

/// Without the gate, a byte of the client binds it to a pod that does not speak.
#[test]
fn a_ready_pod_that_breaks_off_without_a_greeting_gets_no_byte() {
    let sandbox = Sandbox::start(Options {
        app: sandbox::PodProgram::Source(5),
        replicas: 1,
        ..Options::default()
    });
    sandbox.expect("it is ready", |state| state.ready_pods() == 1);
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_READY_GATE", "greeting")]);
    sandbox.set_pod_behaviour(sandbox::PodBehaviour::Reset);
    let mut client = zpa.connect();
    client.write_all(b"me first").unwrap();
    zpa.expect_log("dialling");
    sandbox.set_pod_behaviour(sandbox::PodBehaviour::Serve);
    let mut greeting = [0; 5];
    client.read_exact(&mut greeting).unwrap();
    assert_eq!(greeting, [0; 5]);
    zpa.expect_metric("zpa_forwarded_total", 1.0);
}

#[test]
fn an_operator_who_scales_to_zero_under_live_connections_is_undone_by_the_next_one() {
    let sandbox = awake();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    echo(&mut client, "before");
    sandbox.set_replicas(0);
    sandbox.expect("the pods are gone", |state| state.pods() == 0);
    let mut client = zpa.connect();
    echo(&mut client, "after");
    expect_one_patch(&sandbox, 1);
}

#[test]
fn an_operator_who_wakes_the_app_is_noticed_without_any_write() {
    let sandbox = asleep();
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    settle_asleep(&sandbox, &zpa);
    sandbox.set_replicas(2);
    zpa.expect_log("scaled from 0 to 2 by somebody else");
    echo(&mut zpa.connect(), "hello");
    assert_eq!(sandbox.count(&on("patch", "deployments/scale")), 0);
}

#[test]
fn pods_share_the_connections() {
    let sandbox = Sandbox::start(Options {
        replicas: 3,
        ..Options::default()
    });
    sandbox.expect("three are ready", |state| ready(state).len() == 3);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut clients: Vec<_> = (0..9).map(|_| zpa.connect()).collect();
    clients.iter_mut().for_each(|client| echo(client, "hi"));
    for address in sandbox.pod_addresses() {
        zpa.expect_logged(&format!("relaying to {address}"), 3);
    }
}

#[test]
fn with_a_target_it_goes_through_that_in_place_of_the_pods() {
    let sandbox = asleep();
    let service = sandbox.lone_server("service", PodProgram::Echo);
    let target = service.address().to_string();
    let zpa = start_zpa(&sandbox, &[LONG_TTL, ("ZPA_TARGET", &target)]);
    settle_asleep(&sandbox, &zpa);
    echo(&mut zpa.connect(), "through the service");
    assert_eq!(service.accepted(), 1);
    expect_one_patch(&sandbox, 1);
}

#[test]
fn a_pod_that_is_ready_but_refuses_is_tried_until_it_accepts() {
    let sandbox = asleep();
    sandbox.set_pod_behaviour(sandbox::PodBehaviour::Refuse);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    zpa.expect_log("Connection refused");
    sandbox.set_pod_behaviour(sandbox::PodBehaviour::Serve);
    echo(&mut client, "at last");
}

#[test]
fn a_pod_that_resets_before_any_byte_is_dialled_again() {
    let sandbox = awake();
    sandbox.set_pod_behaviour(sandbox::PodBehaviour::Reset);
    let zpa = start_zpa(&sandbox, &[LONG_TTL]);
    let mut client = zpa.connect();
    zpa.expect_log("broke off before the first byte");
    sandbox.set_pod_behaviour(sandbox::PodBehaviour::Serve);
    echo(&mut client, "at last");
}

/// A pod that has just become ready may not bear all who wait.
#[test]
fn after_a_wake_connections_wait_until_the_pods_have_been_ready_for_as_long_as_is_set() {
    let sandbox = asleep();
    let settings = [
        LONG_TTL,
        ("ZPA_WAKE_REPLICAS", "2"),
        ("ZPA_MIN_READY", "2"),
        ("ZPA_MIN_READY_TIME", "1s"),
    ];
    let zpa = start_zpa(&sandbox, &settings);
    settle_asleep(&sandbox, &zpa);
    let mut client = zpa.connect();
    client.write_all(b"two pods").unwrap();
    expect_echo(&mut client, "two pods");
    let wake = &zpa.status()["app"]["last_wake"];
    assert!(wake["took_seconds"].as_f64().unwrap() >= 1.0, "{wake}");
    assert_eq!(ready(&sandbox.state()).len(), 2);
    // While it is awake, nobody waits for it.
    echo(&mut zpa.connect(), "at once");
}
