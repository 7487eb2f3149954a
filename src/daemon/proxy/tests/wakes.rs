//! When a wake begins, and when connections are dialled after it.

use super::*;

/// A scale without a lease's token is never compared with one, so that no proxy is known.
#[test]
fn after_a_sleep_connections_are_dialled_when_as_many_pods_are_ready_as_are_awaited() {
    let mut rig = Rig::new();
    let config = Config {
        single: true,
        ..Config::default()
    };
    let change = Reconfigured {
        hold_timeout: Duration::from_secs(300),
        fail_fast: false,
        schedules: Schedules::none(|| 0),
        min_ready: MinReady {
            min_ready: 2,
            min_ready_time: Duration::from_secs(1),
        },
        policy: Some((config, 7)),
    };
    rig.proxy.reconfigure(SHOP, change, at(1));
    rig.reply(SHOP, Outcome::Scale(Scale::of(0, "2")), 1);
    rig.count(SHOP, 1);
    rig.turn(&[], 2);
    rig.reply(SHOP, Outcome::Scale(Scale::of(3, "3")), 2);
    let ready = |count: u8| {
        let pods = (1..=count).map(|n| Pod {
            uid: format!("pod {n}"),
            addresses: vec![([10, 0, 0, n], 80).into()],
            ..Pod::default()
        });
        let pods = pods.collect();
        (SHOP, Report::Pods { port: 0, pods })
    };
    rig.turn(&[ready(1)], 4);
    assert!(!rig.proxy.sockets.gates[&SHOP], "one is too few");
    rig.turn(&[ready(2)], 5);
    assert!(!rig.proxy.sockets.gates[&SHOP], "not for a second yet");
    assert_eq!(rig.proxy.poll_timeout(), Some(at(6)));
    rig.turn(&[], 6);
    assert!(rig.proxy.sockets.gates[&SHOP]);
    rig.turn(&[ready(1)], 7);
    assert!(rig.proxy.sockets.gates[&SHOP], "until it sleeps");
}

/// A byte of a detached connection has waited: no further event reports it.
#[test]
fn a_connection_that_is_held_again_as_the_app_sleeps_wakes_it_in_the_same_turn() {
    let mut rig = Rig::new();
    rig.proxy.sockets.reattached = Some(SHOP);
    let asleep = Report::Observed(Observation::Scale(Scale::of(0, "2")));
    rig.turn(&[(SHOP, asleep)], 1);
    let calls = rig.take_calls();
    let place = |what: &str| calls.iter().position(|(_, call)| call.starts_with(what));
    let (slept, woken) = (place("end uncounted"), place("write #"));
    assert!(slept.is_some() && slept < woken, "{calls:?}");
}
